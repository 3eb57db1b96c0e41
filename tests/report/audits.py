"""Audits whose numbers follow from spectra of a known decay, as the page is given them."""

from __future__ import annotations

from typing import Any

from run_folders import KINDS, layer

from fullrank.audit.ranking import Ranked
from fullrank.audit.verb import Audit, Audits, LayerAudit
from fullrank.measure.table import Reading
from fullrank.measure.verdict import Verdict

N = 2000
DECAY = {"healthy": 4.0, "dimensional": 60.0, "complete": 8.0}
FEW = "n < 5d: biased by the small sample"

# What no spectrum gives: plausible values, and half of the width of their intervals.
OTHERS = {
    "rankme": (41.2, 0.4),
    "stable_rank": (6.31, 0.08),
    "hard_rank": (64.0, 0.0),
    "condition_number": (53.1, 2.2),
    "uniformity": (-2.913, 0.012),
    "lidar": (12.4, 0.3),
    "twonn": (9.81, 0.41),
    "self_cluster": (0.0213, 0.0007),
    "nearest_ratio": (0.412, 0.006),
}


def readings(vitals: dict[str, Any], scale: float = 1.0) -> dict[str, Reading]:
    """Return metrics: some with a correction, one undefined, one without an error bar."""
    found = {}
    for name in ("spread", "effective_rank", "participation_ratio", "cev_auc", "alignment"):
        value = vitals[name]
        corrected = 1.04 * value if name in ("effective_rank", "participation_ratio") else None
        centre = value if corrected is None else corrected
        flags = (FEW,) if corrected is not None and vitals["n_over_d"] < 5 else ()
        found[name] = Reading(value, corrected, 0.98 * centre, 1.02 * centre, flags)
    for name, (value, half) in OTHERS.items():
        found[name] = Reading(value * scale, None, value * scale - half, value * scale + half)
    found["alpha_req"] = Reading(None, None, None, None, ("undefined",))
    found["anisotropy"] = Reading(0.213, None, None, None, ("no error bar",))
    return found


def layer_audit(
    name: str, kind: str = "healthy", d: int = 64, spread: float = 0.62, **changes: Any
) -> LayerAudit:
    """Return what was found about one layer that went the way of a kind of verdict."""
    vitals = layer(d, DECAY[kind], 0.0012 if kind == "complete" else spread, N)
    conventions = {
        "data": "fashion-mnist",
        "split": "test",
        "weights": "random",
        "mode": "eval",
        "pooling": "mean",
        "level": "sample",
        "n": N,
        "d": d,
        "n_over_d": N / d,
        "views": 2,
        "shards": 8,
        "precision": "float64",
        "rankme_epsilon": 1e-7,
        "alpha_range": [3, 100],
        "lidar_relative": False,
    }
    found: dict[str, Any] = {
        "layer": name,
        "n": N,
        "d": d,
        "conventions": conventions,
        "vitals": vitals,
        "metrics": readings(vitals, scale=1 + d / 1000),
        "verdict": Verdict(
            KINDS[kind],  # type: ignore[arg-type]
            (f"Evidence for {KINDS[kind]} of {name}.", "A second sentence of evidence."),
            "random-init network (batch norm calibrated)",
        ),
    }
    return LayerAudit(**(found | changes))


def convergence(vitals: dict[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """Return values that come near their last one as 1/n."""
    return {
        name: [(N * k // 8, vitals[name] * (1 - 0.1 / k + 0.0125)) for k in (1, 2, 4, 8)]
        for name in ("spread", "effective_rank", "participation_ratio", "cev_auc")
    }


def probes(accuracy: float) -> dict[str, dict[str, Any]]:
    """Return a kNN and a linear probe of ten classes."""
    return {
        kind: {
            "accuracy": accuracy + gain,
            "low": accuracy + gain - 0.027,
            "high": accuracy + gain + 0.027,
            "n_train": 1500,
            "n_test": 500,
            "classes": 10,
        }
        for kind, gain in (("knn", 0.0), ("linear", 0.013))
    }


def single(kind: str = "healthy") -> Audits:
    """Return the audit of one run: backbone and embedding."""
    backbone = layer_audit("backbone", probes=probes(0.711))
    embedding = layer_audit("embedding", kind, d=128, spread=0.76)
    layers = {"backbone": backbone, "embedding": embedding}
    return Audits([Audit("runs/simsiam", "run", layers)])


def several() -> Audits:
    """Return three runs with everything that can be asked for, the second one collapsed."""
    audits = []
    for what, kind, d in (
        ("runs/one/features.npy", "healthy", 64),
        ("runs/two/features.npy", "complete", 64),
        ("timm/resnet18", "dimensional", 512),
    ):
        found = layer_audit("backbone", kind, d=d)
        found = layer_audit(
            "backbone",
            kind,
            d=d,
            convergence=convergence(dict(found.vitals)),
            probes=probes({"healthy": 0.81, "complete": 0.11, "dimensional": 0.64}[kind]),
        )
        model = what.startswith("timm/")
        audits.append(Audit(what, "model" if model else "embeddings", {"backbone": found}))
    ranking = [
        Ranked("timm/resnet18", 62.29, 1, 1, 2, 0.913, False),
        Ranked("runs/one/features.npy", 43.84, 2, 1, 2, 0.087, False),
        Ranked("runs/two/features.npy", None, 3, 3, 3, 0.0, True),
    ]
    drift = [
        {
            "from": audits[0].what,
            "to": later.what,
            "layer": "backbone",
            "n": N,
            "linear_cka": cka,
            "svcca": cka / 2,
            "neighbourhood_overlap": cka / 4,
        }
        for later, cka in zip(audits[1:], (0.041, 0.733), strict=True)
    ]
    return Audits(audits, ranking, "rankme", drift)


def deep(blocks: int = 8) -> Audits:
    """Return a model with a layer for each of its blocks; the last two have collapsed."""
    names = [f"layer{1 + k // 2}.{k % 2}" for k in range(blocks)]
    layers = {"backbone": layer_audit("backbone", d=512)}
    for k, name in enumerate(names):
        kind = "dimensional" if k >= blocks - 2 else "healthy"
        d = 64 * 2 ** (k // 2)
        layers[name] = layer_audit(name, kind, d=d, spread=0.2 + 0.08 * k)
    return Audits([Audit("torchvision/resnet18", "model", layers)])

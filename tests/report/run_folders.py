"""Run folders in the record's format, with vitals that follow from their spectra."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

STEPS = 200
CHECKUPS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 200)

KINDS = {
    "healthy": "healthy",
    "complete": "complete collapse",
    "dimensional": "dimensional collapse",
}

CONFIG = """\
recipe:
  name: simsiam
  target: {target}
  predictor: {{hidden: 64}}
data: {{name: fashion-mnist, download: false}}
steps: 200
seed: 0
out: {out}
"""


def layer(d: int, decay: float, spread: float, n: int = 2000) -> dict[str, Any]:
    """Return one layer's numbers for singular values exp(-decay j / d)."""
    spectrum = [30 * math.exp(-decay * j / d) for j in range(d)]
    total = sum(spectrum)
    shares = [value / total for value in spectrum]
    squares = [value**2 for value in spectrum]
    rank = math.exp(-sum(p * math.log(p) for p in shares))
    return {
        "d": d,
        "n": n,
        "n_over_d": n / d,
        "spread": spread,
        "effective_rank": rank,
        "rank_share": rank / min(d, n - 1),
        "cev_auc": sum(p * (d - j) for j, p in enumerate(shares)) / d,
        "alignment": 0.4 * spread,
        "hard_rank": d,
        "dead_units": 0,
        "participation_ratio": sum(squares) ** 2 / sum(s**2 for s in squares),
        "std": math.sqrt(spread),
        "spectrum": spectrum,
    }


def checkup(step: int, kind: str = "healthy", network: str = "run") -> dict[str, Any]:
    """Return one check-up of a run that goes the way of its kind."""
    progress = step / STEPS
    spread = 0.46 + 0.3 * progress if kind != "complete" else 0.46 * math.exp(-8 * progress)
    decay = {"healthy": 6, "complete": 20, "dimensional": 60}[kind]
    return {
        "event": "checkup",
        "step": step,
        "network": network,
        "mode": "eval" if step else "eval, batch norm calibrated",
        "n": 2000,
        "views": 2,
        "seconds": 0.11,
        "layers": {
            "backbone": layer(64, 2.5 + 3 * progress, 0.31 + 0.1 * progress),
            "embedding": layer(128, 3 + decay * progress, spread),
        },
        "probe": None,
    }


def probe(network: str, step: int, knn: float, linear: float) -> dict[str, Any]:
    return {
        "event": "probe",
        "network": network,
        "step": step,
        "knn": knn,
        "linear": linear,
        "k": 20,
        "n_train": 10000,
        "n_test": 10000,
        "layer": "backbone",
    }


def start(kind: str = "healthy", **changes: Any) -> dict[str, Any]:
    holds = kind == "healthy"
    return {
        "event": "start",
        "time": "2026-01-05T10:00:00Z",
        "fullrank": "0.1.0",
        "hash": "1f2e3d4c5b6a",
        "recipe": "simsiam",
        "title": "SimSiam",
        "paper": "Chen and He 2021, arXiv:2011.10566",
        "diagram": [
            "two crops",
            "conv4 (width 8)",
            "MLP 256-128",
            "MLP 64-128",
            "stop-gradient" if holds else "online",
            "cosine",
        ],
        "prevents": [{"mechanism": "stop-gradient with predictor", "collapse": "complete"}] * holds,
        "data": "fashion-mnist",
        "n_train": 60000,
        "n_held_out": 2000,
        "steps": STEPS,
        "batch_size": 256,
        "collapsed_loss": -1.0,
        "parameters": {"backbone": 24504, "projector": 49792, "predictor": 16640},
        "environment": {"python": "3.11.2", "torch": "2.6.0", "device": "cpu", "threads": 1},
    } | changes


def verdict(kind: str = "healthy") -> dict[str, Any]:
    reference = "random-init network (batch norm calibrated)"
    return {
        "event": "verdict",
        "backbone": {
            "kind": "healthy",
            "evidence": ["The backbone's spread is 0.41, above its reference's 0.31."],
            "reference": reference,
        },
        "embedding": {
            "kind": KINDS[kind],
            "evidence": [f"Evidence for {KINDS[kind]}.", "A second sentence of evidence."],
            "reference": reference,
        },
        "loss": {
            "at_collapsed_value": kind == "complete",
            "text": "the loss is -0.9997; a constant representation gives -1",
        },
    }


def events(kind: str = "healthy", labels: bool = True) -> list[dict[str, Any]]:
    """Return the events of a whole run, in the order in which training writes them."""
    gain = {"healthy": 0.08, "complete": -0.03, "dimensional": 0.05}[kind]
    lines = [start(kind), checkup(0, network="random-init")]
    lines += [probe("random-init", 0, 0.68, 0.61)] if labels else []
    lines.append(checkup(0, kind))
    for step in range(1, STEPS + 1):
        loss = -1 + (0.1 if kind == "healthy" else 0.0003) + 0.9 * math.exp(-step / 20)
        lines.append(
            {
                "event": "step",
                "step": step,
                "loss": loss,
                "terms": {"cosine": loss},
                "spread": checkup(step, kind)["layers"]["embedding"]["spread"],
                "lr": 0.03,
                "images_per_second": 2500.0,
            }
        )
        if step in CHECKUPS:
            lines.append(checkup(step, kind))
    lines += [probe("run", STEPS, 0.68 + gain, 0.61 + gain)] if labels else []
    lines += [verdict(kind), {"event": "end", "step": STEPS, "seconds": 41.2}]
    return lines


def png(width: int = 64, height: int = 24) -> bytes:
    """Return a grey gradient as a PNG file."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    row = b"\0" + bytes(255 * i // width for i in range(width))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (
        chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + parts


def write_run(
    folder: Path, lines: Iterable[dict[str, Any]] | None = None, kind: str = "healthy"
) -> Path:
    """Write a run folder with these events, by default those of a whole run of its kind."""
    folder.mkdir(parents=True, exist_ok=True)
    written = events(kind) if lines is None else lines
    text = "".join(json.dumps(line) + "\n" for line in written)
    (folder / "record.jsonl").write_text(text, encoding="utf-8")
    target = "stop-gradient" if kind == "healthy" else "online"
    config = CONFIG.format(target=target, out=json.dumps(str(folder)))
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    (folder / "encoder.json").write_text('{"backbone": "conv4", "d": 64}', encoding="utf-8")
    (folder / "views.png").write_bytes(png())
    return folder

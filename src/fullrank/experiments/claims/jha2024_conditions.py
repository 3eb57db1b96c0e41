"""The runs of the claims on the centre: six methods, what they are without a part, and sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fullrank.experiments.claims.claim import ScaleName
from fullrank.experiments.claims.conditions import (
    FASHION,
    FOLLOWED,
    IMAGENET_100,
    PAPER_RESNET18,
    PROBED,
    Condition,
    Setting,
    arms,
    cell_configs,
    cells_of,
)
from fullrank.models.settings.target import Momentum, StopGradient
from fullrank.train.config import Config

METHODS = ("simclr", "byol", "swav", "simsiam", "barlow-twins", "dino")
ON_100 = {"training": {"epochs": 200}}
# Collapse and the way there, and what probes tell apart.
SHOWN, COMPARED = Setting(FOLLOWED, FASHION), Setting(PROBED, FASHION)
PUBLISHED = Setting(PAPER_RESNET18, IMAGENET_100)


def as_published(scale: ScaleName, seeds: Sequence[int]) -> Mapping[str, Sequence[Config]]:
    """Return the runs of the six methods; at ``--scale cpu`` those of ``mechanisms``, followed."""
    if scale == "cpu":
        return {m: cell_configs(m, cells_of(m, scale)[0], scale, FASHION, seeds) for m in METHODS}
    conditions = {method: Condition(method, paper=ON_100) for method in METHODS}
    return arms(conditions, PUBLISHED, PUBLISHED)(scale, seeds)


# Ablations whose effect on the centre the paper asks for. SimSiam without the output batch norm.
NO_PREDICTOR, NO_OFF_DIAGONAL, FIXED = (
    "SimSiam without predictor",
    "Barlow Twins without off-diagonal",
    "SwAV with fixed prototypes",
)
EXPECTED_COMPLETE = {NO_PREDICTOR: True, NO_OFF_DIAGONAL: False, FIXED: False}


def ablations(scale: ScaleName, seeds: Sequence[int]) -> Mapping[str, Sequence[Config]]:
    """Return the runs of three methods without one part."""
    removed = {
        NO_PREDICTOR: Condition(
            "simsiam/without-predictor",
            changes={"projector": {"last_norm": "none"}},
            paper=ON_100,
        ),
    }
    others = {
        NO_OFF_DIAGONAL: ("barlow-twins", "without-off-diagonal"),
        FIXED: ("swav", "fixed-prototypes"),
    }
    if scale == "paper":
        removed |= {
            name: Condition("/".join(parts), paper=ON_100) for name, parts in others.items()
        }
        return arms(removed, SHOWN, PUBLISHED)(scale, seeds)
    found = dict(arms(removed, SHOWN, PUBLISHED)(scale, seeds))
    for name, (method, ablation) in others.items():
        cell = next(c for c in cells_of(method, scale) if c.ablation == ablation)
        found[name] = cell_configs(method, cell, scale, FASHION, seeds)
    return found


TAUS = (0.0, 0.9, 0.99, 0.999)


def tau_name(tau: float) -> str:
    """Return the name of the condition of a momentum."""
    return f"momentum {tau:g}"


MOMENTA = {
    tau_name(tau): Condition(
        "byol",
        changes={"target": StopGradient() if tau == 0 else Momentum(tau=tau, schedule="constant")},
        paper=ON_100,
    )
    for tau in TAUS
}


PENALTIES = (0.0, 0.25, 0.5, 1.0, 2.0, 8.0, 32.0)
MODERATE = 1.0


def penalty_name(penalty: float) -> str:
    """Return the name of the condition of a penalty."""
    return f"λ = {penalty:g}"


SWEEP = {
    penalty_name(penalty): Condition(
        "centre-penalty", changes={"objective": {"penalty": penalty}}, paper=ON_100
    )
    for penalty in PENALTIES
}

# Centred by their objective, and no more than that; and a method that also spreads its spectrum.
FIRST_MOMENT = {
    "SymSimSiam": Condition("symsimsiam", paper=ON_100),
    "centre penalty": SWEEP[penalty_name(MODERATE)],
}
SPREAD = "SimCLR"
SMALL_CENTRE = {**FIRST_MOMENT, SPREAD: Condition("simclr", paper=ON_100)}

sweeps = arms({**MOMENTA, **SWEEP, **SMALL_CENTRE}, COMPARED, PUBLISHED)

"""Tian et al. 2021: DirectPred beside predictors that are trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fullrank.experiments.claims.claim import Arms, Claim, Finding, ScaleName
from fullrank.experiments.claims.conditions import ArmsOf, arms, joined
from fullrank.experiments.claims.readings import missing
from fullrank.experiments.claims.statistics import decide, paired, together
from fullrank.experiments.claims.tian2021_probes import above, knn, probe_figure
from fullrank.experiments.claims.tian2021_settings import (
    COLLAPSED_BASELINE,
    LONG_STEPS,
    ON_IMAGENET,
    ON_SMALL,
    ON_STL,
    PUBLISHED,
    PUBLISHED_IMAGENET,
    RECIPE,
    SHORT_STEPS,
    SMALL_LONG,
    SMALL_SHORT,
    scheduled,
)
from fullrank.models.settings.predictor import LinearPredictor, MLPPredictor

DIRECT, LINEAR, TWO_LAYER = "DirectPred", "linear predictor", "two-layer predictor"
EVERY_FIFTH = "DirectPred every 5 steps"
LENGTHS = {"short": (SHORT_STEPS, SMALL_SHORT, 60), "long": (LONG_STEPS, SMALL_LONG, 300)}

_AT = (
    f"{ON_SMALL} rising to 1, a peak rate of 0.2, weight decay 5e-4; DirectPred with ρ = 0.3, ε = "
    "0.01 and "
    "normalised eigenvalues, as in the authors' code"
)


def _predictors(length: str) -> ArmsOf:
    _, small, epochs = LENGTHS[length]
    conditions = {
        DIRECT: scheduled({}, {}, epochs),
        # At ten times the encoder's rate it is better, in the pilot, than at the same rate.
        LINEAR: scheduled(
            {"predictor": LinearPredictor(), "optimizer": {"predictor_lr": 10.0}},
            {"predictor": LinearPredictor()},
            epochs,
        ),
        TWO_LAYER: scheduled(
            {"predictor": MLPPredictor(hidden=256)},
            {"predictor": MLPPredictor(hidden=4096)},
            epochs,
        ),
    }
    return arms(conditions, small, PUBLISHED_IMAGENET)


def _only(whole: ArmsOf, *names: str) -> ArmsOf:
    return lambda scale, seeds: {name: whole(scale, seeds)[name] for name in names}


def _over(other: str, length: str, **bounds: float) -> Callable[[Arms], Finding]:
    title = f"DirectPred and a {other}, {length} schedule."
    return above(DIRECT, other, title, **bounds)


def _protocol(length: str, other: str) -> Mapping[ScaleName, str]:
    steps, _, epochs = LENGTHS[length]
    faster = ", at ten times the encoder's rate" if other == LINEAR else ""
    return {
        "cpu": f"{_AT}; {steps} steps; beside it the same network with a {other}{faster}.",
        "paper": f"{ON_IMAGENET}, {epochs} epochs; the same two conditions.",
    }


def _claim(length: str, other: str, name: str, statement: str, source: str, lower: float) -> Claim:
    bound = "0" if lower == 0 else f"{lower:g} points"
    return Claim(
        name=f"tian2021/{name}-{length}",
        statement=statement,
        source=source,
        protocol=_protocol(length, other),
        criterion=f"The kNN probe of DirectPred less that of the {other}, paired by seed, is "
        f"above {bound} "
        "with its whole 95 % interval.",
        judge=_over(other, length, above=lower),
        arms=_only(_predictors(length), DIRECT, other),
        seeds=5,
        needs_labels=True,
        care=COLLAPSED_BASELINE if other == LINEAR else "",
    )


LINEAR_SHORT = _claim(
    "short",
    LINEAR,
    "linear",
    "DirectPred beats a trained linear predictor on a short schedule.",
    "Abstract: by 5 % after 60 epochs of ImageNet",
    0.0,
)
LINEAR_LONG = _claim(
    "long",
    LINEAR,
    "linear",
    "DirectPred beats a trained linear predictor on a long schedule.",
    "Abstract: by 2.5 % after 300 epochs of ImageNet",
    0.0,
)
TWO_LAYER_SHORT = _claim(
    "short",
    TWO_LAYER,
    "two-layer",
    "DirectPred keeps up with a two-layer predictor with batch norm on a short schedule.",
    "Abstract",
    -2.0,
)
TWO_LAYER_LONG = _claim(
    "long",
    TWO_LAYER,
    "two-layer",
    "DirectPred keeps up with a two-layer predictor with batch norm on a long schedule.",
    "Abstract",
    -2.0,
)


def _frequencies(length: str, epochs: int) -> ArmsOf:
    fifth = {"predictor": {"frequency": 5}}
    conditions = {
        f"{DIRECT}, {length}": scheduled({}, {}, epochs, RECIPE),
        f"{EVERY_FIFTH}, {length}": scheduled(fifth, fifth, epochs, RECIPE),
    }
    return arms(conditions, LENGTHS[length][1], PUBLISHED)


def _frequency(found: Arms) -> Finding:
    names = [f"{name}, {length}" for length in LENGTHS for name in (DIRECT, EVERY_FIFTH)]
    if (gone := missing(found, names)) is not None:
        return gone
    numbers = [
        paired(
            knn(found[f"{EVERY_FIFTH}, {length}"]),
            knn(found[f"{DIRECT}, {length}"]),
            f"every 5 steps - every step, {length} schedule, kNN probe",
            "points",
        )
        for length in LENGTHS
    ]
    return Finding(
        together(*(decide(number, above=-2.0) for number in numbers)),
        "Set every 5 steps and trained by gradient in between, DirectPred's kNN probe differs by "
        f"{numbers[0].value:+.1f} points on the short schedule and {numbers[1].value:+.1f} on the "
        "long.",
        numbers,
        [probe_figure("DirectPred set at every step and at every fifth.", found, tuple(names))],
    )


FREQUENCY = Claim(
    name="tian2021/frequency",
    statement="It is enough to set the predictor at every fifth step.",
    source="Table of DirectPred with frequencies 1 and 5",
    protocol={
        "cpu": f"{_AT}; the predictor set at every step, and at every fifth with gradient steps "
        "in between; "
        f"{SHORT_STEPS} and {LONG_STEPS} steps.",
        "paper": f"{ON_STL}; the same two conditions, 100 and 500 epochs.",
    },
    criterion="The kNN probe with every fifth step less that with every step, paired by seed, is "
    "above -2 "
    "points with its whole 95 % interval, on both schedules.",
    judge=_frequency,
    arms=joined(_frequencies("short", 100), _frequencies("long", 500)),
    seeds=5,
    needs_labels=True,
)

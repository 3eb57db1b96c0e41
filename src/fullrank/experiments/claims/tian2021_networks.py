"""Tian et al. 2021: what their theory says of networks, tested on trained ones."""

from __future__ import annotations

from dataclasses import replace

from fullrank.experiments.claims.claim import (
    Arms,
    Claim,
    Figure,
    Finding,
    Number,
    Series,
    Trained,
)
from fullrank.experiments.claims.conditions import arms
from fullrank.experiments.claims.readings import (
    COMPLETE,
    in_words,
    kinds,
    main_kind,
    missing,
    series_of,
    verdict,
    vital,
)
from fullrank.experiments.claims.statistics import (
    all_seeds,
    by_seed,
    decide,
    interval,
    paired,
    together,
)
from fullrank.experiments.claims.tian2021_settings import (
    ON_SMALL,
    ON_STL,
    PUBLISHED,
    SMALL,
    network,
)
from fullrank.models.settings.predictor import (
    LinearPredictor,
    NoPredictor,
    SymmetricLinearPredictor,
)

BOTH, NO_STOP, NO_PREDICTOR = "linear predictor, momentum", "no stop-gradient", "no predictor"
FREE = "linear predictor, stop-gradient"
TIED, TIED_MOMENTUM = "symmetric predictor, stop-gradient", "symmetric predictor, momentum"

CONDITIONS = {
    BOTH: network(LinearPredictor()),
    FREE: network(LinearPredictor(), "stop-gradient"),
    TIED_MOMENTUM: network(SymmetricLinearPredictor()),
    TIED: network(SymmetricLinearPredictor(), "stop-gradient"),
    NO_STOP: network(LinearPredictor(), "online"),
    NO_PREDICTOR: network(NoPredictor(), "stop-gradient"),
}


def _collapse(found: Arms) -> Finding:
    names = (BOTH, NO_STOP, NO_PREDICTOR)
    if (gone := missing(found, names)) is not None:
        return gone
    spreads = {n: interval(by_seed(found[n], lambda r: vital(r, "spread"))) for n in names}
    dead = [verdict(run) == COMPLETE for n in (NO_STOP, NO_PREDICTOR) for run in found[n]]
    few = min(len(found[n]) for n in names) < 2
    outcome = "inconclusive" if few else all_seeds(dead, bool)
    if main_kind(found[BOTH]) == COMPLETE:
        outcome = "inconclusive"  # then collapse says nothing about what was left out
    said = "; ".join(f"{name}: {in_words(kinds(found[name]))}" for name in names)
    drawn = series_of("", list(names), [spreads[n] for n in names])
    return Finding(
        outcome,
        f"Embeddings: {said}.",
        [
            Number(f"spread, {n}", s.value, s.low, s.high, n=s.n)
            for n, s in ((n, spreads[n]) for n in (NO_STOP, NO_PREDICTOR, BOTH))
        ],
        [
            Figure(
                "Without stop-gradient, and without predictor, all images come to one direction.",
                "",
                "spread of the embedding at the end",
                [replace(drawn, low=[max(1e-6, low) for low in drawn.low])],
                log_y=True,
            )
        ],
    )


COLLAPSE = Claim(
    name="tian2021/collapse",
    statement="Trained networks collapse without stop-gradient, and without predictor.",
    source="Theorem 2",
    protocol={
        "cpu": f"{ON_SMALL}, 400 steps at a peak rate of 0.1, weight decay 4e-4. A linear "
        "predictor, trained "
        "with a momentum target; the same with gradients through both sides; the same with a "
        "stop-gradient and no predictor.",
        "paper": f"{ON_STL}, 100 epochs; the same three conditions.",
    },
    criterion="The verdict on the embedding is complete collapse in every run without "
    "stop-gradient and in "
    "every run without predictor, and not in most runs with both.",
    judge=_collapse,
    arms=arms({n: CONDITIONS[n] for n in (BOTH, NO_STOP, NO_PREDICTOR)}, SMALL, PUBLISHED),
    seeds=3,
)


def _aligned(run: Trained) -> list[tuple[int, float]]:
    return [(m["step"], m["aligned"]) for m in run.of("modes") if m.get("aligned") is not None]


def _alignment(found: Arms) -> Finding:
    if (gone := missing(found, (BOTH, FREE))) is not None:
        return gone
    numbers, outcomes, series = [], [], []
    for name in (BOTH, FREE):
        first = by_seed(found[name], lambda run: _aligned(run)[0][1])
        last = by_seed(found[name], lambda run: _aligned(run)[-1][1])
        rise = paired(last, first, f"rise of alignment, {name}")
        numbers.append(rise)
        outcomes.append(decide(rise, above=0.5))
        for run in found[name]:
            steps, values = zip(*_aligned(run), strict=True)
            series.append(Series(f"{name}, seed {run.seed}", steps, values))
    before, after = (
        sum(_aligned(run)[at][1] for name in (BOTH, FREE) for run in found[name])
        / sum(len(found[name]) for name in (BOTH, FREE))
        for at in (0, -1)
    )
    return Finding(
        together(*outcomes),
        f"The alignment of the predictor's linear part with the embedding's correlation rises from "
        f"{before:.2f} to {after:.2f} in the mean.",
        numbers,
        [
            Figure(
                "The predictor's eigenspaces turn to those of the correlation.",
                "step",
                "alignment (1: the same eigenvectors)",
                series,
            )
        ],
    )


ALIGNMENT = Claim(
    name="tian2021/alignment",
    statement="In a trained network, too, a linear predictor's eigenspaces align with the "
    "correlation's.",
    source="Theorem 3",
    protocol={
        "cpu": f"{ON_SMALL}, 400 steps, a linear predictor with a momentum target, and with a "
        "stop-gradient "
        "alone. Alignment is that of the `modes` events of a run's record: 1 if the predictor's "
        "linear "
        "part and F have the same eigenvectors.",
        "paper": f"{ON_STL}, 100 epochs; the same.",
    },
    criterion="From the first to the last check-up alignment rises by more than 0.5 of 1 (the "
    "whole 95 % "
    "interval over seeds), with momentum and without.",
    judge=_alignment,
    arms=arms({n: CONDITIONS[n] for n in (BOTH, FREE)}, SMALL, PUBLISHED),
    seeds=5,
    care="Directions count by their eigenvalue in F, which is not centred: at the small scale the "
    "first, near the mean, has most of the trace, and few others are resolved. With the "
    "stop-gradient alone the embeddings collapse at this rate, aligned or not.",
)

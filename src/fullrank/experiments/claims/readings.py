"""What claims read off a finished run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fullrank.experiments.claims.claim import Arms, Finding, Number, Series, Trained
from fullrank.experiments.claims.statistics import by_seed, paired
from fullrank.experiments.measured import majority

Layer = Literal["backbone", "embedding"]
COMPLETE, DIMENSIONAL, HEALTHY = "complete collapse", "dimensional collapse", "healthy"


def missing(arms: Arms, names: Sequence[str]) -> Finding | None:
    """Return the finding of a claim some of whose conditions have no finished run."""
    without = [name for name in names if not arms.get(name)]
    if not without:
        return None
    return Finding("inconclusive", f"No run has finished of: {', '.join(without)}.")


def verdict(run: Trained, layer: Layer = "embedding") -> str:
    """Return what the run's record says of a layer."""
    return str(run.shown["verdict"][layer])


def kinds(runs: Sequence[Trained], layer: Layer = "embedding") -> dict[str, int]:
    """Return how many runs have each verdict, the most frequent first."""
    return dict(Counter(verdict(run, layer) for run in runs).most_common())


def in_words(counts: Mapping[str, int]) -> str:
    """Return counts of verdicts as ``2 healthy, 1 complete collapse``."""
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def main_kind(runs: Sequence[Trained], layer: Layer = "embedding") -> str | None:
    """Return the verdict of more than half of the runs; None if there is none."""
    return majority([verdict(run, layer) for run in runs])


def probe(run: Trained, name: str = "linear") -> float:
    """Return a probe's accuracy in percent; NaN where there are no labels."""
    return 100 * float(run.shown["probe"].get(name, math.nan))


def gain(run: Trained, name: str = "linear") -> float:
    """Return by how many points a probe is above that of the random-init network."""
    return probe(run, name) - 100 * float(run.shown["random"].get(name, math.nan))


def vital(run: Trained, name: str, layer: Layer = "embedding") -> float:
    """Return a vital sign of the last check-up."""
    return float(run.shown[layer][name])


def checkups(run: Trained) -> list[dict[str, Any]]:
    """Return the check-ups, the random-init network's first."""
    return run.of("checkup")


def centre(signs: Mapping[str, Any]) -> float:
    """Return ``||s||``, the length of the mean of the unit rows; 1 is complete collapse."""
    return math.sqrt(max(0.0, 1 - float(signs["spread"])))


def per_sample(signs: Mapping[str, Any]) -> float:
    """Return the length of an image's mean unit row over its augmentations.

    Root mean square over images: ``E<u, v> = 1 - alignment/2`` of two views is its square.
    """
    return math.sqrt(max(0.0, 1 - float(signs["alignment"]) / 2))


def last_centre(run: Trained, layer: Layer = "embedding") -> float:
    """Return ``||s||`` at the end."""
    return centre(run.shown[layer])


def points(
    arms: Arms, first: str, second: str, name: str = "linear", label: str | None = None
) -> Number:
    """Return the difference of two conditions in a probe, by seed, in points of accuracy."""
    a, b = (by_seed(arms[arm], lambda run: probe(run, name)) for arm in (first, second))
    return paired(a, b, label or f"{first} - {second}, {name} probe", "points")


def series_of(
    name: str,
    at: Sequence[float | str],
    numbers: Sequence[Number],
    kind: Literal["line", "points", "bars"] = "points",
) -> Series:
    """Return numbers and their intervals as part of a figure; an exact one is its own interval."""
    return Series(
        name,
        list(at),
        [n.value for n in numbers],
        [n.value if n.low is None else n.low for n in numbers],
        [n.value if n.high is None else n.high for n in numbers],
        kind,
    )

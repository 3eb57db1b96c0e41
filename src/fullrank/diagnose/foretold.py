"""Was the fate that theory foretold of eigenmodes the fate they had?

At every check-up a run of the asymmetric kind writes down what the eigenmode equations expect of
each mode until the next one (:mod:`fullrank.theory.fate`), and at the next what variance was found
along the same direction. Here the two are compared, over all modes of all runs, beside predictions
that know no theory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fullrank.theory.fate import BAND, Fate, fate_of
from fullrank.train.record import number

FATES: tuple[Fate, ...] = ("grow", "hold", "die")


@dataclass(frozen=True)
class Outcome:
    """One mode, from one check-up to the next.

    Attributes:
        run: which run, by any name.
        step: of the check-up at which its fate was foretold.
        until: of the next.
        place: of the mode there, from 0, by descending variance.
        share: its variance over the largest of that check-up.
        expected: ``ln`` of the later over the earlier variance, as foretold.
        happened: the same as it was; minus infinity if nothing was left.
        before: what had happened to the nearest of the earlier modes by then; None if unknown.
        linear: share of the predictor's action that is linear at ``step``; None if unknown.
    """

    run: str
    step: int
    until: int
    place: int
    share: float
    expected: float
    happened: float
    before: float | None
    linear: float | None

    def fate(self, band: float = BAND) -> Fate:
        """Return what became of it."""
        found = fate_of(self.happened, band)
        assert found is not None
        return found


Forecast = Callable[[Outcome], Fate | None]
"""Says what becomes of a mode, by what was known beforehand; None where it cannot."""


def by_theory(outcome: Outcome) -> Fate | None:
    """Return what the eigenmode equations expect."""
    return fate_of(outcome.expected)


def as_before(outcome: Outcome) -> Fate | None:
    """Return what the mode did in the interval before; ``hold`` where nobody knows."""
    return "hold" if outcome.before is None else fate_of(outcome.before)


def always(fate: Fate) -> Forecast:
    """Return the forecast that says the same of every mode."""
    return lambda outcome: fate


def outcomes(run: str, events: Iterable[Mapping[str, Any]]) -> list[Outcome]:
    """Compare the ``modes`` lines of one run, each with the next.

    Left out are lines whose next check-up was not taken when it was due (the budget skips some),
    those without a fate (the last, and optimisers without a clock), and modes whose numbers are
    missing.

    Args:
        run: what to call it.
        events: lines of its record, those that a resume has superseded left out.
    """
    lines = [event for event in events if event.get("event") == "modes"]
    found: list[Outcome] = []
    earlier: list[float | None] = []  # of the modes of the line before: what had become of them
    for line, following in itertools.pairwise(lines):
        until = number(line.get("until"))
        changes = _changes(line, following)
        if until is not None and until == number(following.get("step")):
            found += _compared(run, line, int(until), changes, earlier)
        earlier = changes
    return found


def _compared(
    run: str,
    line: Mapping[str, Any],
    until: int,
    changes: Sequence[float | None],
    earlier: Sequence[float | None],
) -> Iterable[Outcome]:
    variances, expected = _numbers(line, "variance"), _numbers(line, "expected")
    places = _numbers(line, "matched")
    step = number(line.get("step"))
    for j, (s, told, change) in enumerate(zip(variances, expected, changes, strict=False)):
        if s is None or told is None or change is None or step is None:
            continue
        place = places[j] if j < len(places) else None
        known = place is not None and 0 <= place < len(earlier)
        yield Outcome(
            run=run,
            step=int(step),
            until=until,
            place=j,
            share=s / (variances[0] or s),
            expected=told,
            happened=change,
            before=earlier[int(place)] if known and place is not None else None,
            linear=number(line.get("linear")),
        )


def _changes(line: Mapping[str, Any], following: Mapping[str, Any]) -> list[float | None]:
    """Return ``ln`` of the later over the earlier variance of the modes of a line."""
    if number(following.get("since")) != number(line.get("step")):
        return []
    pairs = zip(_numbers(line, "variance"), _numbers(following, "followed"), strict=False)
    return [
        None if s is None or later is None else math.log(later / s) if later > 0 else -math.inf
        for s, later in pairs
    ]


def _numbers(line: Mapping[str, Any], name: str) -> list[float | None]:
    values = line.get(name)
    return [number(value) for value in values] if isinstance(values, list) else []


@dataclass(frozen=True)
class Share:
    """A share with its interval; NaN where there is nothing to take a share of."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Score:
    """How well a forecast did.

    Attributes:
        modes: how many fates were foretold.
        counts: how many there were of each fate, by what happened.
        right: share of modes foretold rightly.
        balanced: mean recall over the fates that happened, so that a forecast of one fate alone
            scores one over their number.
        precision: by fate, the share that happened of what was foretold.
        recall: by fate, the share that was foretold of what happened.
    """

    modes: int
    counts: Mapping[Fate, int]
    right: Share
    balanced: Share
    precision: Mapping[Fate, Share]
    recall: Mapping[Fate, Share]


def score(
    found: Sequence[Outcome],
    forecast: Forecast = by_theory,
    band: float = BAND,
    resamples: int = 2000,
    seed: int = 0,
) -> Score:
    """Score a forecast over modes, with 95 % intervals from resampling whole runs.

    Modes of one run share its weights and its images, and are no independent evidence: the
    bootstrap draws runs.

    Args:
        found: outcomes of any number of runs.
        forecast: what to score; modes of which it says nothing are left out.
        band: see :data:`fullrank.theory.fate.BAND`.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    tables: dict[str, np.ndarray] = {}
    for outcome in found:
        said = forecast(outcome)
        if said is not None:
            table = tables.setdefault(outcome.run, np.zeros((3, 3)))
            table[FATES.index(outcome.fate(band)), FATES.index(said)] += 1
    stacked = np.stack(list(tables.values())) if tables else np.zeros((1, 3, 3))
    chosen = np.random.default_rng(seed).integers(len(stacked), size=(resamples, len(stacked)))
    whole = _shares(stacked.sum(0)[None])[0]
    drawn = _shares(np.stack([stacked[row].sum(0) for row in chosen]))
    shares = [_share(value, column) for value, column in zip(whole, drawn.T, strict=True)]
    happened = stacked.sum((0, 2))
    return Score(
        modes=int(stacked.sum()),
        counts={fate: int(n) for fate, n in zip(FATES, happened, strict=True)},
        right=shares[0],
        balanced=shares[1],
        precision=dict(zip(FATES, shares[2:5], strict=True)),
        recall=dict(zip(FATES, shares[5:8], strict=True)),
    )


def _shares(tables: np.ndarray) -> np.ndarray:
    """Return right, balanced, precisions and recalls of tables (t, happened, said)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        hits = np.diagonal(tables, axis1=1, axis2=2)
        right = hits.sum(1) / tables.sum((1, 2))
        precision, recall = hits / tables.sum(1), hits / tables.sum(2)
        there = tables.sum(2) > 0
        balanced = np.where(there, recall, 0).sum(1) / there.sum(1)
    return np.column_stack([right, balanced, precision, recall])


def _share(value: float, drawn: np.ndarray) -> Share:
    known = drawn[~np.isnan(drawn)]
    if math.isnan(value) or len(known) == 0:
        return Share(math.nan, math.nan, math.nan)
    low, high = np.quantile(known, [0.025, 0.975])
    return Share(float(value), float(low), float(high))


def agreement(found: Sequence[Outcome]) -> float:
    """Return Spearman's rank correlation of expected with actual change; NaN below three."""
    from scipy.stats import spearmanr

    finite = [(o.expected, o.happened) for o in found if math.isfinite(o.happened)]
    if len(finite) < 3:
        return math.nan
    return float(spearmanr(*zip(*finite, strict=True)).statistic)

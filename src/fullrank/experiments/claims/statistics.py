"""Numbers with intervals, and what they decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata
from scipy.stats import t as student

from fullrank.errors import UserError
from fullrank.experiments.claims.claim import Number, Trained, Verdict
from fullrank.experiments.measured import majority

CONFIDENCE = 0.95
RESAMPLES = 2000

Values = Sequence[float] | Mapping[int, float]


def by_seed(runs: Iterable[Trained], read: Callable[[Trained], float]) -> dict[int, float]:
    """Return a number of every run of an arm, by its seed."""
    return {run.seed: float(read(run)) for run in runs}


def interval(values: Values, name: str = "", unit: str = "") -> Number:
    """Return the mean and its 95 % Student t interval.

    Args:
        values: one a seed, or by seed.
        name: of the number.
        unit: of the number.

    Returns:
        mean ± t(.975, n - 1) s / sqrt(n); without ends where there is only one value.

    Raises:
        UserError: there is no value, or one is not finite.
    """
    numbers = _finite(values)
    mean, n = math.fsum(numbers) / len(numbers), len(numbers)
    if n == 1:
        return Number(name, mean, unit=unit, n=1)
    variance = math.fsum((x - mean) ** 2 for x in numbers) / (n - 1)
    half = float(student.ppf(0.5 + CONFIDENCE / 2, n - 1)) * math.sqrt(variance / n)
    return Number(name, mean, mean - half, mean + half, unit, n)


def paired(a: Values, b: Values, name: str = "", unit: str = "") -> Number:
    """Return the mean of a - b by seed, with its 95 % t interval.

    Runs of one seed start from the same weights and see the same images, so that the difference
    varies less than either.

    Args:
        a: one a seed, or by seed; then only seeds that both have count.
        b: likewise, as ``a`` is given.
        name: of the number.
        unit: of the number.

    Raises:
        UserError: no pair, unequal numbers of values, or one is not finite.
    """
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return interval([a[s] - b[s] for s in sorted(a.keys() & b.keys())], name, unit)
    if isinstance(a, Mapping) or isinstance(b, Mapping) or len(a) != len(b):
        raise UserError(
            f"paired: {len(a)} and {len(b)} values are not allowed. "
            "Allowed: two mappings by seed, or two sequences of one length."
        )
    return interval([x - y for x, y in zip(a, b, strict=True)], name, unit)


def decide(number: Number, above: float | None = None, below: float | None = None) -> Verdict:
    """Return what a number decides: the whole of its interval must be on one side.

    Args:
        number: without an interval and without ``n`` it is exact; with one run alone it decides
            nothing.
        above: what it must exceed; 0 where neither bound is given.
        below: what it must stay under.
    """
    if above is None and below is None:
        above = 0.0
    if number.low is None or number.high is None:
        if number.n is not None:
            return "inconclusive"
        low = high = number.value
    else:
        low, high = number.low, number.high
    verdicts: list[Verdict] = []
    if above is not None:
        verdicts.append(_side(low - above, high - above))
    if below is not None:
        verdicts.append(_side(below - high, below - low))
    return together(*verdicts)


def _side(low: float, high: float) -> Verdict:
    if low > 0:
        return "held"
    return "did not hold" if high < 0 or low == high == 0 else "inconclusive"


def together(*verdicts: Verdict) -> Verdict:
    """Return the verdict on several things that must all hold."""
    if "did not hold" in verdicts:
        return "did not hold"
    return "inconclusive" if "inconclusive" in verdicts or not verdicts else "held"


def all_seeds(values: Values, condition: Callable[[float], bool]) -> Verdict:
    """Return ``held`` if every seed meets a condition, ``did not hold`` if none, else neither.

    A single seed decides nothing. For what is plain in each run, such as complete collapse, where a
    mean and its interval say less.
    """
    numbers = list(values.values()) if isinstance(values, Mapping) else list(values)
    met = [bool(condition(value)) for value in numbers]
    if len(met) < 2:
        return "inconclusive"
    return "held" if all(met) else "inconclusive" if any(met) else "did not hold"


def most(found: Sequence[str], expected: Collection[str]) -> Verdict:
    """Return whether most runs show what is expected.

    Args:
        found: the kind of every run.
        expected: the kinds that count.

    Returns:
        Held if more than half are of an expected kind, did not hold if more than half are of one
        other kind; else, and for a single run, inconclusive.
    """
    if len(found) < 2:
        return "inconclusive"
    if 2 * sum(kind in expected for kind in found) > len(found):
        return "held"
    kind = majority(found)
    return "inconclusive" if kind is None or kind in expected else "did not hold"


def spearman(
    x: Sequence[float],
    y: Sequence[float],
    seed: int = 0,
    name: str = "",
    unit: str = "",
    groups: Sequence[Hashable] | None = None,
) -> Number:
    """Return the rank correlation of two numbers over runs, with a 95 % bootstrap interval.

    Ties have the mean of their ranks. Percentiles over 2,000 resamples of the runs, or of whole
    groups of them; resamples in which one of the two is constant do not count.

    Args:
        x: one a run.
        y: one a run.
        seed: of the resampling.
        groups: of every run, what it has in common with others, such as its condition: seeds of
            one condition are no independent witnesses of what conditions do.
        name: of the number.
        unit: of the number.

    Raises:
        UserError: fewer than three runs, unequal numbers of values, one is not finite, or all
            values of one are equal.
    """
    first, second = np.array(_finite(x)), np.array(_finite(y))
    n = len(first)
    if n != len(second) or n < 3:
        raise UserError(
            f"spearman: {n} and {len(second)} values are not allowed. "
            "Allowed: two sequences of one length, from 3."
        )
    whole = np.arange(n)[None]
    (value,) = _rank_correlations(first, second, whole)
    if math.isnan(value):
        raise UserError("spearman: all values of one are equal. Allowed: values that differ.")
    random = np.random.default_rng(seed)
    if groups is None:
        found = _rank_correlations(first, second, random.integers(0, n, (RESAMPLES, n)))
    else:
        found = _over_groups(first, second, groups, random)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.nanpercentile(found, [tail, 100 - tail])
    return Number(name, float(value), float(low), float(high), unit, n)


def _over_groups(x: Any, y: Any, groups: Sequence[Hashable], random: np.random.Generator) -> Any:
    """Return the rank correlations of resamples of whole groups."""
    places: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        places.setdefault(group, []).append(place)
    members = [np.array(own) for own in places.values()]
    drawn = random.integers(0, len(members), (RESAMPLES, len(members)))
    return np.concatenate(
        [_rank_correlations(x, y, np.concatenate([members[g] for g in one])[None]) for one in drawn]
    )


def _rank_correlations(x: Any, y: Any, draws: Any) -> Any:
    """Return the rank correlation of each draw of places; NaN where all values of one are equal."""
    a, b = (rankdata(values[draws], axis=1) for values in (x, y))
    a, b = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (a, b))
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), scale, out=np.full(len(draws), np.nan), where=scale > 0)


def _finite(values: Values) -> list[float]:
    numbers = [float(v) for v in (values.values() if isinstance(values, Mapping) else values)]
    if not numbers:
        raise UserError("values: none given. Allowed: at least one.")
    for value in numbers:
        if not math.isfinite(value):
            raise UserError(f"values: {value} is not allowed. Allowed: finite numbers.")
    return numbers

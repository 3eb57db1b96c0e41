"""How well accuracy is forecast for runs that a model was not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fullrank.diagnose.forecast_models import CANDIDATES, Array, Candidate, Fit, Strings, Training
from fullrank.errors import UserError, unknown_name

By = Literal["run", "recipe", "width", "data"]
Mask = np.ndarray

PROTOCOLS: dict[By, str] = {
    "run": "one run out, within its recipe",
    "recipe": "one recipe out",
    "width": "one width out",
    "data": "one data set out",
}
# Within a recipe, fewer configurations than this fix no line.
FEWEST_KINDS = 6
# A candidate that is simpler is chosen unless another is better by more than this share.
BETTER = 0.02
RESAMPLES = 1000


def folds(training: Training, by: By) -> Iterator[tuple[Mask, Mask]]:
    """Yield which rows a model is fitted on, and which it is scored on.

    ``run``: within each recipe of ``FEWEST_KINDS`` configurations or more, one configuration is
    left out with all its seeds, which are near-duplicates. ``recipe``, ``width``, ``data``: all
    runs of one are left out, whatever else they share with those that stay; labels of the same
    images are one data set.

    Raises:
        UserError: there is only one group, so that nothing would stay.
    """
    if by not in PROTOCOLS:
        raise unknown_name("by", by, PROTOCOLS)
    if by == "run":
        for recipe in np.unique(training.recipe):
            own = training.recipe == recipe
            kinds = np.unique(training.kind[own])
            if len(kinds) >= FEWEST_KINDS:
                for kind in kinds:
                    held = own & (training.kind == kind)
                    yield own & ~held, held
        return
    yield from _each_out(groups_of(training, by), by)


def groups_of(training: Training, by: By) -> Strings:
    """Return the group of each row that is left out together.

    Of ``run`` it is the configuration; of ``data`` the images, whatever of them is the label.
    """
    if by == "run":
        return training.kind
    if by == "data":
        return np.array([str(data).partition(" (")[0] for data in training.data])
    return np.asarray(getattr(training, by))


def _each_out(groups: Strings, by: str) -> Iterator[tuple[Mask, Mask]]:
    names = np.unique(groups)
    if len(names) < 2:
        raise UserError(
            f"runs: all of them have the {by} {names[0]}, so that none can be left out. Allowed: "
            f"runs of two or more."
        )
    for name in names:
        yield groups != name, groups == name


def out_of_fold(training: Training, fit: Fit, by: By) -> Array:
    """Return each row's accuracy as a model expects it that was fitted without its group.

    NaN where no fold holds the row out.
    """
    return _out_of(training, fit, folds(training, by))


def _out_of(training: Training, fit: Fit, parts: Iterable[tuple[Mask, Mask]]) -> Array:
    found = np.full(len(training), np.nan)
    for kept, held in parts:
        found[held] = fit(training.take(kept))(training.take(held))
    return found


def choose(
    training: Training, candidates: Sequence[Candidate] = CANDIDATES
) -> tuple[Candidate, Array, dict[str, float]]:
    """Choose a model by leaving recipes out of these rows; nothing else is looked at.

    The rule, fixed beforehand: the least mean absolute error over left-out recipes wins, but the
    first candidate that is within ``BETTER`` of it is taken, and they stand from simple to less so.
    Runs of a single recipe are few and alike: the ridges alone stand for choice, by leaving
    configurations out.

    Returns:
        The choice, its accuracies out of fold, and the error of each candidate by name.

    Raises:
        UserError: there is only one configuration.
    """
    several = len(np.unique(training.recipe)) > 1
    if several:
        parts = list(folds(training, "recipe"))
    else:
        parts = list(_each_out(training.kind, "kind"))
        candidates = [c for c in candidates if c.kind == "ridge"] or candidates
    found = {c.name: _out_of(training, c.fit, parts) for c in candidates}
    errors = {name: float(np.abs(p - training.accuracy).mean()) for name, p in found.items()}
    least = min(errors.values())
    chosen = next(c for c in candidates if errors[c.name] <= (1 + BETTER) * least)
    return chosen, found[chosen.name], errors


def nested(candidates: Sequence[Candidate] = CANDIDATES) -> Fit:
    """Return a fit that chooses among candidates on the rows it is given, and on no others."""

    def fit(training: Training) -> Callable[[Training], Array]:
        return choose(training, candidates)[0].fit(training)

    return fit


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval.

    Attributes:
        value: the number; NaN where there is none.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Score:
    """How far off a model was on runs it was not fitted on.

    Attributes:
        error: mean absolute error of the accuracy, in points.
        spearman: rank correlation of expected and actual accuracy, by runs that share a data set
            (and a recipe, where only runs of one are compared), averaged with their numbers.
        runs: scored.
        groups: left out in turn.
    """

    error: Interval
    spearman: Interval
    runs: int
    groups: int


def score(training: Training, expected: Array, by: By, seed: int = 0) -> Score:
    """Score expected accuracies; intervals resample configurations, with all their seeds."""
    known = np.isfinite(expected)
    if not known.any():
        raise UserError(f"runs: none can be scored with {PROTOCOLS[by]}.")
    rows, said = training.take(known), expected[known]
    weights = _resampled(rows.kind, seed)
    order = _correlations(said, rows.accuracy, _strata(rows, by), weights)
    return Score(
        _interval(_means(100 * np.abs(said - rows.accuracy), weights)),
        _interval(order),
        len(rows),
        len(np.unique(groups_of(rows, by))),
    )


def error_difference(
    training: Training, ours: Array, theirs: Array, by: By | None = None, seed: int = 0
) -> Interval:
    """Return the mean absolute error of one forecast less that of another, in points.

    Negative where ours is better; both on the same runs.

    Args:
        training: the runs.
        ours: accuracies that the one expects.
        theirs: those of the other.
        by: the interval resamples whole groups that were left out; None: configurations.
        seed: of the resampling.
    """
    known = np.isfinite(ours) & np.isfinite(theirs)
    rows = training.take(known)
    apart = np.abs(ours[known] - rows.accuracy) - np.abs(theirs[known] - rows.accuracy)
    kinds = rows.kind if by is None else groups_of(rows, by)
    return _interval(_means(100 * apart, _resampled(kinds, seed)))


def order_difference(
    training: Training, ours: Array, theirs: Array, by: By, seed: int = 0
) -> Interval:
    """Return the rank correlation of one forecast less that of another.

    Positive where ours is better; both on the same runs, whose configurations are resampled.
    """
    known = np.isfinite(ours) & np.isfinite(theirs)
    rows = training.take(known)
    weights = _resampled(rows.kind, seed)
    one, other = (
        _correlations(said[known], rows.accuracy, _strata(rows, by), weights)
        for said in (ours, theirs)
    )
    return _interval(one - other)


def spearman_within(expected: Array, actual: Array, strata: Strings) -> float:
    """Return the rank correlation within strata, averaged with their numbers of runs.

    Between strata nothing is compared, so that it does not help to know which data set is easy.

    Returns:
        Between -1 and 1; NaN where no stratum has three runs that differ in both.
    """
    return float(_correlations(expected, actual, strata, np.ones((1, len(actual))))[0])


def _correlations(expected: Array, actual: Array, strata: Strings, weights: Array) -> Array:
    """Return the correlation of the ranks within strata under each row of weights, (b,).

    Ranks are those among all runs of the stratum, whatever their weights.
    """
    total, counted = np.zeros(len(weights)), np.zeros(len(weights))
    for name in np.unique(strata):
        own = strata == name
        if own.sum() < 3:
            continue
        w = weights[:, own]
        n = np.maximum(w.sum(1), 1e-9)
        x, y = (_ranks(values[own]) for values in (expected, actual))
        mean_x, mean_y = w @ x / n, w @ y / n
        over = w @ (x * y) / n - mean_x * mean_y
        square = (w @ x**2 / n - mean_x**2) * (w @ y**2 / n - mean_y**2)
        told = square > 1e-9
        total += np.where(told, n * over / np.sqrt(np.where(told, square, 1.0)), 0.0)
        counted += np.where(told, n, 0.0)
    return np.where(counted > 0, total / np.maximum(counted, 1e-9), np.nan)


def _means(values: Array, weights: Array) -> Array:
    return weights @ values / weights.sum(1)


def _strata(training: Training, by: By) -> Strings:
    if by != "run":
        return training.data
    return np.char.add(np.char.add(training.data, " "), training.recipe)


def _ranks(values: Array) -> Array:
    from scipy.stats import rankdata

    return np.asarray(rankdata(np.round(values, 12)), float)


def _resampled(kinds: Strings, seed: int) -> Array:
    """Return how often each row counts: once all, then resamples of configurations, (1 + b, n)."""
    random = np.random.default_rng(seed)
    names, place = np.unique(kinds, return_inverse=True)
    drawn = random.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    return np.vstack([np.ones(len(kinds)), drawn[:, place]])


def _interval(values: Array) -> Interval:
    """Return the first of the values, and the 95 % interval that the others show."""
    value, found = float(values[0]), values[1:][np.isfinite(values[1:])]
    if not np.isfinite(value) or len(found) == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(value, float(low), float(high))

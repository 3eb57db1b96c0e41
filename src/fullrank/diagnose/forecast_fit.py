"""Fit the forecaster that ships: its models, how far off they are, and what is unlike their runs.

The interval is conformal by recipes. Of every run the residual is taken, on the log-odds scale,
from a model fitted without its recipe, divided by how unlike the other recipes' runs it is (never
less than 1). A new recipe's residuals are exchangeable with those of the recipes at hand, if
recipes are; so the quantile of these, each recipe weighing the same and one of infinite residuals
beside them, covers a run of a new recipe with the probability asked for (Lee, Barber and Willett
2023, "Distribution-free inference with hierarchical data", arXiv:2306.06342; leaving recipes out in
turn in place of one split is their approximation and ours).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fullrank.diagnose.forecast_models import CANDIDATES, Candidate, Strings, Training
from fullrank.diagnose.forecast_scores import choose, folds
from fullrank.diagnose.forecast_table import RunRow
from fullrank.errors import UserError
from fullrank.measure.forecast import FORMAT
from fullrank.measure.forecast_model import Array, evaluate, expit, logit, nearest_distances
from fullrank.measure.forecast_words import PROBES

# Of the intervals; with r recipes at most r / (r + 1) can be had.
LEVEL = 0.9
# The neighbour whose distance counts; one alone may be a near-duplicate.
NEIGHBOURS = 3
# Further than this share of left-out configurations is unlike anything that errors are known of.
FAR = 0.975
# Images a dimension below which ranks are biased by more than a few percent, unless the training
# runs have as few.
FEWEST_ROWS = 5.0


@dataclass(frozen=True)
class Unlikeness:
    """What tells how unlike a run is to those of a training table.

    Attributes:
        rows: standardised features of each configuration, averaged over its seeds, (k, p).
        recipe: of each configuration.
        left_out: distance of each to its ``NEIGHBOURS``-th nearest of other recipes, (k,).
        typical: the median of these distances.
        far: the share ``FAR`` of them is below this.
    """

    rows: Array
    recipe: Strings
    left_out: Array
    typical: float
    far: float

    @classmethod
    def of(cls, training: Training, centre: Array, scale: Array) -> Unlikeness:
        """Measure the configurations of a training table against each other's recipes."""
        standard = (training.features - centre) / scale
        kinds = np.unique(training.kind)
        own = [training.kind == kind for kind in kinds]
        rows = np.array([standard[mask].mean(0) for mask in own])
        recipe = np.array([training.recipe[mask][0] for mask in own])
        left_out = np.array(
            [
                nearest_distances(row[None], others, min(NEIGHBOURS, len(others)))[0]
                for row, name in zip(rows, recipe, strict=True)
                for others in (rows[recipe != name],)
            ]
        )
        typical = max(float(np.median(left_out)), 1e-9)
        return cls(rows, recipe, left_out, typical, float(np.quantile(left_out, FAR)))

    def novelty(self, standard: Array) -> Array:
        """Return the distances of some rows to the nearest configurations, over ``typical``."""
        return nearest_distances(standard, self.rows, NEIGHBOURS) / self.typical


def conformal_quantile(residuals: Array, groups: Strings, level: float = LEVEL) -> float:
    """Return what a share ``level`` of the runs of a new group stays below, in absolute value.

    Every group weighs the same, its runs share its weight, and a group of infinite residuals is
    added. With one run a group this is split conformal prediction's quantile.

    Args:
        residuals: of runs, any sign, (n,).
        groups: which group each is of.
        level: between 0 and 1.

    Returns:
        The quantile; infinite where there are too few groups for the level.
    """
    names = np.unique(groups)
    weights = np.zeros(len(residuals))
    for name in names:
        own = groups == name
        weights[own] = 1 / (own.sum() * (len(names) + 1))
    order = np.argsort(np.abs(residuals), kind="stable")
    reached = np.cumsum(weights[order])
    enough = np.flatnonzero(reached >= level - 1e-12)
    return float(np.abs(residuals)[order][enough[0]]) if len(enough) else float("inf")


@dataclass(frozen=True)
class WithInterval:
    """A chosen model with its unlikeness and the half-width of its interval.

    Attributes:
        candidate: which model.
        fitted: on all rows.
        unlikeness: of the same rows.
        half_width: in log-odds, at a novelty of 1 or less.
        errors: of every candidate over left-out recipes.
    """

    candidate: Candidate
    fitted: Any
    unlikeness: Unlikeness
    half_width: float
    errors: dict[str, float]


def fit_with_interval(
    training: Training, candidates: Sequence[Candidate] = CANDIDATES, level: float = LEVEL
) -> WithInterval:
    """Choose a model, fit it, and find how far off it is on recipes left out.

    Raises:
        UserError: there are too few recipes for an interval of this level.
    """
    recipes = len(np.unique(training.recipe))
    needed = int(np.ceil(level / (1 - level) - 1e-9))
    if recipes < max(2, needed):
        raise UserError(
            f"runs: {recipes} recipe{'s' * (recipes != 1)} given. Allowed: {needed} or more, for "
            f"intervals of {level:.0%} on a recipe that was not seen."
        )
    chosen, _, errors = choose(training, candidates)
    fitted = chosen.fit(training)
    unlikeness = Unlikeness.of(training, fitted.centre, fitted.scale)
    residuals = np.full(len(training), np.nan)
    for kept, held in folds(training, "recipe"):
        without, rows = chosen.fit(training.take(kept)), training.take(held)
        others = Unlikeness.of(training.take(kept), without.centre, without.scale)
        novelty = others.novelty((rows.features - without.centre) / without.scale)
        apart = logit(rows.accuracy) - without.log_odds(rows)
        residuals[held] = apart / np.maximum(1.0, novelty)
    half_width = conformal_quantile(residuals, training.recipe, level)
    return WithInterval(chosen, fitted, unlikeness, half_width, errors)


@dataclass(frozen=True)
class Coverage:
    """What intervals hold of runs whose recipe was left out of everything.

    Attributes:
        recipe: of each run.
        expected: accuracy, by the model that was chosen and fitted without the recipe.
        inside: whether its accuracy lay in the interval.
        abstained: whether no interval was told, for being too unlike.
        width: of the interval, in points of accuracy.
    """

    recipe: Strings
    expected: Array
    inside: Array
    abstained: Array
    width: Array


def coverage(training: Training, candidates: Sequence[Candidate] = CANDIDATES) -> Coverage:
    """Leave each recipe out of choice, fit and interval, and look whether it is covered."""
    n = len(training)
    expected, width = np.zeros(n), np.zeros(n)
    inside, abstained = np.zeros(n, bool), np.zeros(n, bool)
    for kept, held in folds(training, "recipe"):
        model = fit_with_interval(training.take(kept), candidates)
        rows = training.take(held)
        middle = model.fitted.log_odds(rows)
        expected[held] = expit(middle)
        standard = (rows.features - model.fitted.centre) / model.fitted.scale
        novelty = model.unlikeness.novelty(standard)
        half = model.half_width * np.maximum(1.0, novelty)
        inside[held] = np.abs(logit(rows.accuracy) - middle) <= half
        abstained[held] = novelty * model.unlikeness.typical > model.unlikeness.far
        width[held] = 100 * (expit(middle + half) - expit(middle - half))
    return Coverage(training.recipe, expected, inside, abstained, width)


def fit_forecaster(
    rows: Sequence[RunRow], version: str, candidates: Sequence[Candidate] = CANDIDATES
) -> dict[str, Any]:
    """Fit all that ships: for one view and for two, for each probe.

    Args:
        rows: of the table.
        version: what the fitted forecaster is called.
        candidates: models to choose among.

    Returns:
        Plain values, ready for JSON: what :class:`fullrank.measure.forecast.Forecaster` takes.

    Raises:
        UserError: no run has labels, or there are too few recipes.
    """
    rows = [row for row in rows if set(PROBES) <= row.accuracy.keys()]
    if not rows:
        raise UserError(f"runs: none has the probes {', '.join(PROBES)}. Allowed: probed runs.")
    return {
        "format": FORMAT,
        "version": version,
        "level": LEVEL,
        "trained_on": _trained_on(rows),
        # Two views say more; whoever has one only is served by the second.
        "variants": [_variant(rows, views, candidates) for views in (2, 1)],
    }


def _trained_on(rows: Sequence[RunRow]) -> dict[str, Any]:
    data = {}
    for name in sorted({row.data for row in rows}):
        own = [row for row in rows if row.data == name]
        labelled = [row.labelled for row in own]
        data[name] = {
            "runs": len(own),
            "labelled": max(set(labelled), key=lambda n: (labelled.count(n), n)),
            "classes": max(row.classes for row in own),
        }
    return {
        "runs": len(rows),
        "kinds": len({row.kind for row in rows}),
        "recipes": sorted({row.recipe for row in rows}),
        "data": data,
        "backbones": sorted({row.backbone for row in rows}),
        "widths": sorted({row.width for row in rows}),
        "streams": sorted({row.stream for row in rows}),
    }


def _variant(rows: Sequence[RunRow], views: int, candidates: Sequence[Candidate]) -> dict[str, Any]:
    found: dict[str, Any] = {"views": views, "probes": {}}
    for probe in PROBES:
        training = Training.of(rows, probe, views)
        model = fit_with_interval(training, candidates)
        fitted, unlike = model.fitted, model.unlikeness
        found |= {  # the same for each probe, which all rows have
            "features": list(training.names),
            "centre": _plain(fitted.centre, 9),
            "scale": _plain(fitted.scale, 9),
            "rows": [_plain(row, 3) for row in unlike.rows],
            "neighbours": NEIGHBOURS,
            "typical": unlike.typical,
            "far": unlike.far,
            "least_n_over_d": min(FEWEST_ROWS, *(row.n / row.d for row in rows)),
        }
        typical = float(np.median(training.labelled))
        inputs = fitted.inputs(training)
        inputs[:, -1] = (np.log2(typical) - fitted.labelled_centre) / fitted.labelled_scale
        found["probes"][probe] = {
            "name": model.candidate.name,
            "model": fitted.model,
            "intercepts": fitted.intercepts,
            "half_width": model.half_width,
            "labelled": typical,
            "labelled_centre": fitted.labelled_centre,
            "labelled_scale": fitted.labelled_scale,
            "ordered": _plain(np.sort(evaluate(fitted.model, inputs)), 4),
        }
    return found


def _plain(values: Array, digits: int) -> list[float]:
    return [round(float(value), digits) for value in values]

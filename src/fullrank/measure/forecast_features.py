"""What a forecast of probe accuracy is computed from: numbers that compare across widths.

They are functions of the vital signs alone (:mod:`fullrank.measure.vitals`), which a check-up of a
training run, a monitor and an audit all take. None depends on the scale of the features or on a
rotation of them; none needs a label.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fullrank.measure.spectrum import stable_rank

# Below these a log would tell rounding from rounding; trained collapses end above.
LEAST_SPREAD = 1e-4
LEAST_ALIGNMENT = 1e-4
LEAST_TAIL = 1e-6


@dataclass(frozen=True)
class Feature:
    """One number of a forecast.

    Attributes:
        name: in tables and files.
        words: as a sentence calls it.
        views: how many views of each image it takes.
    """

    name: str
    words: str
    views: int = 1


FEATURES = (
    Feature("log2_d", "log2 of the width"),
    Feature("log_rank", "log of the effective rank"),
    Feature("log_rank_share", "log of the effective rank's share of what it could be"),
    Feature("log_participation", "log of the participation ratio"),
    Feature("log_stable_rank", "log of the stable rank (NESum)"),
    Feature("auc", "area under the cumulative explained variance"),
    Feature("log_tail", "log of the share of the lower half of the singular values"),
    Feature("log_spread", "log of the spread"),
    Feature("log_alignment", "log of the alignment", views=2),
    Feature("log_view_share", "log of the alignment over that of rows at random", views=2),
)


def names_for(views: int) -> tuple[str, ...]:
    """Return the names of the features that so many views of each image give, in order."""
    return tuple(feature.name for feature in FEATURES if feature.views <= views)


def words_of(name: str) -> str:
    """Return what a sentence calls a feature."""
    return next(feature.words for feature in FEATURES if feature.name == name)


def forecast_features(signs: Mapping[str, Any]) -> dict[str, float]:
    """Compute the features of a layer from its vital signs.

    ``log_rank`` and its kin are natural logs, ``log2_d`` is of base 2. ``log_tail`` is the log of
    the share that the lower half of the singular values has of their sum. ``log_view_share`` is
    that of ``alignment / (2 spread)``: 0 where two views of an image are as far apart as views of
    any two. Spread, alignment and tail count as ``LEAST_SPREAD``, ``LEAST_ALIGNMENT`` and
    ``LEAST_TAIL`` at least.

    Args:
        signs: ``VitalSigns``, or a mapping with the same keys as a record holds it.

    Returns:
        Features by name, all finite: those of two views where ``alignment`` is known, else those
        of one; empty where something is missing, not finite, or nothing varies at all.
    """
    names = ("d", "effective_rank", "rank_share", "participation_ratio", "cev_auc", "spread")
    known = {name: _number(signs.get(name)) for name in names}
    sigma = _spectrum(signs.get("spectrum"))
    if any(math.isnan(value) for value in known.values()) or not sigma:
        return {}
    positive = ("d", "effective_rank", "rank_share", "participation_ratio")
    if min(known[name] for name in positive) <= 0:
        return {}
    spread = max(known["spread"], LEAST_SPREAD)
    tail = sum(sigma[len(sigma) // 2 :]) / sum(sigma)
    found = {
        "log2_d": math.log2(known["d"]),
        "log_rank": math.log(known["effective_rank"]),
        "log_rank_share": math.log(known["rank_share"]),
        "log_participation": math.log(known["participation_ratio"]),
        "log_stable_rank": math.log(float(stable_rank(torch.tensor(sigma, dtype=torch.float64)))),
        "auc": known["cev_auc"],
        "log_tail": math.log(max(tail, LEAST_TAIL)),
        "log_spread": math.log(spread),
    }
    alignment = _number(signs.get("alignment"))
    if not math.isnan(alignment):
        aligned = max(alignment, LEAST_ALIGNMENT)
        found["log_alignment"] = math.log(aligned)
        found["log_view_share"] = math.log(aligned / (2 * spread))
    return found


def _spectrum(values: Any) -> list[float]:
    """Return singular values in descending order; empty if there are none or all are zero."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        return []
    numbers = [_number(value) for value in values]
    if not numbers or any(math.isnan(value) or value < 0 for value in numbers):
        return []
    return sorted(numbers, reverse=True) if max(numbers) > 0 else []


def _number(value: Any) -> float:
    """Return a finite number, or NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if math.isfinite(value) else math.nan

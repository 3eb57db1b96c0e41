"""Several representations ranked without labels, with the uncertainty of each rank."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from fullrank.errors import UserError, unknown_name
from fullrank.measure.table import Reading
from fullrank.randomness import generator

DRAWS = 4000
# Whichever direction is healthy: higher, lower, or as near 1 as possible.
CRITERIA: dict[str, str] = {
    "rankme": "higher",
    "effective_rank": "higher",
    "participation_ratio": "higher",
    "stable_rank": "higher",
    "lidar": "higher",
    "cev_auc": "lower",
    "alpha_req": "near 1",
    "uniformity": "lower",
    "self_cluster": "lower",
    "clid": "higher",
}
DEFAULT = "rankme"


@dataclass(frozen=True)
class Ranked:
    """The place of one representation among several.

    Attributes:
        what: what was audited.
        value: its value of the criterion, bias-corrected where a correction is known.
        rank: its place, 1 for the best.
        low: lower end of the 95 % interval of its place.
        high: its upper end.
        best: probability that it is the first.
        collapsed: whether its verdict is a complete collapse; these are last whatever their value.
    """

    what: str
    value: float | None
    rank: int
    low: int
    high: int
    best: float
    collapsed: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def rank(
    subjects: Sequence[tuple[str, Mapping[str, Reading], bool]], criterion: str = DEFAULT
) -> list[Ranked]:
    """Rank representations by one label-free criterion.

    Values are compared as they are, or bias-corrected if all of them are. The interval of each
    place comes from drawing every value from its own error distribution (Student's t with 7
    degrees of freedom) 4,000 times. It says how sure the order of the *values* is; whether the
    criterion orders accuracy is another question, which ``fullrank metrics`` answers in words.

    Args:
        subjects: what was audited, its readings, and whether it collapsed completely.
        criterion: one of ``CRITERIA``.

    Returns:
        Best first. Without a value a representation is last, with any place possible.

    Raises:
        UserError: an unknown criterion, or one that no subject has.
    """
    from scipy.stats import t

    if criterion not in CRITERIA:
        raise unknown_name("rank_by", criterion, CRITERIA)
    readings = [metrics.get(criterion) for _, metrics, _ in subjects]
    if all(r is None or r.value is None for r in readings):
        raise UserError(
            f"rank_by: {criterion} given, which none of these has. Allowed: "
            f"{', '.join(c for c in CRITERIA if any(c in m for _, m, _ in subjects))}."
        )
    corrected = all(r is None or r.corrected is not None for r in readings)
    values = [_value(r, corrected) for r in readings]
    half_width = float(t.ppf(0.975, 7))
    errors = [_half(r) / half_width for r in readings]
    collapsed = torch.tensor([c for *_, c in subjects], dtype=torch.float64)
    draws = torch.tensor(
        t.ppf(torch.rand(DRAWS, len(values), generator=generator(0, "ranking")).numpy(), 7)
    )
    means = torch.tensor([math.nan if v is None else v for v in values], dtype=torch.float64)
    drawn = means + draws * torch.tensor(errors, dtype=torch.float64)
    places = _places(_score(drawn, criterion), collapsed)
    place = _places(_score(means[None], criterion), collapsed)[0]
    tail = torch.tensor([0.025, 0.975], dtype=torch.float64)
    bounds = torch.quantile(places.to(torch.float64), tail, dim=0, interpolation="nearest")
    ranked = [
        Ranked(
            what=what,
            value=values[i],
            rank=int(place[i]),
            low=int(bounds[0, i]),
            high=int(bounds[1, i]),
            best=float((places[:, i] == 1).double().mean()),
            collapsed=bool(collapsed[i]),
        )
        for i, (what, _, _) in enumerate(subjects)
    ]
    return sorted(ranked, key=lambda r: r.rank)


def _value(reading: Reading | None, corrected: bool) -> float | None:
    if reading is None:
        return None
    return reading.corrected if corrected else reading.value


def _half(reading: Reading | None) -> float:
    """Return half of the width of an interval, 0 without one."""
    if reading is None or reading.low is None or reading.high is None:
        return 0.0
    return (reading.high - reading.low) / 2


def _score(values: torch.Tensor, criterion: str) -> torch.Tensor:
    """Return values where higher is better; NaN is worst."""
    direction = CRITERIA[criterion]
    score = {"higher": values, "lower": -values, "near 1": -(values - 1).abs()}[direction]
    return score.nan_to_num(nan=-math.inf)


def _places(score: torch.Tensor, collapsed: torch.Tensor) -> torch.Tensor:
    """Return the place of each column in every row, 1 for the highest; collapsed ones last."""
    by_score = score.argsort(dim=1, descending=True, stable=True)
    by_both = by_score.gather(1, collapsed[by_score].argsort(dim=1, stable=True))
    order = torch.arange(1, score.shape[1] + 1).expand_as(by_both)
    return torch.empty_like(by_both).scatter_(1, by_both, order)

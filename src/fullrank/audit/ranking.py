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
        best: probability that it is the first; without an interval of its value, that of a place
            drawn at random.
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
    degrees of freedom, as wide on either side as its interval) 4,000 times. It says how sure the
    order of the *values* is; whether the criterion orders accuracy is another question, which
    ``fullrank metrics`` answers in words.

    A value without an interval may lie anywhere: its place among the others is drawn at random, so
    that it may have any, and every other may be one higher or lower for it.

    Args:
        subjects: what was audited, its readings, and whether it collapsed completely.
        criterion: one of ``CRITERIA``.

    Returns:
        Best first. Without a value a representation is last, with any place possible; but collapsed
        ones stay behind the others.

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
    corrected = all(r is None or r.value is None or r.corrected is not None for r in readings)
    values = [_value(r, corrected) for r in readings]
    collapsed = torch.tensor([c for *_, c in subjects], dtype=torch.float64)
    random = generator(0, "ranking")
    uniform = torch.rand(DRAWS, len(values), generator=random)
    draws = torch.tensor(t.ppf(uniform.numpy(), 7), dtype=torch.float64)
    means = torch.tensor([math.nan if v is None else v for v in values], dtype=torch.float64)
    below, above = torch.tensor([_errors(r, corrected) for r in readings], dtype=torch.float64).T
    drawn = means + draws * torch.where(draws < 0, below, above) / float(t.ppf(0.975, 7))
    places = _places(_anywhere(_score(drawn, criterion), random), collapsed)
    place = _places(_score(means[None], criterion).nan_to_num(nan=-math.inf), collapsed)[0]
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


def _errors(reading: Reading | None, corrected: bool) -> tuple[float, float]:
    """Return how far an interval reaches below and above what it is about; NaN without one."""
    if reading is None or reading.value is None or reading.low is None or reading.high is None:
        return math.nan, math.nan
    if corrected and reading.corrected is not None:
        return reading.corrected - reading.low, reading.high - reading.corrected
    if reading.corrected is None and reading.low <= reading.value <= reading.high:
        return reading.value - reading.low, reading.high - reading.value
    # The interval is about another number than the one compared: its width is what carries over.
    return ((reading.high - reading.low) / 2,) * 2


def _score(values: torch.Tensor, criterion: str) -> torch.Tensor:
    """Return values where higher is better; NaN stays."""
    direction = CRITERIA[criterion]
    return {"higher": values, "lower": -values, "near 1": -(values - 1).abs()}[direction]


def _anywhere(score: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Return scores of the same order, with NaN at a random place among the others of its row."""
    known = ~score.isnan()
    count = known.sum(1, keepdim=True)
    best_first = score.nan_to_num(nan=-math.inf).argsort(dim=1, descending=True, stable=True)
    # The known have the numbers count down to 1; between, below and above are count + 1 gaps.
    number = (count - best_first.argsort(dim=1)).to(torch.float64)
    gaps = torch.rand(score.shape, generator=random, dtype=torch.float64) * (count + 1)
    return torch.where(known, number, gaps)


def _places(score: torch.Tensor, collapsed: torch.Tensor) -> torch.Tensor:
    """Return the place of each column in every row, 1 for the highest; collapsed ones last."""
    by_score = score.argsort(dim=1, descending=True, stable=True)
    by_both = by_score.gather(1, collapsed[by_score].argsort(dim=1, stable=True))
    order = torch.arange(1, score.shape[1] + 1).expand_as(by_both)
    return torch.empty_like(by_both).scatter_(1, by_both, order)

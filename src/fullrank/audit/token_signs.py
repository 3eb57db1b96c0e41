"""Signs in the tokens of each image, gathered over blocks in memory that does not grow with them.

The statistics are those of :mod:`fullrank.measure.tokens`: per-position spread from sums over all
images, in groups for its error bar; the ranks of an image's own tokens from images drawn at random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Real
from torch import Tensor

from fullrank.measure.jackknife import Jackknifed
from fullrank.measure.moments import unit_rows
from fullrank.measure.sample import RowSample
from fullrank.measure.table import Reading
from fullrank.measure.tokens import PositionSpread, tokens_of_sample

GROUPS = 8
# Images whose tokens are decomposed: one SVD each.
IMAGES = 256
# Bytes that the sums of a layer may hold; wider ones are kept in one group, without an error bar.
SUM_BYTES = 256 << 20
# Images handled at a time: bounds the float64 copies of their tokens.
_AT_A_TIME = 32


@dataclass
class _Sums:
    """Sums over the images of a group, of unit tokens about those of the first image of all."""

    offsets: Float[Tensor, "t d"]
    squares: float = 0.0
    images: int = 0

    def __sub__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.offsets - other.offsets, self.squares - other.squares, self.images - other.images
        )


class TokenSigns:
    """Per-position spread, and the ranks of the tokens of single images.

    Args:
        tokens: of each image.
        dim: width of a token.
        images: to decompose at most.
        seed: of their draw.
    """

    def __init__(self, tokens: int, dim: int, images: int = IMAGES, seed: int = 0) -> None:
        self.tokens, self.dim = tokens, dim
        groups = GROUPS if GROUPS * 8 * tokens * dim <= SUM_BYTES else 1
        self._pivot: Tensor | None = None
        self._groups = [_Sums(torch.zeros(tokens, dim, dtype=torch.float64)) for _ in range(groups)]
        self._drawn = RowSample(max(1, min(images, IMAGES)), seed)
        self._ranks: dict[int, tuple[float, float]] = {}
        self._seen = 0

    def add(self, rows: Real[Tensor, "_rows _d"]) -> None:
        """Add the tokens of the next images, those of an image one after the other.

        Args:
            rows: (b * tokens, d).
        """
        images = rows.detach().unflatten(0, (-1, self.tokens))
        index = torch.arange(self._seen, self._seen + len(images))
        self._drawn.update(torch.zeros(len(images), 1), index)
        drawn = set(self._drawn.index.tolist())
        self._ranks = {i: found for i, found in self._ranks.items() if i in drawn}
        for i in index.tolist():
            if i in drawn:
                at = i - self._seen
                found = tokens_of_sample(images[at : at + 1])
                self._ranks[i] = (found.effective_rank, found.participation_ratio)
        for part, which in zip(images.split(_AT_A_TIME), index.split(_AT_A_TIME), strict=True):
            units = unit_rows(part.double().flatten(0, 1))[0].view(part.shape)
            if self._pivot is None:
                self._pivot = units[0].clone()
            offsets = units - self._pivot
            for g, group in enumerate(self._groups):
                own = offsets[which % len(self._groups) == g]
                group.offsets += own.sum(0)
                group.squares += float(own.square().sum())
                group.images += len(own)
        self._seen += len(images)

    @property
    def spread(self) -> PositionSpread | None:
        """Spread over images at each position and over all tokens; None of fewer than two."""
        return self._spread(self._total) if self._seen > 1 else None

    @property
    def _total(self) -> _Sums:
        return _Sums(
            torch.stack([g.offsets for g in self._groups]).sum(0),
            math.fsum(g.squares for g in self._groups),
            self._seen,
        )

    def _spread(self, sums: _Sums) -> PositionSpread:
        assert self._pivot is not None
        n = sums.images
        shift = sums.offsets / n
        # About an image of their own, tokens that do not depend on the image have exactly none.
        within = max(0.0, sums.squares / n - float(shift.square().sum())) / self.tokens
        centre = self._pivot + shift
        offsets = centre - centre[0].clone()
        between = float((offsets - offsets.mean(0)).square().sum()) / self.tokens
        return PositionSpread(min(1.0, within), min(1.0, within + between))

    def readings(self) -> dict[str, Reading]:
        """Return the signs by metric name, with error bars over images."""
        found = {}
        if self._seen > 1:
            total = self._total
            left_out = [total - group for group in self._groups if group.images]
            enough = len(left_out) > 1 and all(sums.images > 1 for sums in left_out)
            replicates = tuple(self._spread(s).share for s in left_out) if enough else ()
            jackknifed = Jackknifed(self._spread(total).share, replicates)
            found["per_position_spread"] = _between(jackknifed.value, *jackknifed.interval())
        if not self._ranks:
            return found
        ranks = torch.tensor([self._ranks[i] for i in sorted(self._ranks)], dtype=torch.float64)
        flags = (f"from {len(ranks)} sampled images",) if len(ranks) < self._seen else ()
        for column, name in enumerate(("token_effective_rank", "token_participation_ratio")):
            values = ranks[:, column]
            found[name] = _between(float(values.mean()), *_of_mean(values), flags)
        return found


def _of_mean(values: Float[Tensor, " m"]) -> tuple[float, float]:
    """Return the 95 % interval of a mean of independent values."""
    m = len(values)
    if m < 2:
        return math.nan, math.nan
    from scipy.stats import t

    half = float(t.ppf(0.975, m - 1)) * float(values.std()) / math.sqrt(m)
    return float(values.mean()) - half, float(values.mean()) + half


def _between(value: float, low: float, high: float, flags: tuple[str, ...] = ()) -> Reading:
    if math.isnan(low):
        return Reading(value, None, None, None, (*flags, "no error bar"))
    return Reading(value, None, low, high, flags)

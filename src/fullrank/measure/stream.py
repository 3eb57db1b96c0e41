"""Measure rows as they stream by, in the cheapest precision that their spectrum allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure._from_rows import Sums, check_views, empty_state
from fullrank.measure._moment_state import MomentState
from fullrank.measure._single import SingleSums
from fullrank.measure.moments import check_precision
from fullrank.measure.sample import RowSample
from fullrank.measure.shards import Shards

Precision = Literal["auto", "float64", "float32"]
Blocks = Callable[[], Iterable[Sequence[Tensor]]]

# Rows that a shard gets at a time. Fewer would starve the product.
_SHARD_ROWS = 1024
# Rows after which the precision is looked at, as a multiple of the width.
_PILOT_WIDTHS = 4
# Smallest spread of the unit rows that float32 rows resolve to 1e-4.
_SINGLE_SPREAD = 1e-8


@dataclass(frozen=True)
class Measured:
    """What one pass over rows leaves.

    Attributes:
        shards: moments in groups.
        sample: a seeded sample of the rows of the first view.
        precision: of the products: ``"float32"`` or ``"float64"``.
    """

    shards: Shards
    sample: RowSample
    precision: str


def measure_stream(
    blocks: Blocks,
    *,
    shards: int = 8,
    sample: int = 4096,
    seed: int = 0,
    precision: Precision = "auto",
) -> Measured:
    """Measure rows in one pass, or in two where float32 turns out not to do.

    Memory is O(shards dim² + block) whatever the number of rows. Rows are counted as they come, and
    row ``i`` goes to shard ``i mod shards``.

    With ``"auto"`` float32 products are tried. If the spectrum of the first rows, or that of all,
    is too steep for them, or rows do not fit into float32, all are measured again in float64.
    Either way every ``σ_j >= 1e-5 σ_1`` is exact to 1e-6.

    Args:
        blocks: returns an iterable over blocks, each one (rows, dim) tensor a view, in any real
            dtype; it is called again to start again.
        shards: number of groups.
        sample: rows of the first view to keep for what needs pairs.
        seed: chooses them.
        precision: of the products.

    Raises:
        UserError: unknown precision; fewer than one shard; views of different shapes or widths;
            rows that are not finite.
    """
    check_precision(precision, ("auto", "float64", "float32"))
    if shards < 1:
        raise UserError(f"shards: {shards} given; allowed: 1 or more.")
    if precision != "float64":
        try:
            measured = _passed(blocks, shards, sample, seed, check=precision == "auto")
        except _TooSteep:
            pass
        else:
            return measured
    return _passed(blocks, shards, sample, seed, check=None)


class _TooSteep(Exception):  # noqa: N818 - a signal, not an error
    """Float32 products would lose small singular values."""


class RowStream:
    """Rows in the order of the data, handed in block by block: moments in shards, and a sample.

    Row ``i`` goes to shard ``i mod shards``. Small blocks are held back until they are worth a
    matrix product; memory is O(shards dim² + 1024 shards dim).

    Args:
        shards: number of groups.
        sample: rows of the first view to keep for what needs pairs.
        seed: chooses them.
        single: whether products are float32 (of more than two views they never are).
    """

    def __init__(self, shards: int, sample: int, seed: int = 0, single: bool = False) -> None:
        self.sample = RowSample(sample, seed)
        self.seen = 0
        self._shards, self._single = shards, single
        self._sums: SingleSums | _DoubleSums | None = None
        self._held: list[Sequence[Tensor]] = []
        self._waiting = 0

    @property
    def single(self) -> bool:
        """Whether products are float32."""
        return isinstance(self._sums, SingleSums)

    def add(self, views: Sequence[Tensor]) -> None:
        """Add a block: one (rows, dim) tensor a view. A block without rows changes nothing.

        Raises:
            UserError: views of different shapes, another number of views or width than before, or
                rows that are not finite.
        """
        check_views(views)
        given = (len(views), views[0].shape[1])
        if self._sums is not None and given != (self._sums.q, self._sums.d):
            raise UserError(
                f"views: {given[0]} of width {given[1]} given; the first block had "
                f"{self._sums.q} of width {self._sums.d}."
            )
        if len(views[0]) == 0:
            return
        if self._sums is None:
            kind = SingleSums if self._single and given[0] <= 2 else _DoubleSums
            self._sums = kind(*given, views[0].device, self._shards)
        self._held.append(views)
        self._waiting += len(views[0])
        if self._waiting >= _SHARD_ROWS * self._shards:
            self._settle()

    def measured(self) -> Measured:
        """Return what all rows amount to; no more can be added."""
        self._settle(last=True)
        if self._sums is None:
            empty = empty_state(1, 0, torch.device("cpu"))
            return Measured(Shards((empty,) * self._shards), self.sample, "float64")
        precision = "float32" if self.single else "float64"
        return Measured(Shards(self._sums.states()), self.sample, precision)

    def promising(self) -> bool:
        """Say whether the spectrum so far may do for float32."""
        assert isinstance(self._sums, SingleSums)
        scatter = self._sums.scatter_so_far()
        # A quarter of the share: few rows show a steeper spectrum than many.
        return _promising(scatter.float().cpu(), single_share(len(scatter)) / 4)

    def _settle(self, last: bool = False) -> None:
        if not self._held or self._sums is None:
            return
        views = list(self._held[0])
        if len(self._held) > 1:
            views = [torch.cat(parts) for parts in zip(*self._held, strict=True)]
        # Shards get equally many rows, but for the last.
        more = 0 if last else len(views[0]) % self._shards
        even = len(views[0]) - more
        self._held, self._waiting = [], more
        if more:
            self._held = [[view[even:].clone() for view in views]]
            views = [view[:even] for view in views]
        self._sums.add(views)
        self.sample.update(views[0])
        self.seen += len(views[0])


class _DoubleSums:
    """Sums in shards, in float64."""

    def __init__(self, q: int, d: int, device: torch.device, shards: int) -> None:
        self.q, self.d, self.rows = q, d, 0
        self._sums = [Sums(q, d, device) for _ in range(shards)]

    def add(self, views: Sequence[Tensor]) -> None:
        for k, total in enumerate(self._sums):
            start = (k - self.rows) % len(self._sums)
            total.add([view[start :: len(self._sums)] for view in views])
        self.rows += len(views[0])

    def states(self) -> tuple[MomentState, ...]:
        return tuple(total.state() for total in self._sums)


def _passed(blocks: Blocks, shards: int, sample: int, seed: int, check: bool | None) -> Measured:
    """Pass over the blocks: in float64 if ``check`` is None, else in float32.

    Raises:
        _TooSteep: the check was asked for, and says that float32 does not do.
    """
    rows = RowStream(shards, sample, seed, single=check is not None)
    looked = not check
    try:
        for views in blocks():
            rows.add(views)
            if not looked and rows.seen >= _PILOT_WIDTHS * views[0].shape[1]:
                looked = True
                if rows.single and not rows.promising():
                    raise _TooSteep
        measured = rows.measured()
    except UserError:
        if check and rows.single:  # perhaps too large for float32
            raise _TooSteep from None
        raise
    if check and measured.precision == "float32" and not _resolved(measured.shards.total):
        raise _TooSteep
    return measured


def _promising(scatter: Tensor, share: float) -> bool:
    """Whether it is worth going on in float32: few rows show a steeper spectrum than many.

    Args:
        scatter: about, of the rows so far; only its lower triangle is read.
        share: of the largest singular value that the smallest should have.
    """
    d = len(scatter)
    symmetric = scatter.tril() + scatter.tril(-1).T
    x = scatter.new_ones(d)
    for _ in range(8):  # a lower bound of the largest eigenvalue, close enough
        x = symmetric @ (x / torch.linalg.vector_norm(x))
    largest = float(torch.linalg.vector_norm(x))
    if not math.isfinite(largest) or largest <= 0:
        return False
    shifted = symmetric - share**2 * largest * torch.eye(d)
    return int(torch.linalg.cholesky_ex(shifted).info) == 0


def single_share(dim: int) -> float:
    """Smallest share of ``σ_1`` at which float32 products err by less than 1e-6 of ``σ_j``.

    They err by ``c 3e-8 (σ_1/σ_j)²`` of it. Rounding is spread over the more directions the wider
    the rows: near this share ``c`` stayed below ``15/dim``, for 1e3 to 2e5 rows of widths 64 to
    1024 with power laws of exponent 0.5 to 1, also with a mean of 100 spreads. Here it is taken as
    ``20/dim``, and no better beyond the widths that were tried.

    Args:
        dim: number of coordinates.
    """
    return min((0.6 / min(dim, 2048)) ** 0.5, 0.5)


def _resolved(state: MomentState) -> bool:
    """Whether float32 products resolve every singular value that so many rows can have."""
    sigma = state.singular_values[: max(state.rows - state.views, 1)]
    spread = float(state.unit_scatter.sum()) / state.rows
    return bool(sigma[-1] > single_share(state.dim) * sigma[0]) and spread > _SINGLE_SPREAD

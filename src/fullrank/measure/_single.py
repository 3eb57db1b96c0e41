"""Moments by float32 products: about twice as fast, where the spectrum is flat enough for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fullrank.measure._from_rows import (
    about_common,
    add_gram,
    add_grams,
    empty_state,
    mirrored,
    not_finite,
)
from fullrank.measure._moment_state import MomentState

# Entries of a block of rows: it and what is made of it stay in cache between the passes over them.
_BLOCK_ENTRIES = 1 << 19
# Rows of a shard whose products are summed in float32, or as many as they are wide: more often, and
# adding the sums to the float64 ones would cost as much as the products.
_PRODUCT_ROWS = 2048
# So many rows show the mean well enough for a shift.
_MEAN_ROWS = 2048
# Blocks whose means are kept before they are merged into one.
_MOST_BLOCKS = 64


class SingleSums:
    """Sums of one or two views, in shards: float32 products of shifted blocks, added in float64.

    Row ``i`` goes to shard ``i mod shards``. The rows that come together are shifted by about their
    mean, that of some of them; what that leaves of a shard's mean is kept and taken off at the end.
    A product then errs by float32 rounding of the spread, whatever the mean. Unit rows are shifted
    by about their mean direction before they are squared, too.

    Args:
        q: number of views, 1 or 2.
        d: their width.
        device: of the rows.
        shards: number of groups.
    """

    def __init__(self, q: int, d: int, device: torch.device, shards: int = 1) -> None:
        self.q, self.d, self.device, self.shards = q, d, device, shards
        # One view: the scatter. Two: scatters of sum and difference, and their product.
        self.sums = self._zeros(1 if q == 1 else 3, shards, d, d)
        # Shifted rows by view and shard, until there are enough of them for a product.
        self._room, self._filled = max(_PRODUCT_ROWS, d), 0
        self._shifted = torch.empty(q, shards, self._room, d, device=device)
        # Written over by each block: to ask for memory costs as much as to fill it.
        self._units = self._ones = torch.empty(0, device=device)
        self.rows = 0
        self.unit_scatter = self._zeros(shards, d)
        self.pair_distance = self._zeros(shards)
        self.zero_rows = torch.zeros(shards, dtype=torch.int64, device=device)
        # Of each block and shard: number of rows, means, and what the shift left of them.
        self.counts: list[Tensor] = []
        self.means: list[Tensor] = []
        self.left: list[Tensor] = []
        self.unit_means: list[Tensor] = []

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self.device)

    def add(self, views: Sequence[Tensor]) -> None:
        """Add rows of any real dtype; they are left as they are.

        Args:
            views: of each, as many rows as the shards, or a multiple of that; any number in the
                last call.

        Raises:
            UserError: some rows are not finite, or too large to square in float32.
        """
        assert self.rows % self.shards == 0
        with torch.autocast(self.device.type, enabled=False):
            end = len(views[0])
            even = end - end % self.shards
            start = 0
            while start < even:
                rows = min(self._room - self._filled, (even - start) // self.shards)
                stop = start + rows * self.shards
                y = self._shifted[:, :, self._filled : self._filled + rows]
                self._take([v.detach()[start:stop] for v in views], y)
                self._filled += rows
                start = stop
                if self._filled == self._room:
                    self._multiply()
            if even < end:
                y = torch.empty(self.q, end - even, 1, self.d, device=self.device)
                self._take([v.detach()[even:] for v in views], y)
                self._add_products(y)
            if len(self.counts) >= _MOST_BLOCKS:
                self._gather()

    def _take(self, views: Sequence[Tensor], shifted: Tensor) -> None:
        """Shift rows, and sum up all but their products.

        Args:
            views: rows (n, dim) of each view; row ``i`` is of group ``i mod groups``.
            shifted: gets them without their mean, (views, groups, n/groups, dim).
        """
        x = [v if v.dtype in (torch.float32, torch.float64) else v.float() for v in views]
        shifts, centres = zip(*map(_about, x), strict=True)
        groups, rows = shifted.shape[1:3]
        sums = torch.zeros(3, self.q, groups, 1, self.d, device=self.device)
        # A block, its shifted copy and its unit rows stay in cache between the passes over them.
        step = max(1, _BLOCK_ENTRIES // (self.d * groups))
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            self._shift(
                [v[start * groups : stop * groups] for v in x],
                shifted[:, :, start:stop],
                shifts,
                centres,
                sums,
            )
        left, unit_left, squares = sums[:, :, :, 0].double().transpose(1, 2)
        left, unit_left = left / rows, unit_left / rows
        self.unit_scatter[:groups] += squares.sum(1) - rows * unit_left.square().sum(1)
        filled = self._zeros(4, self.shards, self.q, self.d)
        filled[0, :groups] = rows
        filled[1, :groups] = torch.stack(shifts) + left
        filled[2, :groups] = left
        filled[3, :groups] = torch.stack(centres) + unit_left
        self.counts.append(filled[0, :, 0, 0])
        self.means.append(filled[1])
        self.left.append(filled[2])
        self.unit_means.append(filled[3])
        self.rows += groups * rows

    def _shift(
        self,
        views: Sequence[Tensor],
        shifted: Tensor,
        shifts: Sequence[Tensor],
        centres: Sequence[Tensor],
        sums: Tensor,
    ) -> None:
        """Shift a block of rows, and add the sums of each group of them to ``sums``."""
        groups, rows = shifted.shape[1:3]
        if self._units.shape != shifted.shape:
            self._units = shifted.new_empty(shifted.shape)
            # Products with ones: a sum over any but the last dimension takes ten times as long.
            self._ones = shifted.new_ones(groups, 1, rows)
        for view, x in enumerate(views):
            y, u = shifted[view], self._units[view]
            by_group = x.view(rows, groups, self.d).transpose(0, 1)
            # By groups in memory, too: the product of every 8th row takes twice as long.
            if x.dtype == torch.float32:
                torch.sub(by_group, shifts[view], out=y)
            else:
                y.copy_(by_group - shifts[view])
                by_group = by_group.float()
            inverse = self._inverse_norms(by_group)
            torch.addcmul(-centres[view], by_group, inverse[:, :, None], out=u)
            sums[0, view].baddbmm_(self._ones, y)
            sums[1, view].baddbmm_(self._ones, u)
        if self.q == 2:
            difference = self._units[0] - self._units[1]
            difference += centres[0] - centres[1]
            self.pair_distance[:groups] += difference.square_().sum(2).double().sum(1)
        for view, u in enumerate(self._units):
            sums[2, view].baddbmm_(self._ones, u.square_())

    def _inverse_norms(self, x: Tensor) -> Tensor:
        """Return 1 over the length of each row, (groups, rows), and 0 for rows that are 0."""
        norms = torch.linalg.vector_norm(x, dim=2)
        if not bool(norms.max().isfinite()):
            raise not_finite(~norms.T.flatten().isfinite(), self.rows)
        zero = norms == 0
        if bool(zero.any()):
            self.zero_rows[: len(x)] += zero.sum(1)
        return norms.reciprocal_().masked_fill_(zero, 0)

    def _multiply(self) -> None:
        """Multiply the shifted rows."""
        self._add_products(self._shifted[:, :, : self._filled])
        self._filled = 0

    def _add_products(self, shifted: Tensor) -> None:
        """Add the products of shifted rows (views, groups, rows, dim)."""
        groups = shifted.shape[1]
        if self.q == 1:
            add_grams(self.sums[0, :groups], shifted[0])
            return
        difference = shifted[0] - shifted[1]
        total = shifted[0].add_(shifted[1])
        add_grams(self.sums[0, :groups], total)
        add_grams(self.sums[1, :groups], difference)
        self.sums[2, :groups] += total.transpose(1, 2) @ difference

    def _gather(self) -> None:
        """Add to the sums what the means of the blocks differ by; keep one mean for all."""
        counts, means, left, unit_means = map(
            torch.stack, (self.counts, self.means, self.left, self.unit_means)
        )
        mean, unit_mean = torch.zeros_like(means[0]), torch.zeros_like(means[0])
        for k in range(self.shards):
            weights = counts[:, k]
            if not bool(weights.any()):
                continue
            root = weights.sqrt()[:, None, None]
            mean[k], offsets = about_common(means[:, k], weights)
            unit_mean[k], unit_offsets = about_common(unit_means[:, k], weights)
            self.unit_scatter[k] += (unit_offsets * root).square().sum((0, 1))
            self._add_means(k, offsets * root, 1)
            self._add_means(k, left[:, k] * root, -1)
        self.counts, self.means = [counts.sum(0)], [mean]
        self.left, self.unit_means = [torch.zeros_like(mean)], [unit_mean]

    def _add_means(self, shard: int, rows: Tensor, sign: int) -> None:
        """Add ``sign`` times the products of weighted means (blocks, views, dim)."""
        sums = self.sums[:, shard]
        if self.q == 1:
            add_gram(sums[0], rows[:, 0], sign)
            return
        total, difference = rows[:, 0] + rows[:, 1], rows[:, 0] - rows[:, 1]
        add_gram(sums[0], total, sign)
        add_gram(sums[1], difference, sign)
        sums[2].addmm_(total.T, difference, alpha=sign)

    def scatter_so_far(self) -> Tensor:
        """Return the lower triangle of the scatter, but for what the blocks' means differ by."""
        self._multiply()
        return self.sums[:2].flatten(0, 1).sum(0)

    def states(self) -> tuple[MomentState, ...]:
        """Return the moments of the rows of each shard."""
        if not self.counts:
            return (empty_state(self.q, self.d, self.device),) * self.shards
        self._multiply()
        self._gather()
        return tuple(map(self._state, range(self.shards)))

    def _state(self, k: int) -> MomentState:
        count = int(self.counts[0][k])
        if count == 0:
            return empty_state(self.q, self.d, self.device)
        residual = contrast = None
        scatter = mirrored(self.sums[0, k])
        if self.q == 2:
            residual = mirrored(self.sums[1, k]).div_(2)
            contrast = self.sums[2, k] / 2
            scatter.div_(2).add_(residual)
        # The mean over views: each has as many rows.
        unit_mean, unit_offsets = about_common(
            self.unit_means[0][k], self.counts[0].new_ones(self.q)
        )
        return MomentState(
            count=count,
            mean=self.means[0][k],
            scatter=scatter,
            residual=residual,
            contrast=contrast,
            unit_mean=unit_mean,
            unit_scatter=(self.unit_scatter[k] + count * unit_offsets.square().sum(0)).clamp(min=0),
            zero_rows=int(self.zero_rows[k]),
            pair_distance=float(self.pair_distance[k]),
        )


def _about(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return about what mean rows have, and about what mean their unit rows have in float32."""
    some = x[:: len(x) // _MEAN_ROWS | 1]  # an odd step, since data may come in periods
    norms = torch.linalg.vector_norm(some.float(), dim=1)
    weights = torch.stack([torch.ones_like(norms), torch.where(norms > 0, 1 / norms, 0.0)])
    shift, centre = (weights.to(x.dtype) @ some) / len(some)
    return shift, centre.float()

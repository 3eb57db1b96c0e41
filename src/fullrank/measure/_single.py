"""Moments by float32 products: about twice as fast, where the spectrum is flat enough for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fullrank.measure._from_rows import (
    about_common,
    add_gram,
    empty_state,
    mirrored,
    not_finite,
)
from fullrank.measure._moment_state import MomentState

# Entries of a block of rows: it and its shifted copy stay in cache between the passes over them.
_BLOCK_ENTRIES = 1 << 19
_FEWEST_ROWS = 512
# Rows whose products are summed in float32 before they are added to the float64 sums, as a
# multiple of the width: less often, and rounding would grow; more often, and the additions would
# cost as much as the products.
_FLUSH_WIDTHS = 4


class SingleSums:
    """Sums of one or two views: float32 products of shifted blocks, added up in float64.

    Each block is shifted by its own mean, rounded to float32; what that leaves of the mean is kept
    and taken off at the end. A product then errs by float32 rounding of the spread, whatever the
    mean. Unit rows are shifted by their mean direction before they are squared, too.
    """

    def __init__(self, q: int, d: int, device: torch.device) -> None:
        self.q, self.d, self.device = q, d, device
        # One view: the scatter. Two: scatters of sum and difference, and their product.
        self.sums = [self._zeros(d, d) for _ in range(1 if q == 1 else 3)]
        self._partial = [torch.zeros(d, d, device=device) for _ in self.sums]
        # Written over by each block: to ask for memory costs as much as to fill it.
        self._shifted: list[Tensor] = []
        self._units: list[Tensor] = []
        self._pending = 0
        self.unit_scatter = self._zeros(d)
        self.pair_distance = self._zeros()
        self.zero_rows = 0
        self.rows = 0
        self.counts: list[int] = []
        self.means: list[Tensor] = []
        self.left: list[Tensor] = []
        self.unit_means: list[Tensor] = []

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self.device)

    def add(self, views: Sequence[Tensor]) -> None:
        """Add rows of any real dtype; they are left as they are.

        Raises:
            UserError: some rows are not finite, or too large to square in float32.
        """
        with torch.autocast(self.device.type, enabled=False):
            for block in zip(
                *(v.detach().split(max(_FEWEST_ROWS, _BLOCK_ENTRIES // self.d)) for v in views),
                strict=True,
            ):
                self._add_block(list(block))

    def _add_block(self, views: list[Tensor]) -> None:
        n = len(views[0])
        if n == 0:
            return
        x = [v if v.dtype == torch.float64 else v.to(torch.float32) for v in views]
        even = [torch.full((n,), 1 / n, dtype=v.dtype, device=v.device) for v in x]
        shifts = [torch.mv(rows.T, w) for rows, w in zip(x, even, strict=True)]
        if not self._shifted or len(self._shifted[0]) < n:
            self._shifted = [v.new_empty(n, self.d, dtype=torch.float32) for v in x]
            self._units = [torch.empty_like(v) for v in self._shifted]
        y = [buffer[:n] for buffer in self._shifted]
        for rows, shift, buffer in zip(x, shifts, y, strict=True):
            if rows.dtype == torch.float32:
                torch.sub(rows, shift, out=buffer)
            else:
                buffer.copy_(rows - shift)
        single = even[0].float()
        left = torch.stack([torch.mv(rows.T, single) for rows in y]).double()
        self._add_units([rows.float() for rows in x], single)
        self.counts.append(n)
        self.left.append(left)
        self.means.append(torch.stack(shifts).double() + left)
        if self.q == 1:
            add_gram(self._partial[0], y[0])
        else:
            difference = y[0] - y[1]
            total = y[0].add_(y[1])
            add_gram(self._partial[0], total)
            add_gram(self._partial[1], difference)
            self._partial[2].addmm_(total.T, difference)
        self.rows += n
        self._pending += n
        if self._pending >= _FLUSH_WIDTHS * self.d:
            self._flush()

    def _add_units(self, x: list[Tensor], single: Tensor) -> None:
        inverse = []
        for v in x:
            norms = torch.linalg.vector_norm(v, dim=1)
            bad = ~norms.isfinite()
            if bool(bad.any()):
                raise not_finite(bad, self.rows)
            self.zero_rows += int((norms == 0).sum())
            inverse.append(torch.where(norms > 0, 1 / norms, 0.0))
        means, shifted = [], []
        for v, w, buffer in zip(x, inverse, self._units, strict=True):
            centre = torch.mv(v.T, w * single)
            shifted.append((torch.addcmul(-centre, v, w[:, None], out=buffer[: len(v)]), centre))
            means.append(centre.double())
        if self.q == 2:
            (a, centre_a), (b, centre_b) = shifted
            self.pair_distance += (a - b + (centre_a - centre_b)).square_().sum(1).double().sum()
        for u, _ in shifted:
            # A product with ones: a norm or a sum over the first dimension takes ten times as long.
            self.unit_scatter += len(u) * torch.mv(u.square_().T, single).double()
        self.unit_means.append(torch.stack(means))

    def _flush(self) -> None:
        for total, partial in zip(self.sums, self._partial, strict=True):
            total += partial
            partial.zero_()
        self._pending = 0

    def scatter_so_far(self) -> Tensor:
        """Return the lower triangle of the scatter, but for what the blocks' means differ by."""
        self._flush()
        return self.sums[0] if self.q == 1 else self.sums[0] + self.sums[1]

    def state(self) -> MomentState:
        """Return the moments of every row added."""
        if not self.counts:
            return empty_state(self.q, self.d, self.device)
        self._flush()
        weights = torch.tensor(self.counts, dtype=torch.float64, device=self.device)
        mean, offsets = about_common(torch.stack(self.means), weights)
        unit_weights = weights.repeat_interleave(self.q)
        unit_mean, unit_offsets = about_common(
            torch.stack(self.unit_means).flatten(0, 1), unit_weights
        )
        root = weights.sqrt()[:, None, None]
        offsets, left = offsets * root, torch.stack(self.left) * root
        sums = [total.clone() for total in self.sums]
        residual = contrast = None
        if self.q == 1:
            add_gram(sums[0], offsets[:, 0])
            scatter = mirrored(sums[0]).addmm_(left[:, 0].T, left[:, 0], alpha=-1)
        else:
            total, difference = (
                torch.stack([o[:, 0] + sign * o[:, 1] for o in (offsets, left)]) for sign in (1, -1)
            )
            parts = [(total, total), (difference, difference), (total, difference)]
            for k, (one, other) in enumerate(parts):
                sums[k] = mirrored(sums[k]) if k < 2 else sums[k]
                sums[k].addmm_(one[0].T, other[0]).addmm_(one[1].T, other[1], alpha=-1)
            residual, contrast = sums[1] / 2, sums[2] / 2
            scatter = sums[0].div_(2).add_(residual)
        return MomentState(
            count=sum(self.counts),
            mean=mean,
            scatter=scatter,
            residual=residual,
            contrast=contrast,
            unit_mean=unit_mean,
            unit_scatter=(self.unit_scatter + unit_weights @ unit_offsets.square()).clamp(min=0),
            zero_rows=self.zero_rows,
            pair_distance=float(self.pair_distance),
        )

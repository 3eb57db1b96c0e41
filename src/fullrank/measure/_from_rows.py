"""From rows to moments: one pass over blocks of rows, all arithmetic in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure._moment_state import MomentState

# Entries of a block of rows: its float64 copies (4 MB each) stay in cache between the few passes
# over them. Wide rows still come by the 256, or the matrix product would starve.
_BLOCK_ENTRIES = 1 << 19
_FEWEST_ROWS = 256
# Panels of a symmetric product: at most so many, none narrower.
_PANELS = 8
_NARROWEST = 128
# Side of the tiles that are transposed at a time.
_TILE = 256


def unit_rows(x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """Return the rows of ``x`` divided by their length, and the lengths.

    A row that is exactly 0 stays 0.

    Args:
        x: rows, shape (n, d).

    Returns:
        The unit rows (n, d) and the lengths (n,).
    """
    norms = torch.linalg.vector_norm(x, dim=1)
    return x * torch.where(norms > 0, 1 / norms, 0.0)[:, None], norms


def check_views(views: Sequence[Tensor]) -> None:
    """Refuse views that are not matrices of real numbers of one shape.

    Raises:
        UserError: says which shape or dtype was given, and what is allowed.
    """
    if not views:
        raise UserError("views: none given; pass at least one tensor of shape (n, d).")
    for view in views:
        if view.ndim != 2 or view.shape[1] == 0:
            raise UserError(
                f"views: shape {tuple(view.shape)} given; each must be (n, d) with d >= 1: "
                "one row an image."
            )
        if view.is_complex():
            raise UserError(f"views: {view.dtype} given; only real numbers are allowed.")
        if view.shape != views[0].shape:
            raise UserError(
                f"views: shapes {[tuple(v.shape) for v in views]} given; all must be the same, "
                "row i of every view being the same image."
            )


def empty_state(q: int, d: int, device: torch.device) -> MomentState:
    """Return the moments of no images at all, in ``q`` views of width ``d``."""

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=device)

    return MomentState(
        count=0,
        mean=zeros(q, d),
        scatter=zeros(d, d),
        residual=zeros(d, d) if q > 1 else None,
        contrast=zeros(d, d) if q == 2 else None,
        unit_mean=zeros(d),
        unit_scatter=zeros(d),
        zero_rows=0,
        pair_distance=0.0,
    )


def not_finite(bad: Tensor, before: int = 0) -> UserError:
    """Build the error for rows that are not finite.

    Args:
        bad: which rows are not, shape (n,).
        before: how many rows came before them.
    """
    return UserError(
        f"views: {int(bad.sum())} of {before + len(bad)} rows hold NaN, infinity or values too "
        f"large to square (the first is row {before + int(bad.nonzero()[0])}); "
        "only finite rows are allowed."
    )


class Sums:
    """Sums over blocks of rows.

    Each block is centred by its own means. What the blocks' means differ by is added at the end,
    one product of (blocks, dim) matrices, so that there is neither cancellation nor a pass over a
    (dim, dim) matrix for every block beyond the product itself.
    """

    def __init__(self, q: int, d: int, device: torch.device) -> None:
        self.q, self.d, self.device = q, d, device
        self.scatter = self._zeros(d, d)
        self.residual = self._zeros(d, d)
        self.contrast = self._zeros(d, d)
        self.unit_scatter = self._zeros(d)
        self.pair_distance = self._zeros()
        self.counts: list[int] = []
        self.means: list[Tensor] = []
        self.unit_means: list[Tensor] = []
        self.norms: list[Tensor] = []

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self.device)

    def add(self, views: Sequence[Tensor]) -> None:
        """Add rows of any real dtype; they are left as they are."""
        step = max(_FEWEST_ROWS, _BLOCK_ENTRIES // self.d)
        for block in zip(*(view.detach().split(step) for view in views), strict=True):
            if len(block[0]) > 0:
                self._add_block([rows.to(torch.float64, copy=True) for rows in block])

    def _add_block(self, x: list[Tensor]) -> None:
        """Add a block: one float64 (rows, d) tensor a view, which it overwrites."""
        units, norms = zip(*map(unit_rows, x), strict=True)
        self.counts.append(len(x[0]))
        self.norms.append(torch.stack(norms))
        self._add_units(list(units))
        self.means.append(torch.stack([_centre(rows) for rows in x]))
        if self.q == 1:
            add_gram(self.scatter, x[0])
        elif self.q == 2:
            # Three products hold the joint scatter of both views; and the residual of two nearly
            # equal views comes from their difference, not from a difference of scatters.
            difference = x[0] - x[1]
            total = x[0].add_(x[1])
            add_gram(self.scatter, total)
            add_gram(self.residual, difference)
            self.contrast.addmm_(total.T, difference)
        else:
            image = torch.stack(x).mean(0)
            for rows in x:
                add_gram(self.scatter, rows)
                add_gram(self.residual, rows.sub_(image))

    def _add_units(self, u: list[Tensor]) -> None:
        if self.q == 2:
            self.pair_distance += (u[0] - u[1]).square_().sum()
        elif self.q > 2:
            image = torch.stack(u).mean(0)
            for rows in u:
                self.pair_distance += self.q * (rows - image).square_().sum()
        means = []
        for rows in u:
            means.append(_centre(rows))
            self.unit_scatter += rows.square_().sum(0)
        self.unit_means.append(torch.stack(means))

    def state(self) -> MomentState:
        """Return the moments of every row added.

        Raises:
            UserError: some rows were not finite.
        """
        if not self.norms:
            return empty_state(self.q, self.d, self.device)
        norms = torch.cat(self.norms, 1)
        bad = ~norms.isfinite().all(0)
        if bool(bad.any()):
            raise not_finite(bad)
        weights = torch.tensor(self.counts, dtype=torch.float64, device=self.device)
        mean, offsets = about_common(torch.stack(self.means), weights)
        # Every view of a block counts as a block of its own for the pooled unit rows.
        unit_means = torch.stack(self.unit_means).flatten(0, 1)
        unit_weights = weights.repeat_interleave(self.q)
        unit_mean, unit_offsets = about_common(unit_means, unit_weights)
        self.unit_scatter += unit_weights @ unit_offsets.square()

        weighted = offsets * weights.sqrt()[:, None, None]
        residual = contrast = None
        if self.q == 2:
            total, difference = weighted[:, 0] + weighted[:, 1], weighted[:, 0] - weighted[:, 1]
            add_gram(self.scatter, total)
            add_gram(self.residual, difference)
            contrast = self.contrast.addmm_(total.T, difference).div_(2)
            residual = mirrored(self.residual).div_(2)
            scatter = mirrored(self.scatter).div_(2).add_(residual)
        else:
            add_gram(self.scatter, weighted.flatten(0, 1))
            scatter = mirrored(self.scatter)
            if self.q > 2:
                about_image = weighted - weighted.mean(1, keepdim=True)
                add_gram(self.residual, about_image.flatten(0, 1))
                residual = mirrored(self.residual)
        return MomentState(
            count=sum(self.counts),
            mean=mean,
            scatter=scatter,
            residual=residual,
            contrast=contrast,
            unit_mean=unit_mean,
            unit_scatter=self.unit_scatter,
            zero_rows=int((norms == 0).sum()),
            pair_distance=float(self.pair_distance),
        )


def _centre(rows: Tensor) -> Tensor:
    """Subtract the mean from ``rows``, in place, and return it."""
    # About the first row, a constant column is exactly 0 and has exactly no variance.
    pivot = rows[0].clone()
    shift = rows.sub_(pivot).mean(0)
    rows.sub_(shift)
    return pivot + shift


def about_common(means: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted mean of ``means`` over their first dimension, and each one's offset."""
    offsets = means - means[0]
    shift = torch.tensordot(weights / weights.sum(), offsets, dims=1)
    return means[0] + shift, offsets - shift


def add_gram(total: Tensor, rows: Tensor, sign: int = 1) -> None:
    """Add ``sign rowsᵀ rows`` to the lower triangle of ``total``; the upper is left unfinished.

    Half of a symmetric product need not be computed: blocks above the diagonal are skipped.
    """
    for start, end in _panels(rows.shape[1]):
        total[start:end, :end].addmm_(rows[:, start:end].T, rows[:, :end], alpha=sign)


def add_grams(totals: Tensor, rows: Tensor) -> None:
    """Add the product of each group of float32 rows to the lower triangle of its float64 total.

    Threads share the work by groups, which takes less time than to share every product.

    Args:
        totals: (groups, dim, dim).
        rows: (groups, rows, dim).
    """
    groups, _, d = rows.shape
    panels = _panels(d)
    widest = max(end - start for start, end in panels)
    product = rows.new_empty(groups * widest * d)
    double = totals.new_empty(len(product))
    for start, end in panels:
        shape = (groups, end - start, end)
        single = product[: math.prod(shape)].view(shape)
        torch.bmm(rows[:, :, start:end].transpose(1, 2), rows[:, :, :end], out=single)
        totals[:, start:end, :end] += double[: math.prod(shape)].view(shape).copy_(single)


def _panels(d: int) -> list[tuple[int, int]]:
    """Return panels of rows: wide enough for a product, narrow enough to skip most of the half."""
    panel = max(_NARROWEST, d // _PANELS) if d >= 2 * _NARROWEST else d
    return [(start, min(start + panel, d)) for start in range(0, d, panel)]


def mirrored(lower: Tensor) -> Tensor:
    """Return the symmetric matrix with the lower triangle of ``lower``."""
    whole = lower.clone()
    d = len(lower)
    # In tiles: a transposed pass over a large matrix misses the cache at every element.
    for start in range(0, d, _TILE):
        end = min(start + _TILE, d)
        tile = whole[start:end, start:end]
        tile.copy_(tile.tril() + tile.tril(-1).T)
        for left in range(0, start, _TILE):
            whole[left : left + _TILE, start:end] = whole[start:end, left : left + _TILE].T
    return whole

"""The batch in training, cheaply: seeded rows of it are kept, and read only when someone looks.

Statistics of a moving average, or of a queue of past batches, mix features of different weights: a
representation that collapses inside a rotating subspace still looks full there. Here each batch
replaces the one before. A training step pays for one copy of at most a few hundred rows and for
nothing else; means, Gram matrices and waiting for the device belong to whoever reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, Real
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.moments import unit_rows
from fullrank.measure.pairs import batch_spread
from fullrank.models.collectives import world_size
from fullrank.randomness import generator

# Coordinates that tell rows apart when some are chosen.
_HASHED = 64
# Rows of the Gram matrix that the participation ratio is estimated from.
GRAM_ROWS = 64


class CurrentRows:
    """Some rows of the latest batch of one layer.

    Which rows is decided by a seeded hash of their content: the choice depends neither on their
    order nor on how many processes share the batch, and draws no random numbers.

    Args:
        size: rows to keep; a batch with no more is kept whole.
        seed: of the hash.

    Raises:
        UserError: a size below 4, with which no rank can be estimated.
    """

    def __init__(self, size: int = 256, seed: int = 0) -> None:
        if size < 4:
            raise UserError(f"rows: {size} given; allowed: 4 or more.")
        self.size, self.seed = size, seed
        self.views: tuple[Tensor, ...] = ()
        self._multipliers: dict[torch.device, Tensor] = {}

    def update(self, *views: Real[Tensor, "n d"]) -> None:
        """Replace the rows by those of a new batch; nothing waits for the device.

        Args:
            *views: one (n, d) tensor a view, row ``i`` of each being the same image.
        """
        rows = [view.detach() for view in views]
        if len(rows[0]) == 0:
            return
        if len(rows[0]) > self.size:
            chosen = self.keys(rows[0]).topk(self.size, largest=False, sorted=False).indices
            self.views = tuple(view.index_select(0, chosen) for view in rows)
        elif len(self.views) == len(rows) and all(map(_fits, self.views, rows)):
            for kept, new in zip(self.views, rows, strict=True):
                kept.copy_(new)  # memory that is touched already: half the time of a new copy
        else:
            self.views = tuple(view.clone() for view in rows)

    def keys(self, rows: Real[Tensor, "n d"]) -> Int[Tensor, " n"]:
        """Return a hash of each row: a multilinear one of the bits of its first coordinates."""
        if rows.device not in self._multipliers:
            limits = torch.iinfo(torch.int64)
            drawn = torch.randint(
                limits.min,
                limits.max,
                (_HASHED,),
                generator=generator(self.seed, "rows of a batch"),
            )
            self._multipliers[rows.device] = (drawn | 1).to(rows.device)
        # Adding zero makes one zero of two.
        bits = (rows[:, :_HASHED].to(torch.float32) + 0.0).contiguous().view(torch.int32)
        weighted = bits.to(torch.int64) * self._multipliers[rows.device][: bits.shape[1]]
        return weighted.sum(1)


def _fits(kept: Tensor, new: Tensor) -> bool:
    return (
        kept.shape == new.shape
        and kept.dtype == new.dtype
        and kept.device == new.device
        and (torch.is_inference_mode_enabled() or not kept.is_inference())
    )


def read_current(layers: Mapping[str, CurrentRows]) -> dict[str, dict[str, float]]:
    """Read the statistics of the latest batch of each layer, of all processes together.

    Every process must call it, and gets the same numbers, which are those of one process that saw
    the whole batch.

    Args:
        layers: the rows of each layer.

    Returns:
        By layer, what :func:`batch_signs` gives.
    """
    held = {name: [view.cpu() for view in rows.views] for name, rows in layers.items()}
    ranks: list[dict[str, list[Tensor]]] = [held]
    if world_size() > 1:
        ranks = [{} for _ in range(world_size())]
        dist.all_gather_object(ranks, held)
    found = {}
    for name, rows in layers.items():
        parts = [rank[name] for rank in ranks if rank.get(name)]
        if parts:
            views = [torch.cat(view) for view in zip(*parts, strict=True)]
            order = rows.keys(views[0]).argsort()[: rows.size]
            found[name] = batch_signs(*(view[order] for view in views))
    return found


def batch_signs(*views: Real[Tensor, "_n _d"]) -> dict[str, float]:
    """Compute cheap vital signs of some rows, in float64.

    ``spread`` and ``normalised_std`` as in :mod:`fullrank.measure.pairs`, all views pooled;
    ``alignment`` of two or more views; ``participation_ratio`` of the first view, unbiased (see
    :func:`participation_ratio_of_rows`), from at most ``GRAM_ROWS`` rows.

    Args:
        *views: one (n, d) tensor a view.

    Returns:
        Values by name; NaN where they are undefined.
    """
    x = [view.detach().to(torch.float64) for view in views]
    pooled = torch.cat(x)
    unit, _ = unit_rows(pooled)
    deviation = (unit - unit.mean(0)).square().mean(0).sqrt()
    signs = {
        "spread": float(batch_spread(pooled)),
        "normalised_std": float(deviation.mean()) * math.sqrt(pooled.shape[1]),
        "participation_ratio": float(participation_ratio_of_rows(x[0][:GRAM_ROWS])),
    }
    if len(views) > 1:
        signs["alignment"] = _alignment(unit.chunk(len(views)))
    return signs


def _alignment(unit: Sequence[Tensor]) -> float:
    pairs = [(a, b) for i, a in enumerate(unit) for b in unit[:i]]
    return sum(float((a - b).square().sum(1).mean()) for a, b in pairs) / len(pairs)


def participation_ratio_of_rows(rows: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Estimate ``(tr Σ)² / tr Σ²`` from few rows by the ratio of two unbiased estimates.

    The plug-in value of ``n`` rows cannot pass ``n - 1``. Here numerator and denominator are
    U-statistics over four different rows each, unbiased for any distribution with finite fourth
    moments and blind to the mean, both read off one Gram matrix: ``tr Σ²`` as in the unbiased
    HSIC of a linear kernel with itself, ``(tr Σ)²`` from products of squared distances.

    Args:
        rows: (n, d) with ``n >= 4``, independent of each other.

    Returns:
        0-d, between 1 and d; 0 if all rows are equal; NaN of fewer than four rows, or if any is not
        finite.

    References:
        Song et al. 2012, "Feature Selection via Dependence Maximization", eq. 5; Chun et al. 2025,
        arXiv 2509.26560, on the bias of the plug-in value.
    """
    n, d = rows.shape
    if n < 4 or not bool(rows.isfinite().all()):
        return rows.new_full((), math.nan)
    y = rows - rows.mean(0)  # changes nothing but rounding
    scale = y.abs().max()
    if not scale > 0:
        return rows.new_zeros(())
    gram = (y / scale) @ (y / scale).T
    norms = gram.diagonal()
    distance = norms[:, None] + norms - 2 * gram
    distance = distance.clamp(min=0).fill_diagonal_(0)
    gram = gram - gram.diag().diag()
    of_row, total = distance.sum(1), distance.sum()
    squared_trace = total**2 - 4 * of_row.square().sum() + 2 * distance.square().sum()
    squared_trace = squared_trace / (4 * (n - 1) * (n - 2))
    of_row, total = gram.sum(1), gram.sum()
    trace_of_square = (
        gram.square().sum() + total**2 / ((n - 1) * (n - 2)) - 2 * of_row.square().sum() / (n - 2)
    )
    ratio = squared_trace / trace_of_square.clamp(min=0)
    return ratio.nan_to_num(nan=d, posinf=d).clamp(1, d)

"""Mergeable statistics of representations: the one state that every spectral number comes from.

``moments_of`` and ``merge`` are the functional core; ``Moments`` is a thin torchmetrics shell.
Memory is O(dim²) whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Real
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from fullrank.errors import UserError
from fullrank.measure._from_rows import check_views, moments_of, unit_rows
from fullrank.measure._moment_state import MomentState, merge

__all__ = ["MomentState", "Moments", "merge", "moments_of", "unit_rows"]


# What a metric holds before its first update: no rows, and neither views nor width yet.
_NOTHING = MomentState(
    count=0,
    mean=torch.zeros(0, 0, dtype=torch.float64),
    scatter=torch.zeros(0, 0, dtype=torch.float64),
    residual=None,
    contrast=None,
    unit_mean=torch.zeros(0, dtype=torch.float64),
    unit_scatter=torch.zeros(0, dtype=torch.float64),
    zero_rows=0,
    pair_distance=0.0,
)


def _gather(result: Tensor, group: Any = None) -> list[Tensor]:
    """Gather a state from every rank; one that saw nothing contributes zeros."""
    gathered = gather_all_tensors(result, group)
    shapes = {tuple(t.shape) for t in gathered if t.numel() > 0}
    if len(shapes) > 1:
        raise UserError(f"ranks hold moments of different shapes: {sorted(shapes)}.")
    shape = shapes.pop() if shapes else tuple(result.shape)
    return [t if tuple(t.shape) == shape else t.new_zeros(shape) for t in gathered]


class Moments(Metric):
    """Moments of representations, updated batch by batch.

    ``update(*views)`` takes one tensor a view, each (n, d), row ``i`` of every view being the same
    image. The first update that has rows fixes the number of views and the width until ``reset``.
    ``compute()`` returns a :class:`MomentState`: the same up to rounding for any split of the rows
    into updates, any order, any tree of ``merge_state``, and any number of ranks, whether or not
    they saw equally many rows, or any. It is empty (``count == 0``) if no rank saw rows.

    The state is float64 and is part of ``state_dict()``. ``forward`` costs two updates.

    Args:
        **kwargs: those of :class:`torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> moments = Moments()
        >>> moments.update(torch.eye(3)[:2], torch.eye(3)[:2])
        >>> moments.update(torch.eye(3)[2:], torch.eye(3)[2:])
        >>> state = moments.compute()
        >>> state.count, state.views, state.dim
        (3, 2, 3)
        >>> [round(sigma, 3) for sigma in state.singular_values.tolist()]
        [1.414, 1.414, 0.0]
    """

    is_differentiable = False
    higher_is_better = None
    # forward must refuse bad input before it touches what was accumulated.
    full_state_update = True

    count: Tensor
    mean: Tensor
    scatter: Tensor
    residual: Tensor
    contrast: Tensor
    unit_mean: Tensor
    unit_scatter: Tensor
    zero_rows: Tensor
    pair_distance: Tensor

    def __init__(self, **kwargs: Any) -> None:
        # A state computed before a move to another device would stay behind in the cache.
        super().__init__(**{"dist_sync_fn": _gather, "compute_with_cache": False, **kwargs})
        for name, value in _tensors(_NOTHING).items():
            self.add_state(name, default=value, dist_reduce_fx=None, persistent=True)

    def update(self, *views: Real[Tensor, "_n _d"]) -> None:
        """Add a batch of images; a batch without rows changes nothing.

        Args:
            *views: one (n, d) tensor a view, in any real dtype.

        Raises:
            UserError: see :func:`moments_of`; or the number of views or the width differs from
                the first update's.
        """
        check_views(views)
        if len(views[0]) == 0:
            return
        given, kept = (len(views), views[0].shape[1]), tuple(self.mean.shape)
        if int(self.count) > 0 and given != kept:
            raise UserError(
                f"views: {given[0]} of width {given[1]} given; the first update had "
                f"{kept[0]} of width {kept[1]}. Call reset() to start again."
            )
        self._store(merge(self._state(), moments_of(*views).to(self.device)))

    def compute(self) -> MomentState:
        """Return the moments of all images so far, on all ranks."""
        if self.count.ndim == 0:
            return self._state()
        state = self._state(0)
        for rank in range(1, len(self.count)):
            state = merge(state, self._state(rank))
        return state

    def merge_state(self, incoming_state: Mapping[str, Any] | Metric) -> None:
        """Add the images that another metric saw.

        Args:
            incoming_state: another ``Moments``, or the ``metric_state`` of one.

        Raises:
            UserError: it is neither, or its views or width differ.
        """
        if isinstance(incoming_state, Moments):
            incoming_state = incoming_state.metric_state
        if not isinstance(incoming_state, Mapping) or set(self._defaults) - set(incoming_state):
            raise UserError(
                f"incoming_state: {type(incoming_state).__name__} given; allowed: Moments, or its "
                "metric_state."
            )
        self._store(merge(self._state(), _from_tensors(incoming_state).to(self.device)))
        self._computed = None
        self._update_count += 1

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        # torchmetrics does not count what was loaded, and would warn that nothing was measured.
        self._computed = None
        self._update_count = max(self._update_count, int(bool((self.count > 0).any())))

    def _state(self, rank: int | None = None) -> MomentState:
        tensors = {name: getattr(self, name) for name in self._defaults}
        return _from_tensors(
            tensors if rank is None else {name: t[rank] for name, t in tensors.items()}
        )

    def _store(self, state: MomentState) -> None:
        for name, value in _tensors(state).items():
            setattr(self, name, value.to(self.mean.device))


def _tensors(state: MomentState) -> dict[str, Tensor]:
    """Spell a state as tensors; what a number of views does not have is an empty matrix."""
    none = state.mean.new_zeros(0, 0)
    return {
        "count": torch.tensor(state.count),
        "mean": state.mean,
        "scatter": state.scatter,
        "residual": none if state.residual is None else state.residual,
        "contrast": none if state.contrast is None else state.contrast,
        "unit_mean": state.unit_mean,
        "unit_scatter": state.unit_scatter,
        "zero_rows": torch.tensor(state.zero_rows),
        "pair_distance": torch.tensor(state.pair_distance, dtype=torch.float64),
    }


def _from_tensors(tensors: Mapping[str, Tensor]) -> MomentState:
    q = tensors["mean"].shape[0]
    return MomentState(
        count=int(tensors["count"]),
        mean=tensors["mean"],
        scatter=tensors["scatter"],
        residual=tensors["residual"] if q > 1 else None,
        contrast=tensors["contrast"] if q == 2 else None,
        unit_mean=tensors["unit_mean"],
        unit_scatter=tensors["unit_scatter"],
        zero_rows=int(tensors["zero_rows"]),
        pair_distance=float(tensors["pair_distance"]),
    )

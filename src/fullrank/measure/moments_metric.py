"""``Moments``: the moments of representations as a torchmetrics metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, Literal

import torch
from jaxtyping import Int, Real
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from fullrank.errors import UserError
from fullrank.measure._from_rows import check_views, empty_state
from fullrank.measure._moment_state import MomentState
from fullrank.measure.moments import check_precision, moments_of
from fullrank.measure.shards import Shards

# What a metric holds before its first update: no rows, and neither views nor width yet.
_NOTHING = empty_state(0, 0, torch.device("cpu"))


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
    ``compute_shards()`` returns the same moments in groups that can be left out one at a time.

    The state is float64 and is part of ``state_dict()``. ``forward`` costs two updates.

    Args:
        shards: number of groups; memory is O(shards dim²).
        precision: of the products; see :func:`moments_of`.
        **kwargs: those of :class:`torchmetrics.Metric`.

    Raises:
        UserError: fewer than one shard, or unknown precision.

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

    def __init__(
        self,
        shards: int = 1,
        precision: Literal["float64", "float32"] = "float64",
        **kwargs: Any,
    ) -> None:
        # A state computed before a move to another device would stay behind in the cache.
        super().__init__(**{"dist_sync_fn": _gather, "compute_with_cache": False, **kwargs})
        if shards < 1:
            raise UserError(f"shards: {shards} given; allowed: 1 or more.")
        check_precision(precision)
        self.shards, self.precision = shards, precision
        for name, value in _stacked([_NOTHING] * shards).items():
            self.add_state(name, default=value, dist_reduce_fx=None, persistent=True)

    def update(
        self, *views: Real[Tensor, "_n _d"], index: Int[Tensor, " _n"] | None = None
    ) -> None:
        """Add a batch of images; a batch without rows changes nothing.

        Args:
            *views: one (n, d) tensor a view, in any real dtype.
            index: which image of the whole data each row is: it goes to shard ``index mod shards``,
                whatever the order. By default images are counted as they come.

        Raises:
            UserError: see :func:`moments_of`; or the number of views or the width differs from
                the first update's; or the index has another length.
        """
        check_views(views)
        n = len(views[0])
        if index is not None and len(index) != n:
            raise UserError(f"index: {len(index)} given; allowed: {n}, one a row.")
        if n == 0:
            return
        given, kept = (len(views), views[0].shape[1]), tuple(self.mean.shape[1:])
        if int(self.count.sum()) > 0 and given != kept:
            raise UserError(
                f"views: {given[0]} of width {given[1]} given; the first update had "
                f"{kept[0]} of width {kept[1]}. Call reset() to start again."
            )
        parts = [moments_of(*p, precision=self.precision) for p in self._parts(views, index)]
        self._add(Shards(tuple(parts)))

    def compute(self) -> MomentState:
        """Return the moments of all images so far, on all ranks."""
        return self._shards().total

    def compute_shards(self) -> Shards:
        """Return the moments of all images so far, on all ranks, in shards."""
        with self.sync_context(
            dist_sync_fn=self.dist_sync_fn,
            should_sync=self._to_sync,
            should_unsync=self._should_unsync,
        ):
            return self._shards()

    def merge_state(self, incoming_state: Mapping[str, Any] | Metric) -> None:
        """Add the images that another metric saw.

        Args:
            incoming_state: another ``Moments``, or the ``metric_state`` of one.

        Raises:
            UserError: it is neither, or its shards, views or width differ.
        """
        if isinstance(incoming_state, Moments):
            incoming_state = incoming_state.metric_state
        if not isinstance(incoming_state, Mapping) or set(self._defaults) - set(incoming_state):
            raise UserError(
                f"incoming_state: {type(incoming_state).__name__} given; allowed: Moments, or its "
                "metric_state."
            )
        self._add(_unstacked(incoming_state))
        self._computed = None
        self._update_count += 1

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        # torchmetrics does not count what was loaded, and would warn that nothing was measured.
        self._computed = None
        self._update_count = max(self._update_count, int(bool((self.count > 0).any())))

    def _parts(self, views: Sequence[Tensor], index: Tensor | None) -> Iterator[list[Tensor]]:
        """Yield the rows of each shard."""
        seen = int(self.count.sum())
        for shard in range(self.shards):
            if index is None:
                yield [view[(shard - seen) % self.shards :: self.shards] for view in views]
            else:
                yield [view[(index % self.shards == shard).to(view.device)] for view in views]

    def _add(self, shards: Shards) -> None:
        merged = _unstacked({name: getattr(self, name) for name in self._defaults}).merge(
            Shards(tuple(state.to(self.device) for state in shards.states))
        )
        for name, value in _stacked(merged.states).items():
            setattr(self, name, value.to(self.mean.device))

    def _shards(self) -> Shards:
        tensors = {name: getattr(self, name) for name in self._defaults}
        if self.count.ndim == 1:
            return _unstacked(tensors)
        ranks = len(self.count)  # gathered from several processes
        held = [_unstacked({name: t[rank] for name, t in tensors.items()}) for rank in range(ranks)]
        return reduce(Shards.merge, held)


def _stacked(states: Sequence[MomentState]) -> dict[str, Tensor]:
    """Spell states as tensors, one row a state."""
    largest = max(states, key=lambda state: state.count)
    q, d = largest.mean.shape
    each = [
        _tensors(state if state.count else empty_state(q, d, state.mean.device)) for state in states
    ]
    return {name: torch.stack([tensors[name] for tensors in each]) for name in each[0]}


def _unstacked(tensors: Mapping[str, Tensor]) -> Shards:
    count = len(tensors["count"])
    return Shards(
        tuple(_from_tensors({name: t[k] for name, t in tensors.items()}) for k in range(count))
    )


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

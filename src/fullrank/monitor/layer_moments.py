"""Moments of one layer on the probe set, its vital signs, and their standard errors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fullrank.measure.moments import Moments
from fullrank.measure.sample import RowSample
from fullrank.measure.sketch import WIDEST_EXACT
from fullrank.measure.spectra import EXACT_WIDTH
from fullrank.measure.table import standard_errors
from fullrank.measure.vitals import vital_signs
from fullrank.measure.wide import WideRows, wide_vital_signs
from fullrank.models.collectives import world_size

# Rows that the error bars of wide layers are computed from.
SAMPLED_ROWS = 1024
# Rows that are added together: every update goes over all (width, width) matrices of the shards.
ROWS_AT_A_TIME = 4096

# Metrics that standard errors are told of.
WITH_ERRORS = (
    "spread",
    "normalised_std",
    "alignment",
    "effective_rank",
    "participation_ratio",
    "cev_auc",
)


class LayerMoments:
    """Collects the rows of one layer, on this process's share of the probe set.

    Args:
        width: of the rows.
        shards: groups for the error bars; 1 for none. A layer wider than ``EXACT_WIDTH`` keeps one
            group, because each costs ``width²`` numbers, and a sample of rows beside it; one wider
            than ``WIDEST_EXACT`` keeps a sketch of this process's rows, and has no error bars.
        seed: of that sample.
        device: where the moments are kept.
        shared: whether the processes share the probe set, so that each adds what it has seen; else
            a process reads by itself.
    """

    def __init__(
        self, width: int, shards: int, seed: int, device: torch.device, shared: bool = True
    ) -> None:
        narrow = width <= EXACT_WIDTH
        self.shared = shared
        self.moments = Moments(shards=shards if narrow else 1, sync_on_compute=shared)
        self.sample = None if narrow or shards == 1 else RowSample(SAMPLED_ROWS, seed)
        self.wide: WideRows | None = None
        self._is_wide, self._seed = width > WIDEST_EXACT, seed
        self._held: list[tuple[Sequence[Tensor], Tensor]] = []
        self._waiting = 0
        if device.type != "mps":  # it has no float64
            self.moments = self.moments.to(device)

    def update(self, views: Sequence[Tensor], start: int) -> None:
        """Add the rows of one batch; ``start`` is the index of the first in the probe set."""
        if len(views[0]):
            self._held.append((views, torch.arange(start, start + len(views[0]))))
            self._waiting += len(views[0])
        if self._waiting >= ROWS_AT_A_TIME:
            self._settle()

    def _settle(self) -> None:
        if not self._held:
            return
        views = [torch.cat(parts) for parts in zip(*(v for v, _ in self._held), strict=True)]
        index = torch.cat([i for _, i in self._held])
        self._held, self._waiting = [], 0
        if self._is_wide:
            if self.wide is None:
                self.wide = WideRows(views[0].shape[1], len(views), seed=self._seed)
            self.wide.add([view.cpu() for view in views])
            return
        self.moments.update(*(view.to(self.moments.device) for view in views), index=index)
        if self.sample is not None:
            self.sample.update(views[0], index)

    def read(self) -> dict[str, Any]:
        """Return vital signs, and ``errors``: the standard error of each, by metric name.

        All processes that share the probe set must call.

        Returns:
            ``VitalSigns`` and errors, on all processes those of the rows of all.
        """
        self._settle()
        if self.wide is not None:
            return {**wide_vital_signs(self.wide), "errors": {}}
        with warnings.catch_warnings():
            # A process without a share of a small probe set was never updated.
            warnings.filterwarnings("ignore", message=".*before the ``update`` method.*")
            shards = self.moments.compute_shards()
        signs = vital_signs(shards.total)
        sample = self._sample_of_all()
        rows = None if sample is None else sample.rows
        return {**signs, "errors": standard_errors(shards, rows, names=WITH_ERRORS)}

    def _sample_of_all(self) -> RowSample | None:
        if self.sample is None or not self.shared or world_size() == 1:
            return self.sample
        held: list[Any] = [None] * world_size()
        dist.all_gather_object(held, (self.sample.rows.cpu(), self.sample.index))
        together = RowSample(self.sample.size, self.sample.seed)
        for rows, index in held:
            if len(index):
                together.update(rows, index)
        return together

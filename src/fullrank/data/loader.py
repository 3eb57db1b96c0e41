"""The order of data in time: endless batches of views, each a pure function of seed and step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from fullrank.data.augment import Augment
from fullrank.data.crop_reader import CropReader
from fullrank.data.folder import FolderImages
from fullrank.data.order import Order
from fullrank.data.sources import Images
from fullrank.data.stream_settings import IID, Stream
from fullrank.errors import UserError


class Batch(NamedTuple):
    """One process's part of a batch.

    Attributes:
        views: float32 ``(n, c, s, s)``, normalised, one a view.
        indices: int64 ``(n,)``, which training images they show.
    """

    views: list[Tensor]
    indices: Tensor


class ViewStream:
    """Endless batches of random views of a training set.

    The batch of a step depends on the seed and the step alone, so that a resumed run and any
    number of processes see what one uninterrupted process sees.

    Args:
        images: the training images; those in memory are moved to ``device`` as uint8.
        augment: draws the views.
        batch_size: of the global batch, over all processes.
        seed: the run's seed.
        device: where the views are made.
        rank: of this process.
        world: number of processes.
        workers: processes that decode a folder's images.
        stream: the order of the images in time.
        total_steps: of the run, for orders that divide it.

    Raises:
        UserError: ``batch_size`` is larger than the set, below 1, or no multiple of ``world``; or
            the order does not fit the images or the run.
    """

    def __init__(
        self,
        images: Images,
        augment: Augment,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        stream: Stream | None = None,
        total_steps: int | None = None,
    ) -> None:
        if batch_size < 1 or batch_size > len(images):
            raise UserError(
                f"batch_size: {batch_size} given; allowed: 1 to {len(images)}, the number of "
                "training images."
            )
        if batch_size % world:
            raise UserError(
                f"batch_size: {batch_size} given for {world} processes; it is the size of the "
                f"global batch and must be a multiple of {world}."
            )
        self.images = images
        self.augment = augment
        self.batch_size = batch_size
        self.seed = seed
        self.device = torch.device(device)
        self.rank = rank
        self.world = world
        self.workers = workers
        self.local_size = batch_size // world
        self.offset = rank * self.local_size
        self.skipped: dict[str, str] = {}
        self.order = Order(
            stream or IID(), len(images), batch_size, seed, total_steps, images.draw is not None
        )
        self._pixels = None if images.images is None else images.images.to(self.device)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over all images, whatever their order."""
        return len(self.images) // self.batch_size

    def indices(self, step: int) -> Tensor:
        """Return which images this process shows at a step, int64 ``(n_local,)`` on the CPU."""
        return self.order.images(step)[self.offset : self.offset + self.local_size]

    def batches(self, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of ``start_step`` and of every step after it, without end."""
        if isinstance(self.images, FolderImages):
            return self._read(self.images, start_step)
        return (self._batch(step) for step in itertools.count(start_step))

    def _batch(self, step: int) -> Batch:
        indices = self.indices(step)
        pixels = self._shown(indices)
        views = self.augment(pixels, self.seed, step, self.offset, self.batch_size)
        return Batch(views, indices.to(self.device))

    def _shown(self, indices: Tensor) -> Tensor:
        """Return images of the set, or of those that an endless one draws beyond it."""
        if self.images.draw is not None and int(indices.max()) >= len(self.images):
            return self.images.draw(indices).to(self.device)
        assert self._pixels is not None
        # Eight times as fast on a CPU as indexing with brackets.
        return self._pixels.index_select(0, indices.to(self.device))

    def _read(self, images: FolderImages, start_step: int) -> Iterator[Batch]:
        """Cut crops in worker processes and finish the views here."""
        reader = CropReader(
            images, self.augment.views, self.seed, self.indices, self.offset, self.batch_size
        )
        for step, read in zip(
            itertools.count(start_step), reader.stream(start_step, self.workers), strict=False
        ):
            self.skipped.update(read.skipped)
            images.skipped.update(read.skipped)
            crops = [c.to(self.device, non_blocking=True) for c in read.crops]
            views = self.augment.finish(crops, self.seed, step, self.offset, self.batch_size)
            yield Batch(views, read.indices.to(self.device))

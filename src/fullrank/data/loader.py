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
from fullrank.data.sources import Images
from fullrank.errors import UserError
from fullrank.randomness import generator


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

    Each epoch is a permutation of the images, of which the last ``n mod batch_size`` are left
    out. The batch of a step depends on the seed and the step alone, so that a resumed run and
    any number of processes see what one uninterrupted process sees.

    Args:
        images: the training images; those in memory are moved to ``device`` as uint8.
        augment: draws the views.
        batch_size: of the global batch, over all processes.
        seed: the run's seed.
        device: where the views are made.
        rank: of this process.
        world: number of processes.
        workers: processes that decode a folder's images.

    Raises:
        UserError: ``batch_size`` is larger than the set, below 1, or no multiple of ``world``.
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
        self._order: tuple[int, Tensor] | None = None
        self._pixels = None if images.images is None else images.images.to(self.device)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the images."""
        return len(self.images) // self.batch_size

    def indices(self, step: int) -> Tensor:
        """Return which images this process shows at a step, int64 ``(n_local,)`` on the CPU."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            source = generator(self.seed, "order", epoch)
            self._order = (epoch, torch.randperm(len(self.images), generator=source))
        start = place * self.batch_size + self.offset
        return self._order[1][start : start + self.local_size]

    def batches(self, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of ``start_step`` and of every step after it, without end."""
        if isinstance(self.images, FolderImages):
            return self._read(self.images, start_step)
        return (self._batch(step) for step in itertools.count(start_step))

    def _batch(self, step: int) -> Batch:
        assert self._pixels is not None
        indices = self.indices(step).to(self.device)
        views = self.augment(self._pixels[indices], self.seed, step, self.offset, self.batch_size)
        return Batch(views, indices)

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

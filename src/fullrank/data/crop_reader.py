"""Reading a folder's pictures ahead of the training, and cutting the crops of each step."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from fullrank.data.folder import FolderImages, cut
from fullrank.data.sampler import draw
from fullrank.data.settings import Augmentation

OPEN = 16  # decoded pictures held at once by a worker: a large photograph takes 100 MB


class Read(NamedTuple):
    """The crops of one step, as a worker sends them."""

    crops: list[Tensor]
    indices: Tensor
    skipped: dict[str, str]


class CropReader(torch.utils.data.Dataset[Read]):
    """Reads and crops one process's part of a step: item ``s`` is step ``s``.

    Crops and flips come from the same draw as those of images in memory, so that the device can
    go on from there with the colours.

    Args:
        images: the pictures.
        views: the distribution of each view.
        seed: the run's seed.
        order: gives the indices of a step.
        offset: place of the first sample in the global batch.
        total: size of the global batch.
    """

    def __init__(
        self,
        images: FolderImages,
        views: tuple[Augmentation, ...],
        seed: int,
        order: Callable[[int], Tensor],
        offset: int,
        total: int,
    ) -> None:
        self.images = images
        self.views = views
        self.seed = seed
        self.order = order
        self.offset = offset
        self.total = total

    def __getitem__(self, step: int) -> Read:
        """Cut the crops of a step."""
        indices = self.order(step).tolist()
        known = set(self.images.skipped)
        mine = slice(self.offset, self.offset + len(indices))
        draws = [draw(v, self.total, self.seed, step, k)[mine] for k, v in enumerate(self.views)]
        crops = [
            torch.empty(len(indices), 3, v.size, v.size, dtype=torch.uint8) for v in self.views
        ]
        used = []
        for start in range(0, len(indices), OPEN):
            opened = [self.images.open(i) for i in indices[start : start + OPEN]]
            used += [index for index, _ in opened]
            width = torch.tensor([float(p.width) for _, p in opened])
            height = torch.tensor([float(p.height) for _, p in opened])
            for view, drawn, out in zip(self.views, draws, crops, strict=True):
                part = drawn[start : start + OPEN]
                boxes = part.boxes(height, width).tolist()
                rows = zip(opened, boxes, part.flip.tolist(), strict=True)
                for row, ((_, picture), box, flip) in enumerate(rows, start):
                    pixels = cut(picture, tuple(box), view.size)
                    out[row] = pixels.flip(2) if flip else pixels
        new = {p: why for p, why in self.images.skipped.items() if p not in known}
        return Read(crops, torch.tensor(used), new)

    def stream(self, start_step: int, workers: int) -> Iterator[Read]:
        """Yield the crops of ``start_step`` and every step after it, read ahead by workers."""
        loader = torch.utils.data.DataLoader(
            self,
            batch_size=None,
            sampler=_Steps(start_step),
            num_workers=workers,
            prefetch_factor=2 if workers else None,
            worker_init_fn=_end_with_reader,
        )
        return iter(loader)


def _end_with_reader(worker: int) -> None:
    """End this process with the one that it reads for, however that ends.

    The loader's own watch looks at the parent, which is another where processes are forked from a
    server.
    """
    parent = multiprocessing.parent_process()

    def watch() -> None:
        assert parent is not None
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch, daemon=True).start()


class _Steps(torch.utils.data.Sampler[int]):
    """Every step from ``start`` on, without end."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start)

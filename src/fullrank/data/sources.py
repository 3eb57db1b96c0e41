"""Data sets by name: where they are found, and the images they give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from fullrank.data import operators
from fullrank.data.settings import DataSettings, data_family
from fullrank.errors import UserError
from fullrank.randomness import generator

CHUNK = 1024  # images resampled at once: bounds the memory of float copies


@dataclass
class Images:
    """Images of equal size in memory, with labels and factors where the set has them.

    Attributes:
        images: uint8 pixels; ``None`` where they are read when asked for (a folder).
        labels: class of each image, -1 where it has none; ``None`` when none has one.
        factors: what an image was made from, by name (``shapes`` only): int64 for a discrete
            factor, float32 for a continuous one, each with the images in its first dimension.
        skipped: files that could not be read, with the reason (a folder).
        draw: any image of an endless set by its index (``shapes``), of which ``images`` are the
            first; ``None`` where there are no more.
    """

    images: UInt8[Tensor, "n c h w"] | None
    labels: Int[Tensor, " n"] | None = None
    factors: dict[str, Tensor] | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    draw: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        assert self.images is not None
        return len(self.images)

    def read(
        self, indices: Int[Tensor, " k"], size: int | None = None
    ) -> UInt8[Tensor, "k c s1 s2"]:
        """Return some images as they are evaluated: the central square, resampled to ``size``.

        Args:
            indices: which images.
            size: side in pixels; ``None`` keeps the images as they are stored.
        """
        assert self.images is not None
        chosen = self.images[indices.to(self.images.device)]
        return chosen if size is None else resize(chosen, size)

    def labels_of(self, indices: Int[Tensor, " k"]) -> Int[Tensor, " k"] | None:
        """Return the labels of the images that ``read(indices)`` returns."""
        return None if self.labels is None else self.labels[indices.to(self.labels.device)]

    def select(self, indices: Int[Tensor, " k"]) -> Images:
        """Return some of the images as a set of their own."""
        factors = self.factors and {name: f[indices] for name, f in self.factors.items()}
        images = None if self.images is None else self.images[indices]
        return Images(images, None if self.labels is None else self.labels[indices], factors)


@dataclass
class Source:
    """A data set, ready to use.

    Attributes:
        name: as it was asked for.
        train: images to learn from.
        test: images to evaluate on, never trained on.
        classes: name of each label; ``None`` without labels.
        channels: of every image, 1 or 3.
        size: side in pixels at which images are stored, or for a folder are best viewed.
    """

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...] | None
    channels: int
    size: int


def resize(images: UInt8[Tensor, "n c h w"], size: int) -> UInt8[Tensor, "n c size size"]:
    """Resample the central square of each image to ``size``, with antialiasing."""
    h, w = images.shape[2:]
    if h == w == size:
        return images
    side = float(min(h, w))
    box = torch.tensor([[(w - side) / 2, (h - side) / 2, side, side]])
    parts = [
        operators.crop(part, box.expand(len(part), 4), size).round_().clamp_(0, 255).byte()
        for part in images.split(CHUNK)
    ]
    return torch.cat(parts) if parts else images.new_zeros(0, images.shape[1], size, size)


def limited(n: int, limit: int | None) -> Int[Tensor, " k"] | None:
    """Return which of ``n`` training images a limit keeps, ``None`` for all.

    A smaller limit keeps a subset of what a larger one keeps.

    Raises:
        UserError: the limit is below 1 or above ``n``.
    """
    if limit is None:
        return None
    if not 1 <= limit <= n:
        raise UserError(f"data.limit: {limit} given; allowed: 1 to {n}, the training images.")
    return torch.randperm(n, generator=generator(0, "limit"))[:limit]


def load_source(settings: DataSettings) -> Source:
    """Load a data set.

    Args:
        settings: which set, where, and what to keep of it.

    Returns:
        The set; its images are in memory, except a folder's.

    Raises:
        UserError: unknown name, missing or damaged files, or a setting the set cannot meet.
    """
    from fullrank.data import cifar, digits, fashion_mnist, folder, shapes, stl10

    family = data_family(settings.name)
    if settings.label is not None and family != "shapes":
        raise UserError(
            f"data.label: {settings.label!r} given; only shapes has factors to choose from, "
            f"{settings.name} has its own labels."
        )
    if settings.size is not None and settings.size < 1:
        raise UserError(f"data.size: {settings.size} given; images have at least 1 pixel a side.")
    loaders: dict[str, Callable[[DataSettings], Source]] = {
        "digits": digits.load,
        "shapes": shapes.load,
        "fashion-mnist": fashion_mnist.load,
        "cifar10": cifar.load,
        "cifar100": cifar.load,
        "stl10": stl10.load,
        "folder": folder.load,
    }
    return loaders[family](settings)


def in_memory(
    settings: DataSettings,
    train: Images,
    test: Images,
    classes: tuple[str, ...] | None,
) -> Source:
    """Apply ``limit`` and ``size`` to a set that was read whole, and make its source."""
    keep = limited(len(train), settings.limit)
    if keep is not None:
        train = train.select(keep)
    assert train.images is not None and test.images is not None
    if settings.size is not None:
        train.images = resize(train.images, settings.size)
        test.images = resize(test.images, settings.size)
    channels, size = train.images.shape[1], train.images.shape[3]
    return Source(settings.name, train, test, classes, channels, size)


def roots(settings: DataSettings) -> list[Path]:
    """Return the folders to look in: ``data.root`` alone when it is given, else the usual."""
    import os

    if settings.root is not None:
        return [Path(settings.root).expanduser()]
    named = os.environ.get("FULLRANK_DATA")
    usual = [Path("~/.cache/fullrank").expanduser(), Path("data")]
    return ([Path(named).expanduser()] if named else []) + usual


def missing(settings: DataSettings, looked: list[Path], files: str) -> UserError:
    """Build the error for a set that was not found, with the two ways to get it."""
    places = ", ".join(str(p) for p in looked)
    return UserError(
        f"data.name: {settings.name} was not found. Looked for {files} in {places}. "
        f"Either pass --data.download true, or put the files somewhere and pass "
        f"--data.root DIR with that folder."
    )

"""The images that a model is shown, as the same views at every pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from fullrank.audit.subject import Options
from fullrank.data.augment import Augment, prepare
from fullrank.data.settings import Augmentation, DataSettings, resolve_augmentation
from fullrank.data.sources import load_source
from fullrank.errors import UserError
from fullrank.measure.forecast import data_key
from fullrank.randomness import derive_seed, generator

# Views are drawn for so many images at once, however many pass a model, as a check-up draws them.
CHUNK = 256


class Pictures:
    """Images of a data set, limited and ordered by a fixed permutation.

    With the seed of a run and its check-up's size as ``limit``, they are the images and views of
    the run's check-ups.

    Args:
        settings: which data set.
        options: ``split``, ``views``, ``augment``, ``limit``, ``batch`` and ``seed`` matter here.

    Raises:
        UserError: the data set is unknown or not there, or the limit is more than it has.
    """

    def __init__(self, settings: DataSettings, options: Options) -> None:
        self.options = options
        self.data_key = data_key(settings.name, settings.label, options.size or settings.size)
        if options.split == "test":
            settings = replace(settings, limit=1)  # training images are not shown: load one
        self.source = load_source(settings)
        self.images = getattr(self.source, options.split)
        n = len(self.images)
        if options.limit is not None and options.limit > n:
            raise UserError(
                f"limit: {options.limit} given, and {settings.name} has {n} {options.split} images."
            )
        if options.limit is None:
            self.chosen = torch.arange(n)
        else:
            order = torch.randperm(n, generator=generator(options.seed, "held-out"))
            self.chosen = order[: options.limit]
        self.count = options.views or 2

    @classmethod
    def named(cls, options: Options) -> Pictures:
        """Load the data set that the options name.

        Raises:
            UserError: none is named.
        """
        if options.data is None:
            raise UserError(
                "data: none given, and a model has to be shown some. Allowed: a name of "
                "`fullrank data`, or folder:PATH."
            )
        return cls(DataSettings(name=options.data, root=options.data_root), options)

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def labels(self) -> Int[Tensor, " n"] | None:
        """The class of each image, in order; None where none has one."""
        labels = self.images.labels_of(self.chosen)
        return None if labels is None or bool((labels < 0).all()) else labels

    def described(self) -> str:
        """Say in words how views are made."""
        return "augmented" if self.count > 1 else "evaluation (central square, resampled)"

    def augmentation(self, channels: int, size: int) -> tuple[Augmentation, ...]:
        """Return the distribution of each view of images with these channels and this side."""
        return resolve_augmentation(
            self.options.augment, self.source.name, size, channels, self.count
        )

    def views(
        self, channels: int, size: int, augmentation: tuple[Augmentation, ...], device: torch.device
    ) -> Iterator[tuple[Tensor, ...]]:
        """Yield the views of every batch; the same at every call, whatever the batch.

        Args:
            channels: of the images that the model takes; grey ones are repeated.
            size: their side in pixels.
            augmentation: of each view; of the first only mean and std if there is one view.
            device: where views are made.

        Raises:
            UserError: the images have colours and the model takes grey ones.
        """
        if self.source.channels not in (1, channels):
            raise UserError(
                f"data: {self.source.name} has {self.source.channels} channels, and the model "
                f"takes {channels}. Allowed: data of {channels}."
            )
        seed = derive_seed(self.options.seed, "checkup")
        shown = [augmentation[i % len(augmentation)] for i in range(self.count)]
        augment = Augment(tuple(shown), channels)
        for index, chosen in enumerate(self.chosen.split(CHUNK)):
            pixels = self.images.read(chosen, self.source.size).to(device)
            if pixels.shape[1] < channels:
                pixels = pixels.expand(-1, channels, -1, -1)
            if self.count == 1:
                views = [prepare(pixels, size, shown[0].mean, shown[0].std)]
            else:
                views = augment(pixels, seed, index)
            yield from zip(*(view.split(self.options.batch) for view in views), strict=True)

"""Random views of a batch of images, on the device where the images are."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fullrank.data import operators
from fullrank.data.sampler import Draw, draw, draw_noise
from fullrank.data.settings import Augmentation
from fullrank.errors import UserError


class Augment:
    """Draws the views of a batch; a pure function of the images, the seed and the step.

    Numbers are drawn for the global batch and each process uses its slice of them, so that the
    views do not depend on the number of processes. They are drawn on the CPU (pixel noise on the
    device), so that crops and colours are the same on every device.

    Args:
        views: the distribution of each view.
        channels: of the images, 1 or 3.

    Raises:
        UserError: no view, or a mean that does not have ``channels`` entries.
    """

    def __init__(self, views: tuple[Augmentation, ...], channels: int) -> None:
        if not views:
            raise UserError("views: none given; at least 1 is needed.")
        if channels not in (1, 3):
            raise UserError(f"channels: {channels} given; images have 1 or 3.")
        for view in views:
            if len(view.mean) != channels:
                raise UserError(
                    f"mean: {len(view.mean)} entries given; images have {channels} channels."
                )
        self.views = views
        self.channels = channels

    def __call__(
        self,
        images: UInt8[Tensor, "n c h w"],
        seed: int,
        step: int = 0,
        offset: int = 0,
        total: int | None = None,
    ) -> list[Float[Tensor, "n c _ _"]]:
        """Draw the views.

        Args:
            images: uint8 pixels.
            seed: the run's seed.
            step: the training step; another step gives other views.
            offset: place of ``images[0]`` in the global batch.
            total: size of the global batch; by default ``offset + n``.

        Returns:
            One normalised float32 batch a view; views may differ in size.
        """
        n = len(images)
        count = offset + n if total is None else total
        pixels = images.to(torch.float32)
        height = torch.full((n,), float(images.shape[2]))
        width = torch.full((n,), float(images.shape[3]))
        views = []
        for index, view in enumerate(self.views):
            drawn = draw(view, count, seed, step, index)[offset : offset + n]
            boxes = drawn.boxes(height, width)
            flip = drawn.flip if view.flip else None
            cropped = operators.crop(pixels, boxes, view.size, flip).div_(255)
            views.append(self._finish(cropped, index, drawn, seed, step, offset))
        return views

    def finish(
        self,
        crops: list[UInt8[Tensor, "n c _ _"]],
        seed: int,
        step: int = 0,
        offset: int = 0,
        total: int | None = None,
    ) -> list[Float[Tensor, "n c _ _"]]:
        """Do all that follows the crop and flip, on crops that were cut elsewhere.

        Args:
            crops: one uint8 batch a view, from the boxes and flips of ``sampler.draw``.
            seed: as in ``__call__``, and so on.
            step: the training step.
            offset: place of the first sample in the global batch.
            total: size of the global batch.

        Returns:
            One normalised float32 batch a view.
        """
        n = len(crops[0])
        count = offset + n if total is None else total
        views = []
        for index, (view, batch) in enumerate(zip(self.views, crops, strict=True)):
            drawn = draw(view, count, seed, step, index)[offset : offset + n]
            values = batch.to(torch.float32).div_(255)
            views.append(self._finish(values, index, drawn, seed, step, offset))
        return views

    def _finish(
        self, x: Tensor, index: int, drawn: Draw, seed: int, step: int, offset: int
    ) -> Tensor:
        """Jitter, grey, blur, solarise, noise and normalise one view, in this order."""
        view = self.views[index]
        n, _, side, _ = x.shape
        if (view.jitter_p and any(view.jitter)) or (view.grey and self.channels == 3):
            factors = (drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue, drawn.grey)
            x = operators.colour(x, *factors)
        if view.blur:
            chosen = drawn.blur.nonzero()[:, 0]
            if len(chosen):
                sigma = drawn.sigma[chosen]
                chosen = chosen.to(x.device)
                x[chosen] = operators.blur(x[chosen], sigma)
        if view.solarise:
            chosen = drawn.solarise.nonzero()[:, 0].to(x.device)
            x[chosen] = operators.solarise(x[chosen])
        if view.noise:
            noise = draw_noise(n, (self.channels, side, side), seed, step, index, offset, x.device)
            x = x.add_(noise, alpha=view.noise)
        return operators.normalise(x, view.mean, view.std)


def prepare(
    images: UInt8[Tensor, "n c h w"],
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Float[Tensor, "n c size size"]:
    """Make the deterministic view for evaluation: the central square, resampled, normalised.

    Equal to ``Augment`` with every operation off and square images, to the last bit.

    Args:
        images: uint8 pixels.
        size: side in pixels.
        mean: of each channel, in [0, 1].
        std: of each channel.

    Returns:
        Normalised float32 images.
    """
    n, _, h, w = images.shape
    side = float(min(h, w))
    box = torch.tensor([(w - side) / 2, (h - side) / 2, side, side])
    return operators.normalise(operators.crop(images, box.expand(n, 4), size).div_(255), mean, std)

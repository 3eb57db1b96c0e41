"""The chance in a view: which crop, flip and colours each sample of the global batch gets.

Apart from the operations that use it, because a folder's crops are cut by worker processes and
the colours changed on the device, and both must read the same numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fullrank.data.counter import Counter
from fullrank.data.settings import Augmentation
from fullrank.randomness import generator

ATTEMPTS = 10  # crops tried before the centre is taken, as in torchvision's RandomResizedCrop


@dataclass
class Draw:
    """What was drawn for one view of each of ``n`` samples.

    Attributes:
        area: of the attempted crops, as a share of the image.
        ratio: of the attempted crops, width over height.
        place: where the crop lies, 0 for left or top and 1 for right or bottom.
        flip: mirrored left to right.
        brightness: factor.
        contrast: factor.
        saturation: factor.
        hue: turn.
        grey: without colour.
        blur: blurred.
        sigma: of the blur, in pixels.
        solarise: solarised.
    """

    area: Float[Tensor, "n attempts"]
    ratio: Float[Tensor, "n attempts"]
    place: Float[Tensor, "n 2"]
    flip: Bool[Tensor, " n"]
    brightness: Float[Tensor, " n"]
    contrast: Float[Tensor, " n"]
    saturation: Float[Tensor, " n"]
    hue: Float[Tensor, " n"]
    grey: Bool[Tensor, " n"]
    blur: Bool[Tensor, " n"]
    sigma: Float[Tensor, " n"]
    solarise: Bool[Tensor, " n"]

    def __getitem__(self, rows: slice) -> Draw:
        """Return the draw of some of the samples."""
        return Draw(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def boxes(
        self, height: Float[Tensor, " n"], width: Float[Tensor, " n"]
    ) -> Float[Tensor, "n 4"]:
        """Place the crops in images of the given sizes.

        The first attempted crop that fits is taken; if none does, the largest centred one whose
        ratio is the nearest attempted one to the image's. Boxes are real, not rounded to pixels:
        on small images rounding would leave few different crops.

        Args:
            height: of each image, in pixels.
            width: of each image, in pixels.

        Returns:
            Left, top, width, height in pixels.
        """
        area = self.area * (height * width)[:, None]
        wide, high = (area * self.ratio).sqrt(), (area / self.ratio).sqrt()
        # A whole image must fit itself, whatever the last bit of the root.
        slack = 1 + 1e-6
        fits = (wide <= width[:, None] * slack) & (high <= height[:, None] * slack)
        first = fits.to(torch.uint8).argmax(1, keepdim=True)
        own = (width / height)[:, None]
        near = (self.ratio / own).log().abs().argmin(1, keepdim=True)
        ratio = self.ratio.gather(1, near)[:, 0]
        any_fits = fits.any(1)
        wide = torch.where(
            any_fits, wide.gather(1, first)[:, 0], torch.minimum(width, height * ratio)
        )
        high = torch.where(
            any_fits, high.gather(1, first)[:, 0], torch.minimum(height, width / ratio)
        )
        wide, high = torch.minimum(wide, width), torch.minimum(high, height)
        place = torch.where(any_fits[:, None], self.place, torch.full_like(self.place, 0.5))
        return torch.stack(
            [place[:, 0] * (width - wide), place[:, 1] * (height - high), wide, high], 1
        )


def draw(augmentation: Augmentation, total: int, seed: int, step: int, view: int) -> Draw:
    """Draw one view of a global batch.

    Every operation reads its own columns of one table of uniform numbers, so that switching one
    on or off leaves the others as they were.

    Args:
        augmentation: the view's distribution.
        total: samples in the global batch.
        seed: the run's seed.
        step: the training step.
        view: which view of the sample.

    Returns:
        The draw, on the CPU.
    """
    source = generator(seed, "views", step, view)
    table = torch.rand(total, 2 * ATTEMPTS + 11, generator=source)
    tries, rest = table[:, : 2 * ATTEMPTS], table[:, 2 * ATTEMPTS :].unbind(1)
    low, high = augmentation.scale
    area = low + (high - low) * tries[:, :ATTEMPTS]
    low, high = (math.log(r) for r in augmentation.ratio)
    ratio = (low + (high - low) * tries[:, ATTEMPTS:]).exp()
    jittered = rest[3] < augmentation.jitter_p
    one, zero = torch.ones(total), torch.zeros(total)
    factors = []
    for strength, u in zip(augmentation.jitter[:3], rest[4:7], strict=True):
        low = max(0.0, 1.0 - strength)
        factors.append(torch.where(jittered, low + (1.0 + strength - low) * u, one))
    hue = torch.where(jittered, augmentation.jitter[3] * (2 * rest[7] - 1), zero)
    low, high = augmentation.blur_sigma
    # One number decides about the blur and, rescaled, gives its sigma: uniform given the event.
    return Draw(
        area=area,
        ratio=ratio,
        place=torch.stack(rest[0:2], 1),
        flip=rest[2] < augmentation.flip,
        brightness=factors[0],
        contrast=factors[1],
        saturation=factors[2],
        hue=hue,
        grey=rest[8] < augmentation.grey,
        blur=rest[9] < augmentation.blur,
        sigma=low + (high - low) * rest[9] / max(augmentation.blur, 1e-12),
        solarise=rest[10] < augmentation.solarise,
    )


def draw_noise(
    n: int,
    shape: tuple[int, int, int],
    seed: int,
    step: int,
    view: int,
    offset: int,
    device: torch.device,
) -> Float[Tensor, "n c h w"]:
    """Draw standard normal numbers for one view of samples ``offset`` to ``offset + n``.

    By counter and not from a generator, so that each process draws its own samples' noise alone,
    and the same on every device.
    """
    chance = Counter(torch.arange(offset, offset + n, device=device), seed, "noise", step, view)
    return chance.normal(math.prod(shape)).reshape(n, *shape)

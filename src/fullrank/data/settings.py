"""What the data room can be asked for: a data set and its augmentation, as plain data.

Nothing here imports torch, so that configurations, lists and ``--help`` cost nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from fullrank.data.catalogue import data_descriptions, data_family, data_names
from fullrank.data.stream_settings import IID, Stream
from fullrank.errors import UserError, unknown_name

__all__ = [
    "PRESETS",
    "Augmentation",
    "DataSettings",
    "data_descriptions",
    "data_family",
    "data_names",
    "preset_names",
    "resolve_augmentation",
]


@dataclass(frozen=True)
class DataSettings:
    """Which images to learn from, and where they are.

    Attributes:
        name: ``digits``, ``shapes``, ``fashion-mnist``, ``cifar10``, ``cifar100``, ``stl10``, or
            ``folder:PATH``.
        root: the folder that holds the files; ``None`` looks in the usual places.
        download: fetch a missing set from its publisher; otherwise nothing touches the network.
        size: side in pixels at which images are stored; ``None`` keeps the set's own.
        limit: keep the first ``limit`` training images of a fixed permutation; ``None`` keeps all.
        label: for ``shapes`` only: a factor, or a product such as ``shape*background_texture``.
        workers: processes that decode images; for ``folder:PATH`` only, the other sets are in
            memory.
        stream: the order in which the images come over time.
    """

    name: str = "fashion-mnist"
    root: str | None = None
    download: bool = False
    size: int | None = None
    limit: int | None = None
    label: str | None = None
    workers: int = 2
    stream: Stream = field(default_factory=IID)

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested values."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return plain | {"stream": self.stream.to_dict()}


@dataclass(frozen=True)
class Augmentation:
    """The distribution that one view of an image is drawn from.

    The operations run in the order of the attributes, on pixel values in [0, 1]. Those that a
    grey image cannot show (saturation, hue, ``grey``) are skipped on one channel.

    Attributes:
        size: side of the view in pixels.
        scale: range of the crop's area, as a share of the image's.
        ratio: range of the crop's width over its height, drawn log-uniformly.
        flip: probability of a horizontal flip.
        jitter: strengths of brightness, contrast and saturation (a factor is drawn from
            ``[max(0, 1 - s), 1 + s]``) and of hue (a turn in ``[-s, s]`` of the colour circle).
        jitter_p: probability that the jitter is applied at all.
        grey: probability of turning grey.
        blur: probability of a Gaussian blur.
        blur_sigma: range of its standard deviation in pixels of the view.
        solarise: probability of inverting the pixels at or above 0.5.
        noise: standard deviation of independent Gaussian noise on every value; 0 for none.
        mean: of each channel, subtracted at the end.
        std: of each channel, divided by at the end.
    """

    size: int
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    jitter_p: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarise: float = 0.0
    noise: float = 0.0
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"size: {self.size} given; a view has at least 1 pixel a side.")
        for name in ("flip", "jitter_p", "grey", "blur", "solarise"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UserError(f"{name}: {value} given; it is a probability, from 0 to 1.")
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise UserError(f"scale: {self.scale} given; it needs 0 < low <= high <= 1.")
        for name in ("ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise UserError(f"{name}: ({low}, {high}) given; it needs 0 < low <= high.")
        if min(self.jitter) < 0 or self.jitter[3] > 0.5:
            raise UserError(
                f"jitter: {self.jitter} given; strengths are at least 0, that of hue at most 0.5."
            )
        if self.noise < 0:
            raise UserError(f"noise: {self.noise} given; it is a standard deviation, at least 0.")
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise UserError("mean, std: one of each a channel, with every std above 0.")


# Mean and standard deviation of the training pixels in [0, 1]. Fashion-MNIST, CIFAR, STL-10 and
# ImageNet: the values customary in the field; digits and shapes: measured on our own sets.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "digits": ((0.3053,), (0.3758,)),
    "shapes": ((0.5, 0.5, 0.5), (0.266, 0.266, 0.266)),
    "fashion-mnist": ((0.2860,), (0.3530,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "stl10": ((0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713)),
    "folder": _IMAGENET,
}


def _preset(name: str, size: int, **fields: object) -> Augmentation:
    mean, std = _STATISTICS.get(name, _IMAGENET)
    return Augmentation(size=size, mean=mean, std=std, **fields)  # type: ignore[arg-type]


_COLOUR = {"jitter": (0.4, 0.4, 0.4, 0.1), "jitter_p": 0.8, "grey": 0.2}
# SimSiam's appendix A, after MoCo v2 (Chen and He 2021; also Li, Efros and Pathak 2022).
_MOCOV2 = {"scale": (0.2, 1.0), **_COLOUR, "blur": 0.5}
# SimCLR's appendix A with colour strength 1 (Chen et al. 2020).
_SIMCLR = {
    "scale": (0.08, 1.0),
    "jitter": (0.8, 0.8, 0.8, 0.2),
    "jitter_p": 0.8,
    "grey": 0.2,
    "blur": 0.5,
}
# Wang and Isola 2020, official code for STL-10: 64 pixels, always jittered, without blur.
_ALIGN_UNIFORM = {
    "scale": (0.08, 1.0),
    "jitter": (0.4, 0.4, 0.4, 0.4),
    "jitter_p": 1.0,
    "grey": 0.2,
}
# BYOL's appendix B, table 6 (Grill et al. 2020): the two views are not drawn alike.
_BYOL = {"scale": (0.08, 1.0), "jitter": (0.4, 0.4, 0.2, 0.1), "jitter_p": 0.8, "grey": 0.2}

PRESETS: dict[str, tuple[Augmentation, ...]] = {
    "digits": (
        _preset(
            "digits",
            8,
            scale=(0.6, 1.0),
            flip=0.0,
            jitter=(0.2, 0.2, 0.0, 0.0),
            jitter_p=0.8,
            noise=0.1,
        ),
    ),
    "shapes": (_preset("shapes", 32, scale=(0.4, 1.0), flip=0.0, **_COLOUR, noise=0.1),),
    "fashion-mnist": (
        _preset("fashion-mnist", 28, scale=(0.3, 1.0), jitter=(0.4, 0.4, 0.0, 0.0), jitter_p=0.8),
    ),
    # Without blur, as the papers that train on CIFAR (SimCLR's appendix B.9, SimSiam's D).
    "cifar10": (_preset("cifar10", 32, scale=(0.2, 1.0), **_COLOUR),),
    "cifar100": (_preset("cifar100", 32, scale=(0.2, 1.0), **_COLOUR),),
    "stl10": (_preset("stl10", 96, **_MOCOV2),),
    "folder": (_preset("folder", 224, **_MOCOV2),),
    "mocov2": (_preset("imagenet", 224, **_MOCOV2),),
    "simclr": (_preset("imagenet", 224, **_SIMCLR),),
    "align-uniform": (_preset("stl10", 64, **_ALIGN_UNIFORM),),
    "byol": (
        _preset("imagenet", 224, **_BYOL, blur=1.0),
        _preset("imagenet", 224, **_BYOL, blur=0.1, solarise=0.2),
    ),
    # BYOL's, with larger crops, and a third for small crops (Caron et al. 2021, sec. 3.2).
    "dino": tuple(
        _preset("imagenet", 224, **_BYOL | {"scale": (0.4, 1.0)}, blur=blur, solarise=solarise)
        for blur, solarise in ((1.0, 0.0), (0.1, 0.2), (0.5, 0.0))
    ),
}


def preset_names() -> tuple[str, ...]:
    """Return the names that ``resolve_augmentation`` takes, ``auto`` first."""
    return ("auto", *PRESETS)


def resolve_augmentation(
    preset: str,
    data_name: str,
    size: int,
    channels: int,
    count: int = 2,
    *,
    min_scale: float | None = None,
    flip: float | None = None,
    strength: float | None = None,
    grey: float | None = None,
    blur: float | None = None,
    solarise: float | None = None,
    noise: float | None = None,
) -> tuple[Augmentation, ...]:
    """Make the augmentation of each view from a preset and what the user changes in it.

    Args:
        preset: a name of ``preset_names()``; ``auto`` is the data set's own.
        data_name: the data set, whose mean and std normalise the views whatever the preset.
        size: side of the views in pixels.
        channels: of the images, 1 or 3.
        count: number of views; a preset with fewer is repeated.
        min_scale: lower end of ``scale``.
        flip: probability of a flip.
        strength: multiplies the four jitter strengths (hue stays at most 0.5).
        grey: probability of turning grey.
        blur: probability of a blur.
        solarise: probability of solarising.
        noise: standard deviation of pixel noise.

    ``None`` keeps what the preset says; anything else applies to every view.

    Returns:
        One ``Augmentation`` a view.

    Raises:
        UserError: unknown preset or data set, or a value outside its range.
    """
    family = data_family(data_name)
    name = family if preset == "auto" else preset
    if name not in PRESETS:
        raise unknown_name("recipe.views.augment", preset, preset_names())
    if count < 1:
        raise UserError(f"views: {count} given; at least 1 is needed.")
    if strength is not None and strength < 0:
        raise UserError(f"strength: {strength} given; it multiplies the jitter, at least 0.")
    mean, std = _STATISTICS[family]
    if len(mean) != channels:
        mean, std = (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels
    views = []
    for base in PRESETS[name]:
        jitter = base.jitter
        if strength is not None:
            b, c, s, h = (strength * value for value in jitter)
            jitter = (b, c, s, min(h, 0.5))
        scale = base.scale
        if min_scale is not None:
            scale = (min_scale, max(min_scale, scale[1]))
        if channels == 1:
            jitter = (jitter[0], jitter[1], 0.0, 0.0)
        views.append(
            dataclasses.replace(
                base,
                size=size,
                scale=scale,
                flip=base.flip if flip is None else flip,
                jitter=jitter,
                grey=0.0 if channels == 1 else base.grey if grey is None else grey,
                blur=base.blur if blur is None else blur,
                solarise=base.solarise if solarise is None else solarise,
                noise=base.noise if noise is None else noise,
                mean=mean,
                std=std,
            )
        )
    return tuple(views[i % len(views)] for i in range(count))

"""Procedural textured shapes with known factors; each image is a function of its index.

A background of two colours mixed by a texture under a smooth colour field, and on it an object of
one of eight shapes with a texture and two colours of its own: many independent factors in few
pixels, as the study of collapse against data diversity needs (Li, Efros and Pathak 2022).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from fullrank.data import drawing
from fullrank.data.counter import Counter
from fullrank.data.settings import DataSettings
from fullrank.data.sources import Images, Source, limited
from fullrank.errors import unknown_name

SHAPES = tuple(drawing.SHAPES)
TEXTURES = tuple(drawing.TEXTURES)
TRAIN, TEST, SIZE = 60000, 5000, 32
BINS = 10  # of equal width, when a continuous factor is the label
NOISE = 0.03  # standard deviation of the pixel noise, with pixels in [0, 1]
_FIELD = 0.15  # standard deviation of the smooth colour field at its corners
_CHUNK = 256  # images drawn at once: small enough to stay in the processor's cache

DISCRETE: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "shape_texture": TEXTURES,
    "background_texture": TEXTURES,
}
"""The discrete factors, and the names of their values."""

_COLOURS = ("red", "green", "blue")
CONTINUOUS: dict[str, tuple[float, float]] = {
    "scale": (0.45, 0.70),
    "x": (-0.35, 0.35),
    "y": (-0.35, 0.35),
    "rotation": (0.0, 2 * math.pi),
    **{f"background_{c}": (0.0, 1.0) for c in _COLOURS},
    # The two colours are 0.35 to 0.65 apart, so that their mean stays away from the ends.
    **{f"object_{c}": (0.175, 0.825) for c in _COLOURS},
    **{f"background_contrast_{c}": (0.0, 1.0) for c in _COLOURS},
}
"""The continuous factors and their ranges.

Lengths are in half sides of the image, angles in radians. ``background_red`` and so on is the mean
of the background's two colours (``object_red`` of the object's), ``background_contrast_red`` their
distance (0 on a plain one).
Turning a disc or a ring shows only in its texture.
"""


def factor_names() -> tuple[str, ...]:
    """Return the names of all factors, the discrete ones first."""
    return (*DISCRETE, *CONTINUOUS)


def render(
    indices: Int[Tensor, " n"], size: int = SIZE, split: str = "train"
) -> tuple[UInt8[Tensor, "n 3 {size} {size}"], dict[str, Tensor]]:
    """Draw images.

    Image ``i`` of a split depends on ``i``, the split and ``size`` alone; its factors on ``i`` and
    the split.

    Args:
        indices: which images, any integers from 0 on.
        size: side in pixels.
        split: ``train`` or ``test``; any other name is a further independent set.

    Returns:
        The images, and the factors by name, int64 or float32 ``(n,)``.
    """
    images = torch.empty(len(indices), 3, size, size, dtype=torch.uint8)
    parts = []
    for start in range(0, len(indices), _CHUNK):
        some = slice(start, start + _CHUNK)
        images[some], factors = _draw(indices[some], size, split)
        parts.append(factors)
    if not parts:
        _, factors = _draw(torch.zeros(1, dtype=torch.int64), 1, split)
        return images, {name: values[:0] for name, values in factors.items()}
    return images, {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _draw(indices: Tensor, size: int, split: str) -> tuple[Tensor, dict[str, Tensor]]:
    n = len(indices)
    chance = Counter(indices, 0, "shapes", split)
    axis = (torch.arange(size) + 0.5) * (2 / size) - 1
    x, y = axis.expand(n, size, size), axis[:, None].expand(n, size, size)

    def pattern(kind: Tensor) -> Tensor:
        angle = chance.uniform(1, 0.0, 2 * math.pi)[:, 0]
        frequency = chance.uniform(1, math.pi, 3 * math.pi)[:, 0]
        phase = chance.uniform(2, 0.0, 2 * math.pi)
        return drawing.texture(kind, x, y, angle, frequency, phase)[:, None]

    background_texture = chance.choice(len(TEXTURES))
    low, high = chance.uniform(3), chance.uniform(3)
    corners = _FIELD * chance.normal(12).reshape(n, 3, 2, 2)
    rise = ((axis + 1) / 2).expand(2, size)
    weight = torch.stack([1 - rise[0], rise[0]])
    canvas = _blend(low, high, pattern(background_texture))
    canvas += weight.T @ corners @ weight

    shape, shape_texture = chance.choice(len(SHAPES)), chance.choice(len(TEXTURES))
    scale, rotation = chance.uniform(1, *CONTINUOUS["scale"]), chance.uniform(1, 0.0, 2 * math.pi)
    centre = chance.uniform(2, *CONTINUOUS["x"])
    first = chance.uniform(3)
    second = (first + chance.uniform(3, 0.35, 0.65)) % 1
    cover = drawing.outline(shape, x, y, centre, scale[:, 0], rotation[:, 0])[:, None]
    canvas.lerp_(_blend(first, second, pattern(shape_texture)), cover)
    canvas += NOISE * chance.normal(3 * size * size).reshape(n, 3, size, size)

    plain = (background_texture == TEXTURES.index("plain"))[:, None]
    contrast = torch.where(plain, 0.0, (high - low).abs())
    columns = torch.cat(
        [scale, centre, rotation, (low + high) / 2, (first + second) / 2, contrast], 1
    )
    factors = {
        "shape": shape,
        "shape_texture": shape_texture,
        "background_texture": background_texture,
        **dict(zip(CONTINUOUS, columns.unbind(1), strict=True)),
    }
    return canvas.mul_(255).round_().clamp_(0, 255).to(torch.uint8), factors


def _blend(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Mix two colours ``(n, 3)`` by a share ``(n, 1, s, s)``."""
    return first[:, :, None, None] + share * (second - first)[:, :, None, None]


@dataclass(frozen=True)
class Factors:
    """What some images were made from, as far as a linear map can read it.

    Attributes:
        discrete: class of each image, int64 ``(n,)``, by factor.
        continuous: value of each image, float32 ``(n,)``, by factor; not ``rotation``, which is a
            circle.
    """

    discrete: dict[str, Tensor]
    continuous: dict[str, Tensor]

    @classmethod
    def of(cls, factors: dict[str, Tensor], indices: Tensor) -> Factors:
        """Return the factors of some of the images."""
        return cls(
            {name: factors[name][indices] for name in DISCRETE},
            {name: factors[name][indices] for name in CONTINUOUS if name != "rotation"},
        )


def drawn(size: int, indices: Int[Tensor, " n"]) -> UInt8[Tensor, "n 3 {size} {size}"]:
    """Return training images, as many as there are integers."""
    return render(indices.cpu(), size)[0]


def label_of(factors: dict[str, Tensor], label: str) -> tuple[Tensor, tuple[str, ...]]:
    """Make class labels from a factor or a product of factors.

    Args:
        factors: as ``render`` returns them.
        label: names joined by ``*``, e.g. ``shape*background_texture``. A continuous factor is
            cut into 10 bins of equal width over its range (not quantiles).

    Returns:
        int64 labels ``(n,)`` and the name of each class.

    Raises:
        UserError: a factor is unknown.
    """
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    for name in (part.strip() for part in label.split("*")):
        if name in DISCRETE:
            values, named = factors[name], DISCRETE[name]
        elif name in CONTINUOUS:
            low, high = CONTINUOUS[name]
            share = (factors[name] - low) / (high - low)
            values = (share * BINS).long().clamp(0, BINS - 1)
            edges = [low + (high - low) * k / BINS for k in range(BINS + 1)]
            named = tuple(f"{name} {edges[k]:.3g} to {edges[k + 1]:.3g}" for k in range(BINS))
        else:
            raise unknown_name("data.label", name, factor_names())
        labels = values if labels is None else labels * len(named) + values
        classes = tuple(f"{a}, {b}" for a in classes for b in named) if classes else named
    assert labels is not None
    return labels, classes


def load(settings: DataSettings) -> Source:
    """Draw the set: 60,000 images to train and 5,000 to test, 32 pixels a side unless asked."""
    label = "shape" if settings.label is None else settings.label
    for name in label.split("*"):  # before seconds of drawing
        if name.strip() not in factor_names():
            raise unknown_name("data.label", name.strip(), factor_names())
    size = settings.size or SIZE
    keep = limited(TRAIN, settings.limit)
    splits = []
    for split, indices in (
        ("train", torch.arange(TRAIN) if keep is None else keep),
        ("test", torch.arange(TEST)),
    ):
        images, factors = render(indices, size, split)
        labels, classes = label_of(factors, label)
        splits.append(Images(images, labels, factors))
    if keep is None:
        splits[0].draw = partial(drawn, size)
    return Source(settings.name, splits[0], splits[1], classes, 3, size)

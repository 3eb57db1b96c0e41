"""Textures and shapes as functions of the plane, for a batch of images at once."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

_COS, _SIN = math.cos(math.pi / 5), math.sin(math.pi / 5)
_NOTCH = 0.45  # radius of the star's inner corners

Field = Float[Tensor, "n s s"]


def _soft(x: Tensor) -> Tensor:
    """Turn a wave into two tones with an edge a few pixels wide."""
    return (0.5 + 4 * x).clamp(0, 1)


TEXTURES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    # p, q: rotated coordinates in [-1.41, 1.41]; a, b: their waves in [-1, 1]
    "plain": lambda p, q, a, b: torch.full_like(p, 0.5),
    "stripes": lambda p, q, a, b: _soft(a),
    "checker": lambda p, q, a, b: _soft(a * b),
    "dots": lambda p, q, a, b: _soft(a * b - 0.35),
    "gradient": lambda p, q, a, b: (0.5 + 0.5 * p).clamp(0, 1),
}
"""How far the second colour shows, from 0 to 1."""


def texture(
    kind: Int[Tensor, " n"],
    x: Field,
    y: Field,
    angle: Float[Tensor, " n"],
    frequency: Float[Tensor, " n"],
    phase: Float[Tensor, "n 2"],
) -> Field:
    """Evaluate each image's texture, ``kind`` counting in the order of ``TEXTURES``.

    Args:
        kind: which texture.
        x: coordinates to the right, in half sides of the image.
        y: coordinates downwards.
        angle: of the texture, in radians.
        frequency: of its waves, in radians a half side.
        phase: of its two waves, in radians.

    Returns:
        The share of the second colour, in [0, 1].
    """
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    p, q = x * cos + y * sin, y * cos - x * sin
    wave = frequency[:, None, None]
    a = torch.sin(wave * p + phase[:, 0, None, None])
    b = torch.sin(wave * q + phase[:, 1, None, None])
    out = torch.empty_like(p)
    for k, function in enumerate(TEXTURES.values()):
        rows = (kind == k).nonzero()[:, 0]
        out[rows] = function(p[rows], q[rows], a[rows], b[rows])
    return out


def _star(a: Tensor, b: Tensor) -> Tensor:
    """Five-pointed star: fold the plane into one half of one point, whose edge is a line."""
    turn = torch.atan2(a, -b)
    fifth = 2 * math.pi / 5
    folded = ((turn + fifth / 2) % fifth - fifth / 2).abs()
    radius = torch.hypot(a, b)
    along, across = radius * torch.cos(folded), radius * torch.sin(folded)
    length = math.hypot(_NOTCH * _SIN, 1 - _NOTCH * _COS)
    return ((along - 1) * (_NOTCH * _SIN) + across * (1 - _NOTCH * _COS)) / length


SHAPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "disc": lambda a, b: torch.hypot(a, b) - 0.8,
    "square": lambda a, b: torch.maximum(a.abs(), b.abs()) - 0.7,
    "triangle": lambda a, b: torch.maximum(b, math.sqrt(0.75) * a.abs() - 0.5 * b) - 0.5,
    "ring": lambda a, b: (torch.hypot(a, b) - 0.65).abs() - 0.22,
    "cross": lambda a, b: torch.minimum(
        torch.maximum(a.abs() - 0.9, b.abs() - 0.28), torch.maximum(a.abs() - 0.28, b.abs() - 0.9)
    ),
    "star": _star,
    "crescent": lambda a, b: torch.maximum(
        torch.hypot(a, b) - 0.85, 0.7 - torch.hypot(a - 0.45, b)
    ),
    "bar": lambda a, b: torch.maximum(a.abs() - 0.95, b.abs() - 0.28),
}
"""Distance to the outline in the shape's own unit, negative inside; each fits the unit circle."""


def outline(
    kind: Int[Tensor, " n"],
    x: Field,
    y: Field,
    centre: Float[Tensor, "n 2"],
    scale: Float[Tensor, " n"],
    rotation: Float[Tensor, " n"],
) -> Field:
    """Evaluate how far inside its shape each pixel lies, ``kind`` in the order of ``SHAPES``.

    Args:
        kind: which shape.
        x: coordinates to the right, in half sides of the image.
        y: coordinates downwards.
        centre: of the shape.
        scale: radius of the circle around the shape.
        rotation: in radians.

    Returns:
        Coverage of each pixel, in [0, 1]: edges are one pixel wide.
    """
    cos, sin = torch.cos(rotation)[:, None, None], torch.sin(rotation)[:, None, None]
    right, down = x - centre[:, 0, None, None], y - centre[:, 1, None, None]
    a, b = right * cos + down * sin, down * cos - right * sin
    unit = scale[:, None, None]
    a, b = a / unit, b / unit
    distance = torch.empty_like(a)
    for k, function in enumerate(SHAPES.values()):
        rows = (kind == k).nonzero()[:, 0]
        distance[rows] = function(a[rows], b[rows])
    pixel = 2 / x.shape[-1]
    return (0.5 - distance * unit / pixel).clamp_(0, 1)

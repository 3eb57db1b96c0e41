"""Curves in a plane along which a yes becomes a no."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Predicate = Callable[[Tensor, Tensor], Tensor]
"""Of x and y, equally long, to yes or no."""

# Lines that are searched in each direction, and where on a line changes are looked for first.
_LINES, _LOOKED_AT = 61, 33
# Rounds of refinement, and the parts into which each cuts an interval.
_ROUNDS, _PARTS = 2, 64
# Further apart than this share of the plane, points belong to different curves.
_GAP = 0.06


def crossings(
    predicate: Predicate,
    x: Float[Tensor, " nx"],
    y: Float[Tensor, " ny"],
    log: tuple[bool, bool] = (False, False),
) -> list[Float[Tensor, "points 2"]]:
    """Find the curves on which a predicate changes within the rectangle of two axes.

    Lines along both axes are searched, so that a curve is found however steep it is; on each, a
    change is refined to about 1e-5 of the axis. Two changes between neighbouring looks are missed.

    Args:
        predicate: of x and y.
        x: values along x, ascending; only the ends count.
        y: values along y.
        log: whether each axis is logarithmic.

    Returns:
        Curves of at least two points, each in order along the curve; none where nothing changes.
    """
    ends = [(float(v[0]), float(v[-1])) for v in (x, y)]

    def at(unit: Tensor) -> Tensor:
        """Return the predicate at points of the unit square."""
        return predicate(*(_placed(unit[:, k], ends[k], log[k]) for k in (0, 1)))

    found = [_changes(at, 0), _changes(at, 1)]
    curves = _chained(torch.cat(found))
    return [
        torch.stack([_placed(curve[:, k], ends[k], log[k]) for k in (0, 1)], dim=1)
        for curve in curves
    ]


def _changes(at: Callable[[Tensor], Tensor], along: int) -> Tensor:
    """Return points of change on lines along one axis of the unit square."""
    lines = torch.linspace(0, 1, _LINES, dtype=torch.float64)
    looks = torch.linspace(0, 1, _LOOKED_AT, dtype=torch.float64)
    answers = at(_points(lines[:, None], looks.expand(_LINES, -1), along)).view(_LINES, _LOOKED_AT)
    line, look = (answers[:, 1:] != answers[:, :-1]).nonzero(as_tuple=True)
    fixed, low, width = lines[line], looks[look], 1.0 / (_LOOKED_AT - 1)
    before = answers[line, look]
    for _ in range(_ROUNDS if len(line) else 0):
        width /= _PARTS
        inner = low[:, None] + width * torch.arange(1, _PARTS, dtype=torch.float64)
        after = at(_points(fixed[:, None], inner, along)).view(inner.shape) != before[:, None]
        first = torch.where(after.any(dim=1), after.int().argmax(dim=1), _PARTS - 1)
        low = low + width * first
    return _points(fixed[:, None], (low + width / 2)[:, None], along)


def _points(fixed: Tensor, moving: Tensor, along: int) -> Tensor:
    pair = [moving, fixed.expand_as(moving)]
    return torch.stack(pair if along == 0 else pair[::-1], dim=-1).reshape(-1, 2)


def _chained(points: Tensor) -> list[Tensor]:
    """Order points by walking to the nearest one that is left, and cut where that is far."""
    curves: list[Tensor] = []
    left = points
    while len(left):
        # From an end of a curve: its nearest neighbours lie to one side.
        order, now = [], int(left.sum(dim=1).argmin())
        open_ = torch.ones(len(left), dtype=torch.bool)
        distances = torch.cdist(left, left)
        now = _far_end(distances, now)
        while True:
            order.append(now)
            open_[now] = False
            away = distances[now].masked_fill(~open_, torch.inf)
            now = int(away.argmin())
            if not float(away[now]) < _GAP:
                break
        if len(order) > 1:
            curves.append(left[order])
        left = left[open_]
    return curves


def _far_end(distances: Tensor, start: int) -> int:
    """Walk from a point to an end of its curve."""
    open_ = torch.ones(len(distances), dtype=torch.bool)
    now = start
    while True:
        open_[now] = False
        away = distances[now].masked_fill(~open_, torch.inf)
        nearest = int(away.argmin())
        if not float(away[nearest]) < _GAP:
            return now
        now = nearest


def _placed(unit: Tensor, ends: tuple[float, float], log: bool) -> Tensor:
    low, high = ends
    return low * (high / low) ** unit if log else low + (high - low) * unit

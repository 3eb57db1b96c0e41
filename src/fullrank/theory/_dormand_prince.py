"""The explicit Runge-Kutta pair of orders 5 and 4, for one block of cells that step together.

Dormand and Prince 1980, "A family of embedded Runge-Kutta formulae".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

States = tuple[Tensor, ...]
Rates = Callable[[float, States], States]
"""Time and states (each (cells, ...)) to the states' derivatives, in the same shapes."""

BOUND = 1e9
"""A cell with an entry beyond this has diverged."""

# RK5(4)7M: nodes, stages, and the difference of the two solutions.
_NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_STAGES = [
    torch.tensor(row, dtype=torch.float64)
    for row in (
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    )
]
_ERROR = torch.tensor(
    (-71 / 57600, 0.0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40),
    dtype=torch.float64,
)


class Walk:
    """One block on its way: all states in one flat vector, so that a stage is one product."""

    def __init__(self, rates: Rates, start: States, t: float, rtol: float, atol: float) -> None:
        self.rates, self.t, self.rtol, self.atol = rates, t, rtol, atol
        self.shapes = [s.shape for s in start]
        self.sizes = [s.numel() for s in start]
        self.cells = len(start[0])
        self.entries = sum(self.sizes) // self.cells
        self.y = torch.cat([s.reshape(-1) for s in start])
        self.k = self.y.new_zeros(7, len(self.y))
        self.slots = [row.split(self.sizes) for row in self.k]
        self.alive = torch.ones(self.cells, dtype=torch.bool)
        self.all_alive = True
        self.diverged_at = torch.full((self.cells,), math.nan, dtype=torch.float64)
        self._evaluate(0, t, self.y)
        self._freeze(~self._finite(self.k[0]))
        self.h = self._first_step()

    def go(self, until: float) -> None:
        """Step to ``until``."""
        while self.t < until and bool(self.alive.any()):
            h = min(self.h, until - self.t)
            new, error = self._attempt(h)
            worst = float(error.max())
            if not worst <= 1:
                self.h = h * max(0.1, 0.9 * worst**-0.2 if math.isfinite(worst) else 0.1)
                if self.h <= 1e-13 * max(1.0, abs(self.t)):
                    # No step is short enough for these cells.
                    self._freeze(~(error <= 1))
                    self.h = self._first_step()
                continue
            arrived = h >= until - self.t
            self.t = until if arrived else self.t + h
            longer = h * min(5.0, 0.9 * worst**-0.2 if worst > 0 else 5.0)
            # A step cut short by `until` says nothing about the steps to come.
            self.h = max(self.h, longer) if arrived else longer
            beyond = ~self._finite(new)
            if beyond.any():
                self._freeze(beyond)
                keep = self._over_entries(self.alive)
                self.y = torch.where(keep, new, self.y)
                self.k[6].masked_fill_(~keep, 0.0)
                self.h = self._first_step()
            else:
                self.y = new
            self.k[0] = self.k[6]

    def unpack(self, flat: Tensor) -> States:
        """Return the states in their shapes."""
        parts = flat.split(self.sizes)
        return tuple(p.view(shape) for p, shape in zip(parts, self.shapes, strict=True))

    def _attempt(self, h: float) -> tuple[Tensor, Tensor]:
        """Return the states one step on, and each cell's error over its tolerance."""
        new = self.y
        for stage, (node, weights) in enumerate(zip(_NODES, _STAGES, strict=True), 1):
            new = torch.addmv(self.y, self.k[:stage].T, weights, alpha=h)
            self._evaluate(stage, self.t + node * h, new)
        error = self.k.T.mv(_ERROR).mul_(h)
        error /= torch.maximum(self.y.abs(), new.abs()).mul_(self.rtol).add_(self.atol)
        return new, self._root_mean_square(error)

    def _evaluate(self, stage: int, t: float, flat: Tensor) -> None:
        slope = self.rates(t, self.unpack(flat))
        for slot, r in zip(self.slots[stage], slope, strict=True):
            slot.copy_(r.reshape(-1))
        if not self.all_alive:
            self.k[stage].masked_fill_(~self._over_entries(self.alive), 0.0)

    def _first_step(self) -> float:
        """A step after which an Euler step would have gone a hundredth of the state's size."""
        scale = self.y.abs() * self.rtol + self.atol
        size = self._root_mean_square(self.y / scale).clamp(min=1e-5)
        slope = self._root_mean_square(self.k[0] / scale).clamp(min=1e-5)
        return float((0.01 * size / slope).min().clamp(max=0.1))

    def _root_mean_square(self, flat: Tensor) -> Tensor:
        squares = flat.square()
        parts = [p.view(self.cells, -1).sum(dim=1) for p in squares.split(self.sizes)]
        return (sum(parts[1:], parts[0]) / self.entries).sqrt()

    def _finite(self, flat: Tensor) -> Tensor:
        return within(self.unpack(flat))

    def _freeze(self, cells: Tensor) -> None:
        lost = cells & self.alive
        self.alive &= ~lost
        self.all_alive = bool(self.alive.all())
        self.diverged_at[lost] = self.t
        self.k[0].masked_fill_(~self._over_entries(self.alive), 0.0)

    def _over_entries(self, cells: Tensor) -> Tensor:
        """Repeat a mask over cells to all entries of the flat vector."""
        repeats = [n // self.cells for n in self.sizes]
        return torch.cat([cells.repeat_interleave(r) for r in repeats])


def within(states: States) -> Tensor:
    """Which cells are finite and within the bound."""
    inside = [(s.abs() <= BOUND).reshape(len(s), -1).all(dim=1) for s in states]
    return torch.stack(inside).all(dim=0)


def choose(cells: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(cells.view(-1, *[1] * (yes.ndim - 1)), yes, no)

"""Flows of differential equations, and gradient steps beside them, for many cells as one batch.

A cell is one initial condition with its own parameters: a mode of a network, a point of a phase
diagram, a whole linear network. Every state is a float64 tensor whose first dimension counts cells.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError
from fullrank.theory._dormand_prince import BOUND, Rates, States, Walk, choose, within

# Cells of a block step together: small enough that a block's stages stay in the cache.
_BLOCK = 8192


@dataclass(frozen=True)
class CellRates:
    """Rates whose parameters may differ between cells, so that a batch can be split.

    Attributes:
        formula: time, states and the parameters to the states' derivatives.
        parameters: numbers, or tensors whose first dimension counts cells.
    """

    formula: Callable[..., States]
    parameters: tuple[Tensor | float, ...]

    def __call__(self, t: float, states: States) -> States:
        """Return the derivatives at time ``t``."""
        return self.formula(t, states, *self.parameters)

    def of(self, cells: slice | Tensor) -> CellRates:
        """Return the rates of these cells alone (a slice, or a mask over cells)."""
        return replace(self, parameters=tuple(_of_cells(p, cells) for p in self.parameters))


@dataclass(frozen=True)
class Flow:
    """What became of every cell.

    Attributes:
        times: when the states were taken.
        states: each (t, cells, ...); NaN from the time on at which a cell diverged.
        diverged_at: when each cell diverged; NaN where it did not.
        last: the last finite state of each cell, each (cells, ...).
    """

    times: Float[Tensor, " t"]
    states: States
    diverged_at: Float[Tensor, " cells"]
    last: States

    @property
    def end(self) -> States:
        """The states at the last time, each (cells, ...)."""
        return tuple(state[-1] for state in self.states)

    def check(self) -> Flow:
        """Return this flow if no cell diverged.

        Raises:
            DivergedError: naming the first cell that diverged, its time and its last state; the
                flow is its ``flow``.
        """
        if self.diverged_at.isnan().all():
            return self
        raise DivergedError(self)


class DivergedError(UserError):
    """A cell left every bound; ``flow`` holds what was computed, of this cell and the others."""

    def __init__(self, flow: Flow) -> None:
        diverged = flow.diverged_at.isfinite()
        cell = int(flow.diverged_at.nan_to_num(nan=math.inf).argmin())
        last = "; ".join(_in_words(state[cell]) for state in flow.last)
        super().__init__(
            f"start: cell {cell} diverged at t = {flow.diverged_at[cell]:.6g} "
            f"(last state {last}), as did {int(diverged.sum())} of {len(diverged)} cells in all; "
            f"allowed: a start whose flow stays below {BOUND:g}, or an earlier end."
        )
        self.flow = flow


def integrate(
    rates: Rates,
    start: Sequence[Tensor],
    times: Float[Tensor, " t"],
    *,
    rtol: float = 1e-7,
    atol: float = 1e-10,
) -> Flow:
    """Follow ``d state / dt = rates(t, states)`` for all cells together.

    The explicit Runge-Kutta pair of orders 5 and 4 by Dormand and Prince 1980. Cells share their
    steps, whose length keeps every cell's error (root mean square over its entries, of the local
    error over ``atol + rtol |state|``) below 1. Given ``CellRates``, large batches are split into
    blocks that step on their own. A cell that diverges is frozen and the others go on.

    Args:
        rates: the derivatives; of each cell by its own state alone.
        start: float64 states at ``times[0]``, each (cells, ...).
        times: ascending; the states are returned at these.
        rtol: relative tolerance, above 0.
        atol: absolute tolerance, above 0.

    Returns:
        The states at ``times``, and which cells diverged.

    Raises:
        UserError: states that are not finite float64 of as many cells each, times that do not
            ascend, a tolerance that is not positive.
    """
    states, cells = _checked(start)
    _check_times(times)
    for name, tolerance in (("rtol", rtol), ("atol", atol)):
        if not tolerance > 0:
            raise UserError(f"{name}: {tolerance} given; allowed: above 0.")
    if not isinstance(rates, CellRates) or cells <= _BLOCK:
        return _follow(rates, states, times, rtol, atol)
    blocks = [slice(at, min(at + _BLOCK, cells)) for at in range(0, cells, _BLOCK)]
    parts = [
        _follow(rates.of(block), tuple(s[block] for s in states), times, rtol, atol)
        for block in blocks
    ]
    return Flow(
        times,
        tuple(torch.cat(s, dim=1) for s in zip(*(part.states for part in parts), strict=True)),
        torch.cat([part.diverged_at for part in parts]),
        tuple(torch.cat(s) for s in zip(*(part.last for part in parts), strict=True)),
    )


def iterate(
    rates: Rates, start: Sequence[Tensor], steps: int, step_size: float, *, every: int = 1
) -> Flow:
    """Take gradient steps ``state += step_size · rates``: the flow as an optimiser walks it.

    Args:
        rates: the derivatives (minus the gradients).
        start: float64 states, each (cells, ...).
        steps: how many, at least 1.
        step_size: learning rate. Time is ``step_size`` times the steps taken.
        every: how many steps lie between two returned states; the start and the end are always
            returned.

    Returns:
        The states, and which cells diverged. Warns if steps of this length cannot come to rest
        where a cell has ended, with the bound.

    Raises:
        UserError: a step size that is not positive or at or above ``largest_step`` of the start
            (the bound is named), steps or every below 1.
    """
    states, cells = _checked(start)
    for name, count in (("steps", steps), ("every", every)):
        if count < 1:
            raise UserError(f"{name}: {count} given; allowed: 1 and more.")
    limit = float(largest_step(rates, states).min())
    if not 0 < step_size < limit:
        raise UserError(
            f"step_size: {step_size} given; allowed: above 0 and below {limit:.4g}, beyond which "
            "the steps overshoot from the start."
        )
    alive = torch.ones(cells, dtype=torch.bool)
    diverged_at = torch.full((cells,), math.nan, dtype=torch.float64)
    times, track = [0.0], [states]
    with torch.no_grad():
        for step in range(1, steps + 1):
            moved = rates((step - 1) * step_size, states)
            new = tuple(s + step_size * m for s, m in zip(states, moved, strict=True))
            lost = alive & ~within(new)
            alive &= ~lost
            diverged_at[lost] = step * step_size
            states = tuple(choose(alive, n, s) for n, s in zip(new, states, strict=True))
            if step % every == 0 or step == steps:
                times.append(step * step_size)
                track.append(tuple(choose(alive, s, torch.full_like(s, math.nan)) for s in states))
    if alive.any():
        limit = float(largest_step(rates, states, times[-1])[alive].min())
        if step_size > limit:
            warnings.warn(
                f"step_size: {step_size} given; where a cell has ended, only steps below "
                f"{limit:.4g} come to rest.",
                stacklevel=2,
            )
    return Flow(
        torch.tensor(times, dtype=torch.float64),
        tuple(torch.stack(s) for s in zip(*track, strict=True)),
        diverged_at,
        states,
    )


def largest_step(rates: Rates, states: States, t: float = 0.0) -> Float[Tensor, " cells"]:
    """Step size from which on gradient steps overshoot near these states.

    A direction that decays at rate ``-Re λ`` (``λ`` an eigenvalue of the rates' Jacobian) shrinks
    under steps of size ``a`` if ``|1 + a λ| < 1``, that is ``a < -2 Re λ / |λ|²``.

    Returns:
        The smallest such bound of each cell; infinite where no direction decays.
    """
    eigenvalues = torch.linalg.eigvals(jacobian(rates, states, t))
    bound = -2 * eigenvalues.real / eigenvalues.abs().square()
    return torch.where(eigenvalues.real < 0, bound, math.inf).amin(dim=1)


def jacobian(rates: Rates, states: States, t: float = 0.0) -> Float[Tensor, "cells k k"]:
    """Derivatives of each cell's rates by its own states, all entries of a cell in one row."""
    cells = len(states[0])
    inputs = tuple(state.detach().clone().requires_grad_() for state in states)
    with torch.enable_grad():
        outputs = torch.cat([r.reshape(cells, -1) for r in rates(t, inputs)], dim=1)
        rows = []
        for j in range(outputs.shape[1]):
            # Cells do not touch one another, so the gradient of the sum holds each cell's own.
            row = torch.autograd.grad(
                outputs[:, j].sum(), inputs, retain_graph=True, materialize_grads=True
            )
            rows.append(torch.cat([g.reshape(cells, -1) for g in row], dim=1))
    return torch.stack(rows, dim=1)


@torch.no_grad()
def _follow(rates: Rates, start: States, times: Tensor, rtol: float, atol: float) -> Flow:
    """Integrate one block of cells."""
    walk = Walk(rates, start, float(times[0]), rtol, atol)
    track = tuple(s.new_full((len(times), *s.shape), math.nan) for s in start)
    for i, until in enumerate(times.tolist()):
        walk.go(until)
        for kept, now in zip(track, walk.unpack(walk.y), strict=True):
            kept[i] = choose(walk.alive, now, torch.full_like(now, math.nan))
    last = tuple(s.clone() for s in walk.unpack(walk.y))
    return Flow(times, track, walk.diverged_at, last)


def _checked(start: Sequence[Tensor]) -> tuple[States, int]:
    states = tuple(start)
    if not states or any(s.ndim == 0 for s in states) or len({len(s) for s in states}) != 1:
        raise UserError(
            f"start: shapes {[tuple(s.shape) for s in states]} given; "
            "allowed: tensors that all count the same cells in their first dimension."
        )
    for state in states:
        if state.dtype != torch.float64 or not state.isfinite().all():
            raise UserError(
                f"start: {state.dtype} given, {int((~state.isfinite()).sum())} entries not finite; "
                "allowed: finite float64."
            )
    if len(states[0]) == 0:
        raise UserError("start: no cells given; allowed: 1 and more.")
    return states, len(states[0])


def _check_times(times: Tensor) -> None:
    if len(times) == 0 or not times.isfinite().all() or (times.diff() <= 0).any():
        raise UserError(f"times: {_in_words(times)} given; allowed: finite, ascending.")


def _of_cells(parameter: Tensor | float, cells: slice | Tensor) -> Tensor | float:
    if not isinstance(parameter, Tensor) or parameter.ndim == 0 or len(parameter) == 1:
        return parameter
    return parameter[cells]


def _in_words(state: Tensor) -> str:
    values = state.reshape(-1).tolist()
    listed = ", ".join(f"{v:.4g}" for v in values[:6])
    return f"[{listed}{', …' if len(values) > 6 else ''}]"

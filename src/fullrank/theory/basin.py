"""Which starts of a mode collapse: the basins of the two stable fixed points."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fullrank.theory.eigenmodes import ModeParameters, fixed_points, plain
from fullrank.theory.separatrix import escapes_exactly
from fullrank.theory.validity import checked

# Rounds of the search for the boundary, and the parts into which each splits an interval.
_ROUNDS, _PARTS = 4, 64
# Cells that are decided together, few enough to stay in the cache.
_BLOCK = 4096


def escapes(
    parameters: ModeParameters, p: Float[Tensor, " cells"], s: Float[Tensor, " cells"]
) -> Bool[Tensor, " cells"]:
    """Whether a mode that starts at ``(p, s)`` ends at the upper fixed point, not collapsed.

    Decided by the side of the separatrix on which it starts, without following it. Without weight
    decay the invariant ``c`` never changes, and decides.

    Args:
        parameters: of the modes; tensors count the same cells.
        p: eigenvalues of the predictor.
        s: eigenvalues of ``F``, from 0.

    Raises:
        UserError: a negative ``s``, decays of predictor and encoder that differ.
    """
    checked("s", s)
    noise, decay, tau, rate, p, s = torch.broadcast_tensors(*plain(parameters), p, s)
    # A target of 0 leaves nothing to escape to; any other stands in, its answer is not used.
    given = (p, s, noise, decay, torch.where(tau > 0, tau, 1.0), rate)
    escaped = torch.cat([
        escapes_exactly(p, s, noise=n, weight_decay=d, tau=t, predictor_rate=r)
        for p, s, n, d, t, r in zip(*(x.split(_BLOCK) for x in given), strict=True)
    ])  # fmt: skip
    c, upper = s - p.square() / rate, tau / (1 + noise)
    undamped = (s > 0) & ((c > 0) | ((p > 0) & (c > -upper.square() / rate)))
    return (tau > 0) & torch.where(decay > 0, escaped, undamped)


def basin_boundary(
    parameters: ModeParameters, s: Float[Tensor, " cells"]
) -> Float[Tensor, " cells"]:
    """Smallest start ``p`` in ``[0, p₊]`` from which a mode of start ``s`` does not collapse.

    Found by splitting intervals, of all cells at once, down to 1e-7 of ``p₊``.

    Returns:
        0 where a mode escapes without any predictor to start with; infinite where every start
        collapses: the weight decay is above its critical value, or ``s`` too small.

    Raises:
        UserError: a negative ``s``, decays of predictor and encoder that differ.
    """
    upper = fixed_points(parameters).upper.expand_as(s)
    low = torch.zeros_like(s)
    high = torch.where(escapes(parameters, upper.nan_to_num(), s), upper, math.inf)
    high = torch.where(high.isfinite() & escapes(parameters, low, s), 0.0, high)
    shares = torch.linspace(0, 1, _PARTS + 1, dtype=torch.float64)[1:-1]
    for _ in range(_ROUNDS):
        wide = high.isfinite() & (high > low)
        if not wide.any():
            break
        below, above = low[wide, None], high[wide, None]
        tried = below + (above - below) * shares
        many = _repeated(parameters, wide, len(shares))
        escaped = escapes(many, tried.reshape(-1), s[wide].repeat_interleave(len(shares))).view_as(
            tried
        )
        # The first start that escapes, and the one before it.
        first = torch.where(escaped.any(dim=1), escaped.int().argmax(dim=1), len(shares))
        edges = torch.cat([below, tried, above], dim=1)
        low[wide] = edges.gather(1, first[:, None])[:, 0]
        high[wide] = edges.gather(1, first[:, None] + 1)[:, 0]
    return torch.where(high > low, (low + high) / 2, high)


def _repeated(parameters: ModeParameters, cells: Tensor, times: int) -> ModeParameters:
    """Return the parameters of these cells, each as often as starts are tried."""
    return ModeParameters(
        *(
            v if v.ndim == 0 or len(v) == 1 else v[cells].repeat_interleave(times)
            for v in plain(parameters)
        )
    )

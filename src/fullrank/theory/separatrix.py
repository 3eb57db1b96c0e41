"""The edge of the collapsed state's basin, exactly: the saddle's stable manifold.

In units of its own time and size a mode has one parameter, ``h = η (1 + σ²)/τ²``: with ``P = (1 +
σ²) p/τ``, ``S = α_p (1 + σ²)² s/τ²`` and time in ``(1 + σ²)/τ²``,

    dP/dt = S (1 - P) - h P,    S = P² + u,    du/dt = -2 h u

(Tian et al. 2021, Eqs. 11, 12 and the invariant 14). Since u runs by itself, modes that start with
one u keep their order in P, and the one that ends in the saddle parts those that grow from those
that die. It obeys ``dP/du = -[(P² + u)(1 - P) - h P]/(2 h u)``, or, which resolves the tiny S of
a predictor that starts too large, ``d log S/du = -[P (1 - P) - h]/(h u)`` with ``P = √(S - u)``.
Both are followed here from the saddle on.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# The saddle's neighbourhood in which the manifold is straight, in units of P-².
_NEAR = 1e-3
_STEPS = 300


def escapes_exactly(
    p: Float[Tensor, " cells"],
    s: Float[Tensor, " cells"],
    *,
    noise: Float[Tensor, " cells"],
    weight_decay: Float[Tensor, " cells"],
    tau: Float[Tensor, " cells"],
    predictor_rate: Float[Tensor, " cells"],
) -> Bool[Tensor, " cells"]:
    """Whether modes that start at ``(p, s)`` end in the state that is not collapsed.

    Without simulating them: by the side of the separatrix on which they start.

    Args:
        p: eigenvalue of the predictor, from 0.
        s: eigenvalue of F, from 0.
        noise: σ².
        weight_decay: η.
        tau: τ.
        predictor_rate: α_p.
    """
    shrink = 1 + noise
    h = weight_decay * shrink / tau.square()
    P = shrink * p / tau
    S = predictor_rate * (shrink / tau).square() * s
    u = S - P.square()
    # Without weight decay u stands still while P goes to 1, unless S = P² + u vanishes before.
    escaped = (h == 0) & (u > -1)
    for rich, place, edge in ((u >= 0, P, separatrix), (u < 0, S.log(), log_separatrix)):
        cells = rich & (h > 0) & (h < 0.25)
        escaped[cells] = place[cells] > edge(h[cells], u[cells])
    return escaped & (S > 0) & (tau > 0)


def separatrix(h: Float[Tensor, " cells"], u: Float[Tensor, " cells"]) -> Float[Tensor, " cells"]:
    """Smallest P from which a mode with this ``u >= 0`` escapes collapse.

    Args:
        h: scaled weight decay, above 0 and below 1/4.
        u: ``S - P²``, from 0.

    Returns:
        At ``u = 0`` the unstable fixed point ``(1 - √(1 - 4h))/2``. Minus infinity where every P
        from 0 escapes.
    """
    saddle, slope, near = _saddle(h, u)

    def rate(P: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        S = P.square() + u
        return (h * P - S * (1 - P)) / (2 * h), (h + S - 2 * P * (1 - P)) / (2 * h)

    return _along(rate, saddle + slope * near, near, u, lowest=0.0, lost=-torch.inf)


def log_separatrix(
    h: Float[Tensor, " cells"], u: Float[Tensor, " cells"]
) -> Float[Tensor, " cells"]:
    """Logarithm of the smallest S from which a mode with this ``u < 0`` escapes collapse.

    Args:
        h: scaled weight decay, above 0 and below 1/4.
        u: ``S - P²``, below 0.

    Returns:
        Infinite where the manifold runs off to infinity before it reaches u: every mode dies.
    """
    saddle, slope, near = _saddle(h, u)

    def rate(log: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        S = log.exp()
        P = (S - u).sqrt()
        return (h - P * (1 - P)) / h, (2 * P - 1) * S / (2 * P * h)

    start = ((saddle - slope * near).square() - near).log()
    return _along(rate, start, -near, u, lowest=-torch.inf, lost=torch.inf)


def _saddle(h: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return P-, the manifold's slope dP/du there, and how far from it to start."""
    saddle = 2 * h / (1 + (1 - 4 * h).sqrt())
    slope = -(1 - saddle) / (saddle * (3 - 4 * saddle))
    near = torch.minimum(_NEAR * saddle.square(), u.abs()).clamp(min=1e-300)
    return saddle, slope, near


def _along(
    rate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    y: Tensor,
    near: Tensor,
    u: Tensor,
    *,
    lowest: float,
    lost: float,
) -> Tensor:
    """Follow ``dy/d log|u|``, given with its derivative by y, from ``near`` to ``u``.

    By the trapezoidal rule, which holds where weight decay is small and the manifold stiff. Where
    it has fallen to ``lowest`` or run off to infinity the answer is ``lost``.
    """
    length = (u / near).clamp(min=1.0).log() / _STEPS
    f, _ = rate(y, near)
    inside = torch.ones_like(y, dtype=torch.bool)
    for step in range(1, _STEPS + 1):
        at = near * (length * step).exp()
        guess, last = y, y
        for _ in range(4):
            g, slope = rate(guess, at)
            last = guess
            guess = guess - (guess - y - length / 2 * (f + g)) / (1 - length / 2 * slope)
        # Beyond a blow-up Newton's steps do not settle, or end at NaN.
        inside &= (guess > lowest) & ((guess - last).abs() < 1e-3 * (1 + guess.abs()))
        y = torch.where(inside, guess, y)
        f, _ = rate(y, at)
    return torch.where(inside, y, lost)

"""The closed loop of predictors that are set from the second moment, not trained.

DirectPred sets ``W_p = F^(1/2) + ε I``, DirectCopy ``F + ε I``, DirectSet ``F^α + ε I``, with F the
second moment of the embedding. For one feature of unit variance that the encoder passes on with
factor ``w``, F is ``w²``, the predictor is ``p = |w|^(2α) + ε``, and the flow

    dw/dt = w [p (τ - (1 + σ²) p) - η]

has one dimension (Wang et al. 2021). ``σ²`` is the augmentation's variance relative to the data's,
``η`` the weight decay, ``τ`` the target's share of the online network. F is not divided by its
largest eigenvalue here: that belongs to losses that do not see the scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fullrank.errors import UserError
from fullrank.theory.flow import CellRates, Rates
from fullrank.theory.validity import Parameter, checked

DIRECT_PRED = 0.5
"""Exponent of DirectPred (Tian et al. 2021)."""
DIRECT_COPY = 1.0
"""Exponent of DirectCopy (Wang et al. 2021)."""


@dataclass(frozen=True)
class LoopFixedPoints:
    """Where a feature comes to rest; beside these ``w = 0`` is always a fixed point.

    Attributes:
        lower: predictor value p- of the unstable fixed point; NaN where there is none.
        upper: predictor value p+ of the stable one that is not collapsed; NaN where none.
        lower_feature: ``|w|`` at p-: the feature dies from below it and grows from above it.
        upper_feature: ``|w|`` at p+.
        collapse_is_stable: whether a feature near 0 dies. If not, every feature grows.
    """

    lower: Float[Tensor, ...]
    upper: Float[Tensor, ...]
    lower_feature: Float[Tensor, ...]
    upper_feature: Float[Tensor, ...]
    collapse_is_stable: Bool[Tensor, ...]


@dataclass(frozen=True)
class ClosedLoop:
    """One feature, or many at once, under a predictor set from the second moment.

    Attributes:
        noise: σ², augmentation variance over data variance, from 0.
        weight_decay: η, from 0.
        exponent: α, above 0.
        epsilon: ε, from 0.
        tau: τ, from 0 to 1; below 1 the target lags behind (EMA), at 1 it is the online network.

    Raises:
        UserError: a parameter outside its range.

    References:
        Wang, Chen, Du and Tian 2021, "Towards Demystifying Representation Learning with
        Non-contrastive Self-supervision".
    """

    noise: Parameter
    weight_decay: Parameter
    exponent: Parameter = DIRECT_COPY
    epsilon: Parameter = 0.0
    tau: Parameter = 1.0

    def __post_init__(self) -> None:
        checked("noise", self.noise)
        checked("weight_decay", self.weight_decay)
        checked("exponent", self.exponent, above=True)
        checked("epsilon", self.epsilon)
        checked("tau", self.tau, high=1.0)

    def predictor(self, w: Float[Tensor, ...]) -> Float[Tensor, ...]:
        """Return ``p = |w|^(2α) + ε``."""
        return w.abs() ** (2 * self.exponent) + self.epsilon

    def rates(self) -> Rates:
        """Return the flow of ``(w,)``, any shape that the parameters broadcast over."""
        given = (self.noise, self.weight_decay, self.exponent, self.epsilon, self.tau)
        return CellRates(_feature_rates, given)

    def fixed_points(self) -> LoopFixedPoints:
        """Return where features come to rest: ``p (τ - (1 + σ²) p) = η`` with ``p > ε``."""
        noise, decay, exponent, epsilon, tau = torch.broadcast_tensors(
            *(
                torch.as_tensor(v, dtype=torch.float64)
                for v in (self.noise, self.weight_decay, self.exponent, self.epsilon, self.tau)
            )
        )
        shrink = 1 + noise
        root = (tau.square() - 4 * decay * shrink).sqrt()  # NaN beyond the critical weight decay
        upper = (tau + root) / (2 * shrink)
        # The product of both roots is η / (1 + σ²); this form does not cancel.
        lower = torch.where(upper > 0, decay / (shrink * upper), upper)
        escapes = (lower <= epsilon) & (upper > epsilon)
        none = torch.full_like(upper, torch.nan)
        upper = torch.where(upper > epsilon, upper, none)
        lower = torch.where(lower > epsilon, lower, none)
        return LoopFixedPoints(
            lower,
            upper,
            (lower - epsilon) ** (0.5 / exponent),
            (upper - epsilon) ** (0.5 / exponent),
            ~escapes,
        )


def critical_noise(
    weight_decay: Parameter, *, epsilon: Parameter = 0.0, tau: Parameter = 1.0
) -> Float[Tensor, ...]:
    """Augmentation variance σ² below which a feature has a state that is not collapsed.

    ``τ²/(4η) - 1`` for ``ε`` up to ``2η/τ``, whatever the exponent, since that only decides how
    large ``w`` is where p is what it must be: weight decay is a threshold on the augmentation's
    variance. A larger ε holds features beyond it, up to ``(τ - η/ε)/ε - 1``.

    Args:
        weight_decay: η, from 0.
        epsilon: ε, from 0.
        tau: τ, from 0 to 1.

    Returns:
        Infinite without weight decay and ε; below 0 where no feature survives at all.

    Raises:
        UserError: a parameter outside its range.

    References:
        Wang et al. 2021 (DirectCopy, ε = 0); the case ε > 0 is the maximum over ``p >= ε``.
    """
    decay = checked("weight_decay", weight_decay)
    offset = checked("epsilon", epsilon)
    tau = checked("tau", tau, high=1.0)
    held_by_growth = decay >= tau * offset / 2
    reach = torch.where(tau == 0, torch.zeros_like(tau), tau.square() / (4 * decay))
    held_by_offset = (tau - decay / offset) / offset
    return torch.where(held_by_growth, reach, held_by_offset) - 1


def critical_weight_decay(
    noise: Parameter, *, epsilon: Parameter = 0.0, tau: Parameter = 1.0
) -> Float[Tensor, ...]:
    """Weight decay η from which on a feature of augmentation variance σ² always collapses.

    ``τ²/(4(1 + σ²))`` for ``ε`` up to ``τ/(2(1 + σ²))``, ``ε(τ - (1 + σ²)ε)`` (at least 0) above.

    Args:
        noise: σ², from 0.
        epsilon: ε, from 0.
        tau: τ, from 0 to 1.

    Raises:
        UserError: a parameter outside its range.
    """
    shrink = 1 + checked("noise", noise)
    offset = checked("epsilon", epsilon)
    tau = checked("tau", tau, high=1.0)
    best = torch.maximum(tau / (2 * shrink), offset)
    return (best * (tau - shrink * best)).clamp(min=0)


def matrix_rates(
    data: Float[Tensor, "k k"],
    augmentation: Float[Tensor, "k k"],
    *,
    weight_decay: float,
    exponent: float = DIRECT_COPY,
    epsilon: float = 0.0,
    tau: float = 1.0,
) -> Rates:
    """The loop of a whole linear encoder W, with ``W_p = (W X Wᵀ)^α + ε I`` at every moment.

    ``dW/dt = W_pᵀ(-W_p W (X + X') + τ W X) - η W``. For ``X = I`` and W diagonal in the
    eigenbasis of X' it falls apart into features as in :class:`ClosedLoop`.

    Args:
        data: X, second moment of the data, positive semi-definite.
        augmentation: X', mean covariance of an input's views, positive semi-definite.
        weight_decay: η, from 0.
        exponent: α, above 0.
        epsilon: ε, from 0.
        tau: τ, from 0 to 1.

    Returns:
        Rates of ``(W,)``, W of shape (cells, d, k).

    Raises:
        UserError: a parameter outside its range, a matrix that is not symmetric and positive
            semi-definite.
    """
    for name, matrix in (("data", data), ("augmentation", augmentation)):
        _check_moment(name, matrix)
    ClosedLoop(0.0, weight_decay, exponent, epsilon, tau)

    def rates(t: float, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (W,) = states
        s, Q = torch.linalg.eigh(W @ data @ W.mT)
        p = s.clamp(min=0) ** exponent + epsilon
        WP = (Q * p[..., None, :]) @ Q.mT
        return (WP @ (tau * (W @ data) - WP @ W @ (data + augmentation)) - weight_decay * W,)

    return rates


def _feature_rates(
    t: float,
    states: tuple[Tensor, ...],
    noise: Parameter,
    weight_decay: Parameter,
    exponent: Parameter,
    epsilon: Parameter,
    tau: Parameter,
) -> tuple[Tensor, ...]:
    (w,) = states
    p = w.abs() ** (2 * exponent) + epsilon
    return (w * (p * (tau - (1 + noise) * p) - weight_decay),)


def _check_moment(name: str, matrix: Tensor) -> None:
    values = torch.linalg.eigvalsh(matrix)
    size = float(values.abs().max())
    if float((matrix - matrix.mT).abs().max()) > 1e-9 * size or float(values[0]) < -1e-9 * size:
        raise UserError(
            f"{name}: smallest eigenvalue {float(values[0]):.4g} given; "
            "allowed: a symmetric positive semi-definite matrix."
        )

"""The dynamics of a linear network with a linear predictor, as whole matrices.

Online network ``f₁ = W x₁``, target ``f₂ = W_a x₂``, loss ``½ E‖W_p f₁ - SG(f₂)‖²`` over two views
of one image; ``X = E[x̄ x̄ᵀ]`` is the second moment of the mean view, ``X'`` the mean covariance of
the views about it (Tian, Chen and Ganguli 2021, "Understanding self-supervised learning dynamics
without contrastive pairs", Lemma 1, Theorems 1-3). Matrices carry a leading dimension of cells.
Time is learning rate times steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError
from fullrank.theory.eigenmodes import ModeParameters, plain
from fullrank.theory.flow import CellRates, Rates, States
from fullrank.theory.validity import checked

# Asymmetry and negative eigenvalues up to this share of the largest entry are rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class NetworkParameters:
    """What rules a linear network; the same for all cells.

    Attributes:
        data: ``X``, symmetric, no negative eigenvalue.
        augmentation: ``X'``, likewise.
        weight_decay: ``η``, at least 0.
        predictor_rate: ``α_p``, the predictor's learning rate over the encoder's, above 0.
        predictor_decay: weight decay of the predictor, at least 0; None: that of the encoder. With
            torch's SGD, which scales decay by the rate, it is ``α_p`` times the set coefficient.
        tau: the target is ``τ`` times the online network, in [0, 1] (SimSiam: 1).
        target_rate: ``β = (1 - momentum) / learning rate``, above 0: the target is a moving average
            ``W_a`` with a flow of its own, and ``tau`` is not used. None: no moving average.
    """

    data: Float[Tensor, "n n"]
    augmentation: Float[Tensor, "n n"]
    weight_decay: float = 0.0
    predictor_rate: float = 1.0
    predictor_decay: float | None = None
    tau: float = 1.0
    target_rate: float | None = None

    def __post_init__(self) -> None:
        check_positive("data", self.data)
        check_positive("augmentation", self.augmentation)
        checked("weight_decay", self.weight_decay)
        checked("predictor_rate", self.predictor_rate, above=True)
        checked("predictor_decay", self.decay_of_predictor)
        checked("tau", self.tau, high=1.0)
        if self.target_rate is not None:
            checked("target_rate", self.target_rate, above=True)

    @property
    def decay_of_predictor(self) -> float:
        """Weight decay of the predictor."""
        return self.weight_decay if self.predictor_decay is None else self.predictor_decay


def matrix_rates(parameters: NetworkParameters) -> Rates:
    """Rates of ``(W, W_p)``, or of ``(W, W_p, W_a)`` if the target is a moving average.

    ``Ẇ_p = α_p E Wᵀ - η W_p``, ``Ẇ = W_pᵀ E - η W`` and ``Ẇ_a = β (W - W_a)`` with the error
    ``E = W_a X - W_p W (X + X')`` (Lemma 1). Shapes (cells, d, n), (cells, d, d), (cells, d, n).
    """
    at = parameters
    both = at.data + at.augmentation

    def rates(t: float, states: States) -> States:
        w, w_p = states[:2]
        w_a = at.tau * w if at.target_rate is None else states[2]
        error = w_a @ at.data - w_p @ w @ both
        moved = (
            w_p.mT @ error - at.weight_decay * w,
            at.predictor_rate * error @ w.mT - at.decay_of_predictor * w_p,
        )
        return moved if at.target_rate is None else (*moved, at.target_rate * (w - w_a))

    return rates


def no_stop_gradient_rates(parameters: NetworkParameters) -> Rates:
    """Rates of ``(W, W_p)`` when the gradient also runs through the target: ``vec Ẇ = -H vec W``.

    ``Ẇ = -(W_pᵀ W_p + I) W X' - (W_p - I)ᵀ (W_p - I) W X - η W`` (Theorem 2).
    """
    at = parameters
    both = at.data + at.augmentation

    def rates(t: float, states: States) -> States:
        w, w_p = states
        one = torch.eye(w.shape[1], dtype=w.dtype)
        noise = (w_p.mT @ w_p + one) @ w @ at.augmentation
        signal = (w_p - one).mT @ (w_p - one) @ w @ at.data
        error = w @ at.data - w_p @ w @ both
        return (
            -noise - signal - at.weight_decay * w,
            at.predictor_rate * error @ w.mT - at.decay_of_predictor * w_p,
        )

    return rates


def no_predictor_rates(parameters: NetworkParameters) -> Rates:
    """Rates of ``(W,)`` without a predictor, the target behind a stop-gradient.

    ``Ẇ = -W X' - η W`` for a target that is the online network (``τ = 1``).
    """
    at = parameters
    pull = at.tau * at.data - at.data - at.augmentation

    def rates(t: float, states: States) -> States:
        (w,) = states
        return (w @ pull - at.weight_decay * w,)

    return rates


def collapse_operator(w_p: Float[Tensor, "d d"], parameters: NetworkParameters) -> Tensor:
    """Theorem 2's ``H = X' ⊗ (W_pᵀ W_p + I) + X ⊗ (W_p - I)ᵀ (W_p - I) + η I``, (n·d, n·d).

    It acts on ``vec W``, the columns of ``W`` (d, n) one below another.
    """
    at = parameters
    one = torch.eye(len(w_p), dtype=w_p.dtype)
    of_noise = torch.kron(at.augmentation, w_p.T @ w_p + one)
    of_data = torch.kron(at.data, (w_p - one).T @ (w_p - one))
    return of_noise + of_data + at.weight_decay * torch.eye(len(of_noise), dtype=w_p.dtype)


def collapse_rate(parameters: NetworkParameters) -> float:
    """Slowest rate ``λ_min(X') + η`` at which ``W`` can die without stop-gradient.

    No eigenvalue of Theorem 2's ``H`` is below it. At 0 the theorem promises nothing: directions
    that the augmentations leave alone survive.
    """
    return float(torch.linalg.eigvalsh(parameters.augmentation)[0]) + parameters.weight_decay


def reduced_rates(parameters: ModeParameters) -> CellRates:
    """Rates of ``(F, W_p)``, ``F = W Wᵀ``: isotropic data and augmentations, symmetric ``W_p``.

    ``Ẇ_p = -(α_p/2)(1 + σ²){W_p, F} + α_p τ F - η W_p`` and
    ``Ḟ = -(1 + σ²){W_p², F} + τ{W_p, F} - 2η F`` with ``{A, B} = AB + BA``. Shapes (cells, d, d).
    """

    def formula(
        t: float, states: States, noise: Tensor, decay: Tensor, tau: Tensor, rate: Tensor
    ) -> States:
        f, w_p = states
        mixed, squared = _anticommutator(w_p, f), _anticommutator(w_p @ w_p, f)
        return (
            -(1 + noise) * squared + tau * mixed - 2 * decay * f,
            rate * (tau * f - (1 + noise) / 2 * mixed) - decay * w_p,
        )

    return CellRates(formula, tuple(_per_matrix(value) for value in plain(parameters)))


def balance(
    w: Float[Tensor, "*cells d n"], w_p: Float[Tensor, "*cells d d"], predictor_rate: float
) -> Float[Tensor, "*cells d d"]:
    """Return ``W Wᵀ - W_pᵀ W_p / α_p``, which falls by ``e^{-2ηt}`` (Theorem 1).

    It needs equal weight decays of predictor and encoder.
    """
    return w @ w.mT - w_p.mT @ w_p / predictor_rate


def commutator(
    f: Float[Tensor, "*cells d d"], w_p: Float[Tensor, "*cells d d"]
) -> Float[Tensor, "*cells d d"]:
    """Return ``L = F W_p - W_p F``: 0 where predictor and correlation share their eigenvectors."""
    return f @ w_p - w_p @ f


def alignment_operator(
    f: Float[Tensor, "cells d d"], w_p: Float[Tensor, "cells d d"], parameters: ModeParameters
) -> Float[Tensor, "cells d d"]:
    """Theorem 3's ``K = (1 + σ²)(α_p F / 2 + W_p²) - τ W_p + (3/2) η I``.

    ``L̇ = -(K L + L K)``: where ``K`` is positive definite the eigenspaces of ``W_p`` and ``F``
    align, at twice its smallest eigenvalue or faster. On aligned modes its eigenvalues are
    ``eigenmodes.alignment_margin`` (equations 16 and 17).
    """
    noise, decay, tau, rate = (_per_matrix(value) for value in plain(parameters))
    one = torch.eye(f.shape[-1], dtype=f.dtype)
    return (1 + noise) * (rate * f / 2 + w_p @ w_p) - tau * w_p + 1.5 * decay * one


def modes(
    f: Float[Tensor, "*cells d d"], w_p: Float[Tensor, "*cells d d"]
) -> tuple[Float[Tensor, "*cells d"], Float[Tensor, "*cells d"]]:
    """Return ``p_j = v_jᵀ W_p v_j`` and ``s_j`` for the eigenvectors ``v_j`` of ``F``.

    Largest ``s`` first.

    Raises:
        UserError: an ``F`` that is not symmetric or has a negative eigenvalue.
    """
    check_positive("f", f)
    s, v = torch.linalg.eigh(f)
    p = (v * (w_p @ v)).sum(dim=-2)
    return p.flip(-1), s.clamp(min=0).flip(-1)


def check_positive(name: str, matrix: Float[Tensor, "*cells n n"]) -> None:
    """Refuse what is no second moment.

    Raises:
        UserError: a matrix that is not float64, finite and symmetric, or with a negative
            eigenvalue beyond rounding.
    """
    if matrix.dtype != torch.float64 or not matrix.isfinite().all():
        raise UserError(
            f"{name}: {matrix.dtype} with values {matrix.abs().max()} at most given; "
            "allowed: finite float64."
        )
    slack = _ROUNDING * float(matrix.abs().max())
    lopsided = float((matrix - matrix.mT).abs().max())
    if lopsided > slack:
        raise UserError(f"{name}: differs from its transpose by {lopsided:g}; allowed: symmetric.")
    smallest = float(torch.linalg.eigvalsh(matrix).min())
    if smallest < -slack * matrix.shape[-1]:
        raise UserError(f"{name}: smallest eigenvalue {smallest:g} given; allowed: at least 0.")


def _anticommutator(a: Tensor, b: Tensor) -> Tensor:
    return a @ b + b @ a


def _per_matrix(value: Tensor) -> Tensor:
    """Give a parameter of each cell the dimensions of a matrix."""
    return value if value.ndim == 0 else value[:, None, None]

"""Implicit variance regularisation: how fast each mode of a closed-form predictor learns.

The predictor is ``W_p = F^α`` in the eigenbasis of F, so mode m of the embedding is multiplied by
``p_m = λ_m^α``. Which modes grow, and at what rate, follows from the gradient of the distance
between ``p_m z1_m`` and ``z2_m`` for views 1 and 2 of an input, with W_p held fixed. Four forms of
that gradient are compared (``FORMS``):

- ``predictor``: the target's gradient is stopped (SimSiam, BYOL, DirectPred);
- ``isotropic``: the same without the leading W_pᵀ (IsoLoss);
- ``no stop-gradient``: gradient through both sides;
- ``no predictor``: W_p is the identity.

Modes are those of a linear encoder: mode m of view v is ``w_m x_m^v``, ``x_m`` has unit variance
over inputs and the views add independent noise of variance ``σ²_m``, so that F's eigenvalue is
``λ_m = w_m²``. Rates are of w, for half the squared distance and for minus the cosine.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError, unknown_name
from fullrank.theory.flow import CellRates, Rates
from fullrank.theory.validity import Parameter, checked

FORMS = ("predictor", "isotropic", "no stop-gradient", "no predictor")


def euclidean_gradient(
    first: Float[Tensor, "n m"],
    second: Float[Tensor, "n m"],
    p: Float[Tensor, " m"],
    form: str = "predictor",
) -> tuple[Float[Tensor, "n m"], Float[Tensor, "n m"]]:
    """Minus the gradient of ``½ ||p z1 - z2||²`` with respect to each row of both views.

    Args:
        first: z1 in the eigenbasis of F, the predictor's side.
        second: z2, the target's side.
        p: the predictor's eigenvalues.
        form: one of ``FORMS``.

    Returns:
        For z1 ``-p_m (p_m z1_m - z2_m)``, or ``-(p_m z1_m - z2_m)`` if isotropic; for z2 nothing
        unless its gradient is not stopped.

    Raises:
        UserError: an unknown form.

    References:
        Halvagal, Laborieux and Zenke 2023, "Implicit variance regularization in non-contrastive
        SSL", there with α = 1/2 and 1.
    """
    _check_form(form)
    p = torch.ones_like(p) if form == "no predictor" else p
    error = p * first - second
    leading = torch.ones_like(p) if form == "isotropic" else p
    back = error if form == "no stop-gradient" else torch.zeros_like(error)
    return -leading * error, back


def cosine_gradient(
    first: Float[Tensor, "n m"],
    second: Float[Tensor, "n m"],
    p: Float[Tensor, " m"],
    form: str = "predictor",
) -> tuple[Float[Tensor, "n m"], Float[Tensor, "n m"]]:
    """The gradient of ``cos(p z1, z2)`` with respect to each row of both views.

    For z1, with ``P = ||p z1||``: ``p_m / (P³ ||z2||) Σ_k p_k (p_k z1_k² z2_m - p_m z1_k z2_k
    z1_m)``: a mode only moves relative to the others (``k = m`` cancels). Isotropic: without the
    leading ``p_m``. A row of length 0 has no direction and no gradient.

    Args:
        first: z1 in the eigenbasis of F, the predictor's side.
        second: z2, the target's side.
        p: the predictor's eigenvalues.
        form: one of ``FORMS``.

    Returns:
        For z1 and for z2.

    Raises:
        UserError: an unknown form.

    References:
        Halvagal et al. 2023.
    """
    _check_form(form)
    p = torch.ones_like(p) if form == "no predictor" else p
    prediction = p * first
    P, T = (v.norm(dim=1, keepdim=True) for v in (prediction, second))
    scale = torch.where((P > 0) & (T > 0), 1 / (P * T), 0.0)
    product = (prediction * second).sum(dim=1, keepdim=True)
    ahead = scale * (second - product * prediction / P.square().clamp(min=_TINY))
    if form != "isotropic":
        ahead = p * ahead
    if form != "no stop-gradient":
        return ahead, torch.zeros_like(ahead)
    return ahead, scale * (prediction - product * second / T.square().clamp(min=_TINY))


def euclidean_rates(
    noise: Parameter, *, exponent: Parameter = 1.0, form: str = "predictor"
) -> Rates:
    """Expected flow of ``(w,)`` under the Euclidean distance; modes do not meet.

    With ``p = |w|^(2α)``: ``dw/dt = w p (1 - (1 + σ²) p)``; isotropic ``w (1 - (1 + σ²) p)``;
    through both sides ``-w [(1 + σ²)(1 + p²) - 2p]``, which never grows; without predictor
    ``-σ² w``.

    Args:
        noise: σ², from 0; any shape that broadcasts with w.
        exponent: α, above 0.
        form: one of ``FORMS``.

    Raises:
        UserError: a parameter outside its range, an unknown form.
    """
    _check_form(form)
    checked("noise", noise)
    checked("exponent", exponent, above=True)
    return CellRates(
        lambda t, states, s2, a: (states[0] * _euclidean_growth(states[0], s2, a, form),),
        (noise, exponent),
    )


def cosine_rates(noise: Parameter, *, exponent: Parameter = 1.0, form: str = "predictor") -> Rates:
    """Expected flow of ``(w,)`` under minus the cosine, where many modes share the length.

    The lengths of p z1 and z2 are replaced by the roots of their expected squares ``A = Σ p_k² λ_k
    c_k`` and ``B = Σ λ_k c_k``, ``c = 1 + σ²``, which they approach as modes grow in number. Then

        d log w_m/dt = p_m A^(-3/2) B^(-1/2) Σ_k λ_k p_k (c_k p_k - c_m p_m),

    so all modes end at one value of ``(1 + σ²) p``: they equalise instead of reaching 1.
    Isotropic: without the leading ``p_m``. Through both sides, ``A^(-1/2) B^(-3/2) Σ_k λ_k (c_k p_m
    - c_m p_k)`` is added: large modes grow at the expense of small ones. Without predictor the
    modes with more noise give way to those with less; equal noise leaves all as they are.

    Args:
        noise: σ², from 0, of shape (cells, modes) or one that broadcasts to it.
        exponent: α, above 0.
        form: one of ``FORMS``.

    Returns:
        Rates of ``(w,)``, w of shape (cells, modes).

    Raises:
        UserError: a parameter outside its range, an unknown form.

    References:
        The per-input gradient is Halvagal et al. 2023's; the expectation follows from
        ``E z1_m² = λ_m c_m`` and ``E z1_m z2_m = λ_m``.
    """
    _check_form(form)
    checked("noise", noise)
    checked("exponent", exponent, above=True)
    return CellRates(
        lambda t, states, s2, a: (states[0] * _cosine_growth(states[0], s2, a, form),),
        (noise, exponent),
    )


def convergence_time(
    p: Float[Tensor, ...],
    *,
    noise: Parameter,
    share: float = 0.9,
    exponent: Parameter = 1.0,
    form: str = "predictor",
) -> Float[Tensor, ...]:
    """Time until a mode's predictor reaches a share of its fixed point, from a start ``p`` below.

    Under the Euclidean distance. With ``k = 1 + σ²``, ``dp/dt = 2α p^j (1 - k p)``, where j is 2
    with a predictor and 1 if isotropic. Hence ``2α t = [log(p/(1 - kp))]`` if isotropic, which
    hardly depends on the start, and ``2α t = [k log(p/(1 - kp)) - 1/p]`` with the predictor: the
    smaller a mode, the longer it waits, as 1/p.

    Args:
        p: start, above 0 and below ``share/(1 + σ²)``.
        noise: σ², from 0.
        share: of the fixed point ``1/(1 + σ²)``, between 0 and 1.
        exponent: α, above 0.
        form: ``predictor`` or ``isotropic``; the others have no such fixed point.

    Raises:
        UserError: a parameter outside its range, a form without a fixed point.
    """
    if form not in FORMS[:2]:
        raise unknown_name("form", form, FORMS[:2])
    k = 1 + checked("noise", noise)
    alpha = checked("exponent", exponent, above=True)
    if not 0 < share < 1:
        raise UserError(f"share: {share} given; allowed: above 0 and below 1.")
    end = share / k
    if ((p <= 0) | (p >= end)).any():
        raise UserError(
            f"p: {float(p.min()):.4g} to {float(p.max()):.4g} given; allowed: above 0 and below "
            f"the end {float(end.min()):.4g}."
        )

    def passed(value: Tensor) -> Tensor:
        log = torch.log(value / (1 - k * value))
        return log if form == "isotropic" else k * log - 1 / value

    return (passed(end) - passed(p)) / (2 * alpha)


_TINY = torch.finfo(torch.float64).tiny


def _euclidean_growth(w: Tensor, noise: Parameter, exponent: Parameter, form: str) -> Tensor:
    """Return ``d log w/dt``."""
    p = w.abs() ** (2 * exponent)
    c = 1 + noise
    if form == "predictor":
        return p * (1 - c * p)
    if form == "isotropic":
        return 1 - c * p
    if form == "no stop-gradient":
        return 2 * p - c * (1 + p.square())
    return (1 - c) * torch.ones_like(p)


def _cosine_growth(w: Tensor, noise: Parameter, exponent: Parameter, form: str) -> Tensor:
    """Return ``d log w/dt``; sums over the last dimension."""
    lambda_ = w.square()
    p = torch.ones_like(w) if form == "no predictor" else lambda_**exponent
    c = 1 + noise * torch.ones_like(w)
    A = (p.square() * lambda_ * c).sum(dim=-1, keepdim=True)
    B = (lambda_ * c).sum(dim=-1, keepdim=True)
    overlap = (p * lambda_).sum(dim=-1, keepdim=True)
    # Σ_k λ_k p_k (c_k p_k - c_m p_m) and Σ_k λ_k (c_k p_m - c_m p_k), each in one pass.
    growth = (A - c * p * overlap) / (A.sqrt() * A * B.sqrt())
    if form != "isotropic":
        growth = p * growth
    if form == "no stop-gradient":
        growth = growth + (B * p - c * overlap) / (A.sqrt() * B.sqrt() * B)
    return growth


def _check_form(form: str) -> None:
    if form not in FORMS:
        raise unknown_name("form", form, FORMS)

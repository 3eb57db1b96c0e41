"""Functions of one spectrum: Hill numbers and their kin.

A spectrum is a vector of singular values ``sigma`` (or eigenvalues ``lambda_``, where said), in any
order and any floating dtype; each function converts it to float64 and returns a 0-d float64 tensor.
None depends on the scale of the spectrum, and none is ever NaN.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError

# A millionth of the largest: above the rounding of float32 features (6e-8) and above what a float64
# scatter resolves (1e-8). A direction or a coordinate below it carries no signal.
RESOLUTION = 1e-6


def _relative(weights: Tensor) -> Tensor:
    """Return weights as float64, divided by the largest (all zeros stay zeros)."""
    w = weights.detach().to(torch.float64)
    if w.ndim != 1 or w.numel() == 0:
        raise UserError(f"spectrum: shape {tuple(w.shape)} given; a non-empty vector is allowed.")
    if not bool((w.isfinite() & (w >= 0)).all()):
        raise UserError("spectrum: negative, NaN or infinite values given; allowed: finite, >= 0.")
    largest = w.max()
    return w / torch.where(largest > 0, largest, 1.0)


def hill_number(weights: Float[Tensor, " k"], order: float | int) -> Float[Tensor, ""]:
    r"""Effective number of components: the Hill number ``(Σ p_j^q)^(1/(1-q))``, ``p = w / Σ w``.

    Order 0 counts the non-zero weights, order 1 is the exponential of the Shannon entropy, order 2
    is ``1 / Σ p²``, order infinity ``1 / max p``. It never rises with the order, and ``k`` equal
    weights give ``k`` at every order.

    Args:
        weights: non-negative, not all needed to be non-zero, any scale.
        order: ``q`` in [0, inf].

    Returns:
        A number between 1 and the number of non-zero weights; 0 if all are zero.

    Raises:
        UserError: negative or non-finite weights, or an order that is negative or NaN.

    References:
        Hill 1973, "Diversity and evenness: a unifying notation and its consequences", eq. 1.
    """
    if not order >= 0:
        raise UserError(f"order: {order} given; allowed: any number from 0 to infinity.")
    w = _relative(weights)
    w = w[w > 0]
    if w.numel() == 0:
        return torch.zeros((), dtype=torch.float64, device=w.device)
    if order == 0:
        return torch.tensor(float(w.numel()), dtype=torch.float64, device=w.device)
    if math.isinf(order):
        return w.sum()  # the largest is 1
    p = w / w.sum()
    if order == 1:
        return torch.special.entr(p).sum().exp()
    log_p = p.log()
    if abs(order - 1) < 0.1:
        # Near 1 the plain form is 0/0: use Σ p^q - 1 = Σ p (p^(q-1) - 1) instead.
        log_sum = (p * torch.expm1((order - 1) * log_p)).sum().log1p()
    else:
        log_sum = torch.logsumexp(order * log_p, 0)
    return (log_sum / (1 - order)).exp()


def effective_rank(sigma: Float[Tensor, " k"]) -> Float[Tensor, ""]:
    """Exponential of the Shannon entropy of ``sigma / Σ sigma``: the Hill number of order 1.

    Of centred features it is what this library calls effective rank. RankMe (Garrido et al. 2023)
    is the same function of UNcentred singular values with 1e-7 added to each share; nothing is
    added here.

    Args:
        sigma: singular values, not squared.

    Returns:
        Between 1 and the number of non-zero singular values; 0 if all are zero.

    References:
        Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality", eq. 3-4.
    """
    return hill_number(sigma, 1)


def participation_ratio(sigma: Float[Tensor, " k"]) -> Float[Tensor, ""]:
    """``(Σ λ)² / Σ λ²`` with ``λ = sigma²``: the Hill number of order 2 of the eigenvalues.

    Ruled by the few largest directions. From ``n`` rows it reads low: its reciprocal is about
    ``1/n`` too large.

    Args:
        sigma: singular values of centred features; they are squared here.

    Returns:
        Between 1 and the number of non-zero singular values; 0 if all are zero.
    """
    return hill_number(_relative(sigma).square(), 2)


def cev_auc(sigma: Float[Tensor, " k"]) -> Float[Tensor, ""]:
    """Area under the cumulative explained variance: the weight of the spectrum's tail.

    ``(1/k) Σ_j Σ_{i<=j} p_i`` with ``p = sigma / Σ sigma`` in descending order. Despite the name
    the singular values are not squared. Higher is more collapsed: a flat spectrum gives
    ``(k+1) / (2k)``, one direction gives 1. Values of different ``k`` do not compare, and dead
    directions count towards ``k``.

    Args:
        sigma: singular values of mean-centred features, rows not normalised.

    Returns:
        Between ``(k+1) / (2k)`` and 1. All zeros (complete collapse) give 1 by convention.

    References:
        Li, Efros and Pathak 2022, "Understanding Collapse in Non-Contrastive Siamese
        Representation Learning", section 4.
    """
    w = _relative(sigma).sort(descending=True).values
    k = w.numel()
    if w[0] == 0:
        return torch.ones((), dtype=torch.float64, device=w.device)
    index = torch.arange(k, dtype=torch.float64, device=w.device)
    return (k - (index * w).sum() / w.sum()) / k


def hard_rank(
    sigma: Float[Tensor, " k"], shape: tuple[int, int], rtol: float | None = None
) -> Float[Tensor, ""]:
    """Number of singular values above ``rtol`` times the largest.

    Args:
        sigma: singular values of an (n, d) matrix.
        shape: ``(n, d)``.
        rtol: tolerance; by default ``max(n, d)`` times the machine epsilon of ``sigma``'s dtype,
            as in NumPy's ``matrix_rank``. That suits the result of an SVD. For the square roots of
            eigenvalues, as ``MomentState`` gives them, use ``RESOLUTION``.

    Returns:
        A whole number between 0 and ``k``, as float64; 0 if all are zero.

    Raises:
        UserError: a tolerance below 0.
    """
    tolerance = max(shape) * torch.finfo(sigma.dtype).eps if rtol is None else rtol
    if not tolerance >= 0:
        raise UserError(f"rtol: {rtol} given; allowed: 0 or more.")
    return (_relative(sigma) > tolerance).sum().to(torch.float64)


def dead_units(variances: Float[Tensor, " d"], rtol: float = RESOLUTION) -> Float[Tensor, ""]:
    """Number of coordinates that do not vary.

    Args:
        variances: variance of each coordinate, shape (d,).
        rtol: a coordinate is dead when its standard deviation is at most ``rtol`` times the
            largest coordinate's.

    Returns:
        A whole number between 0 and ``d``, as float64; ``d`` if nothing varies.

    Raises:
        UserError: a tolerance below 0.
    """
    if not rtol >= 0:
        raise UserError(f"rtol: {rtol} given; allowed: 0 or more.")
    return (_relative(variances).sqrt() <= rtol).sum().to(torch.float64)

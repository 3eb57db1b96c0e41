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
from fullrank.measure._relative import RESOLUTION, relative
from fullrank.measure.power_law import alpha_req

__all__ = [
    "RESOLUTION",
    "alpha_req",
    "anisotropy",
    "cev_auc",
    "condition_number",
    "dead_units",
    "effective_rank",
    "hard_rank",
    "hill_number",
    "participation_ratio",
    "rankme",
    "spectral_entropy",
    "stable_rank",
]


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
    w = relative(weights)
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
    is the same function of UNcentred singular values with 1e-7 added to each share: see
    :func:`rankme`; nothing is added here. Blind to complete collapse: what is left about the mean,
    however small, may well be of full rank. Noise raises it.

    Args:
        sigma: singular values, not squared.

    Returns:
        Between 1 and the number of non-zero singular values; 0 if all are zero.

    References:
        Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality", eq. 3-4.
    """
    return hill_number(sigma, 1)


def rankme(
    sigma: Float[Tensor, " k"], epsilon: float = 1e-7, renormalised: bool = False
) -> Float[Tensor, ""]:
    """RankMe: ``exp(-Σ p_j log p_j)`` with ``p = sigma / Σ sigma + epsilon``, as published.

    Of UNcentred singular values, so that a mean that is large against the spread reads as low rank
    although no direction is lost. The shares are not normalised again after ``epsilon`` is added: a
    single direction among ``k`` reads about ``1 + 16e-7 k``. Noise raises it, few rows lower it;
    the authors compare runs of one method with it, and 25,600 rows.

    Args:
        sigma: singular values of features that are not centred.
        epsilon: added to each share.
        renormalised: whether to divide the shares by their sum again.

    Returns:
        Between 1 and about ``k``; 0 if all are zero.

    Raises:
        UserError: an epsilon below 0.

    References:
        Garrido et al. 2023, "RankMe: Assessing the Downstream Performance of Pretrained
        Self-Supervised Representations by Their Rank".
    """
    if not epsilon >= 0:
        raise UserError(f"epsilon: {epsilon} given; allowed: 0 or more.")
    w = relative(sigma)
    total = w.sum()
    if total == 0:
        return total
    p = w / total + epsilon
    return torch.special.entr(p / p.sum() if renormalised else p).sum().exp()


def participation_ratio(sigma: Float[Tensor, " k"]) -> Float[Tensor, ""]:
    """``(Σ λ)² / Σ λ²`` with ``λ = sigma²``: the Hill number of order 2 of the eigenvalues.

    Ruled by the few largest directions. From ``n`` rows it reads low: its reciprocal is about
    ``1/n`` too large.

    Args:
        sigma: singular values of centred features; they are squared here.

    Returns:
        Between 1 and the number of non-zero singular values; 0 if all are zero.
    """
    return hill_number(relative(sigma).square(), 2)


def stable_rank(sigma: Float[Tensor, " k"]) -> Float[Tensor, ""]:
    """``Σ λ / λ_1`` with ``λ = sigma²``: the Hill number of order infinity, known as NESum.

    Ruled by the one largest direction; and a spectrum may be too flat for its downstream use, too.

    Args:
        sigma: singular values of centred features; they are squared here.

    Returns:
        Between 1 and the number of non-zero singular values; 0 if all are zero.

    References:
        He and Ozay 2022, "Exploring the Gap between Collapsed and Whitened Features in
        Self-Supervised Learning" (NESum); Rudelson and Vershynin 2007, "Sampling from large
        matrices: an approach through geometric functional analysis" (numerical rank).
    """
    return hill_number(relative(sigma).square(), math.inf)


def anisotropy(sigma: Float[Tensor, " k"]) -> Float[Tensor, ""]:
    """Share of the largest eigenvalue, ``λ_1 / Σ λ`` with ``λ = sigma²``: one over stable rank.

    Whether features are centred and rows normalised before is the caller's convention; most of the
    literature does both. Not the mean pairwise cosine, which goes by the same name and is driven by
    the mean and by few large coordinates.

    Args:
        sigma: singular values; they are squared here.

    Returns:
        Between ``1/k`` and 1. All zeros (complete collapse) give 1 by convention.

    References:
        Razzhigaev et al. 2024, "The Shape of Learning: Anisotropy and Intrinsic Dimensions in
        Transformer-Based Models".
    """
    rank = stable_rank(sigma)
    return 1 / torch.where(rank > 0, rank, 1.0)


def spectral_entropy(sigma: Float[Tensor, " k"], normalised: bool = True) -> Float[Tensor, ""]:
    """Entropy in nats of ``λ / Σ λ``, ``λ = sigma²``: von Neumann's, of the scatter of trace 1.

    Its exponential is the Hill number of order 1 of the eigenvalues; that of the singular values is
    :func:`effective_rank`. Normalised values of different ``k`` do not compare.

    Args:
        sigma: singular values; they are squared here.
        normalised: whether to divide by ``log k``, its largest value.

    Returns:
        Between 0 and 1, or between 0 and ``log k``; 0 if all are zero, or for ``k = 1``.
    """
    w = relative(sigma)
    entropy = hill_number(w.square(), 1).clamp(min=1).log()
    return entropy / math.log(len(w)) if normalised and len(w) > 1 else entropy


def condition_number(sigma: Float[Tensor, " k"], rtol: float = 0.0) -> Float[Tensor, ""]:
    """``sigma_1 / sigma_k``: the largest over the smallest singular value.

    One dead direction makes it infinite, and fewer rows than coordinates do, so it says more about
    the smallest direction than about the representation. Which sign its correlation with accuracy
    has changes between data sets. Of the square roots of eigenvalues of a float64 scatter it cannot
    be read beyond about 1e8.

    Args:
        sigma: singular values of centred features.
        rtol: values at most ``rtol`` times the largest count as 0.

    Returns:
        1 or more; infinity if the smallest (or every) singular value is 0.

    Raises:
        UserError: a tolerance below 0.
    """
    if not rtol >= 0:
        raise UserError(f"rtol: {rtol} given; allowed: 0 or more.")
    smallest = relative(sigma).min()
    return 1 / torch.where(smallest > rtol, smallest, 0.0)


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
    w = relative(sigma).sort(descending=True).values
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
    return (relative(sigma) > tolerance).sum().to(torch.float64)


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
    return (relative(variances).sqrt() <= rtol).sum().to(torch.float64)

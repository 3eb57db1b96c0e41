"""How far two representations of the same images are apart: two checkpoints, layers or models.

Row ``i`` of both is the same image; widths may differ.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Integer, Real
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.moments import unit_rows
from fullrank.measure.neighbors import CHUNK, scaled
from fullrank.measure.spectrum import RESOLUTION


def linear_cka(
    x: Real[Tensor, "_n _dx"], y: Real[Tensor, "_m _dy"], debiased: bool = False
) -> float:
    """Centred kernel alignment of linear kernels: ``||YᵀX||² / (||XᵀX|| ||YᵀY||)``, centred.

    Unchanged by rotations and isotropic scaling of either side, not by other linear maps. Ruled by
    the few largest directions: it can stay near 1 while all others change. The plain form is high
    for unrelated features when ``n`` is not well above the widths; the debiased one is not.

    Args:
        x: rows of one representation (n, dx).
        y: rows of the other (n, dy).
        debiased: estimate each of the three terms without bias (needs ``n >= 4``).

    Returns:
        Between 0 and 1; the debiased form may fall below 0 (about 0 for unrelated features) or, by
        noise, above 1. If one side does not vary, or its debiased term is not positive: 1 if that
        is so of both, else 0.

    Raises:
        UserError: different numbers of rows or too few, NaN or infinite values.

    References:
        Kornblith, Norouzi, Lee and Hinton 2019, "Similarity of Neural Network Representations
        Revisited"; debiased terms: Song et al. 2012, "Feature Selection via Dependence
        Maximization" (HSIC_1), here without n-by-n matrices.
    """
    a, b = _paired(x, y, 4 if debiased else 2)
    cross, first, second = (_hsic(*pair, debiased) for pair in ((a, b), (a, a), (b, b)))
    if first <= 0 or second <= 0:
        return 1.0 if first <= 0 and second <= 0 else 0.0
    value = cross / (first**0.5 * second**0.5)
    return value if debiased else min(1.0, value)


def svcca(x: Real[Tensor, "_n _dx"], y: Real[Tensor, "_m _dy"], share: float = 0.99) -> float:
    """Mean canonical correlation between the leading principal components of both sides.

    Each side keeps the fewest components that explain ``share`` of its variance; the mean is over
    as many correlations as the smaller side keeps. With ``share = 1`` it is unchanged by every
    invertible linear map, so small directions weigh as much as large ones; below 1 by rotations and
    isotropic scaling. Biased upwards by about ``sqrt(k / n)`` for unrelated features: it needs
    ``n`` well above the number ``k`` of components kept.

    Args:
        x: rows of one representation (n, dx).
        y: rows of the other (n, dy).
        share: of the variance to keep, in (0, 1]; components below ``RESOLUTION`` times the largest
            singular value never count.

    Returns:
        Between 0 and 1. If one side does not vary: 1 if neither does, else 0.

    Raises:
        UserError: different numbers of rows or fewer than two, NaN or infinite values, a share
            outside (0, 1].

    References:
        Raghu, Gilmer, Yosinski and Sohl-Dickstein 2017, "SVCCA: Singular Vector Canonical
        Correlation Analysis for Deep Learning Dynamics and Interpretability".
    """
    if not 0 < share <= 1:
        raise UserError(f"share: {share} given; allowed: above 0, up to 1.")
    first, second = (_leading(side, share) for side in _paired(x, y, 2))
    kept = min(first.shape[1], second.shape[1])
    if kept == 0:
        return 1.0 if first.shape[1] == second.shape[1] else 0.0
    return float(torch.linalg.svdvals(first.T @ second).clamp(max=1).sum()) / kept


def neighbourhood_overlap(
    x: Real[Tensor, "_n _dx"], y: Real[Tensor, "_m _dy"], k: int = 10
) -> float:
    """Mean share of the ``k`` nearest neighbours (cosine) of an image that both sides agree on.

    Local, where CKA is global: it sees the fine structure that retrieval and k-NN use. Unchanged by
    rotations and scaling of either side, not by shifting. Unrelated features have ``k / (n - 1)``.
    Ties (duplicates, collapse to few points) are broken arbitrarily.

    Args:
        x: rows of one representation (n, dx).
        y: rows of the other (n, dy).
        k: neighbours.

    Returns:
        Between 0 and 1.

    Raises:
        UserError: different numbers of rows or fewer than two, NaN or infinite values, ``k``
            outside ``1 … n - 1``.

    References:
        Mutual k-nearest-neighbour alignment in Huh, Cheung, Wang and Isola 2024, "The Platonic
        Representation Hypothesis".
    """
    a, b = _paired(x, y, 2, centre=False)
    n = len(a)
    if not 1 <= k < n:
        raise UserError(f"k: {k} given; allowed: 1 to {n - 1}, the other rows.")
    shared = 0
    for start in range(0, n, CHUNK):
        first, second = (_neighbours(side, start, k) for side in (a, b))
        # Neighbours of one side are distinct: an index that occurs twice is on both.
        both = torch.cat([first, second], 1).sort(1).values
        shared += int((both[:, 1:] == both[:, :-1]).sum())
    return shared / (n * k)


def _paired(x: Tensor, y: Tensor, fewest: int, centre: bool = True) -> tuple[Tensor, Tensor]:
    """Return both sides in float64, centred or at unit length."""
    if len(x) != len(y) or len(x) < fewest:
        raise UserError(
            f"x, y: {len(x)} and {len(y)} rows given; both need the same images, at least {fewest}."
        )
    a, b = scaled(x), scaled(y)
    if not centre:
        return unit_rows(a)[0], unit_rows(b)[0]
    return _centred(a), _centred(b)


def _centred(x: Tensor) -> Tensor:
    # About the first row, what does not vary is exactly 0.
    x = x - x[0].clone()
    return x - x.mean(0)


def _hsic(a: Float[Tensor, "n _da"], b: Float[Tensor, "n _db"], debiased: bool) -> float:
    """Return ``||aᵀb||²`` of centred rows, or ``n (n - 3)`` times its estimate without bias."""
    n = len(a)
    # The smaller of two products: features by features, or rows by rows.
    if a.shape[1] * b.shape[1] <= n * n:
        plain = float((a.T @ b).square().sum())
    else:
        plain = float((a @ a.T).mul_(b @ b.T).sum())
    if not debiased:
        return plain
    p, q = a.square().sum(1), b.square().sum(1)
    return plain - n / (n - 2) * float(p @ q) + float(p.sum() * q.sum()) / ((n - 1) * (n - 2))


def _leading(x: Float[Tensor, "n d"], share: float) -> Float[Tensor, "n k"]:
    """Return the left singular vectors of centred rows that explain a share of the variance."""
    u, sigma, _ = torch.linalg.svd(x, full_matrices=False)
    sigma = torch.where(sigma > RESOLUTION * sigma[0], sigma, 0.0)
    total = sigma.square().cumsum(0)
    if total[-1] == 0:
        return u[:, :0]
    # Rounding may leave the last sum just below the whole.
    enough = int((total < share * total[-1] * (1 - 1e-12)).sum()) + 1
    return u[:, : min(enough, int((sigma > 0).sum()))]


def _neighbours(unit: Float[Tensor, "n d"], start: int, k: int) -> Integer[Tensor, "c k"]:
    cosine = unit[start : start + CHUNK] @ unit.T
    cosine.diagonal(start).fill_(-torch.inf)
    return cosine.topk(k, dim=1).indices

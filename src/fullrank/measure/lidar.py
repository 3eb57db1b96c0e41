"""LiDAR: how many directions tell images apart beyond what augmentation does."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure._whitening import whitening
from fullrank.measure.moments import MomentState
from fullrank.measure.pairs import refuse_empty
from fullrank.measure.spectrum import rankme


def lidar(
    state: MomentState, delta: float = 1e-4, relative: bool = False, epsilon: float = 1e-7
) -> float | None:
    r"""Effective number of discriminant directions when every image is a class of its own.

    ``exp H(p)``, ``p = μ / Σ μ + epsilon``, of the eigenvalues ``μ`` of
    ``S_w^(-1/2) S_b S_w^(-1/2)``, with ``S_b`` the mean over images of
    ``(x̄_i - x̄)(x̄_i - x̄)ᵀ`` and ``S_w`` the mean over images and views of
    ``(x_iv - x̄_i)(x_iv - x̄_i)ᵀ``, plus ``delta`` times the identity.

    Views must be of the same image: with views grouped at random ``S_b ≈ S_w / (q - 1)``, and LiDAR
    reads the hard rank whatever the features. For the same reason a direction that the images do
    not differ in keeps an eigenvalue of about ``1 / (q - 1)``: compare at equal ``q``. An absolute
    ``delta`` makes the value depend on the features' scale. The authors use 50 or 10 views and more
    images than coordinates; two views lie outside what they tested.

    Args:
        state: moments of two or more views.
        delta: added to the diagonal of ``S_w``; 1e-4 and 1e-6 are both in use.
        relative: whether ``delta`` is in units of the mean over coordinates of the total variance,
            which makes the value independent of scale.
        epsilon: added to each share, as in RankMe.

    Returns:
        Between 1 and about ``min(d, n - 1)``; 0 if the images' means do not differ at all
        (complete collapse); None for a single view.

    Raises:
        UserError: the moments are empty, or a delta that is not positive.

    References:
        Thilak et al. 2023, "LiDAR: Sensing Linear Probing Performance in Joint Embedding SSL
        Architectures".
    """
    found = discriminant_eigenvalues(state, delta, relative)
    return None if found is None else float(rankme(found, epsilon))


def discriminant_eigenvalues(
    state: MomentState, delta: float = 1e-4, relative: bool = False
) -> Float[Tensor, " d"] | None:
    """Eigenvalues of ``S_w^(-1/2) S_b S_w^(-1/2)``, descending; see :func:`lidar`.

    Args:
        state: moments of two or more views.
        delta: added to the diagonal of ``S_w``.
        relative: whether in units of the mean total variance.

    Returns:
        Never negative, shape (d,); at most ``n - 1`` differ from 0. None for a single view.

    Raises:
        UserError: the moments are empty, or a delta that is not positive.
    """
    refuse_empty(state)
    if not delta > 0:
        raise UserError(f"delta: {delta} given; allowed: above 0.")
    if state.within is None or state.between is None:
        return None
    within, between = state.within / state.rows, state.between / state.count
    if relative:
        delta *= float(within.trace() + between.trace()) / state.dim
    if delta == 0:  # nothing varies
        return torch.zeros(state.dim, dtype=torch.float64, device=between.device)
    map_ = whitening(within, shift=delta)
    mu = torch.linalg.eigvalsh(map_ @ between @ map_.T).flip(0).clamp(min=0)
    # So few images span no more directions: beyond them there is only rounding noise.
    mu[state.count - 1 :] = 0
    return mu

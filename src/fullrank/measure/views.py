"""Functions of the views of each image: centre and residual, expected representations, CCA."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure._relative import RESOLUTION
from fullrank.measure._whitening import whitening
from fullrank.measure.moments import MomentState
from fullrank.measure.pairs import refuse_empty, spread


class CentreResidual(NamedTuple):
    """Lengths of the two parts of unit rows, in units of the whole.

    Attributes:
        centre: ``m_o``, length of the centre vector.
        residual: ``m_r``, root mean squared length of the rows about it.
    """

    centre: float
    residual: float


def centre_residual(state: MomentState) -> CentreResidual:
    """Split unit rows ``u = o + r`` into their centre ``o = E u`` and residuals; say how long each.

    Without zero rows ``m_o² + m_r² = 1``, and ``m_r²`` is the spread. Complete collapse is
    ``m_o = 1``. Both see the first moment alone: two antipodal points have ``m_o = 0``; and after
    batch norm without scale and shift ``m_o`` is near 0 by construction.

    Args:
        state: moments of the rows; views are pooled.

    Returns:
        Both between 0 and 1.

    Raises:
        UserError: the moments are empty.

    References:
        Zhang et al. 2022, "How Does SimSiam Avoid Collapse Without Negative Samples?", section 3.
    """
    return CentreResidual(expected_over_data(state), math.sqrt(spread(state)))


def expected_over_data(state: MomentState, unbiased: bool = False) -> float:
    """Length of the expected representation over all data, ``||E_x E_w u||``: the centre vector.

    Methods that are stable keep it small. That rules out complete collapse and nothing else: the
    spectrum is free. Of ``n`` images it reads about ``1/sqrt(n)`` where it should be 0.

    Args:
        state: moments of the rows; views are pooled.
        unbiased: whether its square is the mean inner product of unit rows of two different images
            (0 if that is negative), which has no bias, instead of including each image with itself.

    Returns:
        Between 0 and 1.

    Raises:
        UserError: the moments are empty, or one image is to be compared with another.

    References:
        Jha et al. 2024, "The Common Stability Mechanism behind most Self-Supervised Learning
        Approaches": the centre vector ``s``.
    """
    refuse_empty(state)
    squared = float(state.unit_mean.square().sum())
    if unbiased:
        n = state.count
        if n < 2:
            raise UserError("state: 1 image given; unbiased needs 2 or more.")
        squared = (n * squared - _squared_over_views(state)) / (n - 1)
    return math.sqrt(min(1.0, max(0.0, squared)))


def expected_over_augmentations(state: MomentState, unbiased: bool = False) -> float | None:
    """Length of the expected representation of one image over its augmentations.

    ``sqrt(E_x ||E_w u||²)``, the root of the mean square over images. 1 is perfect invariance,
    which complete collapse has, too: read it beside :func:`expected_over_data`. The mean over ``q``
    views stands for the expectation, so that unrelated views read ``1/sqrt(q)``; compare at equal
    ``q``, or take the unbiased one.

    Args:
        state: moments of two or more views.
        unbiased: whether its square is the mean inner product of unit rows of two different views
            of an image (0 if that is negative): ``1 - alignment / 2`` without zero rows.

    Returns:
        Between 0 and 1; None for a single view.

    Raises:
        UserError: the moments are empty.

    References:
        Jha et al. 2024, "The Common Stability Mechanism behind most Self-Supervised Learning
        Approaches": what the invariance term maximises.
    """
    refuse_empty(state)
    if state.views < 2:
        return None
    squared, q = _squared_over_views(state), state.views
    if unbiased:
        squared = (q * squared - (1 - state.zero_rows / state.rows)) / (q - 1)
    return math.sqrt(min(1.0, max(0.0, squared)))


def _squared_over_views(state: MomentState) -> float:
    """Mean over images of ``||mean_v u_iv||²``, from the distances between views."""
    apart = state.pair_distance / (state.count * state.views**2)
    return 1 - state.zero_rows / state.rows - apart


def canonical_correlations(state: MomentState, ridge: float = 0.0) -> Float[Tensor, " d"] | None:
    """Canonical correlations of two views: of the linear functions that agree best across views.

    The same for any invertible linear map of either view, so blind to how large a direction is:
    collapse in all but rank is not seen (digits are lost, though, if one view is more than about a
    thousand times larger than the other). Unrelated views of ``n`` rows read about ``sqrt(d/n)``,
    and ``n <= d`` rows correlate perfectly whatever they are.

    Args:
        state: moments of exactly two views.
        ridge: added to each view's scatter, in units of its mean variance; 0 is the definition.
            Directions of a view below ``RESOLUTION`` times its largest are left out.

    Returns:
        Between 0 and 1, descending, shape (d,); 0 beyond the lower of the views' ranks, so all 0 if
        a view is constant. None unless there are two views.

    Raises:
        UserError: the moments are empty, or a ridge below 0.

    References:
        Hotelling 1936, "Relations between two sets of variates".
    """
    found = _canonical(state, ridge)
    if found is None:
        return None
    return torch.cat([found, found.new_zeros(state.dim - len(found))])


def canonical_correlation(state: MomentState, ridge: float = 0.0) -> float | None:
    """Mean canonical correlation of two views, over as many directions as the lower rank has.

    See :func:`canonical_correlations`.

    Args:
        state: moments of exactly two views.
        ridge: as there.

    Returns:
        Between 0 and 1; 0 if a view is constant. None unless there are two views.

    Raises:
        UserError: the moments are empty, or a ridge below 0.
    """
    found = _canonical(state, ridge)
    if found is None:
        return None
    return float(found.mean()) if len(found) else 0.0


def _canonical(state: MomentState, ridge: float) -> Tensor | None:
    refuse_empty(state)
    if not ridge >= 0:
        raise UserError(f"ridge: {ridge} given; allowed: 0 or more.")
    cross = state.cross
    if cross is None:
        return None
    maps = []
    for view in (0, 1):
        scatter = state.view_scatter(view)
        shift = ridge * float(scatter.diagonal().mean())
        maps.append(whitening(scatter, shift, RESOLUTION))
    whitened = maps[0] @ cross @ maps[1].T
    # The Gram matrix of the narrower side: several times cheaper than an SVD, to 1e-8 absolute.
    gram = whitened @ whitened.T if len(maps[0]) <= len(maps[1]) else whitened.T @ whitened
    return torch.linalg.eigvalsh(gram).flip(0).clamp(0, 1).sqrt()

"""Functions of rows on the unit sphere, and of pairs of views of one image.

Rows are divided by their length first. A row that is exactly 0 has no direction: it counts as the
zero vector, at distance 1 from every unit row and 0 from another zero row.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.moments import MomentState, unit_rows


def spread(state: MomentState) -> float:
    """Mean squared distance of the unit rows from their centre: ``E||u||² - ||E u||²``.

    Pooled over views. Without zero rows it is ``1 - ||E u||²``, one minus the squared length of the
    centre vector. 0 is complete collapse to one direction; centred data has 1. Blind to rank: two
    antipodal points have spread 1.

    Args:
        state: moments of the rows.

    Returns:
        Between 0 and 1.

    Raises:
        UserError: the moments are empty.

    References:
        The squared residual ``m_r²`` of Zhang et al. 2022, "How Does SimSiam Avoid Collapse Without
        Negative Samples?", section 3; one minus the squared centre vector of Jha et al. 2024, "The
        Common Stability Mechanism behind most Self-Supervised Learning Approaches".
    """
    refuse_empty(state)
    return min(1.0, float(state.unit_scatter.sum()) / state.rows)


def batch_spread(rows: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Spread (see :func:`spread`) of one batch, without a scatter: cheap enough for every step.

    Args:
        rows: (n, d) on any device, ``n >= 1``; detached, computed in float32 at least.

    Returns:
        A 0-d tensor on the rows' device, between 0 and 1; NaN if a row is not finite. Nothing is
        synchronised with the device.
    """
    x = rows.detach()
    unit, _ = unit_rows(x.to(torch.promote_types(x.dtype, torch.float32)))
    return (unit - unit.mean(0)).square().sum() / len(rows)


def normalised_std(state: MomentState) -> float:
    """Mean over coordinates of the standard deviation of the unit rows, times ``sqrt(d)``.

    About 1 for isotropic rows, 0 for complete collapse. Nearly blind to dimensional collapse: rank
    2 in 2048 dimensions still reads 0.88.

    Args:
        state: moments of the rows.

    Returns:
        Between 0 and 1.

    Raises:
        UserError: the moments are empty.

    References:
        Chen and He 2021, "Exploring Simple Siamese Representation Learning", figure 2 (middle).
    """
    refuse_empty(state)
    deviation = (state.unit_scatter / state.rows).sqrt()
    return float(deviation.mean()) * math.sqrt(state.dim)


def alignment(state: MomentState) -> float | None:
    """Mean squared distance ``E||u - v||²`` between unit rows of two views of one image.

    Over all images and all pairs of views. 0 is perfect alignment (which complete collapse has,
    too); ``2 - 2 cos`` of the mean cosine if no row is 0.

    Args:
        state: moments of the rows.

    Returns:
        Between 0 and 4; None for a single view.

    Raises:
        UserError: the moments are empty.

    References:
        Wang and Isola 2020, "Understanding Contrastive Representation Learning through Alignment
        and Uniformity on the Hypersphere", with alpha = 2.
    """
    refuse_empty(state)
    pairs = state.views * (state.views - 1) // 2
    return state.pair_distance / (state.count * pairs) if pairs else None


def refuse_empty(state: MomentState) -> None:
    """Refuse moments of no rows.

    Raises:
        UserError: there are none.
    """
    if state.count == 0:
        raise UserError("state: the moments are empty; at least one row is needed.")

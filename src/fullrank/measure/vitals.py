"""Vital signs: the few numbers of a representation that every user sees."""

from __future__ import annotations

from typing import TypedDict

from fullrank.measure.moments import MomentState
from fullrank.measure.pairs import alignment, normalised_std, spread
from fullrank.measure.spectrum import (
    RESOLUTION,
    cev_auc,
    dead_units,
    effective_rank,
    hard_rank,
    participation_ratio,
)


class VitalSigns(TypedDict):
    """What a representation's moments say about it, ready for JSON.

    ``d`` coordinates, ``n`` images, ``n_over_d`` their ratio. On unit rows: ``spread``, ``std`` and
    ``alignment`` (None for one view). On the centred spectrum: ``effective_rank``, ``rank_share``,
    ``cev_auc``, ``hard_rank``, ``participation_ratio``, and ``spectrum``, the singular values in
    descending order. On coordinates: ``dead_units``.
    """

    d: int
    n: int
    n_over_d: float
    spread: float
    effective_rank: float
    rank_share: float
    cev_auc: float
    alignment: float | None
    hard_rank: int
    dead_units: int
    participation_ratio: float
    std: float
    spectrum: list[float]


def vital_signs(state: MomentState) -> VitalSigns:
    """Read the vital signs from moments.

    ``rank_share`` is the effective rank over the most it could be, ``min(d, rows - views)`` (each
    view gives up one dimension to its mean). ``hard_rank`` counts singular values above
    ``RESOLUTION`` times the largest, ``dead_units`` coordinates with a standard deviation at most
    that share of the largest.

    Args:
        state: moments of at least one image.

    Returns:
        The vital signs; finite for any state, also of constant rows or of a single one.

    Raises:
        UserError: the moments are empty.
    """
    spread_ = spread(state)  # refuses empty moments
    sigma = state.singular_values
    rank = float(effective_rank(sigma))
    most = min(state.dim, state.rows - state.views)
    return {
        "d": state.dim,
        "n": state.count,
        "n_over_d": state.count / state.dim,
        "spread": spread_,
        "effective_rank": rank,
        "rank_share": rank / most if most > 0 else 0.0,
        "cev_auc": float(cev_auc(sigma)),
        "alignment": alignment(state),
        "hard_rank": int(hard_rank(sigma, (state.rows, state.dim), rtol=RESOLUTION)),
        "dead_units": int(dead_units(state.variances)),
        "participation_ratio": float(participation_ratio(sigma)),
        "std": normalised_std(state),
        "spectrum": sigma.tolist(),
    }

"""Mergeable statistics of representations: the one state that every spectral number comes from.

``moments_of`` and ``merge`` are the functional core; ``Moments`` (in ``moments_metric``) is a thin
torchmetrics shell.
Memory is O(dim²) whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from jaxtyping import Real
from torch import Tensor

from fullrank.errors import unknown_name
from fullrank.measure._from_rows import Sums, check_views, unit_rows
from fullrank.measure._moment_state import MomentState, merge
from fullrank.measure._single import SingleSums

if TYPE_CHECKING:
    from fullrank.measure.moments_metric import Moments

__all__ = ["MomentState", "Moments", "merge", "moments_of", "unit_rows"]


def __getattr__(name: str) -> Any:
    """Import ``Moments`` when it is asked for: torchmetrics takes longer to import than torch."""
    if name == "Moments":
        from fullrank.measure.moments_metric import Moments

        return Moments
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def moments_of(
    *views: Real[Tensor, "_n _d"], precision: Literal["float64", "float32"] = "float64"
) -> MomentState:
    """Compute the moments of one or more views of the same images.

    Args:
        *views: one tensor a view, each of shape (n, d) in any real dtype; row ``i`` of every view
            is the same image.
        precision: ``"float64"`` converts block by block. ``"float32"`` multiplies blocks shifted by
            their mean in float32 and adds them up in float64: about twice as fast, but singular
            values under about ``sqrt(0.6/d) σ_1`` err by more than 1e-6 (see
            :func:`fullrank.measure.stream.measure_stream`, which decides by itself). More than two
            views are always measured in float64.

    Returns:
        Their moments, on the views' device; of ``n = 0`` rows, an empty state.

    Raises:
        UserError: no view, a view that is not a matrix with at least one column, views of
            different shapes, unknown precision, or rows that hold NaN or infinity (or values too
            large to square).
    """
    check_views(views)
    check_precision(precision)
    of = (len(views), views[0].shape[1], views[0].device)
    if precision == "float32" and len(views) <= 2:
        single = SingleSums(*of)
        single.add(views)
        return single.states()[0]
    sums = Sums(*of)
    sums.add(views)
    return sums.state()


def check_precision(precision: str, allowed: Sequence[str] = ("float64", "float32")) -> None:
    """Refuse a precision that is not known.

    Raises:
        UserError: says which are allowed.
    """
    if precision not in allowed:
        raise unknown_name("precision", precision, allowed)

"""One metric's number as an audit tells it: corrected, with an interval, and what to know first."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from fullrank.measure.jackknife import Jackknifed
from fullrank.measure.scale import AS_IT_IS, SCALES, UNSTEADY
from fullrank.measure.spectra import EXACT_WIDTH

# Plug-in values that drift with the number of rows per dimension, and what the jackknife takes off.
BIASED = (
    "effective_rank",
    "rankme",
    "participation_ratio",
    "stable_rank",
    "cev_auc",
    "alpha_req",
    "condition_number",
    "anisotropy",
    "spectral_entropy",
    "lidar",
    "canonical_correlation",
)
# Values that hold the squared mean of ``n`` unit rows, which is too large by 1/n in any dimension.
CENTRED_BY_SAMPLE = (
    "spread",
    "normalised_std",
    "centre_magnitude",
    "residual_magnitude",
    "expected_over_data",
)
# Standard errors below this share of a value are rounding.
_ROUNDING = 1e-10
UNSETTLED = (
    "bias not corrected: it does not fall as 1/n here; low and high are bounds, not a 95 % interval"
)
UNCORRECTED = f"bias not corrected: wider than {EXACT_WIDTH}"


@dataclass(frozen=True)
class Reading:
    """A metric's number.

    Attributes:
        value: the plug-in statistic by its published definition; None where it is undefined or
            infinite (a flag says which).
        corrected: the value without its small-sample bias, where a correction is known; never
            beyond what the metric can be.
        low: lower end of the 95 % interval, about ``corrected`` where there is one (on the scale
            of ``fullrank.measure.scale``); where a flag says that the bias does not fall as 1/n,
            bounds: from the value to the strongest correction that can be right.
        high: its upper end.
        flags: what to know before using the number.
    """

    value: float | None
    corrected: float | None
    low: float | None
    high: float | None
    flags: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self) | {"flags": list(self.flags)}


def reading_of(
    name: str,
    jackknifed: Jackknifed,
    dim: int,
    few: bool = False,
    correct: bool = True,
    settled: bool = True,
    unbiased: float = math.nan,
) -> Reading:
    """Read a metric from its value and replicates.

    Args:
        name: of the metric.
        jackknifed: the statistic by its published definition.
        dim: number of coordinates, which limits what the metric can be.
        few: whether the rows are too few for what is biased.
        correct: whether the replicates show the bias, not the error alone.
        settled: whether the bias can be taken to fall as ``1/n``.
        unbiased: a better correction than the jackknife's, or NaN.
    """
    value = jackknifed.value
    if not math.isfinite(value):
        return Reading(None, None, None, None, ("infinite" if math.isinf(value) else "undefined",))
    error = jackknifed.standard_error
    if error is not None and error <= _ROUNDING * abs(value):
        # Nothing varies but rounding: there is neither an error nor a bias to take off.
        return Reading(value, value if name in BIASED and correct else None, value, value)
    scale = SCALES.get(name, AS_IT_IS)
    scaled = jackknifed.on_scale(scale.to)
    flags: list[str] = []
    corrected = None
    low, high = scaled.interval()
    if name in BIASED + CENTRED_BY_SAMPLE:
        if 0 < unbiased <= 10 * dim:  # beyond that it is noise
            corrected = scale.to(unbiased)
            low, high = scaled.interval(about=corrected)
        elif not correct:
            flags += [] if math.isnan(low) else [UNCORRECTED]
        elif settled:
            corrected = scaled.corrected
            error = scaled.corrected_error if name in UNSTEADY else None
            low, high = scaled.interval(about=corrected, error=error)
        else:
            low, high = scaled.bounds()
            flags.append(UNSETTLED)
    if few and name in BIASED:
        flags.append("n < 5d: biased by the small sample")
    if math.isnan(low):
        flags.append("no error bar")
    corrected, low_, high_ = (
        None if end is None or math.isnan(end) else scale.back(name, end, dim)
        for end in (corrected, low, high)
    )
    if low_ is None or high_ is None:
        return Reading(value, corrected, None, None, tuple(flags))
    return Reading(value, corrected, min(low_, high_), max(low_, high_), tuple(flags))

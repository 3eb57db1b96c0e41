"""Numbers with their intervals drawn on a line: a bar, a disc, a ring."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fullrank.measure.table import Reading

# Numbers that differ by more than this factor are drawn on a logarithmic axis.
DECADES = 30
# How far to either side a number's interval is drawn, as shares of the number.
REACHES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def finite(value: float | None) -> float | None:
    """Return the number, or None for one that is not finite."""
    return None if value is None or not math.isfinite(value) else float(value)


@dataclass(frozen=True)
class Axis:
    """A horizontal axis in percent of its width.

    Attributes:
        low: its left end.
        high: its right end, above ``low``.
        logarithmic: whether equal factors are equally wide.
    """

    low: float
    high: float
    logarithmic: bool = False

    def place(self, value: float | None) -> float | None:
        """Return where a number lies, from 0 to 100; beyond an end it is drawn at the end."""
        if value is None:
            return None
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log(max(value, low)), math.log(low), math.log(high)
        return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 2)


@dataclass(frozen=True)
class Track:
    """Where the marks of one number lie, in percent.

    Attributes:
        disc: the best estimate: the corrected value where there is one.
        ring: the plug-in value beside a corrected one.
        left: lower end of the interval.
        width: of the interval.
    """

    disc: float | None
    ring: float | None
    left: float | None
    width: float | None


def track(
    axis: Axis,
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    corrected: float | None = None,
) -> Track:
    """Place a number and its interval on an axis."""
    ends = axis.place(finite(low)), axis.place(finite(high))
    left, right = ends
    return Track(
        disc=axis.place(finite(value if corrected is None else corrected)),
        ring=None if corrected is None else axis.place(finite(value)),
        left=left if right is not None else None,
        width=None if left is None or right is None else round(right - left, 2),
    )


def reading_track(axis: Axis, reading: Reading) -> Track:
    """Place a metric's number on an axis."""
    return track(axis, reading.value, reading.low, reading.high, reading.corrected)


def shared_axis(readings: Iterable[Reading]) -> Axis | None:
    """Return one axis over several numbers of a metric, or None without any."""
    numbers = [
        end
        for r in readings
        if finite(r.value) is not None
        for end in map(finite, (r.value, r.corrected, r.low, r.high))
        if end is not None
    ]
    if not numbers:
        return None
    low, high = min(numbers), max(numbers)
    if low > 0 and high > DECADES * low:
        return Axis(low / 1.2, high * 1.2, logarithmic=True)
    margin = 0.04 * (high - low) or 1.0
    return Axis(low - margin, high + margin)


def relative_axis(reading: Reading, reach: float) -> Axis | None:
    """Return an axis that has a metric's best number in its middle, or None for none and for 0.

    Args:
        reading: the metric's number.
        reach: from the middle to either end, as a share of the number.
    """
    best = _best(reading)
    return Axis(best - reach * abs(best), best + reach * abs(best)) if best else None


def reach_of(readings: Iterable[Reading]) -> float:
    """Return a reach of `relative_axis` that shows nine tenths of these intervals whole."""
    needed = []
    for reading in readings:
        best = _best(reading)
        marks = [
            m for m in map(finite, (reading.value, reading.low, reading.high)) if m is not None
        ]
        if best and marks:
            needed.append(max(abs(mark - best) for mark in marks) / abs(best))
    enough = sorted(needed)[math.ceil(0.9 * len(needed)) - 1] if needed else 0.0
    return next((reach for reach in REACHES if reach >= enough), REACHES[-1])


def _best(reading: Reading) -> float | None:
    value = finite(reading.value)
    corrected = finite(reading.corrected)
    return corrected if value is not None and corrected is not None else value

"""How numbers are written on the page: three significant digits, signs and units where due."""

from __future__ import annotations

import math

NONE = "–"  # a number that there is not
MINUS = "\u2212"
THIN_SPACE = "\u202f"


def significant(value: float | None, digits: int = 3) -> str:
    """Write ``value`` with ``digits`` significant digits: 0.0123, 36.2, 2,480, 3.10×10⁻⁵."""
    if value is None:
        return NONE
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = math.floor(math.log10(abs(rounded)))
    if exponent < -4 or exponent > 6:
        mantissa, _, power = f"{rounded:.{digits - 1}e}".partition("e")
        raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"{mantissa}×10{raised}".replace("-", MINUS)
    return f"{rounded:,.{max(0, digits - 1 - exponent)}f}".replace("-", MINUS)


def count(value: float | None) -> str:
    """Write a whole number with its thousands apart: 60,000."""
    return NONE if value is None else f"{round(value):,}".replace("-", MINUS)


def percent(share: float | None) -> str:
    """Write a share in [0, 1] as a percentage with one decimal: 75.8 %."""
    return NONE if share is None else f"{100 * share:.1f}{THIN_SPACE}%"


def difference(value: float | None, reference: float | None) -> str:
    """Write ``value`` − ``reference`` with its sign, to the last place that both numbers show."""
    if value is None or reference is None:
        return NONE
    largest = max(abs(value), abs(reference))
    if largest == 0:
        return "±0"
    places = max(0, 2 - math.floor(math.log10(largest)))
    return _signed(value - reference, min(places, 6))


def points(value: float | None, reference: float | None) -> str:
    """Write the difference of two shares in percentage points, with its sign: +7.9 points."""
    if value is None or reference is None:
        return NONE
    return f"{_signed(100 * (value - reference), 1)} points"


def duration(seconds: float | None) -> str:
    """Write a time in the units people use: 0.21 s, 41.2 s, 3 min 20 s, 2 h 05 min."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{significant(seconds)} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _signed(value: float, places: int) -> str:
    text = f"{abs(value):,.{places}f}"
    if float(text.replace(",", "")) == 0:
        return "±0"
    return ("+" if value > 0 else MINUS) + text

"""Numbers keep their value to the digits shown, with signs and units."""

from __future__ import annotations

import math

import pytest

from fullrank.report import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (36.1549, "36.2"),
        (0.71, "0.710"),
        (0.99951, "1.00"),
        (0.000718, "0.000718"),
        (0.0000312, "3.12×10⁻⁵"),
        (-0.9997, "−1.00"),
        (-11.0903, "−11.1"),
        (2483.0, "2,480"),
        (12345678.0, "1.23×10⁷"),
    ],
)
def test_three_significant_digits(value: float | None, text: str) -> None:
    assert numbers.significant(value) == text


@pytest.mark.parametrize("exponent", range(-12, 13))
@pytest.mark.parametrize("mantissa", [1.0, 2.345, 9.994, 9.996, -4.321])
def test_what_is_written_is_the_value(mantissa: float, exponent: int) -> None:
    value = mantissa * 10.0**exponent
    superscripts = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    text = numbers.significant(value).replace("−", "-").replace(",", "")
    read = float(text.replace("×10", "e").translate(superscripts))
    assert math.isclose(read, value, rel_tol=0.0051)


@pytest.mark.parametrize(
    ("value", "reference", "text"),
    [
        (35.6088, 87.689, "−52.1"),
        (0.759, 0.363, "+0.396"),
        (0.000718, 0.363, "−0.362"),
        (0.5, 0.5, "±0"),
        (0.0, 0.0, "±0"),
        (None, 0.5, "–"),
    ],
)
def test_differences_have_a_sign(value: float | None, reference: float, text: str) -> None:
    assert numbers.difference(value, reference) == text


def test_shares_and_their_differences() -> None:
    assert numbers.percent(0.758) == "75.8\u202f%"
    assert numbers.points(0.758, 0.679) == "+7.9 points"
    assert numbers.points(0.613, 0.6425) == "−2.9 points"
    assert numbers.points(0.7, 0.7) == "±0 points"
    assert numbers.points(None, 0.7) == numbers.percent(None) == "–"


def test_counts_and_durations() -> None:
    assert numbers.count(60000) == "60,000"
    assert numbers.duration(0.2149) == "0.215 s"
    assert numbers.duration(41.23) == "41.2 s"
    assert numbers.duration(200) == "3 min 20 s"
    assert numbers.duration(7504) == "2 h 05 min"

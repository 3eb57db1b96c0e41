"""Rankings: certain when values lie far apart, uncertain when they do not, collapsed ones last."""

from __future__ import annotations

import itertools
import math

import pytest

from fullrank.audit.ranking import rank
from fullrank.errors import UserError
from fullrank.measure.table import Reading

HALF_WIDTH = 2.3646  # of a 95 % interval with 7 degrees of freedom and a standard error of 1


def reading(value: float, error: float = 1.0) -> Reading:
    half = HALF_WIDTH * error
    return Reading(value, value, value - half, value + half)


def test_far_apart_values_leave_no_doubt() -> None:
    subjects = [(f"m{i}", {"rankme": reading(100.0 * i)}, False) for i in range(4)]
    for order in itertools.permutations(subjects):
        ranked = rank(order, "rankme")
        assert [r.what for r in ranked] == ["m3", "m2", "m1", "m0"]
        assert all(r.low == r.rank == r.high for r in ranked)
        assert ranked[0].best == 1.0


def test_equal_values_may_take_any_place() -> None:
    ranked = rank([(f"m{i}", {"rankme": reading(10.0)}, False) for i in range(3)])
    assert all((r.low, r.high) == (1, 3) for r in ranked)
    assert sum(r.best for r in ranked) == pytest.approx(1.0)
    # Three values of one distribution: each is first one time in three.
    assert all(abs(r.best - 1 / 3) < 4 * math.sqrt(2 / 9 / 4000) for r in ranked)


def test_the_probability_of_being_first_is_that_of_the_difference() -> None:
    """Two values, errors small: P(a > b) by Monte Carlo over Student's t, in SciPy."""
    from scipy.stats import t

    draws = t.rvs(7, size=(200_000, 2), random_state=1)
    expected = float(((2.0 + draws[:, 0]) > (1.0 + draws[:, 1])).mean())
    ranked = rank([("a", {"rankme": reading(2.0)}, False), ("b", {"rankme": reading(1.0)}, False)])
    assert ranked[0].best == pytest.approx(expected, abs=0.03)


def test_collapsed_ones_are_last_whatever_their_value() -> None:
    ranked = rank(
        [("flat", {"rankme": reading(500.0)}, True), ("b", {"rankme": reading(1.0)}, False)]
    )
    assert [r.what for r in ranked] == ["b", "flat"]
    assert ranked[1].low == ranked[1].high == 2


@pytest.mark.parametrize(
    ("criterion", "values", "first"),
    [("cev_auc", (0.9, 0.6), "m1"), ("alpha_req", (0.2, 1.3), "m1"), ("alpha_req", (1.1, 3), "m0")],
)
def test_each_criterion_has_its_own_direction(
    criterion: str, values: tuple[float, float], first: str
) -> None:
    subjects = [(f"m{i}", {criterion: reading(v, 0.01)}, False) for i, v in enumerate(values)]
    assert rank(subjects, criterion)[0].what == first


def test_plug_in_values_are_not_compared_with_corrected_ones() -> None:
    corrected = Reading(10.0, 20.0, 19.0, 21.0)
    plain = Reading(15.0, None, 14.0, 16.0)
    assert (
        rank([("a", {"rankme": corrected}, False), ("b", {"rankme": plain}, False)])[0].what == "b"
    )


def test_a_missing_value_is_last_and_an_unknown_criterion_is_refused() -> None:
    ranked = rank([("a", {}, False), ("b", {"rankme": reading(1.0)}, False)])
    assert [r.what for r in ranked] == ["b", "a"]
    with pytest.raises(UserError, match="rankme"):
        rank([("a", {"rankme": reading(1.0)}, False)], "rankm")
    with pytest.raises(UserError, match=r"lidar given.*rankme"):
        rank([("a", {"rankme": reading(1.0)}, False)], "lidar")


def test_without_an_interval_any_place_is_possible() -> None:
    certain = [(f"m{i}", {"rankme": reading(100.0 * i)}, False) for i in range(3)]
    for unknown in (Reading(250.0, None, None, None), Reading(None, None, None, None)):
        ranked = {r.what: r for r in rank([*certain, ("?", {"rankme": unknown}, False)])}
        assert (ranked["?"].low, ranked["?"].high) == (1, 4)
        # Of four gaps each is as likely as another.
        assert ranked["?"].best == pytest.approx(1 / 4, abs=4 * math.sqrt(3 / 16 / 4000))
        # It may be above or below each of the others, whose own order is certain.
        places = {what: (r.low, r.high) for what, r in ranked.items()}
        assert (places["m2"], places["m1"], places["m0"]) == ((1, 2), (2, 3), (3, 4))
        assert sum(r.best for r in ranked.values()) == pytest.approx(1.0)
    assert (
        rank([*certain, ("?", {"rankme": Reading(250.0, None, None, None)}, False)])[0].what == "?"
    )


def test_no_interval_at_all_leaves_every_place_open() -> None:
    ranked = rank(
        [(f"m{i}", {"rankme": Reading(float(i), None, None, None)}, False) for i in "123"]
    )
    assert [r.what for r in ranked] == ["m3", "m2", "m1"]
    assert all((r.low, r.high) == (1, 3) for r in ranked)


def test_what_has_no_interval_but_collapsed_stays_last() -> None:
    none = Reading(1.0, None, None, None)
    ranked = rank([("flat", {"rankme": none}, True), ("b", {"rankme": reading(1.0)}, False)])
    assert [(r.what, r.low, r.high) for r in ranked] == [("b", 1, 1), ("flat", 2, 2)]


def test_an_interval_counts_on_the_side_that_it_reaches() -> None:
    """Bounds that reach far down and hardly up leave no chance to be above, some to be below."""
    bounds = Reading(10.0, None, 2.0, 10.1)
    for other, sure in ((10.5, True), (9.5, False)):
        fixed = Reading(other, None, other, other)
        first, second = rank([("a", {"rankme": bounds}, False), ("b", {"rankme": fixed}, False)])
        assert (first.low == first.high == 1 and second.low == second.high == 2) is sure


def test_exact_ties_keep_their_order_beside_one_without_an_interval() -> None:
    tied = [(f"m{i}", {"rankme": reading(5.0, 0.0)}, False) for i in range(2)]
    ranked = rank([*tied, ("?", {}, False)])
    assert [(r.what, r.low, r.high) for r in ranked] == [("m0", 1, 2), ("m1", 2, 3), ("?", 1, 3)]

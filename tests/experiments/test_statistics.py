"""Intervals against SciPy, and what they decide."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fullrank.errors import UserError
from fullrank.experiments.claims.claim import Number
from fullrank.experiments.claims.statistics import (
    all_seeds,
    decide,
    interval,
    most,
    paired,
    spearman,
    together,
)


@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_the_interval_is_students(n):
    values = np.random.default_rng(n).normal(3, 2, n)
    found = interval(values.tolist(), "x", "points")
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.value == pytest.approx(values.mean())
    assert (found.name, found.unit, found.n) == ("x", "points", n)


def test_the_interval_of_one_value_has_no_ends():
    found = interval([2.5])
    assert (found.value, found.low, found.high, found.n) == (2.5, None, None, 1)
    assert decide(found) == "inconclusive"


def test_the_interval_covers_the_mean_as_often_as_it_says():
    gen = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        found = interval(gen.normal(1.0, 1.0, 4).tolist())
        inside += found.low < 1.0 < found.high
    assert abs(inside / 2000 - 0.95) < 0.015


def test_pairs_are_of_one_seed():
    gen = np.random.default_rng(1)
    a, b = gen.normal(size=6), gen.normal(size=6)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    found = paired(a.tolist(), b.tolist())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    # By seed, in any order; a seed that one of them lacks does not count.
    by_seed = paired({3: 5.0, 1: 2.0, 9: 100.0}, {1: 1.0, 3: 3.0})
    assert (by_seed.value, by_seed.n) == (1.5, 2)
    assert paired({1: 2.0}, {1: 1.0}) == interval([1.0])


@pytest.mark.parametrize(
    ("a", "b"), [([1.0], [1.0, 2.0]), ({1: 1.0}, [1.0]), ({1: 1.0}, {2: 1.0}), ([], [])]
)
def test_what_makes_no_pairs_is_refused(a, b):
    with pytest.raises(UserError, match=r"values|paired"):
        paired(a, b)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(UserError, match="finite"):
        interval([1.0, value])
    with pytest.raises(UserError, match="finite"):
        spearman([1.0, 2.0, value], [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("low", "high", "bounds", "expected"),
    [
        (0.1, 0.3, {}, "held"),
        (-0.1, 0.3, {}, "inconclusive"),
        (-0.3, -0.1, {}, "did not hold"),
        (0.1, 0.3, {"above": 0.2}, "inconclusive"),
        (0.1, 0.3, {"below": 0.4}, "held"),
        (0.1, 0.3, {"below": 0.2}, "inconclusive"),
        (0.5, 0.6, {"below": 0.2}, "did not hold"),
        (0.1, 0.3, {"above": 0.0, "below": 0.4}, "held"),
        (0.1, 0.3, {"above": 0.0, "below": 0.05}, "did not hold"),
        (0.0, 0.0, {}, "did not hold"),
    ],
)
def test_the_whole_interval_must_be_on_one_side(low, high, bounds, expected):
    assert decide(Number("", (low + high) / 2, low, high, n=3), **bounds) == expected


def test_exact_values_decide_by_themselves():
    assert decide(Number("", 0.1)) == "held"
    assert decide(Number("", -0.1)) == "did not hold"
    assert decide(Number("", 0.1), below=0.05) == "did not hold"


def test_several_verdicts_hold_together():
    assert together("held", "held") == "held"
    assert together("held", "inconclusive") == "inconclusive"
    assert together("inconclusive", "did not hold") == "did not hold"
    assert together() == "inconclusive"


def test_all_seeds_or_none():
    def low(value):
        return value < 0.1

    assert all_seeds([0.01, 0.02], low) == "held"
    assert all_seeds({0: 0.01, 1: 0.5}, low) == "inconclusive"
    assert all_seeds([0.5, 0.6], low) == "did not hold"
    assert all_seeds([0.01], low) == all_seeds([], low) == "inconclusive"


@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlation_is_scipys(ties):
    gen = np.random.default_rng(2)
    x = gen.normal(size=30)
    y = x + gen.normal(size=30)
    if ties:
        x, y = x.round(), y.round()
    found = spearman(x.tolist(), y.tolist(), seed=0)
    assert found.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.low < found.value < found.high
    assert found == spearman(x.tolist(), y.tolist(), seed=0)
    # Percentiles of resamples, as SciPy takes them from draws of its own.
    theirs = stats.bootstrap(
        (x, y),
        lambda a, b: stats.spearmanr(a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=300,
        method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.1)


def test_rank_correlation_of_few_or_equal_values_is_refused():
    with pytest.raises(UserError, match="from 3"):
        spearman([1.0, 2.0], [1.0, 2.0])
    with pytest.raises(UserError, match="equal"):
        spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])


def test_seeds_of_one_condition_are_no_independent_witnesses():
    x = [a + 0.01 * k for a in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0) for k in range(10)]
    y = [a + 0.01 * k for a in (2.0, 1.0, 4.0, 3.0, 6.0, 5.0) for k in range(10)]
    runs = spearman(x, y)
    conditions = spearman(x, y, groups=[k // 10 for k in range(60)])
    assert conditions.value == runs.value
    assert conditions.low < runs.low < runs.value


def test_groups_of_one_run_are_runs():
    x, y = [3.0, 1.0, 2.0, 5.0, 4.0], [2.0, 1.0, 3.0, 5.0, 4.0]
    assert spearman(x, y, groups=range(5)) == spearman(x, y)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (["a", "a", "b"], "held"),
        (["a", "b", "b"], "did not hold"),
        (["a", "b", "c"], "inconclusive"),
        (["a", "b"], "inconclusive"),
        (["a"], "inconclusive"),
        (["b", "c", "d"], "inconclusive"),
    ],
)
def test_a_majority_decides_and_nothing_less(found, verdict):
    assert most(found, ["a"]) == verdict

"""What was foretold against what happened: counted by hand, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
    precision_recall_fscore_support,
)

from fullrank.diagnose.foretold import (
    FATES,
    Outcome,
    agreement,
    always,
    as_before,
    by_theory,
    outcomes,
    score,
)


def line(step, until, variance, expected=None, **fields):
    event = {"event": "modes", "step": step, "until": until, "variance": variance, "linear": 0.9}
    if expected is not None:
        event["expected"] = expected
    return event | fields


def three_lines():
    """Two modes over two intervals; they change places at step 4."""
    return [
        {"event": "checkup", "step": 0},
        line(0, 2, [4.0, 1.0], [0.0, 0.5]),
        line(2, 4, [5.0, 2.0], [-1.0, 1.0], since=0, followed=[4.0, 2.0], matched=[1, 0]),
        line(4, None, [9.0, 2.0], since=2, followed=[2.0, 8.0], matched=[1, 0]),
    ]


def test_each_line_is_compared_with_the_next_along_the_same_directions():
    found = outcomes("a", three_lines())
    assert [(o.step, o.until, o.place) for o in found] == [
        (0, 2, 0),
        (0, 2, 1),
        (2, 4, 0),
        (2, 4, 1),
    ]
    ratios = [1.0, 2.0, 0.4, 4.0]
    assert [o.happened for o in found] == pytest.approx([math.log(r) for r in ratios])
    assert [o.expected for o in found] == [0.0, 0.5, -1.0, 1.0]
    assert [o.fate() for o in found] == ["hold", "grow", "die", "grow"]
    assert [by_theory(o) for o in found] == ["hold", "grow", "die", "grow"]
    assert [o.share for o in found] == [1.0, 0.25, 1.0, 0.4]
    # The first mode at step 2 is the second of step 0, which had grown.
    assert [o.before for o in found] == [None, None, pytest.approx(math.log(2)), 0.0]
    assert [as_before(o) for o in found] == ["hold", "hold", "grow", "hold"]


def test_what_cannot_be_compared_is_left_out():
    skipped = three_lines()
    skipped[1]["until"] = 1  # the check-up of step 1 was not taken
    assert [o.step for o in outcomes("a", skipped)] == [2, 2]
    resumed = three_lines()
    del resumed[2]["since"], resumed[2]["followed"]  # resumed without the directions of before
    assert [o.step for o in outcomes("a", resumed)] == [2, 2]
    adaptive = [line(0, 2, [1.0]), line(2, 4, [1.0], since=0, followed=[1.0])]
    assert outcomes("a", adaptive) == []
    unknown = [line(0, 2, [1.0, 2.0], [None, 0.1]), line(2, 4, [], since=0, followed=[1.0, None])]
    assert outcomes("a", unknown) == []
    assert outcomes("a", []) == []


def test_a_direction_left_empty_has_died():
    empty = [line(0, 2, [1.0, 1e-3], [0.0, 0.0]), line(2, 4, [], since=0, followed=[0.0, -1e-9])]
    assert [o.fate() for o in outcomes("a", empty)] == ["die", "die"]
    assert math.isnan(agreement(outcomes("a", empty)))


def drawn(n=400, runs=10, seed=0):
    gen = np.random.default_rng(seed)
    happened = gen.normal(0, 0.4, n)
    expected = happened * gen.choice([1, 0, -0.3], n, p=[0.5, 0.3, 0.2])
    return [
        Outcome(f"run {i % runs}", 0, 1, i, 1.0, float(e), float(h), None, 1.0)
        for i, (e, h) in enumerate(zip(expected, happened, strict=True))
    ]


def test_scores_are_those_of_scikit_learn():
    found = drawn()
    happened, said = [o.fate() for o in found], [by_theory(o) for o in found]
    precision, recall, _, counts = precision_recall_fscore_support(happened, said, labels=FATES)
    own = score(found)
    assert own.modes == len(found)
    assert list(own.counts.values()) == counts.tolist()
    assert [own.precision[f].value for f in FATES] == pytest.approx(precision.tolist())
    assert [own.recall[f].value for f in FATES] == pytest.approx(recall.tolist())
    assert own.balanced.value == pytest.approx(balanced_accuracy_score(happened, said))
    right = np.mean([a == b for a, b in zip(happened, said, strict=True)])
    assert own.right.value == pytest.approx(right)
    for share in (own.right, own.balanced, *own.precision.values(), *own.recall.values()):
        assert 0 <= share.low <= share.value <= share.high <= 1


def test_who_always_says_the_same_scores_one_third():
    own = score(drawn(), always("hold"))
    assert own.balanced.value == pytest.approx(1 / 3)
    assert own.recall["hold"].value == 1 and own.recall["grow"].value == 0
    assert math.isnan(own.precision["die"].value)


def test_intervals_come_from_runs_not_from_modes():
    gen = np.random.default_rng(1)
    right = gen.random(12) < 0.5  # a run is foretold as a whole, rightly or wrongly
    happened, wrong = math.log(2), -math.log(2)
    few = [
        Outcome(f"run {r}", 0, 1, 0, 1.0, happened if right[r] else wrong, happened, None, None)
        for r in range(12)
    ]
    one, many = score(few), score(few * 50)
    assert one.right.low == many.right.low and one.right.high == many.right.high
    assert many.right.high - many.right.low > 0.3


def test_nothing_foretold_has_no_score():
    own = score([])
    assert own.modes == 0 and math.isnan(own.right.value)


def test_agreement_is_of_ranks():
    found = [Outcome("a", 0, 1, i, 1.0, x, x**3, None, None) for i, x in enumerate((-2, 0.5, 1))]
    assert agreement(found) == pytest.approx(1)

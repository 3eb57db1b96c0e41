"""Verdicts on representations whose state is known by construction."""

from __future__ import annotations

import math

import pytest
import torch

from fullrank.measure.moments import moments_of
from fullrank.measure.verdict import judge, judge_loss
from fullrank.measure.vitals import vital_signs

N, D = 1000, 32


def signs(rank=D, mean=0.0, decay=0.0, seed=0, scale=1.0):
    """Vital signs of Gaussian rows with a power-law spectrum of ``rank`` and a common mean."""
    gen = torch.Generator().manual_seed(seed)
    deviations = torch.zeros(D, dtype=torch.float64)
    deviations[:rank] = torch.arange(1, rank + 1, dtype=torch.float64) ** -decay
    rows = torch.randn(N, D, generator=gen, dtype=torch.float64) * deviations
    return vital_signs(moments_of(scale * (rows + mean)))


INIT = signs()


def test_a_full_spectrum_is_healthy():
    assert judge(signs(seed=1), [INIT]).kind == "healthy"


def test_rank_falls_in_healthy_runs_without_alarm():
    fallen = signs(decay=0.5)
    assert fallen["effective_rank"] < 0.95 * INIT["effective_rank"]
    assert fallen["participation_ratio"] < 0.6 * INIT["participation_ratio"]
    assert judge(fallen, [INIT]).kind == "healthy"


def test_a_point_is_complete_collapse_whatever_its_rank():
    point = signs(mean=100.0)
    assert point["effective_rank"] > 0.9 * D  # rank is blind to it
    verdict = judge(point, [INIT])
    assert verdict.kind == "complete collapse"
    assert "spread" in verdict.evidence[0]


def test_exactly_constant_rows_are_complete_collapse():
    constant = vital_signs(moments_of(torch.ones(N, D)))
    assert judge(constant, [INIT]).kind == "complete collapse"


def test_few_directions_are_dimensional_collapse_though_the_spread_is_high():
    line = signs(rank=1)
    assert line["spread"] > 0.9
    verdict = judge(line, [INIT])
    assert verdict.kind == "dimensional collapse"
    assert "One direction holds 100% of the variance" in verdict.evidence[0]


def test_scale_decides_nothing():
    for seed, options in enumerate(({"rank": 1}, {"mean": 100.0}, {})):
        a, b = (judge(signs(**options, seed=seed, scale=s), [INIT]).kind for s in (1.0, 1e-4))
        assert a == b


def test_the_runs_own_peak_is_the_reference_where_it_is_higher():
    low_start = signs(rank=2)
    now = signs(rank=2, seed=1)
    assert judge(now, [low_start]).kind == "healthy"
    verdict = judge(now, [low_start, INIT])
    assert verdict.kind == "dimensional collapse"
    assert "own peak" in " ".join(verdict.evidence)


def test_too_few_images_are_said_to_be_too_few():
    few = vital_signs(moments_of(torch.randn(20, D, generator=torch.Generator().manual_seed(0))))
    assert "Only 20 images" in judge(few, [few]).evidence[-1]


@pytest.mark.parametrize(
    ("losses", "collapsed", "sits"),
    [
        ([0.0, -0.5, -0.9995, -0.9996], -1.0, True),
        ([0.0, -0.5, -0.82], -1.0, False),
        ([4.0, 1.0, 0.01], 0.0, True),
        ([math.log(511) - 0.01] * 10, math.log(511), True),
        ([math.log(511), 4.0], math.log(511), False),
    ],
)
def test_a_loss_at_its_collapsed_value_is_recognised(losses, collapsed, sits):
    judged = judge_loss(losses, collapsed)
    assert judged["at_collapsed_value"] is sits
    assert f"{collapsed:.4g}" in judged["text"]


def test_losses_that_are_missing_are_left_out():
    assert judge_loss([None, None], -1.0) is None
    assert judge_loss([None, -0.5], -1.0)["at_collapsed_value"] is False

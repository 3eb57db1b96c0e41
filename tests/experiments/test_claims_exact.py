"""Claims that theory decides: they are judged, and their judges can say that they do not hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from fullrank.experiments.claims import (
    directset2021_linear,
    duality2022,
    isoloss2023,
    jing2022_linear,
    zhang2022,
)
from fullrank.experiments.claims.claim import no_arms
from fullrank.experiments.claims.registry import paper

EXACT = [
    pytest.param(claim, id=claim.name)
    for name in ("duality2022", "directset2021", "isoloss2023", "zhang2022", "jing2022")
    for claim in paper(name).claims
    if claim.arms is no_arms
]


def test_there_are_claims_that_need_no_runs() -> None:
    assert len(EXACT) == 9


@pytest.mark.parametrize("claim", EXACT)
def test_theory_decides_the_claim(claim) -> None:
    found = claim.judge({})
    assert found.verdict == "held", found.text
    assert found.numbers and found.figures
    assert all(math.isfinite(number.value) for number in found.numbers)
    for figure in found.figures:
        for series in figure.series:
            assert len(series.x) == len(series.y) > 0
            assert all(math.isfinite(y) for y in series.y)


def test_a_broken_identity_does_not_hold(monkeypatch) -> None:
    def lopsided(K):
        found = duality(K)
        return type(found)(
            found.sample_contrastive * (1 + 1e-6),
            found.row_lengths,
            found.dimension_contrastive,
            found.column_lengths,
        )

    duality = duality2022.duality
    monkeypatch.setattr(duality2022, "duality", lopsided)
    assert duality2022.PAPER.claims[0].judge({}).verdict == "did not hold"
    assert duality2022.PAPER.claims[1].judge({}).verdict == "did not hold"


def test_normalising_both_ways_gives_unit_rows_and_equal_columns() -> None:
    K = duality2022.normalised_both(torch.from_numpy(np.random.default_rng(0).normal(size=(9, 4))))
    assert torch.allclose(K.norm(dim=1), torch.ones(9, dtype=K.dtype))
    assert torch.allclose(K.norm(dim=0), torch.full((4,), 1.5, dtype=K.dtype))


@pytest.mark.parametrize("off, verdict", [(1.0005, "held"), (1.002, "did not hold")])
def test_a_threshold_counts_to_three_digits(monkeypatch, off, verdict) -> None:
    monkeypatch.setattr(
        directset2021_linear,
        "simulated_threshold",
        lambda decay, exponent: off * (1 / (4 * decay) - 1),
    )
    assert directset2021_linear.threshold({}).verdict == verdict


def test_arrival_times_are_those_of_another_integrator(monkeypatch) -> None:
    monkeypatch.setattr(isoloss2023, "STARTS", torch.tensor([0.05, 0.1], dtype=torch.float64))
    goal = isoloss2023.SHARE / (1 + isoloss2023.NOISE)
    for form, power in (("predictor", 1), ("isotropic", 0)):
        found = isoloss2023.arrival_times(form, 1.0)
        for start, time in zip((0.05, 0.1), found.tolist(), strict=True):

            def rate(t, w, power=power):
                p = w**2
                return w * p**power * (1 - (1 + isoloss2023.NOISE) * p)

            def arrived(t, w):
                return w[0] ** 2 - goal

            flow = solve_ivp(rate, (0, 200), [start**0.5], events=arrived, rtol=1e-9)
            assert time == pytest.approx(flow.t_events[0][0], rel=1e-3)


def test_the_rate_of_the_centre_is_the_derivative_of_its_length() -> None:
    rows = torch.from_numpy(np.random.default_rng(1).normal(size=(40, 5)) + 0.5)
    u = rows / rows.norm(dim=1, keepdim=True)
    o = u.mean(0)
    # The step of -Z·sg(o) along the sphere, by hand.
    step = o - (u @ o)[:, None] * u
    after = u + 1e-7 * step
    after = after / after.norm(dim=1, keepdim=True)
    change = (after.mean(0).square().sum() - o.square().sum()) / 2e-7
    assert zhang2022.centre_rate(u) == pytest.approx(float(change), rel=1e-5)
    line = torch.ones(6, 3, dtype=torch.float64) / 3**0.5
    line[::3] *= -1
    assert zhang2022.centre_rate(line) == pytest.approx(0, abs=1e-15)


def test_without_noise_or_depth_nothing_is_lost(monkeypatch) -> None:
    # Doses and depths that do not differ: nothing falls, and the claim is not held.
    monkeypatch.setattr(jing2022_linear, "DOSES", (0.3, 0.3))
    monkeypatch.setattr(jing2022_linear, "DOSE_STEPS", 5)
    monkeypatch.setattr(jing2022_linear, "simulated_critical_noise", lambda variance: 2 * variance)
    assert jing2022_linear.augmentation({}).verdict == "did not hold"
    monkeypatch.setattr(jing2022_linear, "DEPTH_STEPS", 1)
    assert jing2022_linear.depth({}).verdict != "held"


def test_effective_ranks_are_those_of_flat_and_single_spectra() -> None:
    sigma = torch.tensor([[2.0, 2.0, 2.0], [5.0, 0.0, 0.0]], dtype=torch.float64)
    assert jing2022_linear.effective_ranks(sigma).tolist() == pytest.approx([3.0, 1.0])

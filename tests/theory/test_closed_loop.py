from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from fullrank.errors import UserError
from fullrank.randomness import generator
from fullrank.theory.closed_loop import (
    DIRECT_COPY,
    DIRECT_PRED,
    ClosedLoop,
    critical_noise,
    critical_weight_decay,
    matrix_rates,
)
from fullrank.theory.flow import integrate

F64 = torch.float64


def ends(loop: ClosedLoop, w: torch.Tensor, until: float) -> torch.Tensor:
    times = torch.tensor([0.0, until], dtype=F64)
    return integrate(loop.rates(), (w,), times, rtol=1e-7, atol=1e-9).end[0]


def simulated_thresholds(loop_of, expected: torch.Tensor, until: float) -> torch.Tensor:
    """Return the noise from which on the simulated flow dies, a row of loops at once.

    The noise of each loop runs over a fine grid that is within 3 % of the expected threshold.
    """
    share = torch.linspace(0.97, 1.03, 120, dtype=F64)
    noise = (expected[:, None] * share).reshape(-1)
    w = torch.full_like(noise, 1.2)
    times = torch.tensor([0.0, until], dtype=F64)
    end = integrate(loop_of(noise, len(share)).rates(), (w,), times, rtol=1e-6, atol=1e-8).end[0]
    alive = (end.abs() > 1e-2).reshape(len(expected), -1)
    last = alive.sum(dim=1)
    for row, count in zip(alive, last.tolist(), strict=True):
        assert row[:count].all()  # there is one threshold
    return noise.reshape(alive.shape).gather(1, (last - 1)[:, None])[:, 0]


def test_weight_decay_is_a_threshold_on_augmentation_variance() -> None:
    # The numbers of papers.md 1.4: weight decay .1, threshold 1.5.
    noise = torch.tensor([0.0, 0.5, 1.0, 1.4, 1.6, 2.0, 4.0], dtype=F64)
    end = ends(ClosedLoop(noise, 0.1), torch.ones_like(noise), 800.0)
    assert end[:4].tolist() == pytest.approx([0.942, 0.738, 0.602, 0.500], abs=6e-4)
    assert (end[4:].abs() < 1e-6).all()
    assert float(critical_noise(0.1)) == pytest.approx(1.5, rel=1e-14)


def test_the_simulated_threshold_is_the_analytic_one_to_three_digits() -> None:
    decay = torch.tensor([0.05, 0.1, 0.2, 0.1, 0.1], dtype=F64)
    exponent = torch.tensor([DIRECT_COPY] * 3 + [DIRECT_PRED, 2.0], dtype=F64)
    expected = 1 / (4 * decay) - 1
    found = simulated_thresholds(
        lambda noise, n: ClosedLoop(
            noise, decay.repeat_interleave(n), exponent.repeat_interleave(n)
        ),
        expected,
        1500.0,
    )
    assert torch.allclose(found, expected, rtol=1e-3, atol=0)
    assert torch.allclose(critical_noise(decay), expected)


def test_far_from_the_threshold_it_decides_too() -> None:
    noise = torch.linspace(0.05, 7.95, 80, dtype=F64)
    end = ends(ClosedLoop(noise, 0.1), torch.full_like(noise, 1.2), 200.0)
    assert torch.equal(end > 0.1, noise < 1.5)


def test_a_large_epsilon_moves_the_threshold() -> None:
    decay = torch.tensor([0.1, 0.04, 0.02], dtype=F64)
    epsilon = torch.tensor([0.1, 0.3, 0.4], dtype=F64)
    tau = torch.tensor([1.0, 1.0, 0.7], dtype=F64)
    expected = critical_noise(decay, epsilon=epsilon, tau=tau)
    found = simulated_thresholds(
        lambda noise, n: ClosedLoop(
            noise,
            decay.repeat_interleave(n),
            DIRECT_COPY,
            epsilon.repeat_interleave(n),
            tau.repeat_interleave(n),
        ),
        expected,
        1500.0,
    )
    # Where ε holds a feature it dies ever more slowly near its threshold: two digits.
    assert torch.allclose(found, expected, rtol=1e-2, atol=0)


def test_both_thresholds_are_inverse_to_each_other() -> None:
    noise = torch.linspace(0, 5, 40, dtype=F64)
    for epsilon in (0.0, 0.05, 0.3):
        for tau in (1.0, 0.6):
            decay = critical_weight_decay(noise, epsilon=epsilon, tau=tau)
            held = decay > 0
            back = critical_noise(decay[held], epsilon=epsilon, tau=tau)
            assert torch.allclose(back, noise[held], atol=1e-9)


def test_critical_weight_decay_is_the_largest_growth_over_all_predictors() -> None:
    p = np.linspace(0, 3, 300_001)
    for noise, epsilon, tau in ((0.3, 0.0, 1.0), (2.0, 0.1, 0.8), (1.0, 0.4, 1.0), (9.0, 0.5, 1.0)):
        allowed = p[p >= epsilon]
        best = max(0.0, float((allowed * (tau - (1 + noise) * allowed)).max()))
        found = float(critical_weight_decay(noise, epsilon=epsilon, tau=tau))
        assert found == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("exponent", [DIRECT_PRED, 0.7, DIRECT_COPY])
@pytest.mark.parametrize("epsilon", [0.0, 0.05])
def test_fixed_points_rest_and_part_their_basins(exponent: float, epsilon: float) -> None:
    noise = torch.tensor([0.0, 0.3, 1.0], dtype=F64)
    loop = ClosedLoop(noise, 0.1, exponent, epsilon)
    points = loop.fixed_points()
    for p, w in ((points.lower, points.lower_feature), (points.upper, points.upper_feature)):
        assert torch.allclose(loop.predictor(w), p)
        assert torch.allclose(loop.rates()(0.0, (w,))[0], torch.zeros_like(w), atol=1e-14)
    assert points.collapse_is_stable.all()
    below = ends(loop, points.lower_feature * 0.99, 250.0)
    above = ends(loop, points.lower_feature * 1.01, 250.0)
    assert (below.abs() < 1e-3).all()
    assert torch.allclose(above, points.upper_feature, atol=1e-6)


def test_epsilon_lets_every_feature_leave_the_collapsed_state() -> None:
    # p >= epsilon: a feature near 0 grows at rate epsilon (1 - (1 + noise) epsilon) - decay.
    loop = ClosedLoop(0.3, 0.05, DIRECT_PRED, 0.1)
    points = loop.fixed_points()
    assert not points.collapse_is_stable
    assert points.lower.isnan()
    start = torch.tensor([1e-4], dtype=F64)
    rate = float(loop.rates()(0.0, (start * 1e-6,))[0] / (start * 1e-6))
    assert rate == pytest.approx(0.1 * (1 - 0.13) - 0.05, rel=1e-6)
    assert ends(loop, start, 1500.0).item() == pytest.approx(float(points.upper_feature))
    assert ClosedLoop(0.3, 0.09, DIRECT_PRED, 0.1).fixed_points().collapse_is_stable


def test_without_weight_decay_every_feature_survives() -> None:
    assert math.isinf(float(critical_noise(0.0)))
    points = ClosedLoop(torch.tensor([0.0, 5.0], dtype=F64), 0.0).fixed_points()
    assert torch.allclose(points.upper, torch.tensor([1.0, 1 / 6], dtype=F64))
    assert not points.collapse_is_stable.any()


def test_the_flow_of_a_feature_is_scipys() -> None:
    w0, noise, decay, alpha, epsilon, tau = 0.4, 0.3, 0.08, 0.5, 0.02, 0.9

    def rate(t: float, w: np.ndarray) -> np.ndarray:
        p = np.abs(w) ** (2 * alpha) + epsilon
        return w * (p * (tau - (1 + noise) * p) - decay)

    expected = solve_ivp(rate, (0, 30), [w0], rtol=1e-10, atol=1e-12).y[0, -1]
    loop = ClosedLoop(noise, decay, alpha, epsilon, tau)
    assert ends(loop, torch.tensor([w0], dtype=F64), 30.0).item() == pytest.approx(
        expected, rel=1e-6
    )


def test_a_diagonal_encoder_falls_apart_into_features() -> None:
    noise = torch.tensor([0.1, 0.8, 1.4, 3.0], dtype=F64)
    w = torch.tensor([0.7, 0.9, 1.1, 0.8], dtype=F64)
    rates = matrix_rates(torch.eye(4, dtype=F64), torch.diag(noise), weight_decay=0.1, epsilon=0.02)
    times = torch.tensor([0.0, 20.0], dtype=F64)
    W = integrate(rates, (torch.diag(w)[None],), times).end[0][0]
    expected = ends(ClosedLoop(noise, 0.1, DIRECT_COPY, 0.02), w, 20.0)
    assert torch.allclose(W, torch.diag(expected), atol=1e-6)


def test_an_encoder_that_is_not_diagonal_keeps_the_same_features() -> None:
    # Threshold 1.5: of five directions the two with more augmentation variance vanish.
    noise = torch.tensor([0.0, 0.5, 1.0, 2.2, 4.0], dtype=F64)
    gen = generator(0, "encoder")
    W = torch.linalg.qr(torch.randn(7, 7, generator=gen, dtype=F64))[0][:, :5]
    W = W + 0.05 * torch.randn(7, 5, generator=gen, dtype=F64)
    rates = matrix_rates(torch.eye(5, dtype=F64), torch.diag(noise), weight_decay=0.1)
    end = integrate(rates, (W[None],), torch.tensor([0.0, 250.0], dtype=F64)).end[0][0]
    kept = ClosedLoop(noise, 0.1).fixed_points().upper_feature
    assert torch.allclose(end.norm(dim=0), kept.nan_to_num(), atol=1e-4)


@pytest.mark.parametrize(
    ("argument", "given"),
    [
        ("noise", -0.1),
        ("weight_decay", -1e-9),
        ("exponent", 0.0),
        ("epsilon", -0.1),
        ("tau", 1.01),
        ("tau", math.nan),
    ],
)
def test_parameters_outside_the_theory_are_refused(argument: str, given: float) -> None:
    parameters = {"noise": 0.3, "weight_decay": 0.1} | {argument: given}
    with pytest.raises(UserError, match=f"^{argument}: .* given; allowed: "):
        ClosedLoop(**parameters)


def test_an_indefinite_covariance_is_refused() -> None:
    with pytest.raises(UserError, match=r"^augmentation: smallest eigenvalue -1 given"):
        matrix_rates(
            torch.eye(2, dtype=F64),
            torch.diag(torch.tensor([1.0, -1.0], dtype=F64)),
            weight_decay=0.1,
        )

"""Laws of a single mode: invariant, fixed points, bifurcation, basins, target, ablations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from fullrank.errors import UserError
from fullrank.theory.basin import basin_boundary, escapes
from fullrank.theory.eigenmodes import (
    ModeParameters,
    alignment_margin,
    critical_weight_decay,
    eigenmode_rates,
    ema_rates,
    fixed_points,
    invariant,
    no_predictor_rates,
    no_stop_gradient_rates,
    stability,
    weight_rates,
)
from fullrank.theory.flow import integrate, iterate, jacobian


def T(*values: float) -> torch.Tensor:  # noqa: N802
    return torch.tensor(values, dtype=torch.float64)


def test_the_flow_is_that_of_the_equations():
    noise, decay, tau, rate = 0.3, 0.05, 0.9, 2.0

    def by_hand(t, y):
        p, s = y
        lack = tau - (1 + noise) * p
        return [rate * s * lack - decay * p, 2 * p * s * lack - 2 * decay * s]

    expected = solve_ivp(by_hand, (0, 30), [0.1, 0.2], rtol=1e-11, atol=1e-13).y[:, -1]
    rates = eigenmode_rates(ModeParameters(noise, decay, tau, rate))
    p, s = integrate(rates, (T(0.1), T(0.2)), T(0, 30)).end
    np.testing.assert_allclose([float(p), float(s)], expected, rtol=1e-6)


@pytest.mark.parametrize("weight_decay", [0.0, 0.02, 0.3])
def test_the_invariant_is_the_same_at_all_times(weight_decay):
    rate = T(0.2, 1.0, 5.0)
    parameters = ModeParameters(0.3, weight_decay, 0.8, rate)
    start = T(0.1, 0.5, 0.9), T(0.4, 0.05, 0.3)
    flow = integrate(eigenmode_rates(parameters), start, T(0, 1, 5, 20))
    c = invariant(*flow.states, parameters, flow.times[:, None])
    torch.testing.assert_close(c, c[:1].expand_as(c), rtol=0, atol=2e-5)


def test_the_published_fixed_points():
    # Tian et al. 2021 with σ² = 0.3, to the digits that an independent calculation gave.
    points = fixed_points(ModeParameters(0.3, T(0.05, 0.15, 0.19, 0.20)))
    assert [round(v, 4) for v in points.lower[:1].tolist() + points.upper[:1].tolist()] == [
        0.0538,
        0.7155,
    ]
    assert [round(v, 3) for v in points.lower[1:3].tolist()] == [0.204, 0.342]
    assert points.lower[3].isnan() and points.upper[3].isnan()
    assert float(critical_weight_decay(0.3)) == pytest.approx(0.1923, abs=5e-5)


def test_the_flow_ends_at_the_fixed_points():
    weight_decay = T(0.05, 0.08, 0.1, 0.18).repeat_interleave(3)
    rate = T(0.3, 1.0, 4.0).repeat(4)
    parameters = ModeParameters(0.3, weight_decay, 1.0, rate)
    points = fixed_points(parameters)
    for start, end in ((points.lower * 1.1, points.upper), (points.lower * 0.9, points.collapsed)):
        flow = integrate(
            eigenmode_rates(parameters), (start, start.square() / rate), T(0, 400), rtol=1e-9
        )
        torch.testing.assert_close(flow.end[0], end, rtol=0, atol=1e-6)
        torch.testing.assert_close(flow.end[1], end.square() / rate, rtol=0, atol=1e-6)


def test_nothing_moves_at_a_fixed_point_and_its_stability_is_that_of_the_jacobian():
    parameters = ModeParameters(T(0.0, 0.3, 1.0), 0.04, T(1.0, 0.8, 0.9), T(0.5, 1.0, 3.0))
    rates = eigenmode_rates(parameters)
    points = fixed_points(parameters)
    for p in (points.collapsed, points.lower, points.upper):
        s = p.square() / parameters.predictor_rate
        for rate in rates(0.0, (p, s)):
            torch.testing.assert_close(rate, torch.zeros_like(p), rtol=0, atol=1e-12)
        growth = torch.linalg.eigvals(jacobian(rates, (p, s))).real.sort(dim=1).values
        along = stability(parameters, p)
        off = torch.full_like(along, -2 * 0.04)
        expected = torch.stack([along, off], dim=1).sort(dim=1).values
        torch.testing.assert_close(growth, expected, rtol=1e-6, atol=1e-7)
    assert (stability(parameters, points.collapsed) < 0).all()
    assert (stability(parameters, points.lower) > 0).all()
    assert (stability(parameters, points.upper) < 0).all()


def test_without_weight_decay_the_lower_fixed_point_is_the_collapsed_one():
    points = fixed_points(ModeParameters(0.5, 0.0, 0.6))
    assert float(points.lower) == 0.0
    assert float(points.upper) == pytest.approx(0.6 / 1.5, rel=1e-12)


def test_the_bifurcation_is_at_the_critical_weight_decay():
    # The largest weight decay at which the simulated flow from large p and s still ends away from
    # 0, on a grid of half a percent; the closed form has no part in the search.
    noise, tau = T(0.0, 0.3, 1.5, 0.3), T(1.0, 1.0, 1.0, 0.6)
    tried = torch.logspace(-1.5, -0.5, 461, dtype=torch.float64)
    decay, noise, tau = (x.reshape(-1) for x in torch.broadcast_tensors(
        tried[:, None], noise, tau))  # fmt: skip
    rates = eigenmode_rates(ModeParameters(noise, decay, tau))
    start = torch.ones_like(decay)
    end = integrate(rates, (start, 2 * start), T(0, 600), rtol=1e-5).end[0].view(-1, 4)
    assert ((end > 0.05).int().diff(dim=0) <= 0).all()
    found = tried[(end > 0.05).sum(dim=0) - 1]
    torch.testing.assert_close(found, critical_weight_decay(noise, tau)[:4], rtol=0.02, atol=0)


def test_the_published_starts_collapse_and_escape():
    # σ² = 0.3, η = 0.05, along s = p²: 0.03 is below p₋ = 0.0538, 0.06 above.
    p = T(0.03, 0.06)
    end = integrate(eigenmode_rates(ModeParameters(0.3, 0.05)), (p, p.square()), T(0, 300)).end[0]
    torch.testing.assert_close(end, T(0.0, 0.7155), rtol=0, atol=1e-4)
    assert escapes(ModeParameters(0.3, 0.05), p, p.square()).tolist() == [False, True]


def test_a_faster_predictor_shrinks_the_basin_of_collapse():
    # p = 0.01 and s as named: the slow predictor loses the first three, the others one.
    s = T(0.001, 0.01, 0.05, 0.1, 0.5).repeat(3)
    rate = T(0.1, 1.0, 5.0).repeat_interleave(5)
    kept = escapes(ModeParameters(0.3, 0.05, 1.0, rate), torch.full_like(s, 0.01), s).view(3, 5)
    assert kept[0].tolist() == [False, False, False, True, True]
    assert kept[1].tolist() == kept[2].tolist() == [False, True, True, True, True]
    edges = basin_boundary(
        ModeParameters(0.3, 0.05, 1.0, T(0.1, 0.3, 1.0, 3.0)), torch.full((4,), 0.004).double()
    )
    assert (edges.diff() < 0).all()


def test_the_end_of_the_flow_agrees_with_what_escapes():
    gen = torch.Generator().manual_seed(0)
    p, s, noise, decay, tau = (
        torch.rand(300, generator=gen, dtype=torch.float64) for _ in range(5)
    )
    decay = 0.02 + 0.2 * decay
    parameters = ModeParameters(noise, decay, 0.5 + tau / 2, 0.2 + 3 * noise.flip(0))
    p, s = 2 * p - 0.3, s.square()
    ends = integrate(eigenmode_rates(parameters), (p, s), T(0, 500), rtol=1e-5).end[0]
    upper = fixed_points(parameters).upper
    arrived = torch.isclose(ends, upper, atol=1e-3)
    assert (arrived | (ends.abs() < 1e-3)).float().mean() > 0.99
    escaped = escapes(parameters, p, s)
    assert (escaped == arrived).float().mean() > 0.99
    assert 30 < escaped.sum() < 270


def test_without_weight_decay_the_invariant_decides():
    p, s = T(0.0, 0.5, 2.0, 2.0, -0.5, 0.1), T(0.1, 1e-3, 1.0, 3.8, 0.2, 0.0)
    parameters = ModeParameters(0.3, 0.0)
    end = integrate(eigenmode_rates(parameters), (p, s), T(0, 200), rtol=1e-6).end
    # Collapsed modes keep a predictor, but s dies.
    assert escapes(parameters, p, s).tolist() == (end[1] > 1e-4).tolist()


def test_the_boundary_parts_what_collapses_from_what_does_not():
    s = T(0.003, 0.01, 0.02, 0.004)
    parameters = ModeParameters(0.3, T(0.05, 0.1, 0.15, 0.05), 1.0, T(1.0, 0.5, 2.0, 0.3))
    edge = basin_boundary(parameters, s)
    assert ((edge > 0) & edge.isfinite()).all()
    rates = eigenmode_rates(parameters)
    below, above = (
        integrate(rates, (edge * x, s), T(0, 400), rtol=1e-6).end[0] for x in (0.999, 1.001)
    )
    torch.testing.assert_close(below, torch.zeros(4).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(above, fixed_points(parameters).upper, rtol=0, atol=1e-6)


def test_the_boundary_meets_the_saddle_and_ends_where_nothing_or_everything_escapes():
    parameters = ModeParameters(0.3, T(0.05, 0.05, 0.05, 0.05, 0.25))
    lower = fixed_points(ModeParameters(0.3, 0.05)).lower
    s = torch.stack([lower.square(), *T(0.0, 1e-9, 1.0, 1.0)])
    edge = basin_boundary(parameters, s)
    assert edge[0] == pytest.approx(float(lower), abs=1e-6)
    assert edge[1:].tolist() == [math.inf, math.inf, 0.0, math.inf]


def test_a_slow_target_makes_modes_rise_late():
    parameters = ModeParameters(0.3, 0.05)
    beta = T(0.02, 0.2, 5.0)
    p, s, tau = T(0.1, 0.1, 0.1), T(0.1, 0.1, 0.1), T(0.9, 0.9, 0.9)
    times = torch.linspace(0, 300, 61).double()
    track = integrate(ema_rates(parameters, beta), (p, s, tau), times, rtol=1e-5).states
    arrival = times[(track[0] > 0.6).int().argmax(dim=0)]
    assert arrival[0] > 2 * arrival[1] > 2 * arrival[2] > 0
    # At rest the target is the network, and the mode is where it would be without an average.
    upper = fixed_points(parameters).upper.expand(3)
    torch.testing.assert_close(track[0][-1], upper, rtol=0, atol=0.03)
    torch.testing.assert_close(track[2][-1], torch.ones_like(tau), rtol=0, atol=0.03)


def test_a_slow_target_traps_more_modes():
    beta = T(0.01, 0.05, 0.3)
    starts = torch.cartesian_prod(T(*np.linspace(0.01, 0.8, 8)), T(*np.logspace(-4, 0, 8)), beta)
    p, s, beta = (x.contiguous() for x in starts.T)
    rates = ema_rates(ModeParameters(0.3, 0.05), beta)
    end = integrate(rates, (p, s, torch.ones_like(p)), T(0, 400), rtol=1e-5).end[0].view(-1, 3)
    escaped = (end > 0.3).sum(dim=0)
    assert (escaped.diff() > 0).all() and escaped[0] > 0 and escaped[-1] < 64


def test_the_moving_target_follows_equation_13():
    # τ = w_a / w for a target weight of its own: ẇ_a = β (w - w_a).
    def by_hand(t, y):
        p, w, w_a = y
        error = w_a - 1.3 * p * w
        return [2.0 * error * w - 0.05 * p, p * error - 0.05 * w, 0.3 * (w - w_a)]

    expected = solve_ivp(by_hand, (0, 20), [0.2, 0.5, 0.4], rtol=1e-11, atol=1e-13).y[:, -1]
    rates = ema_rates(ModeParameters(0.3, 0.05, 1.0, 2.0), 0.3)
    p, s, tau = (float(x) for x in integrate(rates, (T(0.2), T(0.25), T(0.8)), T(0, 20)).end)
    np.testing.assert_allclose([p, s**0.5, tau * s**0.5], expected, rtol=1e-6)


def test_without_stop_gradient_every_mode_dies():
    gen = torch.Generator().manual_seed(1)
    p, s, noise = torch.rand(3, 50, generator=gen, dtype=torch.float64)
    noise = noise + 0.1
    flow = integrate(no_stop_gradient_rates(ModeParameters(noise, 0.0)), (p, s), T(0, 2, 10))
    # At least at the rate of Theorem 2: s is the square of a weight.
    assert (flow.states[1] <= s * (-2 * noise * flow.times[:, None]).exp() + 1e-8).all()


def test_without_predictor_modes_die_at_the_rate_of_the_noise():
    rates = no_predictor_rates(ModeParameters(T(0.0, 0.3), 0.05))
    end = integrate(rates, (T(1.0, 2.0),), T(0, 3)).end[0]
    torch.testing.assert_close(end, T(1.0, 2.0) * (-2 * T(0.05, 0.35) * 3).exp())


def test_weight_decay_on_the_encoder_alone_kills_and_on_the_predictor_alone_does_not():
    p, s = T(0.5), T(0.5)
    encoder = eigenmode_rates(ModeParameters(0.3, 0.05, predictor_decay=0.0))
    predictor = eigenmode_rates(ModeParameters(0.3, 0.0, predictor_decay=0.05))
    assert integrate(encoder, (p, s), T(0, 160)).end[1] < 1e-6
    assert integrate(predictor, (p, s), T(0, 160)).end[1] > 0.5


def test_gradient_steps_on_weights_come_to_the_same_rest():
    parameters = ModeParameters(0.3, 0.05, 1.0, 2.0)
    p, w = iterate(weight_rates(parameters), (T(0.2), T(0.3)), 1000, 0.4).end
    upper = fixed_points(parameters).upper
    torch.testing.assert_close(p[0], upper, rtol=1e-6, atol=0)
    torch.testing.assert_close(w.square()[0], upper.square() / 2, rtol=1e-6, atol=0)


def test_weights_and_their_squares_flow_alike():
    parameters = ModeParameters(0.3, 0.05, 0.9, 2.0, predictor_decay=0.01)
    times = T(0, 3, 10)
    p, w = integrate(weight_rates(parameters), (T(0.2), T(0.3)), times).states
    p_, s = integrate(eigenmode_rates(parameters), (T(0.2), T(0.09)), times).states
    torch.testing.assert_close(p, p_, rtol=1e-6, atol=0)
    torch.testing.assert_close(w.square(), s, rtol=1e-6, atol=0)


def test_the_alignment_margin_is_half_the_supply_less_the_growth():
    # Equations 16 and 17: Δ = p [τ - (1 + σ²) p] - η < ½ [α_p (1 + σ²) s + η].
    p, s = T(0.1, 0.4), T(0.3, 0.01)
    margin = alignment_margin(p, s, ModeParameters(0.3, 0.05, 0.9, 2.0))
    growth = p * (0.9 - 1.3 * p) - 0.05
    torch.testing.assert_close(margin, (2.0 * 1.3 * s + 0.05) / 2 - growth)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": -0.1}, "noise: -0.1 given"),
        ({"noise": math.nan}, "noise: nan given"),
        ({"weight_decay": T(0.1, -0.2)}, "weight_decay: -0.2 given"),
        ({"tau": 1.2}, "tau: 1.2 given.* 1"),
        ({"tau": -0.5}, "tau: -0.5 given"),
        ({"predictor_rate": 0.0}, "predictor_rate: 0 given.*above 0"),
        ({"predictor_decay": -1.0}, "predictor_decay: -1 given"),
    ],
)
def test_parameters_outside_the_theory_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        ModeParameters(**{"noise": 0.3, "weight_decay": 0.05, **change})


def test_what_the_theory_does_not_know_is_refused():
    apart = ModeParameters(0.3, 0.05, predictor_decay=0.0)
    for ask in (
        lambda: fixed_points(apart),
        lambda: stability(apart, 0.1),
        lambda: invariant(T(0.1), T(0.1), apart),
        lambda: basin_boundary(apart, T(0.1)),
    ):
        with pytest.raises(UserError, match=r"predictor_decay: 0\.0 given"):
            ask()
    with pytest.raises(UserError, match=r"tau: 0\.9 given"):
        no_stop_gradient_rates(ModeParameters(0.3, 0.05, 0.9))
    with pytest.raises(UserError, match="beta: 0 given"):
        ema_rates(ModeParameters(0.3, 0.05), 0.0)
    with pytest.raises(UserError, match="s: -1 given"):
        escapes(ModeParameters(0.3, 0.05), T(0.1), T(-1.0))
    with pytest.raises(UserError, match="noise: -1 given"):
        critical_weight_decay(-1.0)

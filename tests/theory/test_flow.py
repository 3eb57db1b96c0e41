"""Flows against SciPy and closed forms; cells that diverge; gradient steps and their bound."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from fullrank.errors import UserError
from fullrank.theory.flow import (
    CellRates,
    DivergedError,
    integrate,
    iterate,
    jacobian,
    largest_step,
)


def T(*values: float) -> torch.Tensor:  # noqa: N802
    return torch.tensor(values, dtype=torch.float64)


def decay(t, states):
    return tuple(-s for s in states)


def lotka_volterra(t, states, a, b):
    x, y = states
    return a * x - b * x * y, b * x * y - y


def test_the_error_follows_the_tolerance():
    def rates(t, states):
        return (states[0] * torch.cos(T(t)),)

    def error(tolerance):
        end = integrate(rates, (T(1.0),), T(0, 6), rtol=tolerance, atol=tolerance).end[0]
        return abs(float(end) - np.exp(np.sin(6)))

    assert error(1e-5) < 1e-4 and error(1e-9) < 1e-8 and error(1e-12) < 1e-11


@pytest.mark.parametrize("cells", [7, 9000])
def test_every_cell_agrees_with_solve_ivp(cells):
    # 9,000 cells are more than one block.
    a, b = torch.linspace(0.5, 1.5, cells).double(), torch.linspace(2.0, 0.5, cells).double()
    start = torch.linspace(0.1, 2.0, cells).double()
    times = T(0, 1, 5)
    flow = integrate(CellRates(lotka_volterra, (a, b)), (start, start.flip(0)), times)
    for cell in (0, cells // 2, cells - 1):
        a_, b_ = float(a[cell]), float(b[cell])
        expected = solve_ivp(
            lambda t, y, a=a_, b=b_: [a * y[0] - b * y[0] * y[1], b * y[0] * y[1] - y[1]],
            (0, 5),
            [float(start[cell]), float(start[-1 - cell])],
            rtol=1e-11,
            atol=1e-13,
            t_eval=times.numpy(),
        ).y
        ours = torch.stack(flow.states)[:, :, cell]
        np.testing.assert_allclose(ours.numpy(), expected, rtol=2e-6)


def test_states_may_be_matrices_of_several_shapes():
    gen = torch.Generator().manual_seed(0)
    a = torch.randn(3, 4, 4, generator=gen, dtype=torch.float64)
    x = torch.randn(3, 4, 2, generator=gen, dtype=torch.float64)

    def rates(t, states):
        return a @ states[0], torch.full_like(states[1], 2 * t)

    flow = integrate(rates, (x, T(1, 2, 3)), T(0, 0.5, 1.5))
    for i, t in enumerate((0, 0.5, 1.5)):
        torch.testing.assert_close(flow.states[0][i], torch.linalg.matrix_exp(a * t) @ x)
        torch.testing.assert_close(flow.states[1][i], T(1, 2, 3) + t * t)


def test_time_may_start_anywhere_and_one_time_returns_the_start():
    torch.testing.assert_close(integrate(decay, (T(2.0),), T(-1, 1)).end[0], 2 * T(-2).exp())
    assert integrate(decay, (T(2.0),), T(3)).end[0].tolist() == [2.0]


def test_cells_that_diverge_are_told_and_the_others_go_on():
    # x' = x² from x0 leaves every bound at 1 / x0.
    start = T(1.0, -1.0, 2.0, 0.5)
    flow = integrate(lambda t, s: (s[0].square(),), (start,), T(0, 0.4, 0.75, 1.5))
    expected = T(1.0, float("nan"), 0.5, float("nan"))
    torch.testing.assert_close(flow.diverged_at, expected, equal_nan=True, atol=1e-6, rtol=0)
    exact = start / (1 - start * flow.times[:, None])
    exact[flow.times[:, None] >= flow.diverged_at] = float("nan")
    torch.testing.assert_close(flow.states[0], exact, equal_nan=True, rtol=1e-6, atol=0)
    assert (flow.last[0][[0, 2]] > 1e6).all()
    with pytest.raises(DivergedError, match=r"cell 2 diverged at t = 0\.5 .*2 of 4 cells") as told:
        flow.check()
    assert told.value.flow is flow
    assert integrate(decay, (start,), T(0, 1)).check().diverged_at.isnan().all()


def test_rates_that_are_not_finite_stop_their_cell_alone():
    # √ has no value below 0, which the first cell reaches at t = 2.
    def rates(t, states):
        return (torch.stack([-1 - 0 * states[0][0].sqrt(), T(1)[0]]),)

    flow = integrate(rates, (T(2.0, 2.0),), T(0, 1, 3))
    assert flow.diverged_at[0] == pytest.approx(2.0, abs=1e-6) and flow.diverged_at[1].isnan()
    torch.testing.assert_close(
        flow.states[0], torch.stack([T(2, 2), T(1, 3), T(float("nan"), 5)]), equal_nan=True
    )
    whole = integrate(lambda t, s: (s[0] / 0,), (T(1.0),), T(0, 1))
    assert whole.diverged_at.tolist() == [0.0] and whole.end[0].isnan().all()


def test_gradient_steps_follow_their_closed_form_and_approach_the_flow():
    rate = T(1.0, 0.3)
    rates = CellRates(lambda t, s, r: (-r * s[0],), (rate,))
    steps = iterate(rates, (T(1.0, 2.0),), 10, 0.1, every=4)
    torch.testing.assert_close(steps.times, T(0, 0.4, 0.8, 1.0))
    counts = T(0, 4, 8, 10)[:, None]
    torch.testing.assert_close(steps.states[0], T(1.0, 2.0) * (1 - 0.1 * rate) ** counts)
    flow = integrate(rates, (T(1.0, 2.0),), steps.times)
    gaps = [
        (iterate(rates, (T(1.0, 2.0),), n, 1.0 / n).end[0] - flow.end[0]).abs().max()
        for n in (100, 200)
    ]
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.02)


def test_the_largest_step_is_where_gradient_steps_turn_unstable():
    gen = torch.Generator().manual_seed(0)
    root = torch.randn(5, 4, 4, generator=gen, dtype=torch.float64)
    hessian = root @ root.mT

    def rates(t, states):
        return (-(hessian @ states[0][..., None])[..., 0],)

    start = torch.ones(5, 4, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(hessian)
    torch.testing.assert_close(largest_step(rates, (start,)), 2 / values[:, -1])
    bound = float(2 / values.max())
    end = iterate(rates, (start,), 1000, 0.99 * bound).end[0]
    steepest = int(values[:, -1].argmax())
    assert abs(vectors[steepest, :, -1] @ end[steepest]) < 1e-6
    with pytest.raises(UserError, match=f"step_size: .*below {bound:.4g}"):
        iterate(rates, (start,), 10, 1.01 * bound)


def test_a_spiral_has_a_step_bound_too():
    # z' = (-1 + 2i) z: |1 + a λ| = 1 at a = 2 / 5.
    def rates(t, s):
        return -s[0] - 2 * s[1], 2 * s[0] - s[1]

    assert float(largest_step(rates, (T(1.0), T(1.0)))) == pytest.approx(0.4)
    growing = largest_step(lambda t, s: (s[0],), (T(1.0, 2.0),))
    assert growing.isinf().all()


def test_steps_too_long_for_the_end_are_warned_of():
    # x' = x - x³ starts unstable, and rests at 1 with slope -2: steps from 1 on never settle.
    def rates(t, s):
        return (s[0] - s[0] ** 3,)

    with pytest.warns(UserWarning, match="step_size: 1.2 given"):
        flow = iterate(rates, (T(0.1),), 200, 1.2)
    assert (flow.states[0][-2:] - 1).abs().min() > 0.05


def test_gradient_steps_that_diverge_are_told():
    flow = iterate(lambda t, s: (s[0] ** 3,), (T(1.0, 0.01),), 30, 0.5)
    assert flow.diverged_at[0] < 15 and flow.diverged_at[1].isnan()
    assert flow.end[0].isnan().tolist() == [True, False]


def test_the_jacobian_keeps_cells_apart():
    a, b = T(1.0, 2.0), T(0.5, 3.0)
    x, y = T(0.3, 0.7), T(1.1, 0.2)
    expected = torch.stack(
        [torch.stack([a - b * y, -b * x], dim=1), torch.stack([b * y, b * x - 1], dim=1)], dim=1
    )
    torch.testing.assert_close(jacobian(CellRates(lotka_volterra, (a, b)), (x, y)), expected)


@pytest.mark.parametrize(
    ("start", "times", "options", "message"),
    [
        ((), T(0, 1), {}, "start"),
        ((T(1.0), T(1.0, 2.0)), T(0, 1), {}, "start: shapes"),
        ((torch.ones(2),), T(0, 1), {}, "float64"),
        ((T(float("nan")),), T(0, 1), {}, "not finite"),
        ((T(),), T(0, 1), {}, "no cells"),
        ((T(1.0),), T(1, 0), {}, "times"),
        ((T(1.0),), T(0, 0), {}, "times"),
        ((T(1.0),), T(), {}, "times"),
        ((T(1.0),), T(0, float("inf")), {}, "times"),
        ((T(1.0),), T(0, 1), {"rtol": 0.0}, "rtol: 0.0"),
        ((T(1.0),), T(0, 1), {"atol": -1.0}, "atol: -1.0"),
    ],
)
def test_bad_input_is_refused(start, times, options, message):
    with pytest.raises(UserError, match=message):
        integrate(decay, start, times, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0, "step_size": 0.1}, "steps: 0"),
        ({"steps": 1, "step_size": 0.0}, "step_size: 0.0"),
        ({"steps": 1, "step_size": 0.1, "every": 0}, "every: 0"),
        ({"steps": 1, "step_size": 2.5}, "below 2"),
    ],
)
def test_bad_steps_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        iterate(decay, (T(1.0),), **options)

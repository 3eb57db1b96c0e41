"""The fate of eigenmodes: rates against autograd, flows against SciPy, boundaries against both."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from fullrank.errors import UserError
from fullrank.theory.eigenmodes import ModeParameters, eigenmode_rates, fixed_points
from fullrank.theory.fate import (
    BAND,
    Drive,
    Modes,
    boundaries,
    coupling,
    fate_of,
    foretell,
    growth,
)

EUCLIDEAN = Drive(cosine=False)


def column(*values):
    return torch.tensor(values, dtype=torch.float64)


def modes(variance, noise, predictor, target=None, gain=None):
    one = torch.ones(len(variance), dtype=torch.float64)
    return Modes(
        column(*variance),
        column(*noise),
        column(*predictor),
        one if target is None else column(*target),
        one if gain is None else column(*gain),
    )


THREE = modes([2.0, 0.5, 0.1], [0.3, 0.1, 0.6], [0.9, 0.4, -0.2], [0.8, 1.0, 0.5])


def population_loss(W, Wp, Wa, noise):
    """``E|W_p W x_1 - W_a x_2|² / 2`` with white inputs and per-mode augmentation noise."""
    prediction = Wp @ W
    whole = prediction @ torch.diag(1 + noise) @ prediction.T
    target = Wa @ torch.diag(1 + noise) @ Wa.T
    return (torch.trace(whole) - 2 * torch.trace(prediction @ Wa.T) + torch.trace(target)) / 2


@pytest.mark.parametrize("two_sided", [False, True])
def test_growth_is_the_gradient_flow_of_the_squared_distance(two_sided):
    given = THREE if not two_sided else modes([2.0, 0.5, 0.1], [0.3, 0.1, 0.6], [0.9, 0.4, -0.2])
    W = torch.diag(given.variance.sqrt()).requires_grad_()
    target = W if two_sided else torch.diag(given.target) @ W.detach()
    population_loss(W, torch.diag(given.predictor), target, given.noise).backward()
    eta = 0.07
    change = -(W.grad + eta * W.detach())
    expected = 2 * torch.diag(change @ W.detach().T) / given.variance
    drive = Drive(cosine=False, weight_decay=eta, two_sided=two_sided)
    torch.testing.assert_close(growth(given, drive), expected)


def test_growth_under_a_cosine_is_that_of_directions_when_all_lengths_are_equal():
    # Two images of equal length in orthogonal directions, each seen without noise.
    s, p = 0.5, torch.tensor([1.3, 0.4], dtype=torch.float64)
    z = torch.eye(2, dtype=torch.float64).requires_grad_()
    rotation = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / math.sqrt(2)
    # In the rotated basis both images weigh both modes: rows (±1, ±1)/sqrt 2.
    rows = (z @ rotation).detach().requires_grad_()
    loss = -torch.cosine_similarity(rows * p, rows.detach(), dim=1).mean()
    loss.backward()
    expected = 2 * (-rows.grad * rows.detach()).sum(0) / s
    given = modes([s, s], [0.0, 0.0], p.tolist())
    torch.testing.assert_close(growth(given, Drive()), expected)


def test_a_cosine_moves_no_common_scale():
    drive = Drive(strength=4.0)
    k, c, _ = coupling(THREE, drive)
    assert k > 0 and c > 0
    # z·dz = 0 for a linear predictor: lengths of weights behind white inputs stay.
    assert float((growth(THREE, drive) * THREE.variance).sum()) == pytest.approx(0, abs=1e-12)


def test_a_batch_norm_holds_the_total_variance():
    given = modes([2.0, 0.5], [0.3, 0.1], [0.9, 0.4], gain=[5.0, 1.0])
    drive = Drive(normalised=True, weight_decay=0.3)
    whole = given.variance * (1 + given.noise)
    assert float((growth(given, drive) * whole).sum()) == pytest.approx(0, abs=1e-12)
    free = growth(given, Drive(normalised=True))
    torch.testing.assert_close(growth(given, drive), free)  # decay is a common factor


def test_boundaries_are_where_growth_changes_sign():
    s2, eta = 0.3, 0.05
    given = modes([1.0], [s2], [0.5])
    lower, upper = boundaries(given, Drive(cosine=False, weight_decay=eta))
    root = math.sqrt(1 - 4 * eta * (1 + s2))
    assert float(lower) == pytest.approx((1 - root) / (2 * (1 + s2)))
    assert float(upper) == pytest.approx((1 + root) / (2 * (1 + s2)))
    assert float(lower) == pytest.approx(0.0538, abs=1e-4)
    for p, sign in ((lower - 0.01, -1), (lower + 0.01, 1), (upper - 0.01, 1), (upper + 0.01, -1)):
        rate = growth(modes([1.0], [s2], [float(p)]), Drive(cosine=False, weight_decay=eta))
        assert math.copysign(1, float(rate)) == sign


def test_above_the_critical_weight_decay_nothing_grows():
    s2 = 0.3
    drive = Drive(cosine=False, weight_decay=1.01 / (4 * (1 + s2)))
    given = modes([1.0] * 50, [s2] * 50, np.linspace(-1, 2, 50).tolist())
    lower, upper = boundaries(given, drive)
    assert bool(lower.isnan().all() and upper.isnan().all())
    assert bool((growth(given, drive) < 0).all())


def test_the_flow_is_that_of_the_published_equations():
    eta, alpha, horizon = 0.05, 2.0, 3.0
    drive = Drive(
        cosine=False,
        weight_decay=eta,
        predictor_decay=eta,
        predictor_rate=alpha,
        target_rate=0.4,
    )

    def rates(_, y):
        p, s, tau = y
        short = tau - (1 + 0.3) * p
        ds = 2 * p * s * short - 2 * eta * s
        return [alpha * s * short - eta * p, ds, 0.4 * (1 - tau) - tau * ds / (2 * s)]

    exact = solve_ivp(rates, (0, horizon), [0.2, 0.3, 0.6], method="DOP853", rtol=1e-10, atol=1e-12)
    told = foretell(modes([0.3], [0.3], [0.2], [0.6]), drive, horizon)
    assert float(told.expected) == pytest.approx(math.log(exact.y[1, -1] / 0.3), abs=2e-3)


def test_one_mode_of_a_squared_distance_is_that_of_the_eigenmode_flow():
    """Beside the decoupled equations of :mod:`fullrank.theory.eigenmodes`."""
    given = modes([2.0, 0.5, 0.1], [0.3, 0.1, 0.6], [0.9, 0.4, -0.2], [0.8, 1.0, 0.5])
    parameters = ModeParameters(given.noise, 0.04, given.target)
    _, ds = eigenmode_rates(parameters)(0.0, (given.predictor, given.variance))
    drive = Drive(cosine=False, weight_decay=0.04)
    torch.testing.assert_close(growth(given, drive), ds / given.variance)
    found = boundaries(given, drive)
    points = fixed_points(parameters)
    torch.testing.assert_close(found.lower, points.lower, equal_nan=True)
    torch.testing.assert_close(found.upper, points.upper, equal_nan=True)


def test_the_known_basin_of_collapse():
    """Tian et al.: sigma² 0.3, eta 0.05, p0 on the invariant: 0.03 collapses, 0.06 escapes."""
    drive = Drive(cosine=False, weight_decay=0.05, predictor_decay=0.05, predictor_rate=1.0)
    low = foretell(modes([0.03**2], [0.3], [0.03]), drive, 200.0)
    high = foretell(modes([0.06**2], [0.3], [0.06]), drive, 200.0)
    assert low.fates() == ["die"] and high.fates() == ["grow"]
    assert float(low.margin) < 0 < float(high.margin)
    settled = math.log(0.7155**2 / 0.06**2)
    assert float(high.expected) == pytest.approx(settled, abs=1e-3)


def test_without_a_predictor_noise_alone_decides():
    """Theorem 2's companion: dW = -W X' - eta W, so that s falls at 2 (sigma² + eta)."""
    given = modes([1.0, 0.2], [0.3, 0.8], [1.0, 1.0])
    drive = Drive(cosine=False, weight_decay=0.02, predictor_rate=0.0)
    torch.testing.assert_close(growth(given, drive), -2 * (given.noise + 0.02))
    told = foretell(given, drive, 2.0)
    torch.testing.assert_close(told.expected, -4 * (given.noise + 0.02), rtol=1e-3, atol=1e-4)


def test_a_predictor_set_from_the_variances_follows_them():
    drive = Drive(cosine=False, predictor_rate=0.0, exponent=0.5)
    told = foretell(modes([0.04], [0.0], [0.2]), drive, 200.0)
    # p = s^1/2 all along, and p* = 1.
    assert float(told.expected) == pytest.approx(math.log(1 / 0.04), abs=1e-3)


def test_isoloss_grows_small_modes_as_fast_as_large_ones():
    given = modes([1.0, 1e-4], [0.1, 0.1], [0.5, 0.5])
    rate = growth(given, Drive(cosine=False, leading=False))
    assert float(rate[0]) == pytest.approx(float(rate[1]))
    assert boundaries(given, Drive(cosine=False, leading=False)).lower.tolist() == [-math.inf] * 2


def test_words_for_changes():
    assert [fate_of(math.log(x)) for x in (1.3, 1.2, 1.0, 1 / 1.2, 1 / 1.3)] == [
        "grow",
        "hold",
        "hold",
        "hold",
        "die",
    ]
    assert fate_of(-math.inf) == "die" and fate_of(math.nan) is None
    assert BAND > 1


def test_no_modes_and_no_time_are_no_trouble():
    none = torch.zeros(0, dtype=torch.float64)
    empty = foretell(Modes(none, none, none, none, none), Drive(normalised=True), 1.0)
    assert empty.expected.shape == (0,) and empty.fates() == []
    assert foretell(THREE, Drive(), 0.0).expected.tolist() == [0, 0, 0]


def test_a_prediction_of_nothing_pulls_at_nothing():
    silent = modes([1.0, 0.5], [0.1, 0.1], [0.0, 0.0])
    assert foretell(silent, Drive(), 5.0).expected.tolist() == pytest.approx([0, 0])


def test_values_outside_of_the_theory_are_refused():
    with pytest.raises(UserError, match=r"modes\.noise"):
        modes([1.0], [-0.1], [0.5])
    with pytest.raises(UserError, match=r"modes\.variance"):
        modes([0.0], [0.1], [0.5])
    with pytest.raises(UserError, match="finite"):
        modes([1.0], [math.nan], [0.5])
    with pytest.raises(UserError, match="float64"):
        Modes(*[torch.ones(1)] * 5)
    with pytest.raises(UserError, match="weight_decay"):
        Drive(weight_decay=-1.0)
    with pytest.raises(UserError, match="horizon"):
        foretell(THREE, Drive(), -1.0)
    with pytest.raises(UserError, match="band"):
        fate_of(0.1, band=1.0)


def test_equations_that_cannot_be_followed_hold_nobody_up(monkeypatch):
    from fullrank.theory import _coupled_modes

    one = torch.ones(3, dtype=torch.float64)
    modes = Modes(one, 0.3 * one, 0.5 * one, one, one)
    drive = Drive(weight_decay=0.01, predictor_decay=0.01)
    followed = foretell(modes, drive, 5.0)
    monkeypatch.setattr(_coupled_modes, "MOST_EVALUATIONS", 3)
    given_up = foretell(modes, drive, 5.0)
    assert followed.expected.isfinite().all() and given_up.expected.isnan().all()
    assert torch.equal(given_up.rate, followed.rate)
    assert given_up.fates() == [None, None, None]

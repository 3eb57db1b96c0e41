"""Laws of linear networks with a predictor: balance, both collapses, alignment of eigenspaces."""

from __future__ import annotations

import math

import pytest
import torch

from fullrank.errors import UserError
from fullrank.theory.eigenmodes import ModeParameters, alignment_margin, eigenmode_rates
from fullrank.theory.flow import integrate, iterate, largest_step
from fullrank.theory.predictor_flow import (
    NetworkParameters,
    alignment_operator,
    balance,
    collapse_operator,
    collapse_rate,
    commutator,
    matrix_rates,
    modes,
    no_predictor_rates,
    no_stop_gradient_rates,
    reduced_rates,
)

GEN = torch.Generator().manual_seed(0)
ONE = torch.eye(4, dtype=torch.float64)


def T(*values: float) -> torch.Tensor:  # noqa: N802
    return torch.tensor(values, dtype=torch.float64)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GEN, dtype=torch.float64)


def moment(n: int, floor: float = 0.0) -> torch.Tensor:
    """A second moment of ``n`` directions, no eigenvalue below ``floor``."""
    root = randn(n, n) / n**0.5
    return root @ root.T + floor * torch.eye(n, dtype=torch.float64)


def loss(w, w_p, target, data, augmentation, noise_reaches_target=False):
    """½ E‖W_p W x₁ - V x₂‖², term by term: x = x̄ + noise, the noises independent."""
    gap = w_p @ w - target
    value = torch.trace(gap @ data @ gap.T) + torch.trace(w_p @ w @ augmentation @ (w_p @ w).T)
    if noise_reaches_target:
        value = value + torch.trace(target @ augmentation @ target.T)
    return value / 2


@pytest.mark.parametrize("target_rate", [None, 0.4])
def test_the_rates_are_the_gradients_of_the_loss(target_rate):
    data, augmentation = moment(6), moment(6)
    at = NetworkParameters(data, augmentation, 0.07, 2.0, 0.02, 0.8, target_rate)
    w, w_p, w_a = (randn(4, 6).requires_grad_(), randn(4, 4).requires_grad_(), randn(4, 6))
    target = 0.8 * w.detach() if target_rate is None else w_a
    by_w, by_p = torch.autograd.grad(loss(w, w_p, target, data, augmentation), (w, w_p))
    states = (w[None], w_p[None]) if target_rate is None else (w[None], w_p[None], w_a[None])
    found = [rate[0] for rate in matrix_rates(at)(0.0, states)]
    torch.testing.assert_close(found[0], -by_w - 0.07 * w)
    torch.testing.assert_close(found[1], -2.0 * by_p - 0.02 * w_p)
    if target_rate is not None:
        torch.testing.assert_close(found[2], 0.4 * (w - w_a))


def test_without_stop_gradient_the_rates_are_the_whole_gradient_and_theorem_2():
    data, augmentation = moment(6), moment(6)
    at = NetworkParameters(data, augmentation, 0.07, 2.0)
    w, w_p = randn(4, 6).requires_grad_(), randn(4, 4).requires_grad_()
    by_w, by_p = torch.autograd.grad(loss(w, w_p, w, data, augmentation, True), (w, w_p))
    of_w, of_p = (r[0] for r in no_stop_gradient_rates(at)(0.0, (w[None], w_p[None])))
    torch.testing.assert_close(of_w, -by_w - 0.07 * w)
    torch.testing.assert_close(of_p, -2.0 * by_p - 0.07 * w_p)
    h = collapse_operator(w_p.detach(), at)
    torch.testing.assert_close(-(h @ w.T.reshape(-1)), of_w.T.reshape(-1))
    assert torch.linalg.eigvalsh(h)[0] >= collapse_rate(at) - 1e-12


def test_predictors_and_encoders_balance():
    # Theorem 1: W Wᵀ - W_pᵀ W_p / α_p = e^{-2ηt} C.
    for decay, rate in ((0.0, 1.0), (0.02, 1.0), (0.3, 3.0)):
        at = NetworkParameters(moment(12), moment(12), decay, rate)
        start = randn(3, 8, 12) / 3, randn(3, 8, 8) / 3
        flow = integrate(matrix_rates(at), start, T(0, 2, 6))
        first = balance(*start, rate)
        for i, t in enumerate(flow.times.tolist()):
            found = balance(flow.states[0][i], flow.states[1][i], rate)
            torch.testing.assert_close(found, math.exp(-2 * decay * t) * first, rtol=0, atol=1e-6)


def test_the_balance_needs_equal_decays():
    at = NetworkParameters(moment(6), moment(6), 0.3, 1.0, 0.0)
    start = randn(1, 4, 6), randn(1, 4, 4)
    w, w_p = integrate(matrix_rates(at), start, T(0, 2)).end
    expected = math.exp(-1.2) * balance(*start, 1.0)
    assert not torch.allclose(balance(w, w_p, 1.0), expected, atol=1e-2)


def test_without_stop_gradient_networks_die_at_the_slowest_rate_of_the_augmentations():
    at = NetworkParameters(moment(6), moment(6, floor=0.3), 0.05)
    start = randn(4, 4, 6), randn(4, 4, 4)
    flow = integrate(no_stop_gradient_rates(at), start, torch.linspace(0, 12, 25).double())
    size = torch.linalg.matrix_norm(flow.states[0])
    assert (size[1:] <= size[:-1] * math.exp(-0.5 * collapse_rate(at)) + 1e-9).all()
    # The bound is not idle: late in the flow the predictor has died and the slowest rate is left.
    rate = torch.log(size[12] / size[20]) / 4
    assert collapse_rate(at) > 0.35 and (rate < 2.5 * (collapse_rate(at) + 1)).all()


def test_the_rate_is_reached_where_nothing_else_pulls():
    # W_p = 0 stays 0 if X = 0; then H = X' ⊗ I + η I and the slowest direction rules.
    noise = torch.diag(T(0.2, 0.5, 1.0))
    at = NetworkParameters(torch.zeros(3, 3).double(), noise, 0.05)
    w = randn(1, 2, 3)
    flow = integrate(no_stop_gradient_rates(at), (w, torch.zeros(1, 2, 2).double()), T(0, 4))
    torch.testing.assert_close(flow.end[0], w * torch.exp(-4 * (noise.diagonal() + 0.05)))
    assert collapse_rate(at) == pytest.approx(0.25)


def test_directions_that_augmentations_leave_alone_survive_without_stop_gradient():
    noise = torch.diag(T(0.0, 0.5, 0.8, 1.0, 0.6, 0.9))
    at = NetworkParameters(torch.eye(6, dtype=torch.float64), noise)
    assert collapse_rate(at) == pytest.approx(0.0, abs=1e-12)
    flow = integrate(no_stop_gradient_rates(at), (randn(1, 4, 6), ONE[None].clone()), T(0, 60))
    sizes = flow.end[0][0].norm(dim=0)
    assert sizes[0] > 0.3 and (sizes[1:] < 1e-3).all()


def test_without_predictor_networks_die_by_the_augmentations_and_weight_decay():
    augmentation = moment(6)
    at = NetworkParameters(moment(6), augmentation, 0.1)
    w = randn(2, 4, 6)
    flow = integrate(no_predictor_rates(at), (w,), T(0, 3))
    decay = torch.linalg.matrix_exp(-3 * (augmentation + 0.1 * torch.eye(6).double()))
    torch.testing.assert_close(flow.end[0], w @ decay, rtol=1e-6, atol=1e-8)


def symmetric_start(cells: int, spread: float):
    f, w_p = randn(cells, 4, 4), randn(cells, 4, 4)
    return spread * f @ f.mT, 0.2 * ONE + 0.05 * (w_p + w_p.mT)


def test_isotropic_networks_follow_the_reduced_flow():
    parameters = ModeParameters(0.3, 0.05, 0.9, 2.0)
    at = NetworkParameters(torch.eye(10).double(), 0.3 * torch.eye(10).double(), 0.05, 2.0, tau=0.9)
    w = randn(1, 4, 10) / 3
    w_p = 0.3 * ONE[None].clone()
    whole = integrate(matrix_rates(at), (w, w_p), T(0, 1, 5))
    f = (w @ w.mT, w_p)
    reduced = integrate(reduced_rates(parameters), f, T(0, 1, 5))
    for i in range(3):
        now, predictor = (state[i] for state in whole.states)
        # A predictor that starts as a multiple of I shares F's eigenvectors, and stays symmetric.
        torch.testing.assert_close(predictor, predictor.mT, rtol=0, atol=1e-8)
        torch.testing.assert_close(now @ now.mT, reduced.states[0][i], rtol=0, atol=1e-6)
        torch.testing.assert_close(predictor, reduced.states[1][i], rtol=0, atol=1e-6)


def test_aligned_networks_follow_the_flow_of_their_modes():
    q = torch.linalg.qr(randn(4, 4)).Q
    p, s = T(0.4, 0.3, 0.2, 0.05), T(0.5, 0.2, 0.1, 0.01)
    parameters = ModeParameters(0.3, 0.05, 1.0, 2.0)
    start = ((q * s) @ q.T)[None], ((q * p) @ q.T)[None]
    times = T(0, 2, 20)
    whole = integrate(reduced_rates(parameters), start, times)
    alone = integrate(eigenmode_rates(parameters), (p, s), times)
    found = modes(whole.states[0], whole.states[1])
    for ours, expected in zip(found, alone.states, strict=True):
        torch.testing.assert_close(ours[:, 0], expected, rtol=0, atol=1e-6)


def test_the_commutator_flows_by_theorem_3():
    # L̇ = -{K, L}, from the rates of F and W_p alone.
    parameters = ModeParameters(0.3, 0.05, 0.9, 2.0)
    f, w_p = symmetric_start(3, 0.1)
    of_f, of_p = reduced_rates(parameters)(0.0, (f, w_p))
    found = commutator(of_f, w_p) + commutator(f, of_p)
    k, level = alignment_operator(f, w_p, parameters), commutator(f, w_p)
    torch.testing.assert_close(found, -(k @ level + level @ k))


def test_eigenspaces_align_while_the_condition_holds_and_part_where_it_fails():
    parameters = ModeParameters(0.3, 0.05)
    f, w_p = symmetric_start(5, 0.1)
    f = f + 0.5 * ONE
    times = torch.linspace(0, 10, 21).double()
    flow = integrate(reduced_rates(parameters), (f, w_p), times)
    size = torch.stack([
        torch.linalg.matrix_norm(commutator(*now)) for now in zip(*flow.states, strict=True)
    ])  # fmt: skip
    smallest = torch.stack([
        torch.linalg.eigvalsh(alignment_operator(*now, parameters))[:, 0]
        for now in zip(*flow.states, strict=True)
    ])  # fmt: skip
    assert (smallest > 0).all()
    bound = size[:-1] * torch.exp(-2 * 0.5 * torch.minimum(smallest[1:], smallest[:-1]) * 0.9)
    assert (size[1:] < bound + 1e-8).all()
    assert (size[-1] < size[0] / 100).all()
    # Small F, weak decay and p near τ / 2(1 + σ²): K < 0, and what is not aligned parts further.
    weak = ModeParameters(0.3, 0.001)
    f, w_p = 1e-3 * f, 0.3 * ONE + 0.1 * w_p
    assert (torch.linalg.eigvalsh(alignment_operator(f, w_p, weak))[:, -1] < 0).all()
    end = integrate(reduced_rates(weak), (f, w_p), T(0, 2)).end
    before, after = (torch.linalg.matrix_norm(commutator(*x)) for x in ((f, w_p), end))
    assert (after > 1.2 * before).all()


def test_the_eigenvalues_of_the_operator_are_the_margins_of_the_modes():
    parameters = ModeParameters(0.3, 0.05, 0.9, 2.0)
    p, s = T(0.1, 0.4, 0.7), T(0.3, 0.01, 0.2)
    k = alignment_operator(torch.diag(s)[None], torch.diag(p)[None], parameters)
    torch.testing.assert_close(k[0].diagonal(), alignment_margin(p, s, parameters))


def test_a_moving_target_is_the_network_when_it_is_fast():
    data, augmentation = moment(6), moment(6)
    start = randn(1, 4, 6) / 2, 0.3 * ONE[None].clone()
    alone = integrate(matrix_rates(NetworkParameters(data, augmentation, 0.02)), start, T(0, 3))
    gaps = []
    for beta in (1.0, 8.0, 64.0):
        at = NetworkParameters(data, augmentation, 0.02, target_rate=beta)
        moving = integrate(matrix_rates(at), (*start, start[0].clone()), T(0, 3), rtol=1e-5)
        gaps.append(float((moving.end[0] - alone.end[0]).norm()))
    assert gaps[0] > 4 * gaps[1] > 16 * gaps[2]


def test_gradient_steps_beside_the_flow_and_the_bound_on_their_size():
    at = NetworkParameters(torch.eye(6).double(), 0.3 * torch.eye(6).double(), 0.02)
    rates, start = matrix_rates(at), (randn(1, 3, 6) / 2, 0.4 * ONE[None, :3, :3].clone())
    flow = integrate(rates, start, T(0, 2)).end
    gaps = [
        float((iterate(rates, start, int(2 / lr), lr).end[0] - flow[0]).norm())
        for lr in (0.05, 0.025)
    ]
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.1)
    bound = float(largest_step(rates, start))
    with pytest.raises(UserError, match=r"step_size: .* below"):
        iterate(rates, start, 5, 1.1 * bound)


def lopsided() -> torch.Tensor:
    return torch.tensor([[1.0, 0.5], [0.0, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": torch.diag(T(1.0, -0.1))}, "data: smallest eigenvalue -0.1"),
        ({"augmentation": lopsided()}, "augmentation: differs from its transpose by 0.5"),
        ({"data": torch.eye(2)}, "data: torch.float32"),
        ({"data": torch.full((2, 2), math.nan).double()}, "data: .*finite"),
        ({"weight_decay": -0.1}, "weight_decay: -0.1"),
        ({"predictor_rate": 0.0}, "predictor_rate: 0 "),
        ({"predictor_decay": -1.0}, "predictor_decay: -1 "),
        ({"tau": 1.5}, "tau: 1.5"),
        ({"target_rate": 0.0}, "target_rate: 0 "),
    ],
)
def test_parameters_outside_the_theory_are_refused(change, message):
    one = torch.eye(2, dtype=torch.float64)
    with pytest.raises(UserError, match=message):
        NetworkParameters(**{"data": one, "augmentation": one, **change})


def test_modes_of_an_f_that_is_no_second_moment_are_refused():
    with pytest.raises(UserError, match="f: smallest eigenvalue"):
        modes(-ONE[None], ONE[None])


def test_modes_of_zero_variance_are_modes():
    f = torch.zeros(1, 4, 4, dtype=torch.float64)
    p, s = modes(f, 0.5 * ONE[None])
    assert s.tolist() == [[0.0] * 4] and p.tolist() == [[0.5] * 4]

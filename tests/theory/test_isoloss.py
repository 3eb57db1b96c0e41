from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from torch.nn.functional import cosine_similarity

from fullrank.errors import UserError
from fullrank.randomness import generator
from fullrank.theory.flow import integrate
from fullrank.theory.isoloss import (
    FORMS,
    convergence_time,
    cosine_gradient,
    cosine_rates,
    euclidean_gradient,
    euclidean_rates,
)

F64 = torch.float64


def normal(*shape: int, key: str = "rows") -> Tensor:
    return torch.randn(*shape, generator=generator(0, key), dtype=F64)


def views(n: int, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Two views of n inputs with exactly unit variance, noise variances and no cross moments."""
    d = len(noise)
    x = torch.linalg.qr(normal(n, 3 * d))[0] * math.sqrt(n)
    clean, a, b = x.split(d, dim=1)
    return clean + noise.sqrt() * a, clean + noise.sqrt() * b


def euclidean_loss(z1: Tensor, z2: Tensor, p: Tensor, form: str) -> Tensor:
    """The loss as it is written in code; the isotropic one is Halvagal et al.'s."""
    if form == "no predictor":
        p = torch.ones_like(p)
    if form == "isotropic":
        return 0.5 * (z1 - (z2 + z1 - p * z1).detach()).square().sum(1).mean()
    target = z2 if form == "no stop-gradient" else z2.detach()
    return 0.5 * (p * z1 - target).square().sum(1).mean()


def cosine_loss(z1: Tensor, z2: Tensor, p: Tensor, form: str) -> Tensor:
    if form == "no predictor":
        p = torch.ones_like(p)
    if form == "isotropic":
        q = (p * z1).detach()
        length, other = q.norm(dim=1), z2.norm(dim=1).detach()
        cosine = (q * z2.detach()).sum(1)
        pull = (z1 * z2.detach()).sum(1) / (length * other)
        shrink = 0.5 * cosine / (length**3 * other) * (p.sqrt() * z1).square().sum(1)
        return (shrink - pull).mean()
    target = z2 if form == "no stop-gradient" else z2.detach()
    return -cosine_similarity(p * z1, target, dim=1).mean()


LOSSES = {
    "euclidean": (euclidean_loss, euclidean_gradient),
    "cosine": (cosine_loss, cosine_gradient),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("distance", LOSSES)
def test_gradients_are_those_of_the_loss(distance: str, form: str) -> None:
    loss, gradient = LOSSES[distance]
    z1 = normal(50, 5, key="z1").requires_grad_()
    z2 = normal(50, 5, key="z2").requires_grad_()
    p = torch.tensor([0.1, 0.4, 0.7, 1.0, 1.6], dtype=F64)
    (-50 * loss(z1, z2, p, form)).backward()
    ahead, back = gradient(z1.detach(), z2.detach(), p, form)
    assert torch.allclose(ahead, z1.grad, atol=1e-12)
    expected = torch.zeros_like(z2) if z2.grad is None else z2.grad
    assert torch.allclose(back, expected, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_euclidean_rates_are_the_gradient_of_a_linear_model(form: str, exponent: float) -> None:
    noise = torch.tensor([0.0, 0.2, 0.5, 1.5], dtype=F64)
    x1, x2 = views(400, noise)
    w = torch.tensor([0.3, 0.6, 0.9, 1.2], dtype=F64, requires_grad=True)
    p = w.detach() ** (2 * exponent)
    (-euclidean_loss(w * x1, w * x2, p, form)).backward()
    rates = euclidean_rates(noise, exponent=exponent, form=form)
    assert torch.allclose(rates(0.0, (w.detach(),))[0], w.grad, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_cosine_rates_are_the_gradient_of_a_linear_model_of_many_modes(form: str) -> None:
    modes = 200
    noise = torch.linspace(0.1, 0.6, modes, dtype=F64)
    x1, x2 = views(3000, noise)
    w = torch.linspace(0.7, 1.2, modes, dtype=F64).roll(100).requires_grad_()
    p = w.detach().square()
    (-cosine_loss(w * x1, w * x2, p, form)).backward()
    expected = w.grad
    found = cosine_rates(noise, form=form)(0.0, (w.detach()[None],))[0][0]
    error = (found - expected).norm() / expected.norm()
    assert error < 0.05
    assert torch.corrcoef(torch.stack([found, expected]))[0, 1] > 0.998


def test_the_cosine_moves_modes_only_relative_to_each_other() -> None:
    # The cosine does not see the length of z1, so its gradient is orthogonal to z1.
    w = normal(7, 20, key="w").abs()
    rates = cosine_rates(0.3)
    assert torch.allclose((w * rates(0.0, (w,))[0]).sum(1), torch.zeros(7, dtype=F64), atol=1e-14)
    z1, z2 = normal(30, 6, key="z1"), normal(30, 6, key="z2")
    ahead, _ = cosine_gradient(z1, z2, torch.full((6,), 0.7, dtype=F64))
    assert torch.allclose((ahead * z1).sum(1), torch.zeros(30, dtype=F64), atol=1e-14)
    single, _ = cosine_gradient(z1[:, :1], z2[:, :1], torch.ones(1, dtype=F64))
    assert torch.allclose(single, torch.zeros_like(single), atol=1e-13)


def test_rows_of_length_0_have_no_gradient_of_the_cosine() -> None:
    zero = torch.zeros(2, 3, dtype=F64)
    for form in FORMS:
        for part in cosine_gradient(zero, zero, torch.ones(3, dtype=F64), form):
            assert torch.equal(part, zero)


@pytest.mark.parametrize("form", ["predictor", "isotropic"])
def test_with_a_predictor_the_cosine_equalises_modes(form: str) -> None:
    noise = torch.tensor([[0.1, 0.2, 0.4, 0.8]], dtype=F64)
    w = torch.tensor([[0.2, 0.5, 1.0, 0.9]], dtype=F64)
    times = torch.tensor([0.0, 60.0], dtype=F64)
    end = integrate(cosine_rates(noise, form=form), (w,), times).end[0]
    level = (1 + noise) * end.square()
    assert torch.allclose(level, level.mean().expand_as(level), rtol=1e-3)


def test_with_gradient_through_both_sides_the_cosine_keeps_one_mode() -> None:
    w = torch.tensor([[0.5, 0.7, 1.0, 1.1]], dtype=F64)
    rates = cosine_rates(0.3, form="no stop-gradient")
    end = integrate(rates, (w,), torch.tensor([0.0, 300.0], dtype=F64)).end[0].square()
    assert float(end.max() / end.sum()) > 0.99


def test_without_predictor_the_cosine_keeps_the_mode_with_least_noise() -> None:
    noise = torch.tensor([[0.1, 0.3, 0.5]], dtype=F64)
    w = torch.tensor([[0.5, 1.0, 1.0]], dtype=F64)
    rates = cosine_rates(noise, form="no predictor")
    end = integrate(rates, (w,), torch.tensor([0.0, 300.0], dtype=F64)).end[0][0].square()
    assert float(end[0] / end.sum()) > 0.999
    still = cosine_rates(0.3, form="no predictor")(0.0, (w,))[0]
    assert torch.allclose(still, torch.zeros_like(still), atol=1e-15)


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_euclidean_modes_rest_where_the_predictor_is_the_best_linear_one(exponent: float) -> None:
    noise = torch.tensor([0.0, 0.4, 1.5], dtype=F64)
    start = torch.full((3,), 0.5, dtype=F64)
    times = torch.tensor([0.0, 60.0], dtype=F64)
    for form in ("predictor", "isotropic"):
        rates = euclidean_rates(noise, exponent=exponent, form=form)
        p = integrate(rates, (start,), times).end[0] ** (2 * exponent)
        assert torch.allclose(p, 1 / (1 + noise), atol=1e-6)
    # E z1 z2 / E z1² of any mode.
    for form in ("no stop-gradient", "no predictor"):
        rate = euclidean_rates(0.4, exponent=exponent, form=form)(0.0, (start,))[0] / start
        assert (rate < 0).all()


@pytest.mark.parametrize("form", ["predictor", "isotropic"])
@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_convergence_times_are_those_of_the_flow(form: str, exponent: float) -> None:
    noise, share = 0.3, 0.9
    for p0 in (0.003, 0.05, 0.3):
        found = convergence_time(
            torch.tensor(p0, dtype=F64), noise=noise, share=share, exponent=exponent, form=form
        )

        def rate(t: float, w: np.ndarray) -> np.ndarray:
            p = w ** (2 * exponent)
            return w * (1 - (1 + noise) * p) * (p if form == "predictor" else 1)

        def arrived(t: float, w: np.ndarray) -> float:
            return float(w[0] ** (2 * exponent) - share / (1 + noise))

        arrived.terminal = True
        flow = solve_ivp(
            rate, (0, 5000), [p0 ** (0.5 / exponent)], events=arrived, rtol=1e-9, atol=1e-12
        )
        assert float(found) == pytest.approx(flow.t_events[0][0], rel=1e-5)


def test_isotropic_rates_equalise_how_long_modes_take() -> None:
    p = torch.tensor([1e-4, 1e-2], dtype=F64)
    with_predictor = convergence_time(p, noise=0.3)
    isotropic = convergence_time(p, noise=0.3, form="isotropic")
    # A mode a hundred times smaller takes a hundred times as long; isotropic, a logarithm longer.
    assert float(with_predictor[0] / with_predictor[1]) == pytest.approx(100, rel=0.1)
    assert float(isotropic[0] - isotropic[1]) == pytest.approx(math.log(100) / 2, rel=0.01)


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match=r"form: 'isotropc' is not known. Did you mean 'isotropic'"):
        euclidean_rates(0.1, form="isotropc")
    with pytest.raises(UserError, match=r"^noise: -1 given"):
        cosine_rates(torch.tensor([0.1, -1.0]))
    with pytest.raises(UserError, match=r"^form: 'no predictor' is not known"):
        convergence_time(torch.tensor(0.1), noise=0.1, form="no predictor")
    with pytest.raises(UserError, match=r"^p: .* allowed: above 0 and below the end 0.692"):
        convergence_time(torch.tensor(0.8), noise=0.3)
    with pytest.raises(UserError, match=r"^share: 1.0 given"):
        convergence_time(torch.tensor(0.1), noise=0.3, share=1.0)

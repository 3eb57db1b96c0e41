"""Redundancy reduction and volume: NumPy transcriptions, known extremes, state, laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fullrank.errors import UserError
from fullrank.models.objectives.objective import Outputs
from fullrank.models.settings.objective import ObjectivePart
from fullrank.models.settings.objectives.redundancy import (
    CovarianceContrast,
    CrossCorrelation,
    FrobeniusEntropy,
    VarianceCovariance,
)
from fullrank.models.settings.objectives.volume import CodingRate, NuclearNorm
from fullrank.models.settings.objectives.whitening import Whitening

PARTS: list[ObjectivePart] = [
    CovarianceContrast(),
    FrobeniusEntropy(),
    NuclearNorm(),
    CodingRate(),
    CodingRate(features="mean"),
    Whitening(sub_batch=16),
]
every_part = pytest.mark.parametrize("part", PARTS, ids=lambda p: p.describe())


def rows(n, d, seed=0):
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=gen, dtype=torch.float64)


def outputs(n=32, d=5, views=2, targets=None, seed=0):
    z = [rows(n, d, seed + i) for i in range(views)]
    t = [rows(n, d, seed + 50 + i) for i in range(targets or views)]
    return Outputs(z, z, z, t, torch.arange(n))


def online(*z):
    views = list(z)
    return Outputs(views, views, views, views)


def total(part, out, dim=None):
    return float(part.build(dim or out.embeddings[0].shape[1])(out).total)


def unit(x):
    x = np.asarray(x)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def pairs(out):
    return [
        (np.asarray(p), np.asarray(t))
        for i, p in enumerate(out.predictions)
        for j, t in enumerate(out.targets)
        if i != j
    ]


# --- TiCo


@pytest.mark.parametrize(("views", "targets"), [(2, 2), (3, 3), (4, 2)])
def test_covariance_contrast_is_ticos_equation(views, targets):
    out = outputs(views=views, targets=targets)
    u = unit(np.concatenate(out.embeddings))
    second_moment = 0.1 * u.T @ u / len(u)
    cosines = [np.mean(np.sum(unit(p) * unit(t), axis=1)) for p, t in pairs(out)]
    expected = 1 - np.mean(cosines) + 8 * np.mean([x @ second_moment @ x for x in u])
    assert total(CovarianceContrast(rho=8, beta=0.9), out) == pytest.approx(expected, abs=1e-12)


def test_the_second_moment_is_an_average_over_steps_and_changes_only_between_them():
    objective = CovarianceContrast(beta=0.8).build(5).double()
    expected = np.zeros((5, 5))
    for step in range(3):
        out = outputs(seed=10 * step)
        first = objective(out).total
        torch.testing.assert_close(objective(out).total, first, rtol=0, atol=0)
        np.testing.assert_allclose(objective.second_moment, expected, atol=1e-14)
        objective.after_step(step + 1, 3)
        u = unit(np.concatenate(out.embeddings))
        expected = 0.8 * expected + 0.2 * u.T @ u / len(u)
        np.testing.assert_allclose(objective.second_moment, expected, atol=1e-14)
    objective.eval()
    objective(outputs(seed=99))
    objective.after_step(4, 4)
    np.testing.assert_allclose(objective.second_moment, expected, atol=1e-14)


def test_the_second_moment_is_a_constant_for_the_gradient():
    z = rows(8, 3).requires_grad_()
    objective = CovarianceContrast(rho=2.0, beta=0.0).build(3).double()
    out = Outputs([z], [z], [z.detach(), z.detach()], [z.detach(), z.detach()])
    objective(out).total.backward()
    u = torch.nn.functional.normalize(z.detach(), dim=1)
    constant = u.T @ u / 8
    other = z.detach().clone().requires_grad_()
    v = torch.nn.functional.normalize(other, dim=1)
    (2.0 * ((v @ constant) * v).sum(1).mean()).backward()
    torch.testing.assert_close(z.grad, other.grad)


# --- FroSSL


@pytest.mark.parametrize(("n", "d"), [(32, 5), (5, 8)])
@pytest.mark.parametrize(("views", "targets"), [(2, 2), (3, 3), (4, 2)])
def test_frobenius_is_frossls_equation(n, d, views, targets):
    out = outputs(n, d, views, targets)

    def standardised(z):
        z = np.asarray(z)
        return (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5)

    centre = np.mean([standardised(t) for t in out.targets], axis=0)
    expected = 0.0
    for z in map(standardised, out.embeddings):
        correlation = z.T @ z / np.trace(z.T @ z)
        expected += 2 * np.log(np.linalg.norm(correlation)) + 1.4 * np.mean((z - centre) ** 2)
    assert total(FrobeniusEntropy(invariance=1.4), out) == pytest.approx(expected, abs=1e-10)


def test_frobenius_is_least_where_dimensions_are_uncorrelated_and_zero_at_rank_one():
    basis = torch.linalg.qr(rows(8, 8))[0]
    white = 100 * torch.cat([basis, -basis])
    part = FrobeniusEntropy()
    assert total(part, online(white, white)) == pytest.approx(-2 * math.log(8), abs=1e-6)
    line = rows(64, 1) * torch.linspace(1, 2, 8, dtype=torch.float64)
    assert total(part, online(line, line)) == pytest.approx(0, abs=1e-9)
    dead = white.clone()
    dead[:, 4:] = 3.0  # dimensions that are constant count as missing
    assert total(part, online(dead, dead)) == pytest.approx(-2 * math.log(4), abs=1e-6)


# --- MMCR


@pytest.mark.parametrize(("n", "d"), [(12, 5), (4, 9)])
@pytest.mark.parametrize(("views", "targets"), [(2, 2), (3, 3), (4, 2)])
def test_nuclear_norm_is_mmcrs_equation(n, d, views, targets):
    out = outputs(n, d, views, targets)
    ours = np.mean([unit(p) for p in out.predictions], axis=0)
    averaged = np.mean([unit(t) for t in out.targets], axis=0)
    expected = -np.linalg.svd((ours + averaged) / 2, compute_uv=False).sum()
    assert total(NuclearNorm(), out) == pytest.approx(expected, abs=1e-12)


def test_nuclear_norm_of_two_orthogonal_images_by_hand():
    z = torch.tensor([[3.0, 0.0], [0.0, 0.5]])
    assert total(NuclearNorm(), online(z, z)) == pytest.approx(-2)
    turned = torch.tensor([[0.0, 3.0], [0.5, 0.0]])  # no agreement: the centroids are one point
    assert total(NuclearNorm(), online(z, turned)) == pytest.approx(-1)


def test_nuclear_norm_is_least_for_a_tight_frame():
    frame = torch.cat([torch.eye(6), -torch.eye(6), torch.eye(6)]).double()  # 18 rows, 6 dims
    assert total(NuclearNorm(), online(frame, frame)) == pytest.approx(-math.sqrt(18 * 6))
    assert total(NuclearNorm(), online(rows(18, 6), rows(18, 6))) > -math.sqrt(18 * 6)


# --- SimDINO


@pytest.mark.parametrize("features", ["online", "mean"])
@pytest.mark.parametrize(("n", "d"), [(32, 5), (5, 8)])
@pytest.mark.parametrize(("views", "targets"), [(2, 2), (3, 3), (4, 2)])
def test_coding_rate_is_simdinos_equation(features, n, d, views, targets):
    out = outputs(n, d, views, targets)
    distance = np.mean([np.mean(np.sum((unit(p) - unit(t)) ** 2, 1)) / 2 for p, t in pairs(out)])
    rates = []
    for z, t in zip(out.embeddings, out.targets, strict=False):
        u = unit(z) if features == "online" else (unit(z) + unit(t)) / 2
        rates.append(np.linalg.slogdet(np.eye(d) + d / (n * 0.5) * u.T @ u)[1] / 2)
    expected = distance - (d + n) / (d * n) * np.mean(rates)
    assert total(CodingRate(features=features), out) == pytest.approx(expected, abs=1e-12)


def test_coding_rate_is_greatest_for_a_tight_frame():
    frame = torch.cat([torch.eye(4), -torch.eye(4)]).double()  # every eigenvalue of U'U is n/d
    gamma = (4 + 8) / (4 * 8)
    best = -gamma * 4 * math.log(1 + 1 / 0.5) / 2
    assert total(CodingRate(), online(frame, frame)) == pytest.approx(best)
    assert total(CodingRate(), online(rows(8, 4), rows(8, 4))) > best


# --- all of them


def collapsed(part, n, d):
    """Return the loss of a constant embedding that has long been so."""
    z = torch.linspace(-1, 2, d, dtype=torch.float64).expand(n, d)
    objective = part.build(d).double()
    if isinstance(part, CovarianceContrast):
        for step in range(1, 301):
            objective(online(z, z))
            objective.after_step(step, 300)
    return float(objective(online(z, z)).total)


@pytest.mark.parametrize(
    "part",
    [
        *PARTS[:4],
        CovarianceContrast(rho=3),
        FrobeniusEntropy(frobenius=0),
        CodingRate(rate=0),
        Whitening(16, epsilon=0.1),
        Whitening(16, epsilon=0.1, normalise=False),
        VarianceCovariance(variance=0),
        VarianceCovariance(covariance=0, invariance=0),
        CrossCorrelation(off_diagonal=0),
    ],
    ids=str,
)
def test_collapsed_loss_is_the_loss_of_a_constant_that_has_long_been_so(part):
    n, d = 16, 6
    assert collapsed(part, n, d) == pytest.approx(part.collapsed_loss(d, n), abs=1e-9)


@every_part
@pytest.mark.parametrize(("views", "targets"), [(2, 2), (3, 3), (4, 2)])
def test_permuting_the_batch_changes_nothing(part, views, targets):
    out = outputs(views=views, targets=targets)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(2))
    lists = (out.features, out.embeddings, out.predictions, out.targets)
    shuffled = Outputs(*([t[order] for t in ts] for ts in lists), out.indices[order])
    assert total(part, shuffled) == pytest.approx(total(part, out), abs=1e-10)


@every_part
@pytest.mark.parametrize(("views", "targets"), [(2, 2), (4, 2)])
def test_terms_sum_to_the_total_and_gradients_are_those_of_finite_differences(part, views, targets):
    z = [rows(16, 3, seed=i).requires_grad_() for i in range(views)]
    fixed = [t.double() for t in outputs(16, 3, targets, seed=5).targets]
    objective = part.build(3).double().eval()

    def loss(*views):
        # The average of the past is a constant for the gradient, and so it is here.
        return objective(Outputs(list(views), list(views), list(views), fixed)).total

    found = objective(Outputs(z, z, z, fixed))
    torch.testing.assert_close(found.total, sum(found.terms.values()))
    if not isinstance(part, CovarianceContrast):
        assert torch.autograd.gradcheck(loss, z, fast_mode=True)


def test_a_weight_of_zero_takes_a_term_of_vicreg_out():
    out = outputs(n=12)
    whole = VarianceCovariance(invariance=3, variance=5, covariance=7).build(5)(out).terms
    for name in ("invariance", "variance", "covariance"):
        weights = dict.fromkeys(("invariance", "variance", "covariance"), 0.0)
        weights[name] = {"invariance": 3.0, "variance": 5.0, "covariance": 7.0}[name]
        z = [t.clone().requires_grad_() for t in out.embeddings]
        loss = VarianceCovariance(**weights).build(5)(Outputs(z, z, z, out.targets))
        torch.testing.assert_close(loss.total.detach(), whole[name])
        loss.total.backward()
        assert all(t.grad.isfinite().all() for t in z)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VarianceCovariance(variance=-1), "recipe.objective.variance: -1"),
        (lambda: VarianceCovariance(gamma=0), "recipe.objective.gamma: 0"),
        (lambda: VarianceCovariance(epsilon=0), "recipe.objective.epsilon: 0"),
        (lambda: CrossCorrelation(off_diagonal=-0.1), "recipe.objective.off_diagonal: -0.1"),
        (lambda: CovarianceContrast(rho=-1), "recipe.objective.rho: -1"),
        (lambda: CovarianceContrast(beta=1.0), "recipe.objective.beta: 1.0"),
        (lambda: FrobeniusEntropy(frobenius=-1), "recipe.objective.frobenius: -1"),
        (lambda: FrobeniusEntropy(invariance=-1), "recipe.objective.invariance: -1"),
        (lambda: CodingRate(rate=-1), "recipe.objective.rate: -1"),
        (lambda: CodingRate(epsilon=0), "recipe.objective.epsilon: 0"),
        (lambda: Whitening(sub_batch=1), "recipe.objective.sub_batch: 1"),
        (lambda: Whitening(rounds=0), "recipe.objective.rounds: 0"),
        (lambda: Whitening(epsilon=1.0), "recipe.objective.epsilon: 1.0"),
    ],
)
def test_bad_settings_are_refused_with_what_is_allowed(make, message):
    with pytest.raises(UserError, match=message + r".*Allowed"):
        make()

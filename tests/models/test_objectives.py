"""Objectives against NumPy transcriptions of their papers' equations, and known minima."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fullrank.models.objectives.objective import Loss, Outputs
from fullrank.models.settings.objective import ObjectivePart
from fullrank.models.settings.objectives.contrastive import NTXent
from fullrank.models.settings.objectives.directions import Cosine, NormalisedMSE
from fullrank.models.settings.objectives.redundancy import CrossCorrelation, VarianceCovariance

PARTS: list[ObjectivePart] = [
    Cosine(),
    NormalisedMSE(),
    NTXent(),
    VarianceCovariance(),
    CrossCorrelation(),
]


def outputs(n=12, d=5, seed=0, views=2):
    gen = torch.Generator().manual_seed(seed)

    def draw():
        return [torch.randn(n, d, generator=gen, dtype=torch.float64) for _ in range(views)]

    z = draw()
    return Outputs(features=z, embeddings=z, predictions=draw(), targets=draw())


def same_sides(out):
    return Outputs(out.features, out.embeddings, out.embeddings, out.embeddings)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def total(part, out):
    return float(part.build(out.embeddings[0].shape[1])(out).total)


def arrays(out):
    return [t.numpy() for t in out.predictions], [t.numpy() for t in out.targets]


def test_cosine_is_simsiams_equation():
    out = outputs()
    (p1, p2), (z1, z2) = arrays(out)
    d12 = -np.mean(np.sum(unit(p1) * unit(z2), axis=1))
    d21 = -np.mean(np.sum(unit(p2) * unit(z1), axis=1))
    assert total(Cosine(), out) == pytest.approx(d12 / 2 + d21 / 2, abs=1e-12)


def test_normalised_mse_is_byols_equation():
    out = outputs()
    (p1, p2), (z1, z2) = arrays(out)
    expected = sum(
        np.mean(np.sum((unit(p) - unit(z)) ** 2, axis=1)) for p, z in ((p1, z2), (p2, z1))
    )
    assert total(NormalisedMSE(), out) == pytest.approx(expected, abs=1e-12)


def test_nt_xent_is_simclrs_equation():
    out = same_sides(outputs())
    z = unit(np.concatenate(arrays(out)[0]))
    n, temperature = len(z) // 2, 0.3
    similarity = np.exp(z @ z.T / temperature)
    losses = []
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        losses.append(-np.log(similarity[i, j] / (similarity[i].sum() - similarity[i, i])))
    assert total(NTXent(temperature), out) == pytest.approx(np.mean(losses), abs=1e-12)


def test_variance_covariance_is_vicregs_equation():
    out = same_sides(outputs())
    a, b = arrays(out)[0]
    d = a.shape[1]
    invariance = np.mean((a - b) ** 2)
    hinge = sum(np.maximum(0, 1 - np.sqrt(x.var(0, ddof=1) + 1e-4)).mean() / 2 for x in (a, b))
    covariance = 0.0
    for x in (a, b):
        c = np.cov(x.T)
        covariance += (np.sum(c**2) - np.sum(np.diag(c) ** 2)) / d
    expected = 25 * invariance + 25 * hinge + covariance
    assert total(VarianceCovariance(), out) == pytest.approx(expected, abs=1e-10)


def test_cross_correlation_is_barlow_twins_equation():
    out = same_sides(outputs(n=200))
    a, b = ((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) for x in arrays(out)[0])
    c = a.T @ b / len(a)
    off = np.sum(c**2) - np.sum(np.diag(c) ** 2)
    expected = np.sum((1 - np.diag(c)) ** 2) + 0.0051 * off
    assert total(CrossCorrelation(), out) == pytest.approx(expected, rel=1e-10)


def test_known_minima():
    gen = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(8, 8, generator=gen, dtype=torch.float64))[0]
    z = torch.cat([basis, -basis])  # centred, uncorrelated, equal variances
    same = Outputs([z, z], [z, z], [z, z], [z, z])
    assert total(Cosine(), same) == pytest.approx(-1)
    assert total(NormalisedMSE(), same) == pytest.approx(0, abs=1e-12)
    assert total(CrossCorrelation(), same) == pytest.approx(0, abs=1e-6)
    spread = z * math.sqrt(15)  # unbiased variance 2 > 1: no hinge
    assert total(VarianceCovariance(), Outputs(*[[spread, spread]] * 4)) == pytest.approx(0)


@pytest.mark.parametrize("part", PARTS, ids=lambda p: p.kind)
def test_collapsed_loss_is_the_loss_of_a_constant(part):
    n, d = 16, 6
    constant = torch.full((n, d), 0.7, dtype=torch.float64)
    constant[:, 0] = -1.3
    views = [constant, constant]
    assert total(part, Outputs(views, views, views, views)) == pytest.approx(
        part.collapsed_loss(d, n), rel=1e-6, abs=1e-9
    )


@pytest.mark.parametrize("part", PARTS, ids=lambda p: p.kind)
def test_permuting_the_batch_changes_nothing(part):
    out = outputs()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    lists = (out.features, out.embeddings, out.predictions, out.targets)
    shuffled = Outputs(*([t[order] for t in ts] for ts in lists))
    assert total(part, shuffled) == pytest.approx(total(part, out), abs=1e-10)


@pytest.mark.parametrize("part", PARTS, ids=lambda p: p.kind)
@pytest.mark.parametrize("views", [2, 3])
def test_terms_sum_to_the_total_and_gradients_are_finite(part, views):
    out = outputs(views=views)
    leaves = [t.requires_grad_() for t in out.predictions]
    loss: Loss = part.build(out.embeddings[0].shape[1])(
        Outputs(out.features, leaves, leaves, out.targets)
    )
    torch.testing.assert_close(loss.total, sum(loss.terms.values()))
    loss.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in leaves)

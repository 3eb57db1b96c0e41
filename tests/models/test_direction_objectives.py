"""IsoLoss and the centred cosine against autograd, NumPy and hand-computed cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from fullrank.models.objectives.objective import Outputs
from fullrank.models.settings.objectives.directions import CentredCosine, Cosine, Isotropic
from fullrank.models.settings.predictor import BiasPredictor, SymmetricLinearPredictor

D = 5


def draw(n=12, seed=0, views=2):
    gen = torch.Generator().manual_seed(seed)
    return [torch.randn(n, D, generator=gen, dtype=torch.float64) for _ in range(views)]


def loss(part, z, p, t):
    return part.build(D)(Outputs(z, z, p, t)).total


def predictor():
    root = torch.randn(D, D, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return root @ root.T + 0.1 * torch.eye(D, dtype=torch.float64)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("views", [2, 3])
def test_the_isotropic_gradient_is_the_plain_one_without_the_predictor(distance, views):
    W, t = predictor(), draw(seed=1, views=views)

    def plain(p, t):
        if distance == "cosine":
            return (2 - 2 * cosine_similarity(p, t, dim=1)).mean()
        return (p - t).square().sum(1).mean()

    z = [v.requires_grad_() for v in draw(views=views)]
    pairs = [(i, j) for i in range(views) for j in range(views) if i != j]
    total = sum(plain(z[i] @ W, t[j]) for i, j in pairs) * 2 / len(pairs)
    expected = torch.autograd.grad(total, z)
    found = torch.autograd.grad(loss(Isotropic(distance), z, [v @ W for v in z], t), z)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs @ torch.linalg.inv(W), rtol=1e-9, atol=1e-9)


def test_isotropic_values_are_the_papers():
    z, t, W = draw(), draw(seed=1), predictor()
    p = [v @ W for v in z]
    root = np.linalg.cholesky(W.numpy())  # |root' z| = |W^(1/2) z|
    total = 0.0
    for i, j in ((0, 1), (1, 0)):
        a, b, c = z[i].numpy(), p[i].numpy(), t[j].numpy()
        np_, nt = np.linalg.norm(b, axis=1), np.linalg.norm(c, axis=1)
        sim = (a * c).sum(1) / (np_ * nt)
        sim -= 0.5 * (b * c).sum(1) / (np_**3 * nt) * np.linalg.norm(a @ root, axis=1) ** 2
        total += -2 * sim.mean()
    assert float(loss(Isotropic("cosine"), z, p, t)) == pytest.approx(total, abs=1e-12)
    squares = sum(((p[i] - t[j]) ** 2).sum(1).mean() for i, j in ((0, 1), (1, 0)))
    assert float(loss(Isotropic("euclidean"), z, p, t)) == pytest.approx(float(squares), abs=1e-12)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_isotropic_gradients_flow_through_online_targets(distance):
    z = [v.requires_grad_() for v in draw()]
    t = [v.requires_grad_() for v in draw(seed=1)]
    loss(Isotropic(distance), z, z, t).backward()
    assert all(float(v.grad.abs().sum()) > 0 for v in t)


def test_the_centred_cosine_is_alignment_with_a_penalty_on_the_centre():
    z = draw()
    u, v = (x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True) for x in z)
    m = np.concatenate([u, v]).mean(0)
    expected = -np.mean(np.sum((u - m) * (v - m), axis=1))
    assert float(loss(CentredCosine(), z, z, z)) == pytest.approx(expected, abs=1e-12)
    assert expected == pytest.approx(m @ m - np.mean(np.sum(u * v, axis=1)), abs=1e-12)


def test_the_centres_own_gradient_changes_nothing():
    z = [x.requires_grad_() for x in draw()]
    found = torch.autograd.grad(loss(CentredCosine(), z, z, z), z)
    u = [x / x.norm(dim=1, keepdim=True) for x in z]
    m = torch.cat(u).mean(0).detach()
    constant = -((u[0] - m) * (u[1] - m)).sum(1).mean()
    for ours, theirs in zip(found, torch.autograd.grad(constant, z), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_known_values_of_the_centred_cosine():
    poles = torch.tensor([[1.0, 0], [-1.0, 0]], dtype=torch.float64)  # centred: the minimum
    part = CentredCosine()
    assert float(part.build(2)(Outputs(*[[poles, poles]] * 4)).total) == pytest.approx(-1)
    same = torch.ones(4, 2, dtype=torch.float64)
    assert float(part.build(2)(Outputs(*[[same, 3 * same]] * 4)).total) == pytest.approx(0)
    # Three views, of which one is a target.
    z = draw(views=3)
    found = float(part.build(D)(Outputs(z, z, z, z[:1])).total)
    u = [x / x.norm(dim=1, keepdim=True) for x in z]
    p = [x - torch.cat(u).mean(0) for x in u]
    t = u[0] - u[0].mean(0)
    expected = -sum((p[i] * t).sum(1).mean() for i in (1, 2)) / 2
    assert found == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("part", [Isotropic("cosine"), Isotropic("euclidean"), CentredCosine()])
def test_constant_embeddings_have_the_collapsed_loss(part):
    rows = [torch.linspace(-1, 2, D, dtype=torch.float64).expand(8, D)] * 2
    assert float(loss(part, rows, rows, rows)) == pytest.approx(part.collapsed_loss(D, 8))


def test_a_symmetric_predictor_is_symmetric_and_stays_so():
    part = SymmetricLinearPredictor().build(D).double()
    z = draw()
    optimiser = torch.optim.SGD(part.parameters(), lr=0.5)
    for _ in range(5):
        optimiser.zero_grad()
        loss(Cosine(), z, [part(v) for v in z], z).backward()
        optimiser.step()
    assert torch.equal(part.weight, part.weight.T)
    torch.testing.assert_close(part(z[0]), z[0] @ part.weight)


def test_a_bias_predictor_adds_its_bias():
    part = BiasPredictor().build(D).double()
    z = draw()[0]
    assert torch.equal(part(z), z)
    with torch.no_grad():
        part.bias.add_(2.0)
    torch.testing.assert_close(part(z), z + 2)

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from torch import Tensor

from fullrank.errors import UserError
from fullrank.randomness import generator
from fullrank.theory.contrastive import (
    batch_rates,
    contrast,
    contrast_matrix,
    critical_noise,
    imbalance,
    layer_rates,
    mode_rates,
    product,
    resting_weight,
    singular_value_rates,
)
from fullrank.theory.duality import duality
from fullrank.theory.flow import integrate

F64 = torch.float64


def normal(*shape: int, key: str = "rows") -> Tensor:
    return torch.randn(*shape, generator=generator(0, key), dtype=F64)


def span(until: float, n: int = 2) -> Tensor:
    return torch.linspace(0, until, n, dtype=F64)


def effective_rank(sigma: Tensor) -> Tensor:
    share = sigma / sigma.sum(-1, keepdim=True)
    return torch.special.entr(share).sum(-1).exp()


def info_nce(first: Tensor, second: Tensor, W: Tensor) -> Tensor:
    """InfoNCE as it is written in code, on squared distances."""
    z, other = first @ W.T, second @ W.T
    near = -(z - other).square().sum(1) / 2
    pairs = -(z[:, None] - z[None]).square().sum(2) / 2
    logits = torch.where(torch.eye(len(z), dtype=torch.bool), torch.diag(near), pairs)
    return (logits.logsumexp(1) - near).mean()


def test_the_contrast_matrix_is_the_gradient_of_info_nce() -> None:
    first = normal(30, 4, key="first")
    second = first + 0.5 * normal(30, 4, key="second")
    W = normal(3, 4, key="W").requires_grad_()
    (-info_nce(first, second, W)).backward()
    X = contrast_matrix(first, second, W.detach())
    assert torch.allclose(W.detach() @ X, W.grad, atol=1e-13)
    both = contrast_matrix(first, second, torch.stack([W.detach(), 2 * W.detach()]))
    assert torch.allclose(both[0], X, atol=1e-14)


def test_with_endless_negatives_the_contrast_is_the_closed_form() -> None:
    S, V = torch.tensor([1.0, 2.0], dtype=F64), torch.tensor([0.3, 3.0], dtype=F64)
    clean, noise = normal(3000, 4).split(2, dim=1)
    first = S.sqrt() * clean
    second = first + V.sqrt() * noise
    for m in (0.0, 0.5, 2.0):
        X = contrast_matrix(first, second, math.sqrt(m) * torch.eye(2, dtype=F64))
        expected = contrast(S, V, torch.full((2,), m, dtype=F64))
        assert torch.allclose(X.diagonal(), expected, atol=0.12)
        assert abs(float(X[0, 1])) < 0.12


def test_one_layer_grows_and_decays_by_the_exponential_of_x() -> None:
    Q = torch.linalg.qr(normal(5, 5))[0]
    growth = torch.tensor([1.0, 0.5, 0.1, -0.2, -1.0], dtype=F64)
    X = (Q * growth) @ Q.T
    W = normal(3, 5, key="W")
    end = integrate(layer_rates(X), (W[None],), span(4.0)).end[0][0]
    assert torch.allclose(end, W @ torch.from_numpy(expm(4.0 * X.numpy())), rtol=1e-5)
    expected = (W @ Q).norm(dim=0) * torch.exp(4.0 * growth)
    assert torch.allclose((end @ Q).norm(dim=0), expected, rtol=1e-5)


def test_a_direction_dies_from_the_critical_noise_on() -> None:
    for S, decay in ((1.0, 0.0), (0.5, 0.2)):
        noise = torch.linspace(0.0, 3.0, 61, dtype=F64) + 0.025
        start = torch.full_like(noise, 0.7)
        rates = mode_rates(S, noise, weight_decay=decay)
        end = integrate(rates, (start,), span(400.0), rtol=1e-6, atol=1e-8).end[0].square()
        survives = end > 1e-3
        limit = float(critical_noise(S, decay))
        assert torch.equal(survives, noise < limit)
        expected = resting_weight(S, noise, decay)
        away = (noise - limit).abs() > 0.06
        assert torch.allclose(end[away], expected[away], atol=1e-4)


def test_stronger_augmentation_leaves_less_of_a_direction() -> None:
    # A batch of 96 inputs in 8 dimensions; noise on the last 4 of one view, as in Jing et al.
    x = normal(96, 8, key="x")
    shift = torch.zeros(96, 8, dtype=F64)
    shift[:, 4:] = normal(96, 4, key="noise")
    W = torch.linalg.qr(normal(8, 8, key="W"))[0][None] * 0.3
    kept = []
    for scale in (0.3, 0.8, 1.0, 1.5, 3.0):
        rates = batch_rates(x, x + scale * shift)
        end = integrate(rates, (W,), span(6.0), rtol=1e-5, atol=1e-7).end[0][0]
        strength = end.square().sum(0)
        kept.append((float(strength[:4].mean()), float(strength[4:].mean())))
    clean, noisy = zip(*kept, strict=True)
    assert all(a > b for a, b in itertools.pairwise(noisy))
    assert noisy[-1] < 1e-3 * clean[-1]  # 9 is far above the critical variance 2
    assert noisy[0] > 0.5 * clean[0]
    # Nothing else holds it down: the clean directions are no weaker for it.
    assert all(b > a for a, b in itertools.pairwise(clean))


def test_layers_keep_their_imbalance() -> None:
    X = normal(6, 6) @ normal(6, 6).T / 60
    layers = tuple(0.3 * normal(1, 6, 6, key=key) for key in "abc")
    for decay in (0.0, 0.2):
        flow = integrate(layer_rates(X, weight_decay=decay), layers, span(1.0, 5))
        for lower, upper in zip(flow.states, flow.states[1:], strict=False):
            found = imbalance(lower, upper)
            factor = torch.exp(-2 * decay * flow.times)[:, None, None, None]
            assert torch.allclose(found, factor * found[0], atol=1e-6)


def test_the_layers_flow_by_the_gradient() -> None:
    X = torch.diag(torch.tensor([1.0, 0.5, -0.3], dtype=F64))
    layers = tuple(normal(3, 3, key=key).requires_grad_() for key in "abc")
    W = layers[2] @ layers[1] @ layers[0]
    (0.5 * torch.trace(W @ X @ W.T)).backward()
    rates = layer_rates(X)(0.0, tuple(w.detach()[None] for w in layers))
    for rate, layer in zip(rates, layers, strict=True):
        assert torch.allclose(rate[0], layer.grad, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_aligned_layers_fall_apart_into_singular_values(depth: int) -> None:
    growth = torch.tensor([1.0, 0.6, 0.2], dtype=F64)
    bases = [torch.linalg.qr(normal(3, 3, key=str(k)))[0] for k in range(depth + 1)]
    sigma = [torch.tensor([0.5, 0.4, 0.3], dtype=F64) * (1 + 0.2 * k) for k in range(depth)]
    layers = [
        ((up * s) @ down.T)[None] for s, down, up in zip(sigma, bases, bases[1:], strict=False)
    ]
    X = (bases[0] * growth) @ bases[0].T
    ends = integrate(layer_rates(X, weight_decay=0.05), layers, span(1.5)).end
    expected = integrate(singular_value_rates(growth, weight_decay=0.05), sigma, span(1.5)).end
    for W, s in zip(ends, expected, strict=True):
        found = torch.linalg.svdvals(W[0])
        assert torch.allclose(found, s.sort(descending=True).values, rtol=1e-5)


def test_balanced_layers_follow_the_closed_form() -> None:
    # s' = L s^(3 - 2/L) x, so s^(2/L - 2) falls by (2 - 2/L) L x t.
    for depth in (2, 3, 5):
        s0, x, t = 0.5, 0.7, 0.3
        sigma = (torch.full((1,), s0 ** (1 / depth), dtype=F64),) * depth
        end = math.prod(
            s.item()
            for s in integrate(
                singular_value_rates(torch.tensor([x], dtype=F64)), sigma, span(t)
            ).end
        )
        power = 2 / depth - 2
        expected = (s0**power + power * depth * x * t) ** (1 / power)
        assert end == pytest.approx(expected, rel=1e-6)


def test_the_deeper_the_fewer_dimensions() -> None:
    # The same start and pull for every direction; compared when the largest has doubled.
    start = torch.exp(-0.1 * torch.arange(16, dtype=F64))
    ranks = []
    for depth in (1, 2, 3, 4):
        sigma = (start ** (1 / depth),) * depth
        power = 2 / depth - 2
        doubled = math.log(2) if depth == 1 else (2**power - 1) / (power * depth)
        ends = integrate(singular_value_rates(torch.ones(16, dtype=F64)), sigma, span(doubled)).end
        s = torch.stack(ends).prod(0)
        assert float(s[0]) == pytest.approx(2, rel=1e-5)
        ranks.append(float(effective_rank(s)))
    assert ranks[0] == pytest.approx(float(effective_rank(start)), rel=1e-6)
    assert all(a > b + 0.01 for a, b in itertools.pairwise(ranks))


def test_on_a_batch_depth_lowers_rank_and_a_single_layer_keeps_it() -> None:
    x = normal(64, 8, key="x")
    second = x + 1e-3 * normal(64, 8, key="noise")
    spectrum = torch.diag(torch.exp(-0.35 * torch.arange(8, dtype=F64)))
    ranks = []
    for depth in (1, 2, 3):
        layers = []
        for k in range(depth):
            U, V = (torch.linalg.qr(normal(8, 8, key=f"{side}{k}"))[0] for side in "UV")
            layers.append((U @ spectrum @ V.T)[None])
        end = integrate(batch_rates(x, second), layers, span(6.0), rtol=1e-5, atol=1e-7).end
        ranks.append(float(effective_rank(torch.linalg.svdvals(product(end)[0]))))
    assert ranks[0] > 7.5
    assert ranks[0] > ranks[1] + 0.5 > ranks[2] + 1.0


def test_shared_singular_vectors_align() -> None:
    # Conserved imbalance beside growing layers: its share of them vanishes.
    X = torch.eye(6, dtype=F64)
    layers = tuple(0.2 * normal(1, 6, 6, key=key) for key in "ab")
    # The product blows up in finite time; the last state before is as large as floats allow.
    last = integrate(layer_rates(X), layers, span(40.0)).last
    before, after = (
        float(imbalance(lower[0], upper[0]).norm() / (lower[0] @ lower[0].mT).norm())
        for lower, upper in (layers, last)
    )
    assert after < 0.01 * before
    into = torch.linalg.svd(last[1][0])[2][0]
    out = torch.linalg.svd(last[0][0])[0][:, 0]
    assert abs(float(into @ out)) > 0.99


def test_modes_of_any_depth_rest_at_the_same_product() -> None:
    S = torch.tensor([1.0, 0.5], dtype=F64)
    for depth in (1, 2, 3):
        sigma = (torch.full((2,), 0.8, dtype=F64),) * depth
        end = integrate(mode_rates(S, 0.2), sigma, span(200.0)).end
        squared = torch.stack(end).prod(0).square()
        assert torch.allclose(squared, resting_weight(S, 0.2), rtol=1e-5)


def test_without_noise_nothing_holds_a_direction() -> None:
    assert math.isinf(float(resting_weight(1.0, 0.0)))
    assert float(critical_noise(1.0)) == 2.0
    # Noise of both views adds to the anchors too: 2v < 2(S + v) whatever v.
    for v in (0.1, 10.0, 1e4):
        assert 2 * v < float(critical_noise(1.0 + v))


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (5, 5)])
def test_the_duality_identity_is_exact(shape: tuple[int, int]) -> None:
    K = normal(*shape)
    found = duality(K)
    assert float(found.by_samples) == pytest.approx(float(found.by_dimensions), rel=1e-13)
    k = K.numpy()
    for mine, G, lengths in (
        (found.sample_contrastive, k @ k.T, (k**2).sum(1)),
        (found.dimension_contrastive, k.T @ k, (k**2).sum(0)),
    ):
        off = sum(G[i, j] ** 2 for i in range(len(G)) for j in range(len(G)) if i != j)
        assert float(mine) == pytest.approx(off, rel=1e-12)
        assert (G**2).sum() == pytest.approx(off + (lengths**2).sum(), rel=1e-12)


def test_with_unit_rows_and_columns_both_contrasts_differ_by_a_constant() -> None:
    Q = np.linalg.qr(normal(8, 4).numpy())[0]
    found = duality(torch.from_numpy(Q))
    assert float(found.dimension_contrastive) == pytest.approx(0, abs=1e-28)
    signs = torch.sign(normal(2, 8, 4, key="signs"))  # unit rows and columns up to a factor
    gap = duality(signs)
    constant = 8 * 4**2 - 4 * 8**2
    difference = gap.dimension_contrastive - gap.sample_contrastive
    assert torch.equal(difference, torch.full((2,), float(constant), dtype=F64))


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match=r"^variance: 0 given; allowed: above 0"):
        contrast(0.0, 0.1, torch.ones(1, dtype=F64))
    with pytest.raises(UserError, match=r"^noise: -1 given; allowed: from 0"):
        mode_rates(1.0, -1.0)
    with pytest.raises(UserError, match=r"^X: a matrix that is not symmetric"):
        layer_rates(torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=F64))
    with pytest.raises(UserError, match=r"^second: shape \(3, 2\) given"):
        batch_rates(torch.zeros(4, 2, dtype=F64), torch.zeros(3, 2, dtype=F64))
    with pytest.raises(UserError, match=r"^weight_decay: -0.1 given"):
        critical_noise(1.0, -0.1)

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import CCA
from torch import Tensor
from torch.nn.functional import normalize

from fullrank.errors import UserError
from fullrank.measure.moments import Moments, moments_of
from fullrank.measure.pairs import alignment, spread
from fullrank.measure.views import (
    canonical_correlation,
    canonical_correlations,
    centre_residual,
    expected_over_augmentations,
    expected_over_data,
)
from fullrank.randomness import generator


def normal(*shape: int, key: str) -> Tensor:
    return torch.randn(*shape, generator=generator(0, "views", key), dtype=torch.float64)


def several(q: int, n: int = 300, d: int = 6, mean: float = 0.5) -> list[Tensor]:
    images = normal(n, d, key="images") + mean
    return [images + 0.7 * normal(n, d, key=f"view {v}") for v in range(q)]


@pytest.mark.parametrize("q", [1, 2, 5])
def test_centre_and_residual_are_the_two_legs_of_one(q: int) -> None:
    views = several(q)
    u = normalize(torch.cat(views))
    centre, residual = centre_residual(moments_of(*views))
    assert centre == pytest.approx(float(u.mean(0).norm()))
    assert residual == pytest.approx(float((u - u.mean(0)).square().sum(1).mean().sqrt()))
    assert centre**2 + residual**2 == pytest.approx(1)
    assert residual**2 == pytest.approx(spread(moments_of(*views)))
    assert expected_over_data(moments_of(*views)) == centre


@pytest.mark.parametrize("q", [2, 3, 8])
def test_expected_over_augmentations_is_the_length_of_each_images_mean(q: int) -> None:
    views = several(q)
    u = normalize(torch.stack(views), dim=2)  # (q, n, d)
    expected = float(u.mean(0).square().sum(1).mean().sqrt())
    assert expected_over_augmentations(moments_of(*views)) == pytest.approx(expected)
    cosine = [(u[v] * u[w]).sum(1).mean() for v in range(q) for w in range(v)]
    expected = float(torch.stack(cosine).mean().sqrt())
    found = expected_over_augmentations(moments_of(*views), unbiased=True)
    assert found == pytest.approx(expected)
    apart = alignment(moments_of(*views))
    assert apart is not None
    assert found == pytest.approx(math.sqrt(1 - apart / 2))


@pytest.mark.parametrize("q", [1, 2, 4])
def test_unbiased_centre_is_the_mean_cosine_of_two_images(q: int) -> None:
    views = several(q, n=40)
    u = normalize(torch.stack(views, 1), dim=2)  # (n, q, d)
    cosine = torch.einsum("ivd,jwd->ij", u, u) / q**2
    expected = float((cosine.sum() - cosine.trace()) / (40 * 39))
    found = expected_over_data(moments_of(*views), unbiased=True)
    assert found == pytest.approx(math.sqrt(expected))


def test_unbiased_lengths_of_unrelated_rows_are_near_zero() -> None:
    unrelated = [normal(2000, 32, key=f"unrelated {v}") for v in range(2)]
    state = moments_of(*unrelated)
    plug_in, unbiased = (expected_over_augmentations(state, unbiased=b) for b in (False, True))
    assert plug_in == pytest.approx(math.sqrt(1 / 2), rel=0.01)
    assert unbiased is not None
    assert unbiased < 0.1
    few = moments_of(normal(10, 512, key="few"))
    assert expected_over_data(few) == pytest.approx(math.sqrt(1 / 10), rel=0.1)
    assert expected_over_data(few, unbiased=True) < 0.1


def test_invariance_and_collapse_both_have_perfect_expectations() -> None:
    x = normal(200, 16, key="x")
    invariant = moments_of(x, 2 * x)  # the length of a row does not count
    assert expected_over_augmentations(invariant) == pytest.approx(1)
    assert expected_over_data(invariant) < 0.2
    collapsed = moments_of(torch.ones(9, 4), torch.ones(9, 4))
    assert expected_over_augmentations(collapsed) == pytest.approx(1)
    assert centre_residual(collapsed) == pytest.approx((1, 0))
    antipodes = moments_of(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    assert centre_residual(antipodes) == pytest.approx((0, 1))


def test_zero_rows_have_no_direction() -> None:
    zero = torch.zeros(4, 3)
    state = moments_of(zero, zero)
    assert centre_residual(state) == (0, 0)
    assert expected_over_augmentations(state) == expected_over_data(state, unbiased=True) == 0
    assert canonical_correlation(state) == 0
    half = moments_of(torch.eye(3), torch.zeros(3, 3))
    assert expected_over_augmentations(half) == pytest.approx(0.5)
    assert expected_over_augmentations(half, unbiased=True) == pytest.approx(0)


def test_canonical_correlations_are_those_of_orthonormal_bases() -> None:
    x, y = several(2)
    y = y @ normal(6, 6, key="map") + 2
    bases = [np.linalg.qr((v - v.mean(0)).numpy())[0] for v in (x, y)]
    expected = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    found = canonical_correlations(moments_of(x, y))
    assert found is not None
    assert found.numpy() == pytest.approx(expected)
    assert canonical_correlation(moments_of(x, y)) == pytest.approx(expected.mean())


def test_first_canonical_correlation_is_scikit_learns() -> None:
    x, y = (v[:, :3] for v in several(2))
    a, b = CCA(n_components=1, max_iter=5000, tol=1e-12).fit_transform(x.numpy(), y.numpy())
    found = canonical_correlations(moments_of(x, y))
    assert found is not None
    assert float(found[0]) == pytest.approx(np.corrcoef(a[:, 0], b[:, 0])[0, 1], rel=1e-5)


def test_canonical_correlations_of_known_signal_and_noise() -> None:
    """Of signal variance 1 and noise variance s² in each view they are ``1 / (1 + s²)``."""
    signal = normal(50_000, 3, key="signal")
    noise = torch.tensor([0.1, 0.5, 2.0])
    views = [signal + noise * normal(50_000, 3, key=f"noise {v}") for v in range(2)]
    found = canonical_correlations(moments_of(*views))
    assert found is not None
    assert found.tolist() == pytest.approx((1 / (1 + noise.square())).tolist(), abs=0.01)


def test_canonical_correlations_do_not_see_invertible_maps() -> None:
    x, y = several(2)
    once = canonical_correlations(moments_of(x, y))
    assert once is not None
    narrow = x * torch.tensor([1e4, 1.0, 1.0, 1.0, 1e-1, 1e-1])  # spread over five orders
    for pair in (
        (x @ normal(6, 6, key="map"), y + 5),
        (narrow, 0.1 * y),
        (y, x),
    ):
        found = canonical_correlations(moments_of(*pair))
        assert found is not None
        assert found.tolist() == pytest.approx(once.tolist(), abs=1e-6)


def test_directions_that_a_view_has_lost_are_left_out() -> None:
    x, y = several(2, d=4)
    once = canonical_correlation(moments_of(x, y))
    wide = [torch.cat([v, torch.zeros(300, 2), v[:, :1] + v[:, 1:2]], 1) for v in (x, y)]
    state = moments_of(*wide)
    found = canonical_correlations(state)
    assert found is not None
    assert found.shape == (7,)
    assert bool((found[4:] == 0).all())
    assert canonical_correlation(state) == pytest.approx(once)


def test_few_rows_correlate_whatever_they_are_and_a_ridge_helps() -> None:
    few = moments_of(normal(8, 12, key="a"), normal(8, 12, key="b"))
    assert canonical_correlation(few) == pytest.approx(1)
    # Of independent Gaussian views the squared correlations are about d/n in the mean.
    many = moments_of(normal(3000, 30, key="a"), normal(3000, 30, key="b"))
    found = canonical_correlations(many)
    assert found is not None
    assert float(found.square().mean()) == pytest.approx(30 / 3000, rel=0.15)
    values = [canonical_correlation(few, ridge=ridge) for ridge in (0.0, 0.1, 10.0)]
    assert values == sorted(values, reverse=True)
    assert values[-1] is not None
    assert values[-1] < 0.6


def test_what_does_not_have_the_views_is_none() -> None:
    views = several(3)
    assert expected_over_augmentations(moments_of(views[0])) is None
    for state in (moments_of(views[0]), moments_of(*views)):
        assert canonical_correlations(state) is None
        assert canonical_correlation(state) is None


def test_bad_input_is_refused() -> None:
    empty = Moments()
    empty.update(torch.zeros(0, 3), torch.zeros(0, 3))
    state = empty.compute()
    for function in (
        centre_residual,
        expected_over_data,
        expected_over_augmentations,
        canonical_correlations,
        canonical_correlation,
    ):
        with pytest.raises(UserError, match="the moments are empty"):
            function(state)
    with pytest.raises(UserError, match="1 image given"):
        expected_over_data(moments_of(torch.ones(1, 3)), unbiased=True)
    with pytest.raises(UserError, match="ridge: -1"):
        canonical_correlation(moments_of(*several(2)), ridge=-1.0)

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import hyp0f1
from scipy.stats import special_ortho_group
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.moments import unit_rows
from fullrank.measure.spectrum import participation_ratio
from fullrank.measure.uniformity import (
    self_cluster,
    uniform_value,
    uniformity,
    uniformity_gap,
)
from fullrank.randomness import generator


def normal(n: int, d: int, key: str = "rows") -> Tensor:
    return torch.randn(n, d, generator=generator(0, key), dtype=torch.float64)


@pytest.mark.parametrize("t", [0.5, 2.0, 7.0])
def test_uniformity_is_the_log_of_the_mean_kernel(t: float) -> None:
    x = normal(700, 6) + 0.3
    u, _ = unit_rows(x)
    expected = torch.pdist(u).square().mul(-t).exp().mean().log()
    assert uniformity(x, t) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_any_dtype_is_computed_in_double_precision(dtype: torch.dtype) -> None:
    x = (normal(60, 6) * 4).to(dtype)
    assert uniformity(x) == uniformity(x.double())
    assert self_cluster(x) == self_cluster(x.double())


@pytest.mark.parametrize("d", [1, 2, 3, 10, 128, 2048, 10**6])
@pytest.mark.parametrize("t", [0.1, 2.0, 5.0])
def test_the_uniform_value_is_the_closed_form(d: int, t: float) -> None:
    # SciPy's asymptotic form for large d has fewer digits.
    digits = 1e-12 if d <= 128 else 1e-9
    expected = -2 * t + math.log(hyp0f1(d / 2, t * t))
    assert uniform_value(d, t) == pytest.approx(expected, rel=digits)


def test_the_uniform_value_in_one_dimension_is_that_of_two_points() -> None:
    assert uniform_value(1, 2.0) == pytest.approx(math.log((1 + math.exp(-8)) / 2), rel=1e-14)
    # exp(t²) overflows long before; here half of the pairs coincide.
    assert uniform_value(1, 1e4) == pytest.approx(-math.log(2), abs=1e-6)


@pytest.mark.parametrize("d", [2, 8, 64])
def test_uniform_rows_have_no_gap(d: int) -> None:
    assert uniformity_gap(normal(3000, d), 2.0) == pytest.approx(0, abs=0.01)
    assert uniformity_gap(normal(3000, d)[:, :1].expand(-1, d).contiguous(), 2.0) > 0.1


def test_complete_collapse_has_uniformity_0_and_self_cluster_1() -> None:
    for x in (torch.ones(30, 5), torch.zeros(30, 5), torch.full((30, 5), 1e30)):
        assert uniformity(x) == 0
        assert self_cluster(x) == 1
        assert uniformity_gap(x) == -uniform_value(5)


def test_known_points() -> None:
    # Cosines of a simplex are -1/d, of orthogonal axes 0, of antipodes -1.
    axes = torch.eye(4)
    assert uniformity(axes) == pytest.approx(-4)
    assert self_cluster(axes) == pytest.approx(-1 / 3)
    simplex = axes - 0.25
    basis = torch.linalg.svd(simplex.double())[2][:3]
    flat = simplex.double() @ basis.T
    assert self_cluster(flat) == pytest.approx((1 / 9 - 1 / 3) / (1 - 1 / 3))
    pair = torch.tensor([[1.0, 2.0], [-2.0, -4.0]])
    assert uniformity(pair) == pytest.approx(-8)
    assert self_cluster(pair) == pytest.approx(1)


def test_zero_rows() -> None:
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0]])
    # One pair at distance 0, two at distance 1.
    assert uniformity(x) == pytest.approx(math.log((1 + 2 * math.exp(-2)) / 3))
    y = normal(40, 3)
    padded = torch.cat([torch.zeros(5, 3, dtype=torch.float64), y])
    assert self_cluster(padded) == pytest.approx(self_cluster(y), rel=1e-12)


def test_self_cluster_is_the_published_formula() -> None:
    x = normal(600, 12) + 0.4
    n, d = x.shape
    u = (x / x.norm(dim=1, keepdim=True)).numpy()
    q = np.square(u @ u.T).sum()
    expected = (q - n - n * (n - 1) / d) / (n * n - n - n * (n - 1) / d)
    assert self_cluster(x) == pytest.approx(expected, rel=1e-11)
    # Q / N² is one over the participation ratio of the uncentred second moment of unit rows.
    sigma = torch.linalg.svdvals(torch.from_numpy(u))
    assert q / n**2 == pytest.approx(1 / float(participation_ratio(sigma)), rel=1e-11)


def test_invariances() -> None:
    x = normal(300, 5) + 0.2
    turned = x @ torch.from_numpy(special_ortho_group.rvs(5, random_state=0))
    stretched = x * torch.rand(300, 1, generator=generator(0, "lengths")).add(0.1)
    order = torch.randperm(300, generator=generator(0, "order"))
    for function in (uniformity, self_cluster, uniformity_gap):
        for same in (turned, stretched, x[order], x * 1e-200, x * 1e150):
            assert function(same) == pytest.approx(function(x), abs=1e-10)


def test_a_bad_kernel_is_refused() -> None:
    for t in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UserError, match=r"^t: "):
            uniformity(torch.eye(3), t)
    with pytest.raises(UserError, match=r"^d: 0 given"):
        uniform_value(0)

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fullrank.errors import UserError
from fullrank.measure.moments import Moments, moments_of
from fullrank.measure.pairs import alignment, batch_spread, normalised_std, spread
from fullrank.randomness import generator


def rows(n: int = 400, d: int = 12, key: str = "rows") -> Tensor:
    return torch.randn(n, d, generator=generator(0, key), dtype=torch.float64)


@pytest.mark.parametrize("mean", [0.0, 0.5, 10.0])
def test_spread_is_one_minus_the_squared_centre(mean: float) -> None:
    x = rows() + mean
    expected = 1 - normalize(x).mean(0).square().sum()
    assert spread(moments_of(x)) == pytest.approx(float(expected), rel=1e-10)
    assert float(batch_spread(x)) == pytest.approx(float(expected), rel=1e-10)


def test_spread_pools_views() -> None:
    x, y = rows(), rows(key="other") + 1
    assert spread(moments_of(x, y)) == pytest.approx(spread(moments_of(torch.cat([x, y]))))


def test_spread_of_nearly_collapsed_rows_keeps_its_digits() -> None:
    angle = 1e-9 * torch.linspace(-1, 1, 101, dtype=torch.float64)
    x = torch.stack([angle.cos(), angle.sin()], 1)
    expected = float(angle.square().mean())  # 3.4e-19, far below the rounding of 1 - ||centre||²
    assert spread(moments_of(x)) == pytest.approx(expected, rel=1e-9)
    metric = Moments()
    for batch in x.split(7):
        metric.update(batch)
    assert spread(metric.compute()) == pytest.approx(expected, rel=1e-6)


def test_spread_is_blind_to_rank_but_not_to_a_point() -> None:
    direction = torch.tensor([0.6, 0.8])
    antipodes = torch.stack([direction, -direction])
    assert spread(moments_of(antipodes)) == pytest.approx(1)
    ray = torch.stack([direction, 5 * direction])
    assert spread(moments_of(ray)) == pytest.approx(0, abs=1e-14)


def test_zero_rows_have_no_direction() -> None:
    x = torch.zeros(4, 3)
    assert spread(moments_of(x)) == normalised_std(moments_of(x)) == 0
    assert batch_spread(x) == 0
    x[0, 0], x[1, 0] = 1, -1
    assert spread(moments_of(x)) == pytest.approx(0.5)  # E||u||² = ½, centre 0
    assert alignment(moments_of(x, torch.zeros(4, 3))) == pytest.approx(0.5)


@pytest.mark.parametrize("rank", [2048, 128, 8, 2])
def test_normalised_std_is_nearly_blind_to_rank(rank: int) -> None:
    d = 2048
    basis = torch.linalg.qr(torch.randn(d, rank, generator=generator(0, "basis", rank))).Q
    x = torch.randn(600, rank, generator=generator(0, "low rank", rank)) @ basis.T
    u = normalize(x.double())
    value = normalised_std(moments_of(x))
    assert value == pytest.approx(float(u.std(0, correction=0).mean() * math.sqrt(d)), rel=1e-6)
    # Published readings for Gaussian data of these ranks.
    assert value == pytest.approx({2048: 1.0, 128: 0.998, 8: 0.969, 2: 0.884}[rank], abs=0.012)


def test_alignment_of_known_angles() -> None:
    x = rows()
    assert alignment(moments_of(x, 3 * x)) == pytest.approx(0, abs=1e-14)
    assert alignment(moments_of(x, -x)) == pytest.approx(4)
    quarter = torch.stack([-x[:, 1], x[:, 0]], 1)
    assert alignment(moments_of(x[:, :2], quarter)) == pytest.approx(2)
    assert alignment(moments_of(x)) is None


@pytest.mark.parametrize("q", [2, 3, 4])
def test_alignment_is_two_minus_twice_the_mean_cosine_of_pairs(q: int) -> None:
    views = [rows() + 0.5 * rows(key=f"noise {v}") for v in range(q)]
    cosine = [
        torch.cosine_similarity(views[v], views[w]).mean() for v in range(q) for w in range(v)
    ]
    expected = 2 - 2 * float(torch.stack(cosine).mean())
    assert alignment(moments_of(*views)) == pytest.approx(expected)


def test_batch_spread_takes_half_precision_and_no_gradient() -> None:
    x = (rows() + 2).to(torch.bfloat16).requires_grad_()
    value = batch_spread(x)
    assert value.dtype == torch.float32
    assert not value.requires_grad
    assert float(value) == pytest.approx(spread(moments_of(x)), rel=1e-5)


def test_empty_moments_are_refused() -> None:
    empty = Moments()
    empty.update(torch.zeros(0, 3))
    for function in (spread, normalised_std, alignment):
        with pytest.raises(UserError, match="the moments are empty"):
            function(empty.compute())

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.lidar import discriminant_eigenvalues, lidar
from fullrank.measure.moments import Moments, moments_of
from fullrank.measure.spectrum import RESOLUTION, hard_rank
from fullrank.randomness import generator


def normal(*shape: int, key: str) -> Tensor:
    return torch.randn(*shape, generator=generator(0, "lidar", key), dtype=torch.float64)


def grouped(q: int, n: int = 200, d: int = 8, noise: float = 0.5) -> list[Tensor]:
    """Images that differ in ``d`` directions of falling size, and views that differ in all."""
    images = normal(n, d, key="images") * torch.arange(1, d + 1) ** -1.0 + 3
    return [images + noise * normal(n, d, key=f"view {v}") for v in range(q)]


def published(views: list[Tensor], delta: float, epsilon: float) -> float:
    """Thilak et al.'s definition, sums written out, with SciPy's matrix square root."""
    x = torch.stack(views, 1).numpy()  # (n, q, d)
    image = x.mean(1)
    about = image - image.mean(0)
    between = about.T @ about / len(x)
    inside = (x - image[:, None]).reshape(-1, x.shape[2])
    within = inside.T @ inside / len(inside) + delta * np.eye(x.shape[2])
    root = np.linalg.inv(sqrtm(within).real)
    lambda_ = np.linalg.eigvalsh(root @ between @ root)
    p = lambda_ / np.abs(lambda_).sum() + epsilon
    return float(np.exp(-np.sum(p * np.log(p))))


@pytest.mark.parametrize("q", [2, 3, 10])
@pytest.mark.parametrize("delta", [1e-4, 1e-1])
def test_lidar_is_the_published_formula(q: int, delta: float) -> None:
    views = grouped(q)
    found = lidar(moments_of(*views), delta=delta, epsilon=1e-6)
    assert found == pytest.approx(published(views, delta, 1e-6), rel=1e-8)


def test_lidar_sees_through_noise_that_is_as_large_in_every_direction() -> None:
    """Four directions of images among sixteen: rank sees noise, LiDAR the images."""
    images = torch.cat([normal(2000, 4, key="four"), torch.zeros(2000, 12)], 1).double()
    views = [images + 0.3 * normal(2000, 16, key=f"noise {v}") for v in range(10)]
    state = moments_of(*views)
    assert hard_rank(state.singular_values, (20000, 16), rtol=RESOLUTION) == 16
    found = discriminant_eigenvalues(state)
    assert found is not None
    # Sb / Sw = (1 + .09 / 10) / (.09 (1 - 1/10)) with images, 1 / (q - 1) without.
    assert float(found[:4].mean()) == pytest.approx(1.009 / 0.081, rel=0.05)
    assert float(found[4:].mean()) == pytest.approx(1 / 9, rel=0.02)
    value = lidar(state)
    assert value is not None
    assert 4 < value < 6


@pytest.mark.parametrize("q", [2, 10])
def test_views_grouped_at_random_read_the_hard_rank(q: int) -> None:
    scale = torch.arange(1, 17) ** -1.5
    rows = normal(3000 * q, 16, key="random groups") * scale
    state = moments_of(*rows.view(-1, q, 16).unbind(1))
    assert lidar(state, delta=1e-12) == pytest.approx(16, rel=0.02)
    assert hard_rank(state.singular_values, (3000 * q, 16), rtol=RESOLUTION) == 16


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1e4])
def test_relative_delta_makes_it_independent_of_scale(scale: float) -> None:
    views = grouped(3)
    once = lidar(moments_of(*views), delta=1e-3, relative=True)
    again = lidar(moments_of(*[scale * x for x in views]), delta=1e-3, relative=True)
    assert again == pytest.approx(once, rel=1e-9)


def test_absolute_delta_depends_on_scale() -> None:
    images = normal(200, 8, key="images") * torch.arange(1, 9) ** -1.0
    views = [images * (1 + 0.1 * normal(200, 8, key=f"wobble {v}")) for v in range(3)]
    values = [lidar(moments_of(*[scale * x for x in views])) for scale in (1e-3, 1e-1, 1e3)]
    # Far below delta it is the rank of the images alone, far above it that of signal over noise.
    assert values == sorted(values, key=lambda v: v or 0)
    assert values[0] is not None
    assert values[-1] is not None
    assert values[-1] > 1.5 * values[0]


def test_rotation_translation_and_order_change_nothing() -> None:
    views = grouped(3)
    turn = torch.linalg.qr(normal(8, 8, key="turn")).Q
    order = torch.randperm(200, generator=generator(0, "lidar", "order"))
    once = lidar(moments_of(*views))
    assert lidar(moments_of(*[x @ turn for x in views])) == pytest.approx(once)
    assert lidar(moments_of(*[x + 7 for x in views])) == pytest.approx(once)
    assert lidar(moments_of(*[x[order] for x in views[::-1]])) == pytest.approx(once)


@pytest.mark.parametrize("q", [2, 5])
def test_lost_directions_and_few_images_are_no_obstacle(q: int) -> None:
    flat = [torch.cat([x, torch.zeros(200, 3), x[:, :1]], 1) for x in grouped(q, d=4)]
    for factor in (1.0, 1e6):  # where delta lies far below the rounding of the scatter
        found = lidar(moments_of(*[factor * x for x in flat]))
        assert found is not None
        assert math.isfinite(found)
        assert 1 <= found < 8
    few = discriminant_eigenvalues(moments_of(*grouped(q, n=3)))
    assert few is not None
    assert int((few > 0).sum()) == 2


def test_constant_features_read_zero_and_one_view_none() -> None:
    constant = [torch.full((9, 4), 3.0) for _ in range(2)]
    for relative in (False, True):
        assert lidar(moments_of(*constant), relative=relative) == 0
    one_image = [normal(1, 4, key="one"), normal(1, 4, key="other")]
    assert lidar(moments_of(*one_image)) == 0
    assert lidar(moments_of(constant[0])) is None


def test_bad_arguments_are_refused() -> None:
    for delta in (0.0, -1.0, math.nan):
        with pytest.raises(UserError, match="delta"):
            lidar(moments_of(*grouped(2)), delta=delta)
    empty = Moments()
    empty.update(torch.zeros(0, 3), torch.zeros(0, 3))
    with pytest.raises(UserError, match="the moments are empty"):
        lidar(empty.compute())

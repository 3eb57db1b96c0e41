from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group
from sklearn.cross_decomposition import CCA
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure import drift
from fullrank.measure.drift import linear_cka, neighbourhood_overlap, svcca
from fullrank.randomness import generator

Measure = Callable[[Tensor, Tensor], float]


def debiased(x: Tensor, y: Tensor) -> float:
    return linear_cka(x, y, debiased=True)


def normal(n: int, d: int, key: str = "x") -> Tensor:
    return torch.randn(n, d, generator=generator(0, key), dtype=torch.float64)


def turned(x: Tensor, seed: int = 0) -> Tensor:
    return x @ torch.from_numpy(ortho_group.rvs(x.shape[1], random_state=seed))


def related(n: int = 200) -> tuple[Tensor, Tensor]:
    x = normal(n, 12) * torch.arange(1, 13) ** -0.7 + 2
    return x, x @ normal(12, 7, "map") + 0.5 * normal(n, 7, "noise")


def hsic(k: np.ndarray, m: np.ndarray) -> float:
    """The unbiased estimator of Song et al., as published."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    ones = np.ones(n)
    both = ones @ k @ ones * (ones @ m @ ones) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + both - 2 / (n - 2) * ones @ k @ m @ ones) / (n * (n - 3))


@pytest.mark.parametrize("n", [200, 9])
def test_linear_cka_is_that_of_centred_kernels(n: int) -> None:
    x, y = (side.numpy() for side in related(n))
    k, m = x @ x.T, y @ y.T
    h = np.eye(n) - 1 / n
    plain = np.trace(k @ h @ m @ h)
    first, second = np.trace(k @ h @ k @ h), np.trace(m @ h @ m @ h)
    assert linear_cka(*related(n)) == pytest.approx(plain / math.sqrt(first * second), rel=1e-10)
    expected = hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))
    assert debiased(*related(n)) == pytest.approx(expected, rel=1e-8)


def test_svcca_is_the_mean_of_scikit_learns_canonical_correlations() -> None:
    x, y = related()
    a, b = CCA(7, scale=False, max_iter=20000, tol=1e-12).fit_transform(x.numpy(), y.numpy())
    expected = np.mean([np.corrcoef(a[:, j], b[:, j])[0, 1] for j in range(7)])
    assert svcca(x, y, share=1.0) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_svcca_keeps_the_fewest_components_of_a_share(share: float) -> None:
    x, y = related()
    sides = []
    for side in (x, y):
        u, s, _ = np.linalg.svd((side - side.mean(0)).numpy(), full_matrices=False)
        explained = np.cumsum(s**2) / np.sum(s**2)
        sides.append(u[:, : int(np.argmax(explained >= share)) + 1])
    expected = np.linalg.svd(sides[0].T @ sides[1], compute_uv=False).mean()
    assert svcca(x, y, share) == pytest.approx(expected, rel=1e-9)


def test_overlap_is_that_of_scikit_learns_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "CHUNK", 77)
    x, y = related()
    first, second = (
        NearestNeighbors(n_neighbors=5, metric="cosine")
        .fit(side.numpy())
        .kneighbors(return_distance=False)
        for side in (x, y)
    )
    expected = np.mean([len({*a} & {*b}) / 5 for a, b in zip(first, second, strict=True)])
    assert neighbourhood_overlap(x, y, 5) == pytest.approx(expected)


@pytest.mark.parametrize("measure", [linear_cka, debiased, svcca, neighbourhood_overlap])
def test_invariances(measure: Measure) -> None:
    x, y = related()
    assert measure(x, x) == pytest.approx(1, abs=1e-9)
    assert measure(x, y) == pytest.approx(measure(y, x), rel=1e-9)
    order = torch.randperm(200, generator=generator(0, "order"))
    for a, b in ((turned(x), 3 * y), (x * 1e-100, turned(y, 1)), (x[order], y[order])):
        assert measure(a, b) == pytest.approx(measure(x, y), rel=1e-7)


@pytest.mark.parametrize("measure", [linear_cka, debiased, svcca])
def test_shifts_do_not_matter_where_rows_are_centred(measure: Measure) -> None:
    x, y = related()
    assert measure(x - 7, y + 3) == pytest.approx(measure(x, y), rel=1e-7)


def test_only_svcca_of_all_components_ignores_invertible_maps() -> None:
    x, y = related()
    mixed = x @ (normal(12, 12, "mix") + 2 * torch.eye(12)) + 1
    assert svcca(mixed, y, share=1.0) == pytest.approx(svcca(x, y, share=1.0), rel=1e-8)
    stretched = x * torch.logspace(-1, 1, 12)
    assert svcca(stretched, y, share=1.0) == pytest.approx(svcca(x, y, share=1.0), rel=1e-8)
    assert abs(linear_cka(stretched, y) - linear_cka(x, y)) > 0.05


def test_unrelated_rows() -> None:
    values = [debiased(normal(300, 40, f"a{i}"), normal(300, 60, f"b{i}")) for i in range(30)]
    error = float(np.std(values)) / math.sqrt(30)
    assert abs(float(np.mean(values))) < 4 * error < 0.02
    a, b = normal(300, 40, "a"), normal(300, 60, "b")
    assert linear_cka(a, b) > 0.1  # the bias that the debiased form takes off
    assert neighbourhood_overlap(a, b, 10) == pytest.approx(10 / 299, abs=0.015)
    assert svcca(normal(5000, 3, "a"), normal(5000, 3, "b")) < 0.05


def test_what_does_not_vary_is_like_its_kind_only() -> None:
    flat, x = torch.ones(20, 3), normal(20, 3)
    for measure in (linear_cka, debiased, svcca):
        assert measure(flat, torch.zeros(20, 5)) == 1
        assert measure(flat, x) == measure(x, flat) == 0
    assert 0 <= neighbourhood_overlap(flat, x, 3) <= 1


def test_bad_input_is_refused() -> None:
    x = normal(8, 3)
    for measure in (linear_cka, svcca, neighbourhood_overlap):
        with pytest.raises(UserError, match="x, y: 8 and 7 rows given"):
            measure(x, x[:7])
        with pytest.raises(UserError, match="NaN or infinity"):
            measure(x, x / 0)
    with pytest.raises(UserError, match="at least 4"):
        debiased(x[:3], x[:3])
    for k in (0, 8):
        with pytest.raises(UserError, match=rf"^k: {k} given; allowed: 1 to 7"):
            neighbourhood_overlap(x, x, k)
    for share in (0.0, 1.1, math.nan):
        with pytest.raises(UserError, match=r"^share: "):
            svcca(x, x, share)

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.intrinsic_dimension import dimension_of, first_occurrences, twonn
from fullrank.randomness import generator


def linear_manifold(n: int, d: int, width: int = 50, key: str = "rows") -> Tensor:
    """Gaussian rows of ``d`` dimensions, turned into ``width``."""
    z = torch.randn(n, d, generator=generator(0, key), dtype=torch.float64)
    return z @ torch.from_numpy(ortho_group.rvs(width, random_state=1)[:d]) + 3


def regression(x: Tensor, discard: float) -> float:
    """The published estimator, from scikit-learn's neighbours."""
    r = NearestNeighbors(n_neighbors=2).fit(x.numpy()).kneighbors()[0]
    mu = np.sort(r[:, 1] / r[:, 0])
    f = np.arange(1, len(mu) + 1) / len(mu)
    k = int(len(mu) * (1 - discard))
    log_mu, y = np.log(mu[:k]), -np.log(1 - f[:k])
    return float(np.linalg.lstsq(log_mu[:, None], y, rcond=None)[0][0])


@pytest.mark.parametrize("d", [2, 5, 10])
@pytest.mark.parametrize("discard", [0.1, 0.3])
def test_equals_a_fit_to_the_neighbours_of_scikit_learn(d: int, discard: float) -> None:
    x = linear_manifold(1500, d)
    found = twonn(x, discard)
    assert found.value == pytest.approx(regression(x, discard), rel=1e-9)
    assert (found.rows, found.duplicates) == (1500, 0)


@pytest.mark.parametrize("method", ["regression", "likelihood"])
@pytest.mark.parametrize(("d", "tolerance"), [(1, 0.08), (2, 0.08), (5, 0.12), (10, 0.2)])
def test_known_manifolds(d: int, tolerance: float, method: str) -> None:
    found = twonn(linear_manifold(2000, d), method=method).value
    assert found == pytest.approx(d, rel=tolerance)


def test_likelihood_is_that_of_a_censored_pareto_law() -> None:
    x = torch.rand(500, generator=generator(0, "log mu"), dtype=torch.float64).log().neg() / 3
    ordered = x.sort().values
    k = 400
    weight = float(ordered[:k].sum()) + 100 * float(ordered[k - 1])

    def likelihood(d: float) -> float:
        density = k * math.log(d) - (d + 1) * float(ordered[:k].sum())
        return density - 100 * d * float(ordered[k - 1])

    found = dimension_of(x, 0.2, "likelihood")
    assert found == pytest.approx(k / weight)
    assert likelihood(found) > max(likelihood(found * 0.99), likelihood(found * 1.01))
    assert dimension_of(x, 0.0, "likelihood") == pytest.approx(1 / float(x.mean()))


def test_duplicates_are_counted_and_change_nothing() -> None:
    x = linear_manifold(400, 4)
    twice = torch.cat([x, x[:150], x[:10]])[torch.randperm(560, generator=generator(0, "order"))]
    found = twonn(twice)
    assert (found.rows, found.duplicates) == (400, 160)
    assert found.value == pytest.approx(twonn(x).value, rel=1e-9)


def test_a_negative_zero_is_a_zero() -> None:
    x = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [0.0, 2.0]])
    assert first_occurrences(x).tolist() == [True, False, True]


def test_invariances() -> None:
    x = linear_manifold(400, 4)
    turned = x @ torch.from_numpy(ortho_group.rvs(50, random_state=2))
    order = torch.randperm(400, generator=generator(0, "order"))
    for same in (turned, x[order], x * 1e-120, x * 1e120, x - 3, x + 100):
        assert twonn(same).value == pytest.approx(twonn(x).value, rel=1e-6)


def test_collapse_and_grids_are_numbers() -> None:
    assert twonn(torch.ones(50, 3)).value == 0
    assert twonn(torch.zeros(50, 3)).duplicates == 49
    assert twonn(torch.ones(50, 3)[:, :1] * torch.tensor([1.0, 2.0]).repeat(25)[:, None]).value == 0
    assert twonn(torch.eye(20)).value == math.inf
    assert twonn(torch.eye(20), method="likelihood").value == math.inf
    assert math.isfinite(twonn(torch.tensor([[0.0], [1.0], [3.0]])).value)
    assert math.isfinite(twonn(linear_manifold(40, 3), discard=0.999).value)
    assert math.isfinite(twonn(linear_manifold(40, 3), discard=0.0).value)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(UserError, match=r"method: 'regresion' is not known. Did you mean"):
        twonn(torch.eye(4), method="regresion")
    for discard in (-0.1, 1.0, math.nan):
        with pytest.raises(UserError, match=r"^discard: "):
            twonn(torch.eye(4), discard)

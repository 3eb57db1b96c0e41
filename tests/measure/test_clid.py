from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.clid import (
    Clid,
    clid,
    cluster_count,
    cluster_labels,
    shuffled,
    standardised,
)
from fullrank.measure.intrinsic_dimension import twonn
from fullrank.measure.neighbors import PairDistances
from fullrank.randomness import generator


def normal(n: int, d: int, key: str = "rows") -> Tensor:
    return torch.randn(n, d, generator=generator(0, key), dtype=torch.float64)


def blobs(n: int = 900, d: int = 16, width: float = 0.02) -> Tensor:
    centres = normal(30, d, "centres")
    return centres[torch.arange(n) % 30] + width * normal(n, d)


@pytest.mark.parametrize("n", [901, 640])
def test_learnability_is_what_scikit_learn_scores_on_the_held_out_half(n: int) -> None:
    x = normal(n, 12)
    ordered = x[shuffled(n, 3)]
    labels = cluster_labels(PairDistances.of(ordered), 3).numpy()
    assert len(np.unique(labels)) == cluster_count(n) == int(np.sqrt(n))
    nearest = KNeighborsClassifier(1, metric="cosine").fit(ordered[::2].numpy(), labels[::2])
    expected = nearest.score(ordered[1::2].numpy(), labels[1::2])
    found = clid(x, seed=3)
    assert found.learnability == pytest.approx(expected, abs=1e-12)
    assert found.dimension == twonn(x).value
    assert found.dimension_share == found.dimension / 12
    assert found.value == found.learnability + found.dimension_share


def test_labels_are_a_fixed_point_of_k_means() -> None:
    distances = PairDistances.of(normal(500, 6))
    u, labels = distances.centred, cluster_labels(distances, 0)
    means = torch.stack([u[labels == k].mean(0) for k in range(int(labels.max()) + 1)])
    # Scikit-learn stops when the centres hardly move: a few rows may still be between two.
    assert float((torch.cdist(u, means).argmin(1) == labels).double().mean()) > 0.98


def test_compact_clusters_are_learnable_and_noise_is_not() -> None:
    tight, noise = clid(blobs()), clid(normal(900, 16))
    assert tight.learnability > 0.8
    assert noise.learnability < 0.6


def test_repeatable_and_blind_to_scale() -> None:
    x = normal(400, 8)
    assert clid(x, seed=1) == clid(x, seed=1)
    assert len({clid(x, seed).learnability for seed in range(4)}) > 1
    assert clid(x * 7, seed=1).learnability == clid(x, seed=1).learnability


def test_collapse_is_learnable_and_has_no_dimension() -> None:
    for x in (torch.ones(50, 4), torch.zeros(50, 4)):
        assert clid(x) == Clid(1.0, 0.0, 0.0, 7)
    few_points = torch.eye(3).repeat(20, 1)  # fewer points than clusters: no warning either
    assert clid(few_points).learnability == 1
    assert clid(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).clusters == 1


def test_standardised_parts_have_mean_0_and_variance_1() -> None:
    parts = [Clid(c, d, 0.0, 9) for c, d in [(0.5, 3.0), (0.7, 9.0), (0.2, 12.0)]]
    table = np.array([[p.learnability, p.dimension] for p in parts])
    expected = ((table - table.mean(0)) / table.std(0)).sum(1)
    np.testing.assert_allclose(standardised(parts), expected)
    equal = [Clid(0.5, d, 0.0, 9) for d in (3.0, 9.0)]
    assert standardised(equal) == pytest.approx([-1, 1])
    with pytest.raises(UserError, match=r"^parts: 1 given"):
        standardised(parts[:1])
    with pytest.raises(UserError, match=r"^parts: 2 given"):
        standardised([parts[0], Clid(1.0, math.inf, 1.0, 9)])

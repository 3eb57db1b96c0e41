from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure import neighbors
from fullrank.measure.neighbors import Nearest, PairDistances, knn_classify
from fullrank.randomness import generator


def blobs(n: int, key: str, classes: int = 6, d: int = 10) -> tuple[Tensor, Tensor]:
    """Classes that overlap, so that votes are split."""
    g = generator(0, key)
    centres = torch.randn(classes, d, generator=generator(0, "centres"))
    y = torch.randint(classes, (n,), generator=g)
    return centres[y] + 1.5 * torch.randn(n, d, generator=g), y


@pytest.mark.parametrize("weights", ["uniform", "similarity"])
@pytest.mark.parametrize("k", [1, 2, 20, 400])
def test_equals_scikit_learn(k: int, weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "CHUNK", 77)  # several chunks, the last one shorter
    (x, y), (z, _) = blobs(400, "train"), blobs(250, "test")
    oracle = KNeighborsClassifier(
        k,
        metric="cosine",
        weights="uniform" if weights == "uniform" else lambda d: np.exp((1 - d) / 0.07),
    )
    expected = oracle.fit(x.double().numpy(), y.numpy()).predict(z.double().numpy())
    found = knn_classify(x.double(), y, z.double(), k=k, weights=weights)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_ties_go_to_the_smallest_class() -> None:
    x = torch.eye(3)
    found = knn_classify(x, torch.tensor([2, 1, 0]), torch.ones(1, 3), k=3)
    assert found.tolist() == [0]


def test_a_low_temperature_follows_the_nearest() -> None:
    (x, y), (z, _) = blobs(200, "train"), blobs(50, "test")
    nearest = knn_classify(x, y, z, k=1)
    cold = knn_classify(x, y, z, k=50, weights="similarity", temperature=1e-9)
    assert torch.equal(nearest, cold)


def test_autocast_does_not_reach_the_cosines() -> None:
    (x, y), (z, _) = blobs(400, "train"), blobs(250, "test")
    expected = knn_classify(x, y, z)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(knn_classify(x, y, z), expected)


def test_length_does_not_matter_and_zero_rows_are_allowed() -> None:
    (x, y), (z, _) = blobs(200, "train"), blobs(50, "test")
    stretched = x * torch.rand(200, 1, generator=generator(0, "lengths")).add(0.5)
    same = knn_classify(x, y, z, k=5) == knn_classify(stretched, y, z, k=5)
    assert same.float().mean() > 0.97  # rounding may swap neighbours at equal distance
    x[3], z[4] = 0, 0
    assert knn_classify(x, y, z, k=5).shape == (50,)


def test_labels_may_be_of_any_integer_type_and_rows_none() -> None:
    (x, y), (z, _) = blobs(200, "train"), blobs(50, "test")
    assert torch.equal(knn_classify(x, y.to(torch.uint8), z.half()), knn_classify(x, y, z.half()))
    assert knn_classify(x, y, z[:0]).shape == (0,)


def test_bad_arguments_are_refused() -> None:
    (x, y), (z, _) = blobs(10, "train"), blobs(5, "test")
    for k in (0, 11):
        with pytest.raises(UserError, match=f"k: {k} given; allowed: 1 to 10"):
            knn_classify(x, y, z, k=k)
    with pytest.raises(UserError, match="Did you mean 'uniform'"):
        knn_classify(x, y, z, k=3, weights="unifrom")
    with pytest.raises(UserError, match="temperature: 0"):
        knn_classify(x, y, z, k=3, temperature=0.0)
    with pytest.raises(UserError, match="class -1 given"):
        knn_classify(x, y.clamp(max=0) - 1, z, k=3)


def sampled(n: int = 150, d: int = 7) -> Tensor:
    return torch.randn(n, d, generator=generator(0, "sample"), dtype=torch.float64) + 0.5


@pytest.mark.parametrize("edges", [None, [0, 40, 41, 150]])
def test_blocks_hold_every_pair_once(
    edges: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbors, "CHUNK", 94)
    x = sampled()
    x[17] = 0
    distances = PairDistances.of(x)
    unit, given = np.full((150, 150), np.nan), np.full((150, 150), np.nan)
    for a, b, block in distances.blocks(edges):
        assert np.isnan(unit[a, b]).all()
        unit[a, b], unit[b, a] = block, block.T
        rows = distances.of_given_rows(a, b, block)
        given[a, b], given[b, a] = rows, rows.T
    u = (x / x.norm(dim=1, keepdim=True).clamp_min(1e-300)).numpy()
    np.testing.assert_allclose(unit, cdist(u, u, "sqeuclidean"), atol=1e-14)
    expected = cdist(x, x, "sqeuclidean") / float(x.abs().max()) ** 2
    np.testing.assert_allclose(given, expected, atol=1e-14)


def test_distances_keep_their_digits_far_from_the_origin() -> None:
    far = sampled() * 1e-4
    far[:, 0] += 1
    (_, _, block), *_ = PairDistances.of(far).blocks()
    u = far.to(torch.float64).numpy()
    u = u / np.linalg.norm(u, axis=1, keepdims=True)
    away = ~np.eye(150, dtype=bool)
    np.testing.assert_allclose(block.numpy()[away], cdist(u, u, "sqeuclidean")[away], rtol=1e-6)


@pytest.mark.parametrize("k", [1, 3])
def test_the_nearest_are_those_of_scikit_learn(k: int) -> None:
    x = sampled()
    distances, nearest = PairDistances.of(x), Nearest(150, k)
    for a, b, block in distances.blocks([0, 64, 65, 150]):
        nearest.offer_both(a, b, distances.of_given_rows(a, b, block))
    found, index = NearestNeighbors(n_neighbors=k).fit(x.numpy()).kneighbors()
    np.testing.assert_array_equal(nearest.index.numpy(), index)
    scale = float(x.abs().max())
    np.testing.assert_allclose(nearest.squares.sqrt().numpy() * scale, found, rtol=1e-10)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (torch.ones(1, 3), "at least two rows"),
        (torch.ones(4, 0), "and a column"),
        (torch.tensor([[1.0], [torch.nan], [torch.inf]]), "2 of 3 hold NaN or infinity"),
    ],
)
def test_what_has_no_pairs_is_refused(rows: Tensor, told: str) -> None:
    with pytest.raises(UserError, match=told):
        PairDistances.of(rows)

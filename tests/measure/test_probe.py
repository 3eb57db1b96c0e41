from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.probe import (
    ProbeResult,
    factor_probe,
    knn_probe,
    linear_probe,
    wilson_interval,
)
from fullrank.randomness import generator

Split = tuple[Tensor, Tensor, Tensor, Tensor]
PROBES = [linear_probe, knn_probe]


@pytest.fixture(scope="module")
def digits() -> Split:
    """Handwritten digits; some pixels are always 0."""
    x, y = load_digits(return_X_y=True)
    rows, labels = torch.from_numpy(x).float(), torch.from_numpy(y)
    return rows[:1200], labels[:1200], rows[1200:], labels[1200:]


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_linear_probe_equals_scikit_learns_pipeline(digits: Split, kind: str) -> None:
    x, y, z, t = (part.numpy() for part in digits)
    model = (
        RidgeClassifier(alpha=1e-3 * len(x))
        if kind == "ridge"
        else LogisticRegression(C=1 / (1e-3 * len(x)), max_iter=5000)
    )
    oracle = make_pipeline(StandardScaler(), model).fit(x.astype(np.float64), y)
    result = linear_probe(*digits, kind=kind)
    assert result.accuracy == pytest.approx(oracle.score(z.astype(np.float64), t), abs=2 / len(z))
    assert (result.kind, result.n_train, result.n_test) == (kind, 1200, 597)
    assert (result.classes, result.dropped) == (10, 0)


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_penalty_is_per_training_row(digits: Split, kind: str) -> None:
    x, y, z, t = (part[:150] for part in digits)
    noisy = x + 12 * torch.randn(x.shape, generator=generator(0, "noise"))
    once, twice = (
        linear_probe(noisy.repeat(m, 1), y.repeat(m), z, t, kind=kind, regularisation=0.5)
        for m in (1, 2)
    )
    assert (once.accuracy, once.n_train * 2) == (twice.accuracy, twice.n_train)
    weak = linear_probe(noisy, y, z, t, kind=kind, regularisation=0.5 / 150)
    assert abs(weak.accuracy - once.accuracy) > 0.02  # here the penalty matters


def test_coordinates_dead_in_training_say_nothing_about_the_test_rows(digits: Split) -> None:
    x, y, z, t = digits
    dead = 1e-8 * torch.randn(len(x), 1, generator=generator(0, "dead"))
    alive = torch.randn(len(z), 1, generator=generator(0, "alive"))
    with_dead = linear_probe(torch.cat([x, dead], 1), y, torch.cat([z, alive], 1), t)
    assert with_dead == linear_probe(*digits)


def test_knn_probe_equals_scikit_learn(digits: Split) -> None:
    x, y, z, t = (part.double().numpy() for part in digits)
    oracle = KNeighborsClassifier(20, metric="cosine").fit(x, y)
    result = knn_probe(*digits)
    assert result.accuracy == pytest.approx(oracle.score(z, t), abs=1 / len(z))
    assert result.kind == "knn"
    assert knn_probe(*digits, k=1, weights="similarity").accuracy > 0.95


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (7, 7), (1, 1), (450, 597), (9999, 10000)])
def test_interval_is_wilsons(hits: int, n: int) -> None:
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson_interval(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_result_carries_the_interval_of_its_accuracy(digits: Split) -> None:
    result = linear_probe(*digits)
    assert (result.low, result.high) == wilson_interval(round(result.accuracy * 597), 597)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.accuracy = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("probe", PROBES)
def test_unlabelled_rows_are_dropped_and_counted(probe: object, digits: Split) -> None:
    x, y, z, t = digits
    y, t = y.clone(), t.clone()
    y[::2], t[:7] = -1, -1
    result: ProbeResult = probe(x, y, z, t)  # type: ignore[operator]
    assert result == dataclasses.replace(
        probe(x[1::2], y[1::2], z[7:], t[7:]),  # type: ignore[operator]
        dropped=607,
    )


def test_linear_probe_is_blind_to_scale_and_offset_of_coordinates(digits: Split) -> None:
    x, y, z, t = (part.double() if part.is_floating_point() else part for part in digits)
    g = generator(0, "scale")
    scale = torch.rand(64, generator=g, dtype=torch.float64) + 0.1
    shift = torch.randn(64, generator=g, dtype=torch.float64)
    moved = linear_probe(x * scale + shift, y, z * scale + shift, t)
    assert moved == linear_probe(x, y, z, t)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32])
@pytest.mark.parametrize("probe", PROBES)
def test_any_dtype(probe: object, digits: Split, dtype: torch.dtype) -> None:
    x, y, z, t = digits  # whole numbers up to 16: exact in every dtype
    assert probe(x.to(dtype), y.int(), z.to(dtype), t) == probe(*digits)  # type: ignore[operator]


def test_constant_features_find_the_largest_class() -> None:
    y = torch.tensor([0, 1, 1, 1, 2, 2])
    for kind in ("ridge", "logistic"):
        result = linear_probe(torch.full((6, 3), 0.1), y, torch.full((6, 3), 0.1), y, kind=kind)
        assert result.accuracy == 0.5
    knn_probe(torch.zeros(6, 3), y, torch.zeros(6, 3), y, k=6)


def test_fewer_rows_than_coordinates_and_two_classes(digits: Split) -> None:
    x, y, z, t = digits
    keep, test = y < 2, t < 2
    few = x[keep][:30], y[keep][:30], z[test], t[test]
    assert linear_probe(*few).accuracy > 0.95
    assert linear_probe(*few, kind="logistic").accuracy > 0.95
    # A class that training never saw is an error, not a crash.
    assert linear_probe(*few[:2], z, t).accuracy < 0.5


@pytest.mark.parametrize("probe", PROBES)
def test_bad_input_is_refused(probe, digits: Split) -> None:  # type: ignore[no-untyped-def]
    x, y, z, t = digits
    with pytest.raises(UserError, match="train_y: no labels given"):
        probe(x, None, z, t)
    with pytest.raises(UserError, match="test_y: no labels given"):
        probe(x, y, z, None)
    with pytest.raises(UserError, match=r"train_x, train_y: shape \(1200, 64\) and 9 labels"):
        probe(x, y[:9], z, t)
    with pytest.raises(UserError, match="only class 3 given"):
        probe(x, torch.full_like(y, 3), z, t)
    with pytest.raises(UserError, match="test_y: none of 597 rows has a label"):
        probe(x, y, z, torch.full_like(t, -1))
    with pytest.raises(UserError, match="train_y: label -2 given"):
        probe(x, y - 2, z, t)
    with pytest.raises(UserError, match="test_x: width 63 given; the training features have 64"):
        probe(x, y, z[:, 1:], t)
    bad = z.clone()
    bad[5] = float("nan")
    with pytest.raises(UserError, match="test_x: 1 of 597 rows hold NaN or infinity"):
        probe(x, y, bad, t)


def test_bad_settings_are_refused(digits: Split) -> None:
    with pytest.raises(UserError, match="Did you mean 'ridge'"):
        linear_probe(*digits, kind="rigde")
    with pytest.raises(UserError, match="regularisation: 0"):
        linear_probe(*digits, regularisation=0.0)
    with pytest.raises(UserError, match="k: 5000 given; allowed: 1 to 1200"):
        knn_probe(*digits, k=5000)


def test_factors_are_read_as_scikit_learn_reads_them():
    source = torch.Generator().manual_seed(0)
    x, x_test = (torch.randn(n, 6, generator=source) * torch.arange(1, 7) for n in (80, 40))
    weights = torch.randn(6, 2, generator=source)

    def factors(rows):
        values = rows @ weights + 3 * torch.randn(len(rows), 2, generator=source)
        return {"a": values[:, 0], "b": values[:, 1], "chance": torch.randn(len(rows))}

    known, asked = factors(x), factors(x_test)
    found = factor_probe(x, known, x_test, asked)
    scaler = StandardScaler().fit(x)
    for name, value in found.items():
        model = Ridge(alpha=1e-3 * 80).fit(scaler.transform(x), known[name])
        expected = model.score(scaler.transform(x_test), asked[name])
        assert value == pytest.approx(expected, abs=1e-4)
    assert found["a"] > 0.5 > 0.2 > found["chance"]


def test_exact_factors_are_read_exactly_and_constants_not_at_all():
    x = torch.randn(200, 4)
    exact = factor_probe(x, {"f": x @ torch.ones(4)}, x, {"f": x @ torch.ones(4)})
    assert exact["f"] == pytest.approx(1, abs=1e-4)
    constant = torch.ones(200, 4)
    blind = factor_probe(constant, {"f": x[:, 0]}, constant, {"f": x[:, 0]})
    assert blind["f"] == pytest.approx(0, abs=1e-6)


def test_other_factors_than_those_learnt_are_refused():
    x = torch.randn(20, 3)
    with pytest.raises(UserError, match="test_factors: b given"):
        factor_probe(x, {"a": x[:, 0]}, x, {"b": x[:, 0]})

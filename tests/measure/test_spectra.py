from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import t
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure import spectra as module
from fullrank.measure.jackknife import Jackknifed
from fullrank.measure.moments import Moments, moments_of
from fullrank.measure.sample import RowSample
from fullrank.measure.shards import Shards
from fullrank.measure.spectra import (
    Spectra,
    participation_ratio_corrected,
    replicated_spectra,
    spectra_of,
)
from fullrank.measure.spectrum import effective_rank, participation_ratio
from fullrank.randomness import generator


def gaussian(n: int, d: int, alpha: float, seed: int = 0, mean: float = 0.0) -> Tensor:
    g = generator(seed, "gaussian")
    sigma = torch.arange(1, d + 1, dtype=torch.float64) ** -alpha
    return torch.randn(n, d, generator=g, dtype=torch.float64) * sigma + mean


def sharded(x: Tensor, shards: int = 8) -> Shards:
    return Shards(tuple(moments_of(x[k::shards]) for k in range(shards)))


@pytest.mark.parametrize("shape", [(300, 20), (300, 1), (9, 20), (1, 20), (2, 2)])
@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_spectra_equal_an_svd(shape: tuple[int, int], mean: float) -> None:
    x = gaussian(*shape, 0.5, mean=mean)
    spectra = spectra_of(moments_of(x))
    for actual, matrix in ((spectra.sigma, x - x.mean(0)), (spectra.uncentred, x)):
        expected = torch.linalg.svdvals(matrix)
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=2e-7 * float(x.norm()))
    torch.testing.assert_close(spectra.variances, x.var(0, correction=0))
    assert (spectra.rows, spectra.views, spectra.dim) == (*shape[:1], 1, shape[1])


def test_replicates_are_spectra_without_one_group() -> None:
    x = gaussian(101, 7, 1.0, mean=3)
    replicated = replicated_spectra(sharded(x))
    assert replicated.method == "jackknife"
    assert len(replicated.replicates) == 8
    for k, without in enumerate(replicated.replicates):
        kept = x[torch.arange(101) % 8 != k]
        torch.testing.assert_close(without.sigma, torch.linalg.svdvals(kept - kept.mean(0)))
        torch.testing.assert_close(without.uncentred, torch.linalg.svdvals(kept))
    assert {half.rows for half in replicated.halves} <= {49, 50, 51, 52}
    assert replicated_spectra(sharded(x, 1)).method == "none"
    with pytest.raises(UserError, match="holds no images"):
        replicated_spectra(Moments(shards=8).compute_shards())


def test_correction_removes_bias_of_first_and_second_order() -> None:
    def at(x: float) -> float:
        return 3 + 2 * x + 5 * x**2

    jackknifed = Jackknifed(at(1), (at(8 / 7),) * 8, (at(2),) * 8)
    assert jackknifed.corrected == pytest.approx(3)
    first = Jackknifed(3 + 2, (3 + 2 * 8 / 7,) * 8)
    assert first.corrected == pytest.approx(3)
    assert Jackknifed(1.0, (1.0, 1.0), (1.0, math.nan)).corrected is None


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_participation_ratio_from_products_has_no_bias(alpha: float) -> None:
    d, n, repetitions = 32, 96, 100
    sigma = torch.arange(1, d + 1, dtype=torch.float64) ** -alpha
    truth = float(participation_ratio(sigma))
    found = [
        participation_ratio_corrected(sharded(gaussian(n, d, alpha, s, mean=5)))
        for s in range(repetitions)
    ]
    plain = [
        float(participation_ratio(moments_of(gaussian(n, d, alpha, s)).singular_values))
        for s in range(20)
    ]
    error = float(np.std(found)) / repetitions**0.5
    # The ratio of two unbiased products has a bias of its own of second order: below 1 %.
    assert abs(np.mean(found) - truth) < 4 * error + 0.01 * truth
    assert np.mean(plain) < truth
    assert math.isnan(participation_ratio_corrected(sharded(torch.ones(32, 3))))
    assert math.isnan(participation_ratio_corrected(sharded(torch.eye(3), 1)))


@pytest.mark.parametrize("mean", [0.0, 2.0])
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_first_order_errors_agree_with_the_exact_jackknife(
    alpha: float, mean: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def errors(n: int, statistic: Callable[[Spectra], Tensor]) -> tuple[float, float]:
        exact, quick = [], []
        for seed in range(4):
            x = gaussian(n, 48, alpha, seed, mean=mean)
            shards, sample = sharded(x, 16), RowSample(1024, seed)
            sample.update(x)
            monkeypatch.setattr(module, "EXACT_WIDTH", 1024)
            exact.append(replicated_spectra(shards, sample).of(statistic).standard_error)
            monkeypatch.setattr(module, "EXACT_WIDTH", 0)
            replicated = replicated_spectra(shards, sample)
            assert replicated.method == "first-order jackknife"
            quick.append(replicated.of(statistic).standard_error)
        return float(np.mean([e for e in exact if e])), float(np.mean([e for e in quick if e]))

    statistics: list[Callable[[Spectra], Tensor]] = [
        lambda s: effective_rank(s.sigma),
        lambda s: effective_rank(s.uncentred),
        lambda s: participation_ratio(s.sigma),
        lambda s: s.variances.mean(),
    ]
    for statistic in statistics:
        slow, fast = errors(6000, statistic)
        # Four errors of 15 degrees of freedom each: their mean is known to about 10 %.
        assert 0.65 < fast / slow < 1.5


@pytest.mark.parametrize("size", [0.0, 1e-6, 1.0, 100.0])
def test_eigenvectors_change_with_a_rank_one_term(size: float) -> None:
    d = 40
    eigenvalues = torch.arange(1, d + 1, dtype=torch.float64) ** -1.0
    z = size * torch.randn(d, generator=generator(0, "z"), dtype=torch.float64)
    matrix = torch.diag(eigenvalues) + torch.outer(z, z)
    changed = torch.linalg.eigvalsh(matrix).flip(0)
    vectors = module._rank_one_basis(eigenvalues, changed, z)
    scale = float(changed[0])
    torch.testing.assert_close(
        matrix @ vectors, vectors * changed, rtol=0, atol=1e-7 * scale, check_dtype=True
    )
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(d).double(), rtol=0, atol=1e-6)


def test_interval_is_students() -> None:
    jackknifed = Jackknifed(2.0, (1.9, 2.0, 2.1, 2.0))
    low, high = jackknifed.interval()
    assert jackknifed.standard_error is not None
    assert high - low == pytest.approx(2 * t.ppf(0.975, 3) * jackknifed.standard_error)

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.spectrum import (
    alpha_req,
    anisotropy,
    cev_auc,
    condition_number,
    dead_units,
    effective_rank,
    hard_rank,
    hill_number,
    participation_ratio,
    rankme,
    spectral_entropy,
    stable_rank,
)
from fullrank.randomness import generator


def weights(k: int = 40, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(k, generator=generator(0, "weights"), dtype=torch.float64).to(dtype)


def test_hill_numbers_of_named_orders() -> None:
    w = weights()
    w[3] = 0
    p = (w / w.sum()).numpy()
    assert hill_number(w, 0) == 39
    assert float(hill_number(w, 1)) == pytest.approx(math.exp(entropy(p)))
    assert float(hill_number(w, 2)) == pytest.approx(1 / np.sum(p**2))
    assert float(hill_number(w, math.inf)) == pytest.approx(1 / p.max())
    assert float(hill_number(w, 0.5)) == pytest.approx(np.sum(np.sqrt(p)) ** 2)
    assert float(hill_number(w, 3)) == pytest.approx(np.sum(p**3) ** (-1 / 2))


def test_hill_numbers_are_smooth_in_the_order() -> None:
    w = weights()
    at_one, at_zero = float(hill_number(w, 1)), float(hill_number(w, 0))
    for step in (1e-6, 1e-9, 1e-12):
        assert float(hill_number(w, 1 + step)) == pytest.approx(at_one, rel=10 * step + 1e-13)
        assert float(hill_number(w, 1 - step)) == pytest.approx(at_one, rel=10 * step + 1e-13)
        assert float(hill_number(w, step)) == pytest.approx(at_zero, rel=10 * step + 1e-13)
    assert float(hill_number(w, 1e4)) == pytest.approx(float(hill_number(w, math.inf)), rel=1e-3)
    # The two ways of computing meet where one takes over from the other.
    for order in (0.9, 1.1):
        below, above = (float(hill_number(w, order + e)) for e in (-1e-9, 1e-9))
        assert below == pytest.approx(above, rel=1e-8)


def test_effective_rank_adds_no_epsilon() -> None:
    one = torch.zeros(8192)
    one[0] = 3.0
    assert effective_rank(one) == 1


def test_rankme_is_the_published_formula() -> None:
    x = torch.randn(200, 30, generator=generator(0, "rankme"), dtype=torch.float64) + 2
    sigma = np.linalg.svd(x.numpy(), compute_uv=False)
    for epsilon in (1e-7, 1e-3):
        p = sigma / sigma.sum() + epsilon
        expected = np.exp(-np.sum(p * np.log(p)))
        assert float(rankme(torch.from_numpy(sigma), epsilon)) == pytest.approx(expected)
    assert float(rankme(torch.from_numpy(sigma), 0.0)) == pytest.approx(
        float(effective_rank(torch.from_numpy(sigma)))
    )
    one = torch.zeros(8192)
    one[0] = 3.0
    assert float(rankme(one)) == pytest.approx(1 + 8192 * 1e-7 * math.log(1e7), rel=1e-3)


def test_exponent_of_an_exact_power_law_for_any_range_and_weights() -> None:
    j = torch.arange(1, 301, dtype=torch.float64)
    for alpha in (0.0, 0.5, 1.0, 3.0):
        sigma = j ** (-alpha / 2)
        for fit_range in ((0, 300), (3, 100), (10, 100)):
            for weighted in (True, False):
                found = alpha_req(sigma.flip(0), fit_range, weighted)
                assert found is not None
                assert float(found) == pytest.approx(alpha, abs=1e-12)


@pytest.mark.parametrize("weighted", [True, False])
def test_exponent_is_numpys_weighted_fit(weighted: bool) -> None:
    sigma = weights(150).sort(descending=True).values
    j = np.arange(4, 101)
    # polyfit's weights multiply the residuals, so they are square roots.
    w = np.sqrt(1 / j) if weighted else None
    expected = -np.polyfit(np.log(j), np.log(sigma.numpy()[3:100] ** 2), 1, w=w)[0]
    found = alpha_req(sigma, weighted=weighted)
    assert found is not None
    assert float(found) == pytest.approx(expected)


def test_exponent_of_what_is_too_short_is_none() -> None:
    j = torch.arange(1, 13, dtype=torch.float64)
    assert alpha_req(j**-1.0) is None  # 9 eigenvalues in the range
    assert alpha_req(j**-1.0, fit_range=(2, 12)) is not None
    dead = torch.cat([j**-1.0, torch.full((100,), 1e-9, dtype=torch.float64)])
    assert alpha_req(dead) is None
    found = alpha_req(dead, fit_range=(2, 100))
    assert found is not None
    assert float(found) == pytest.approx(2)
    for fit_range in ((-1, 5), (5, 5)):
        with pytest.raises(UserError, match="fit_range"):
            alpha_req(j, fit_range=fit_range)


def test_condition_number_is_numpys_and_infinite_of_a_lost_direction() -> None:
    x = torch.randn(50, 6, generator=generator(0, "condition"), dtype=torch.float64)
    sigma = torch.linalg.svdvals(x)
    assert float(condition_number(sigma)) == pytest.approx(np.linalg.cond(x.numpy()))
    nearly = torch.tensor([1.0, 1e-9])
    assert float(condition_number(nearly)) == pytest.approx(1e9)
    assert condition_number(nearly, rtol=1e-6) == math.inf
    assert condition_number(torch.tensor([1.0, 0.0])) == math.inf
    assert condition_number(torch.zeros(4)) == math.inf


def test_spectral_entropy_is_that_of_the_scatter_of_trace_one() -> None:
    x = torch.randn(50, 6, generator=generator(0, "entropy"), dtype=torch.float64)
    rho = np.cov(x.numpy().T)
    expected = entropy(np.linalg.eigvalsh(rho / np.trace(rho)))
    sigma = torch.linalg.svdvals(x - x.mean(0))
    assert float(spectral_entropy(sigma, normalised=False)) == pytest.approx(expected)
    assert float(spectral_entropy(sigma)) == pytest.approx(expected / math.log(6))
    assert spectral_entropy(torch.ones(9)) == 1
    assert spectral_entropy(torch.tensor([2.0])) == 0


def test_stable_rank_is_squared_frobenius_over_squared_spectral_norm() -> None:
    x = torch.randn(50, 6, generator=generator(0, "stable"), dtype=torch.float64)
    expected = np.linalg.norm(x.numpy()) ** 2 / np.linalg.norm(x.numpy(), 2) ** 2
    assert float(stable_rank(torch.linalg.svdvals(x))) == pytest.approx(expected)


def test_cev_auc_is_the_mean_of_the_cumulative_sums() -> None:
    sigma = weights().sort(descending=True).values
    expected = np.mean(np.cumsum(sigma.numpy()) / sigma.numpy().sum())
    assert float(cev_auc(sigma)) == pytest.approx(expected, rel=1e-14)
    assert cev_auc(sigma.flip(0)) == cev_auc(sigma)


def test_hard_rank_is_numpys_for_an_svd() -> None:
    g = generator(0, "low rank")
    for dtype in (torch.float32, torch.float64):
        x = torch.randn(60, 5, generator=g, dtype=dtype) @ torch.randn(5, 30, generator=g).to(dtype)
        found = hard_rank(torch.linalg.svdvals(x), (60, 30))
        assert found == np.linalg.matrix_rank(x.numpy()) == 5
    assert hard_rank(torch.tensor([1.0, 0.5, 0.125]), (9, 3), rtol=0.125) == 2


def test_dead_units_compare_standard_deviations_with_the_largest() -> None:
    deviation = torch.tensor([1e3, 1.0, 2e-3, 0.5e-3, 0.0], dtype=torch.float64)
    assert dead_units(deviation.square()) == 2  # at most a millionth of 1e3
    assert dead_units(deviation.square(), rtol=1e-2) == 4
    assert dead_units(deviation.square(), rtol=0.0) == 1


@pytest.mark.parametrize("k", [1, 7])
def test_nothing_is_nan_when_nothing_varies(k: int) -> None:
    zero = torch.zeros(k)
    for order in (0, 0.5, 1, 2, math.inf):
        assert hill_number(zero, order) == 0
    assert effective_rank(zero) == participation_ratio(zero) == hard_rank(zero, (9, k)) == 0
    assert rankme(zero) == stable_rank(zero) == spectral_entropy(zero) == 0
    assert cev_auc(zero) == anisotropy(zero) == 1
    assert alpha_req(zero) is None
    assert dead_units(zero) == k


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_extreme_scales_neither_overflow_nor_vanish(scale: float) -> None:
    sigma = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
    for function in (
        effective_rank,
        participation_ratio,
        cev_auc,
        rankme,
        stable_rank,
        anisotropy,
        spectral_entropy,
        condition_number,
    ):
        assert float(function(sigma * scale)) == pytest.approx(float(function(sigma)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_results_are_float64_scalars(dtype: torch.dtype) -> None:
    sigma = weights(dtype=dtype).requires_grad_()
    for value in (
        hill_number(sigma, 2),
        effective_rank(sigma),
        participation_ratio(sigma),
        cev_auc(sigma),
        hard_rank(sigma, (50, 40)),
        dead_units(sigma),
        rankme(sigma),
        stable_rank(sigma),
        anisotropy(sigma),
        spectral_entropy(sigma),
        condition_number(sigma),
    ):
        assert value.shape == ()
        assert value.dtype == torch.float64
        assert not value.requires_grad
    assert effective_rank(sigma) == effective_rank(sigma.double())


def test_what_is_no_spectrum_is_refused() -> None:
    for bad in ([1.0, -1e-9], [1.0, math.nan], [1.0, math.inf]):
        with pytest.raises(UserError, match="negative, NaN or infinite values given"):
            effective_rank(torch.tensor(bad))
    with pytest.raises(UserError, match="non-empty vector"):
        cev_auc(torch.zeros(0))
    for order in (-1, math.nan):
        with pytest.raises(UserError, match=r"order: .* allowed: any number from 0 to infinity"):
            hill_number(weights(), order)
    with pytest.raises(UserError, match="rtol: -1"):
        hard_rank(weights(), (40, 40), rtol=-1.0)
    with pytest.raises(UserError, match="rtol: -1"):
        condition_number(weights(), rtol=-1.0)
    with pytest.raises(UserError, match="epsilon: -1"):
        rankme(weights(), epsilon=-1.0)
    with pytest.raises(UserError, match="rtol: -1"):
        dead_units(weights(), rtol=-1.0)

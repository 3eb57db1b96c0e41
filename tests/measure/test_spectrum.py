from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.spectrum import (
    cev_auc,
    dead_units,
    effective_rank,
    hard_rank,
    hill_number,
    participation_ratio,
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
    assert cev_auc(zero) == 1
    assert dead_units(zero) == k


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_extreme_scales_neither_overflow_nor_vanish(scale: float) -> None:
    sigma = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
    for function in (effective_rank, participation_ratio, cev_auc):
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
        dead_units(weights(), rtol=-1.0)

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.moments import moments_of
from fullrank.measure.sketch import NystromSketch, SketchedSpectrum
from fullrank.measure.spectrum import (
    effective_rank,
    participation_ratio,
    rankme,
    stable_rank,
)
from fullrank.randomness import generator


def rows(n: int, d: int, alpha: float, seed: int = 0) -> Tensor:
    g = generator(seed, "sketched rows")
    mix = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64)).Q
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    return (x * torch.arange(1, d + 1) ** -alpha) @ mix + 5


def sketched(x: Tensor, size: int, seed: int = 0) -> NystromSketch:
    sketch = NystromSketch(x.shape[1], size, seed)
    for block in x.split(70):
        sketch.update(block)
    return sketch


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_unresolved_trace_obeys_the_theorem(alpha: float) -> None:
    x = rows(400, 200, alpha)
    lambda_ = moments_of(x).singular_values.square()
    size = 60
    found = [sketched(x, size, seed).spectrum() for seed in range(10)]
    mean = sum(s.unresolved for s in found) / len(found)
    bound = min((1 + r / (size - r - 1)) * float(lambda_[r:].sum()) for r in range(0, size - 1))
    assert mean <= 1.02 * bound  # an expectation, estimated from ten sketches
    for spectrum in found:
        assert (spectrum.eigenvalues <= lambda_[:size] * (1 + 1e-9)).all()  # never too large
        torch.testing.assert_close(
            spectrum.unresolved + float(spectrum.eigenvalues.sum()),
            float(lambda_.sum()),
            rtol=1e-9,
            atol=0,
        )


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("statistic", [participation_ratio, stable_rank, effective_rank])
def test_bounds_hold_the_exact_value(alpha: float, statistic: object) -> None:
    assert callable(statistic)
    for n in (50, 400):
        x = rows(n, 200, alpha)
        exact = float(statistic(moments_of(x).singular_values))
        low, high = sketched(x, 40).spectrum().bounds(statistic)
        assert low * (1 - 1e-9) <= exact <= high * (1 + 1e-9)


def test_low_rank_is_recovered_exactly() -> None:
    g = generator(0, "low rank")
    x = torch.randn(300, 12, generator=g, dtype=torch.float64)
    x = x @ torch.randn(12, 150, generator=g, dtype=torch.float64) + 100
    expected = moments_of(x).singular_values.square()
    spectrum = sketched(x, 30).spectrum()
    torch.testing.assert_close(spectrum.eigenvalues[:12], expected[:12], rtol=1e-6, atol=0)
    assert spectrum.unresolved < 1e-9 * float(expected.sum())
    low, high = spectrum.bounds(participation_ratio)
    assert high - low < 1e-6


def test_same_for_any_split_and_merge() -> None:
    x = rows(300, 80, 1.0)
    whole = sketched(x, 20)
    first, second = sketched(x[:110], 20), sketched(x[110:], 20)
    second.merge(first)
    second.merge(NystromSketch(80, 20))
    for name in ("eigenvalues", "variances"):
        torch.testing.assert_close(
            getattr(second.spectrum(), name), getattr(whole.spectrum(), name)
        )
    torch.testing.assert_close(second.mean, x.mean(0))
    torch.testing.assert_close(second.spectrum().variances, x.var(0, correction=0))


def test_complete_collapse_and_refusals() -> None:
    sketch = NystromSketch(10, 4)
    with pytest.raises(UserError, match="holds no rows"):
        sketch.spectrum()
    sketch.update(torch.full((7, 10), 0.3))
    spectrum = sketch.spectrum()
    assert not spectrum.eigenvalues.any() and spectrum.unresolved == 0
    with pytest.raises(UserError, match="width 9 given; allowed: 10"):
        sketch.update(torch.zeros(3, 9))
    with pytest.raises(UserError, match="1 of 2 rows hold NaN"):
        sketch.update(torch.tensor([[0.0] * 10, [float("nan")] * 10]))
    with pytest.raises(UserError, match="size: 11 given"):
        NystromSketch(10, 11)
    with pytest.raises(UserError, match="width, size and seed"):
        sketch.merge(NystromSketch(10, 4, seed=1))


def test_bounds_of_entropies_hold_whatever_agrees_with_the_sketch() -> None:
    # Descent over where the unresolved trace may lie finds no spectrum beyond the bounds.
    for alpha in (0.3, 1.0, 2.0):
        true = torch.arange(1, 121, dtype=torch.float64) ** (-2 * alpha)
        lambda_ = 0.9 * true[:30]
        unresolved = float(true.sum() - lambda_.sum())
        known = SketchedSpectrum(lambda_, unresolved, torch.ones(120).double(), 500, 120)
        low, high = known.bounds(effective_rank)
        assert low < float(effective_rank(true.sqrt())) < high
        fixed = torch.zeros(120, dtype=torch.float64)
        fixed[:30] = lambda_
        for sign in (1, -1):
            z = torch.randn(20, 120, generator=generator(0, "starts"), dtype=torch.float64)
            z.requires_grad_()
            optimiser = torch.optim.Adam([z], lr=0.2)
            for _ in range(300):
                sigma = (fixed + unresolved * torch.softmax(z, 1)).sqrt()
                p = sigma / sigma.sum(1, keepdim=True)
                entropy = -(p * p.log()).sum(1)
                optimiser.zero_grad()
                (sign * entropy.sum()).backward()
                optimiser.step()
            found = entropy.detach().exp()
            assert low <= float(found.min()) and float(found.max()) <= high * (1 + 1e-9)


@pytest.mark.parametrize("mean", [0.0, 3.0, 100.0])
def test_the_uncentred_spectrum_is_that_of_the_rows_as_they_are(mean: float) -> None:
    g = generator(1, "uncentred")
    mix = torch.randn(8, 60, generator=g, dtype=torch.float64)
    x = torch.randn(300, 8, generator=g, dtype=torch.float64) @ mix + mean
    spectrum = sketched(x, 20).spectrum(centred=False)
    sigma = torch.linalg.svdvals(x)
    assert spectrum.unresolved <= 1e-9 * float(sigma.square().sum())
    torch.testing.assert_close(spectrum.eigenvalues[:9], sigma[:9].square(), rtol=1e-6, atol=1e-3)
    low, high = spectrum.bounds(rankme)
    assert low == pytest.approx(float(rankme(sigma)), rel=1e-3)
    assert high == pytest.approx(low, rel=1e-2)


def test_a_spectrum_is_computed_once_for_the_rows_so_far() -> None:
    sketch = sketched(rows(200, 40, 1.0), 10)
    first = sketch.spectrum()
    assert sketch.spectrum() is first
    assert sketch.spectrum(centred=False) is not first
    sketch.update(rows(50, 40, 1.0, seed=1))
    assert sketch.spectrum().rows == 250
    sketch.merge(sketched(rows(30, 40, 1.0, seed=2), 10))
    assert sketch.spectrum().rows == 280

"""95 % intervals hold the truth 90 to 99 % of the time, on Gaussian data of known spectra.

A share of ``n`` draws is refused only where a coverage inside the law would give one so extreme
less than once in ten thousand times.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import Tensor

from fullrank.measure.moments import moments_of
from fullrank.measure.reading import UNSETTLED, Reading
from fullrank.measure.shards import Shards
from fullrank.measure.table import read_table
from fullrank.randomness import generator

D, MEAN, NEVER = 16, 0.5, 1e-4
# Those that have no interval by rights: whole numbers that do not vary.
WHOLE = {"hard_rank", "dead_units"}
Counts = dict[str, list[int]]


def scales(kind: str) -> Tensor:
    j = torch.arange(1, D + 1, dtype=torch.float64)
    return torch.where(j <= D // 4, 1.0, 0.2).double() if kind == "step" else j ** -float(kind)


def rows(kind: str, n: int, *seed: str | int) -> Tensor:
    g = generator(0, "coverage", kind, *seed)
    return torch.randn(n, D, generator=g, dtype=torch.float64) * scales(kind) + MEAN


def entropy(weights: np.ndarray) -> float:
    p = weights / weights.sum()
    return float(-(p * np.log(p)).sum())


def truth(kind: str) -> dict[str, float]:
    """Metrics of the population, by their definitions in NumPy."""
    sigma = scales(kind).numpy()
    variances = sigma**2
    uncentred = np.sqrt(np.linalg.eigvalsh(np.diag(variances) + MEAN**2 * np.ones((D, D))))
    j = np.arange(4, D + 1)
    slope = -np.polyfit(np.log(j), np.log(variances[3:]), 1, w=j**-0.5)[0]
    large = rows(kind, 400_000, "truth").numpy()
    unit = large / np.linalg.norm(large, axis=1, keepdims=True)
    centre = float(np.linalg.norm(unit.mean(0)))
    return {
        "effective_rank": np.exp(entropy(sigma)),
        "rankme": np.exp(entropy(uncentred)),
        "participation_ratio": variances.sum() ** 2 / (variances**2).sum(),
        "stable_rank": variances.sum() / variances[0],
        "anisotropy": variances[0] / variances.sum(),
        "condition_number": sigma[0] / sigma[-1],
        "cev_auc": float((np.cumsum(sigma) / sigma.sum()).mean()),
        "spectral_entropy": entropy(variances) / np.log(D),
        "alpha_req": float(slope),
        "spread": 1 - centre**2,
        "residual_magnitude": np.sqrt(1 - centre**2),
        "centre_magnitude": centre,
        "expected_over_data": centre,
        "normalised_std": float(unit.std(0).mean()) * np.sqrt(D),
    }


def held(kind: str, n: int, repetitions: int) -> tuple[Counts, Counts]:
    """Count intervals, and bounds, that hold the truth: ``[held, all]`` by metric."""
    true = truth(kind)
    intervals: Counts = {name: [0, 0] for name in true}
    bounds: Counts = {name: [0, 0] for name in true}
    for seed in range(repetitions):
        x = rows(kind, n, seed)
        table = read_table(Shards(tuple(moments_of(x[k::8]) for k in range(8))))
        assert table.keys() - WHOLE == true.keys()
        for name, value in true.items():
            reading: Reading = table[name]
            assert reading.low is not None and reading.high is not None, name
            count = (bounds if UNSETTLED in reading.flags else intervals)[name]
            slack = 1e-6 * abs(value) + 1e-12  # of rounding, where the truth is an end of the range
            count[0] += bool(reading.low - slack <= value <= reading.high + slack)
            count[1] += 1
    return intervals, bounds


def too_low(counts: Counts, fewest: int = 1) -> dict[str, list[int]]:
    found = {name: c for name, c in counts.items() if c[1] >= fewest}
    return {name: c for name, c in found.items() if binom.cdf(c[0], c[1], 0.90) < NEVER}


def both(first: Counts, second: Counts) -> Counts:
    return {
        name: [first[name][0] + second[name][0], first[name][1] + second[name][1]] for name in first
    }


def too_high(counts: Counts) -> dict[str, list[int]]:
    return {name: c for name, c in counts.items() if binom.sf(c[0] - 1, c[1], 0.99) < NEVER}


@pytest.mark.parametrize("kind", ["0.5"])
def test_intervals_and_bounds_hold_the_population(kind: str) -> None:
    intervals, bounds = held(kind, 10 * D, 50)
    assert too_low(both(intervals, bounds)) == {}
    assert too_low(intervals, fewest=20) == {}


@pytest.fixture(scope="module")
def varied() -> Iterator[tuple[dict[str, Counts], dict[str, Counts]]]:
    """Spectra that vary, of which no metric is at an end of its range."""
    found = {kind: held(kind, 20 * D, 400) for kind in ("0.25", "0.5", "1", "step")}
    yield {k: f[0] for k, f in found.items()}, {k: f[1] for k, f in found.items()}


@pytest.mark.slow
def test_at_least_90_percent_are_covered_of_every_spectrum(
    varied: tuple[dict[str, Counts], dict[str, Counts]],
) -> None:
    """By all readings; and by intervals alone, unless few samples escape the flag by chance."""
    intervals, bounds = varied
    for kind, counts in intervals.items():
        assert too_low(both(counts, bounds[kind])) == {}, kind
        assert too_low(counts, fewest=40) == {}, kind
        assert too_low(bounds[kind], fewest=40) == {}, kind


@pytest.mark.slow
def test_intervals_cover_at_most_99_percent_over_all_spectra(
    varied: tuple[dict[str, Counts], dict[str, Counts]],
) -> None:
    """Bounds, which cover more, say that they are no intervals."""
    together: Counts = {}
    for counts in varied[0].values():
        for name, (k, n) in counts.items():
            total = together.setdefault(name, [0, 0])
            total[0], total[1] = total[0] + k, total[1] + n
    assert too_high(together) == {}
    assert sum(n for _, n in together.values()) > 10_000

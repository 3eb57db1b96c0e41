"""Numbers by counter: a function of index and place, with the stated distributions."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from fullrank.data.counter import Counter, mix


def splitmix_finaliser(x: int) -> int:
    """The reference, in Python's unbounded integers (Vigna's splitmix64.c)."""
    mask = 2**64 - 1
    x &= mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def test_mix_is_splitmix64() -> None:
    values = [0, 1, -1, 12345678901234567, -(2**63), 2**63 - 1]
    expected = [splitmix_finaliser(v) for v in values]
    assert [int(v) % 2**64 for v in mix(torch.tensor(values))] == expected


def test_numbers_depend_on_index_and_place_alone() -> None:
    indices = torch.arange(100)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    first, second = Counter(indices, 0, "a"), Counter(indices[order], 0, "a")
    for _ in range(2):
        assert torch.equal(first.normal(7)[order], second.normal(7))
        assert torch.equal(first.uniform(3)[order], second.uniform(3))
        assert torch.equal(first.choice(5)[order], second.choice(5))


def test_keys_and_seeds_are_independent() -> None:
    indices = torch.arange(20000)
    base = Counter(indices, 0, "a").uniform(1)[:, 0]
    for other in (Counter(indices, 1, "a"), Counter(indices, 0, "b"), Counter(indices + 1, 0, "a")):
        values = other.uniform(1)[:, 0]
        assert abs(np.corrcoef(base, values)[0, 1]) < 5 / 20000**0.5


def test_distributions() -> None:
    chance = Counter(torch.arange(500), 0, "d")
    uniform = chance.uniform(100, 2.0, 3.0).flatten().numpy()
    assert stats.kstest(uniform - 2, "uniform").pvalue > 1e-3
    assert stats.kstest(chance.normal(101).flatten().numpy(), "norm").pvalue > 1e-3
    counts = torch.bincount(Counter(torch.arange(40000), 0, "c").choice(8), minlength=8)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    neighbours = chance.normal(100)
    assert abs(np.corrcoef(neighbours[:, :-1].flatten(), neighbours[:, 1:].flatten())[0, 1]) < 0.025

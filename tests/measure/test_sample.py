from __future__ import annotations

import doctest

import pytest
import torch
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure import sample as module
from fullrank.measure.sample import RowSample
from fullrank.randomness import generator


def rows(n: int) -> Tensor:
    return torch.stack([torch.arange(n), -torch.arange(n)], 1).double()


def test_the_same_rows_for_any_order_split_and_number_of_parts() -> None:
    x, order = rows(3000), torch.randperm(3000, generator=generator(0, "order"))
    whole = RowSample(size=100, seed=3)
    whole.update(x)
    parts = [RowSample(size=100, seed=3) for _ in range(3)]
    for part, indices in zip(parts, order.split(1000), strict=True):
        for index in indices.split(64):
            part.update(x[index], index)
    parts[0].merge(parts[1])
    parts[2].merge(parts[0])
    assert torch.equal(parts[2].index, whole.index)
    assert torch.equal(parts[2].rows, whole.rows)
    assert torch.equal(whole.rows, x[whole.index])
    assert parts[2].seen == 3000
    assert len(whole.index.unique()) == 100


def test_an_index_offered_twice_is_kept_once() -> None:
    x = rows(150)
    twice, once = RowSample(size=100), RowSample(size=100)
    for _ in range(3):
        twice.update(x, torch.arange(150))
    once.update(x)
    assert torch.equal(twice.index, once.index)


def test_fewer_rows_than_the_size_are_all_kept() -> None:
    sample = RowSample(size=100)
    sample.update(rows(30))
    assert sorted(sample.index.tolist()) == list(range(30))
    assert len(RowSample()) == 0


def test_each_row_is_equally_likely_and_seeds_are_unlike() -> None:
    counts = torch.zeros(400)
    for seed in range(300):
        sample = RowSample(size=40, seed=seed)
        sample.update(rows(400))
        counts[sample.index] += 1
    # Binomial(300, 0.1): mean 30, variance 27. Over 400 rows the dispersion has sd sqrt(2/400).
    assert counts.mean() == 30
    assert 0.8 < float(counts.var() / 27) < 1.2
    # Neither end of the data nor its parity is preferred.
    for half in (counts[:200], counts[::2]):
        assert abs(float(half.mean()) - 30) < 4 * (27 / 200) ** 0.5


def test_a_prefix_is_the_smaller_sample() -> None:
    small, large = RowSample(size=10), RowSample(size=100)
    for sample in (small, large):
        sample.update(rows(1000))
    assert torch.equal(large.index[:10], small.index)


def test_state_continues_and_refusals() -> None:
    x, whole, first = rows(1000), RowSample(50), RowSample(50)
    whole.update(x)
    first.update(x[:400])
    loaded = RowSample(7, seed=9)
    loaded.load_state_dict(first.state_dict())
    loaded.update(x[400:])
    assert torch.equal(loaded.rows, whole.rows)
    with pytest.raises(UserError, match="width 3 given; allowed: 2"):
        loaded.update(torch.zeros(4, 3))
    with pytest.raises(UserError, match="size 50 and seed 1 given"):
        loaded.merge(RowSample(50, seed=1))
    with pytest.raises(UserError, match="size: 0 given"):
        RowSample(0)
    assert doctest.testmod(module).failed == 0

from __future__ import annotations

import pickle
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.moments import Moments, MomentState, merge, moments_of
from fullrank.measure.shards import Shards
from fullrank.randomness import generator


def rows(n: int = 100, d: int = 6) -> Tensor:
    return torch.randn(n, d, generator=generator(0, "shards"), dtype=torch.float64) + 20


def assert_same(a: MomentState, b: MomentState) -> None:
    for name in MomentState.__annotations__:
        x, y = getattr(a, name), getattr(b, name)
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-9, msg=name) if x is not None else None
        assert (x is None) == (y is None)


def filled(x: Tensor, shards: int, *sizes: int) -> Moments:
    metric = Moments(shards=shards)
    for part in x.split(list(sizes) or len(x)):
        metric.update(part, part.flip(1))
    return metric


@pytest.mark.parametrize("sizes", [(), (1, 2, 97), (10,) * 10])
def test_image_i_is_in_shard_i_modulo_their_number(sizes: tuple[int, ...]) -> None:
    x = rows()
    shards = filled(x, 8, *sizes).compute_shards()
    for k, state in enumerate(shards.states):
        assert_same(state, moments_of(x[k::8], x[k::8].flip(1)))
    assert_same(shards.total, moments_of(x, x.flip(1)))
    assert (shards.count, shards.views, shards.dim, len(shards)) == (100, 2, 6, 8)
    assert_same(filled(x, 8, *sizes).compute(), shards.total)


def test_given_indices_make_shards_independent_of_order_and_ranks() -> None:
    x, order = rows(), torch.randperm(100, generator=generator(0, "order"))
    first, second = Moments(shards=8), Moments(shards=8)
    for metric, part in ((first, order[:37]), (second, order[37:])):
        for index in part.split(10):
            metric.update(x[index], index=index)
    first.merge_state(second)
    for k, state in enumerate(first.compute_shards().states):
        assert_same(state, moments_of(x[k::8]))
    with pytest.raises(UserError, match="index: 3 given; allowed: 4, one a row"):
        first.update(x[:4], index=torch.arange(3))


@pytest.mark.parametrize("n", [100, 5, 2])
def test_leaving_one_shard_out_is_the_moments_of_the_others(n: int) -> None:
    x = rows(n)
    shards = filled(x, 8).compute_shards()
    left = list(shards.leave_one_out())
    assert len(left) == min(n, 8)
    for k, state in enumerate(left):
        kept = x[torch.arange(n) % 8 != k]
        assert_same(state, moments_of(kept, kept.flip(1)))


def test_halves_come_with_their_complements() -> None:
    x = rows()
    shards = filled(x, 8).compute_shards()
    halves = list(shards.halves())
    assert len(halves) == 8
    for one, other in zip(halves[::2], halves[1::2], strict=True):
        assert_same(merge(one, other), shards.total)
        assert one.count in (48, 50, 51, 52, 49)
    assert len({round(float(h.mean[0, 0]), 9) for h in halves}) == 8
    for without in (filled(x[:5], 8), filled(x[:2], 8), filled(x, 1)):
        assert not list(without.compute_shards().halves())


def test_one_shard_and_empty_shards() -> None:
    assert not list(filled(rows(), 1).compute_shards().leave_one_out())
    empty = Moments(shards=8).compute_shards()
    assert empty.count == 0 and not empty.filled and not list(empty.leave_one_out())
    merged = empty.merge(filled(rows(), 8).compute_shards())
    assert merged.count == 100
    with pytest.raises(UserError, match="shards: 1 given; allowed: 8"):
        merged.merge(filled(rows(), 1).compute_shards())
    with pytest.raises(UserError, match="shards: 0 given"):
        Moments(shards=0)
    with pytest.raises(UserError, match="shards: none given"):
        Shards(())


def test_state_dict_continues_in_the_same_shards() -> None:
    x = rows()
    metric = filled(x[:35], 8)
    loaded = Moments(shards=8)
    loaded.load_state_dict(metric.state_dict())
    loaded.update(x[35:], x[35:].flip(1))
    for k, state in enumerate(loaded.compute_shards().states):
        assert_same(state, moments_of(x[k::8], x[k::8].flip(1)))


@pytest.mark.parametrize("q", [1, 2])
def test_what_is_left_out_can_be_copied_before_its_matrices_are_asked_for(q: int) -> None:
    views = [torch.randn(40, 3, generator=generator(v, "copied")).double() for v in range(q)]
    shards = Shards(tuple(moments_of(*(view[k::4] for view in views)) for k in range(4)))
    for k, state in enumerate(shards.leave_one_out()):
        exact = moments_of(*(view[torch.arange(40) % 4 != k] for view in views))
        for copied in (deepcopy(state), pickle.loads(pickle.dumps(state)), state.to("cpu"), state):
            torch.testing.assert_close(copied.scatter, exact.scatter)
            assert (copied.contrast is None) == (q == 1)
            assert not hasattr(copied, "scattered")

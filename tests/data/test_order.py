"""Laws of the order of data in time."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from itertools import islice

import pytest
import torch

from fullrank.data.augment import Augment
from fullrank.data.loader import ViewStream
from fullrank.data.order import Order
from fullrank.data.settings import Augmentation
from fullrank.data.shapes import drawn, render
from fullrank.data.sources import Images
from fullrank.data.stream_settings import (
    IID,
    STREAMS,
    Cumulative,
    Fraction,
    Hybrid,
    Once,
    SinglePass,
    stream_of,
)
from fullrank.errors import UserError
from fullrank.experiments.scale import data_settings
from fullrank.randomness import generator
from fullrank.train.resolve import resolve

N, BATCH, STEPS, SEED = 200, 8, 60, 3
CHUNKED = [
    SinglePass(chunks=5),
    Cumulative(chunks=5),
    Hybrid(chunks=5, switch=0.4),
    Hybrid(chunks=4, switch=0.5, visits="all"),
    SinglePass(chunks=7, share=0.5),
]
ALL = [IID(), Fraction(share=0.1), *CHUNKED, Once()]


def order(stream, n=N, batch=BATCH, steps=STEPS, seed=SEED) -> Order:
    return Order(stream, n, batch, seed, 25 if isinstance(stream, Once) else steps)


def shown(given: Order, first: int = 0, stop: int = STEPS) -> torch.Tensor:
    return torch.cat([given.images(step) for step in range(first, stop)])


@pytest.mark.parametrize("stream", ALL, ids=str)
def test_no_batch_shows_an_image_twice_and_all_are_of_the_set(stream):
    given = order(stream)
    for step in range(25):
        images = given.images(step)
        assert images.dtype == torch.int64
        assert len(images.unique()) == BATCH
        assert torch.isin(images, torch.arange(N)).all()


@pytest.mark.parametrize("stream", ALL, ids=str)
def test_a_step_depends_on_seed_and_step_alone(stream):
    forwards, backwards = order(stream), order(stream)
    steps = range(25)
    late = {step: backwards.images(step) for step in reversed(steps)}
    assert all(torch.equal(forwards.images(step), late[step]) for step in steps)
    assert not torch.equal(order(stream, seed=4).images(0), forwards.images(0))


def test_without_an_order_epochs_are_permutations_drawn_by_seed_and_epoch():
    for epoch in range(3):
        drawn = torch.randperm(N, generator=generator(SEED, "order", epoch))
        assert torch.equal(shown(order(IID()), 25 * epoch, 25 * epoch + 25), drawn)


def test_a_fraction_shows_the_same_few_images_as_often_as_there_are_steps():
    few, more = (shown(order(Fraction(share))).unique() for share in (0.1, 0.3))
    assert len(few) == 20 and len(more) == 60
    assert torch.isin(few, more).all()
    for stop in range(2, STEPS + 1, 2):  # two batches of 8 are a pass over 20
        assert len(shown(order(Fraction(0.1)), stop - 2, stop).unique()) == 16


@pytest.mark.parametrize("stream", [SinglePass(5), SinglePass(7, share=0.5)], ids=str)
def test_a_single_pass_leaves_every_chunk_for_good(stream):
    given = order(stream)
    seen = [
        shown(given, t * STEPS // stream.chunks, (t + 1) * STEPS // stream.chunks).unique()
        for t in range(stream.chunks)
    ]
    for t, chunk in enumerate(seen):
        others = torch.cat(seen[:t] + seen[t + 1 :])
        assert not torch.isin(chunk, others).any()
    pool = round(stream.share * N)
    assert [len(p) for p in given.phases] == [
        (t + 1) * pool // stream.chunks - t * pool // stream.chunks for t in range(stream.chunks)
    ]
    assert sum(len(p) for p in given.phases) == pool


def test_a_cumulative_order_adds_a_chunk_at_a_time():
    single, cumulative = order(SinglePass(5)), order(Cumulative(5))
    gone: list[torch.Tensor] = []
    for t in range(5):
        gone.append(single._permutation()[t * 40 : (t + 1) * 40])
        now = shown(cumulative, 12 * t, 12 * t + 12)
        assert torch.isin(now, torch.cat(gone)).all()
        assert len(cumulative.phase(12 * t)) == 40 * (t + 1)
    assert torch.equal(shown(cumulative, 0, 12), shown(single, 0, 12))


def test_a_hybrid_is_the_single_pass_until_the_switch_and_all_images_after():
    single, hybrid = order(SinglePass(5)), order(Hybrid(5, switch=0.4))
    assert torch.equal(shown(hybrid, 0, 24), shown(single, 0, 24))
    passed = shown(hybrid, 24, 49)
    assert len(passed.unique()) == N  # one epoch of all 25 batches


def test_a_hybrid_that_visits_all_chunks_has_seen_every_chunk_before_the_switch():
    hybrid = order(Hybrid(4, switch=0.5, visits="all"))
    assert [(p.first, p.chunk) for p in hybrid.phases] == [
        *((t * 30 // 4, t) for t in range(4)),
        (30, None),
    ]


def test_once_shows_no_image_again():
    given = order(Once())
    assert len(shown(given, 0, 25).unique()) == N


def test_once_goes_on_with_new_images_where_there_is_no_end_of_them():
    source = Images(render(torch.arange(130), 8)[0], draw=partial(drawn, 8))
    augment = Augment((Augmentation(8, mean=(0.5,) * 3, std=(0.2,) * 3),), 3)
    last = len(source) // 64
    stream = ViewStream(source, augment, 64, 0, stream=Once(), total_steps=10**9)
    before, beyond = islice(stream.batches(last - 1), 2)
    assert int(before.indices.max()) < len(source) <= int(beyond.indices.max())
    pixels, _ = render(beyond.indices, 8)
    assert torch.equal(stream._shown(beyond.indices), pixels)
    assert torch.equal(stream._shown(before.indices), render(before.indices, 8)[0])


@pytest.mark.parametrize("stream", ALL, ids=str)
def test_processes_share_every_order(stream):
    images = Images(torch.zeros(N, 1, 4, 4, dtype=torch.uint8))

    def streams(rank: int, world: int) -> ViewStream:
        augment = Augment((Augmentation(4),), 1)
        steps = 25 if isinstance(stream, Once) else STEPS
        return ViewStream(
            images, augment, BATCH, SEED, rank=rank, world=world, stream=stream, total_steps=steps
        )

    whole, parts = streams(0, 1), [streams(rank, 4) for rank in range(4)]
    for step in (0, 7, 13, 24):
        together = torch.cat([part.indices(step) for part in parts])
        assert torch.equal(together, whole.indices(step))
        assert torch.equal(whole.indices(step), order(stream).images(step))


@pytest.mark.parametrize("stream", CHUNKED, ids=str)
def test_the_record_says_which_chunk_each_step_drew_from(stream):
    given = order(stream)
    said = given.to_dict()
    assert said["stream"] == stream.to_dict()
    firsts = [phase["first"] for phase in said["phases"]] + [STEPS + 1]
    for phase, after in zip(said["phases"], firsts[1:], strict=True):
        for step in range(phase["first"], after):
            assert given.phase(step - 1).chunk == phase["chunk"]
            assert len(given.phase(step - 1)) == phase["images"]


@pytest.mark.parametrize("stream", ALL, ids=str)
def test_orders_come_back_from_a_configuration(stream):
    config = resolve({"data": {"name": "digits", "stream": stream.to_dict()}, "preset": "small"})
    assert config.data.stream == stream
    assert resolve(config.to_dict()).data.stream == stream
    assert data_settings({"name": "digits", "stream": stream.to_dict()}).stream == stream
    plain = resolve({"data": "digits", "preset": "small"})
    assert (config.identity() == plain.identity()) == isinstance(stream, IID)


def test_every_kind_is_told_apart():
    assert {stream.kind for stream in ALL} == set(STREAMS)
    assert stream_of("hybrid") == Hybrid()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fraction(0.0), "data.stream.share: 0.0 is not allowed"),
        (lambda: SinglePass(1), "data.stream.chunks: 1 is not allowed"),
        (lambda: Hybrid(switch=1.0), "data.stream.switch: 1.0 is not allowed"),
        (lambda: stream_of("singlepass"), "Did you mean 'single-pass'"),
        (lambda: stream_of({"kind": "once", "chunks": 3}), "'chunks' is not known"),
        (lambda: order(SinglePass(40)), "batch_size: 8 is more than the 5 images that chunk 0"),
        (lambda: order(Fraction(0.01)), "more than the 2 images that the pool"),
        (lambda: order(SinglePass(20), steps=10), "20 chunks given for 10 steps"),
        (lambda: order(SinglePass(5), steps=None), "steps: none given"),
        (lambda: Order(Once(), N, BATCH, 0), "steps: none given"),
        (lambda: Order(Once(), N, N + 1, 0), "steps: none given"),
        (lambda: Order(Once(), N, BATCH, 0, 26), "once needs 208 images for 26 steps of 8"),
    ],
)
def test_orders_that_cannot_be_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(
    "make", ['Hybrid(visits="al")', 'stream_of({"kind": "hybrid", "visits": "al"})']
)
def test_visits_of_a_hybrid_are_one_of_two(make):
    # In a process of its own: in this one annotations are checked before anything else is.
    code = f"from fullrank.data.stream_settings import Hybrid, stream_of; {make}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "UserError: data.stream.visits: 'al' is not known. Did you mean 'all'?" in done.stderr

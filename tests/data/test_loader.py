"""The order of data in time, and the picture of views."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image

from fullrank.data.augment import Augment, prepare
from fullrank.data.grid import CELL, MARGIN, views_grid
from fullrank.data.loader import Batch, ViewStream
from fullrank.data.settings import Augmentation
from fullrank.data.sources import Images
from fullrank.errors import UserError

VIEW = Augmentation(8, scale=(0.4, 1.0), jitter=(0.4, 0.4, 0.0, 0.0), jitter_p=0.8, noise=0.1)


def images(n: int = 23) -> Images:
    source = torch.Generator().manual_seed(0)
    return Images(torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=source))


def stream(batch_size: int = 6, seed: int = 0, **where: int) -> ViewStream:
    return ViewStream(images(), Augment((VIEW, VIEW), 1), batch_size, seed, **where)


def take(source: ViewStream, count: int, start: int = 0) -> list[Batch]:
    return list(islice(source.batches(start), count))


def test_an_epoch_shows_each_image_at_most_once_and_another_order_follows() -> None:
    source = stream()
    assert source.steps_per_epoch == 3
    epochs = [torch.cat([b.indices for b in take(source, 3, 3 * e)]) for e in range(3)]
    for epoch in epochs:
        assert len(epoch.unique()) == 18
    assert not torch.equal(epochs[0], epochs[1])
    seen = torch.cat([torch.cat([b.indices for b in take(source, 3, 3 * e)]) for e in range(12)])
    assert len(seen.unique()) == 23  # what one epoch leaves out another shows


def test_a_step_is_a_function_of_seed_and_step() -> None:
    whole, resumed = take(stream(), 8), take(stream(), 3, start=5)
    for a, b in zip(whole[5:], resumed, strict=True):
        assert torch.equal(a.indices, b.indices)
        assert all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))
    assert not torch.equal(whole[0].views[0], take(stream(seed=1), 1)[0].views[0])


def test_processes_share_the_batch_of_one() -> None:
    whole = take(stream(), 4)
    parts = [take(stream(rank=rank, world=3), 4) for rank in range(3)]
    for step, batch in enumerate(whole):
        assert torch.equal(batch.indices, torch.cat([p[step].indices for p in parts]))
        for view, together in enumerate(batch.views):
            torch.testing.assert_close(torch.cat([p[step].views[view] for p in parts]), together)


def test_batches_are_what_the_rest_expects() -> None:
    batch = take(stream(), 1)[0]
    assert batch.indices.dtype == torch.int64 and batch.indices.shape == (6,)
    assert [v.shape for v in batch.views] == [(6, 1, 8, 8)] * 2
    assert all(v.dtype == torch.float32 and v.is_contiguous() for v in batch.views)


def test_views_show_the_images_of_their_indices() -> None:
    plain = Augmentation(8, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    source = ViewStream(images(), Augment((plain,), 1), 6, 0)
    batch = take(source, 1)[0]
    expected = prepare(images().images[batch.indices], 8, plain.mean, plain.std)
    assert torch.equal(batch.views[0], expected)


@pytest.mark.parametrize("batch_size", [0, 24])
def test_a_batch_that_does_not_fit_is_refused(batch_size: int) -> None:
    with pytest.raises(UserError, match=rf"batch_size: {batch_size} given; allowed: 1 to 23"):
        stream(batch_size)


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(UserError, match="multiple of 4"):
        stream(6, world=4)


def test_grid_shows_the_original_and_its_views(tmp_path: Path) -> None:
    pixels = images(3).images
    plain = Augmentation(8, mean=(0.3,), std=(0.2,))
    view = prepare(pixels, 8, plain.mean, plain.std)
    views_grid(pixels, [view, view], tmp_path / "views.png", (plain, plain))
    zoom, step = CELL // 8, 8 + MARGIN
    with Image.open(tmp_path / "views.png") as opened:
        picture = opened.convert("L")
    assert picture.size == (zoom * (3 * step + MARGIN), zoom * (3 * step + MARGIN))
    for row in range(3):
        for column in range(3):  # un-normalised, each view is the original again
            for y, x in ((0, 0), (3, 5), (7, 7)):
                at = [zoom * (MARGIN + k * step + p) for k, p in ((column, x), (row, y))]
                assert picture.getpixel(tuple(at)) == int(pixels[row, 0, y, x])

"""Folders of pictures: classes, splits, damaged files, and streams that workers cannot change."""

from __future__ import annotations

import multiprocessing
import shutil
import time
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fullrank.data.augment import Augment
from fullrank.data.folder import EXTENSIONS, FolderImages
from fullrank.data.loader import Batch, ViewStream
from fullrank.data.settings import Augmentation, DataSettings
from fullrank.data.sources import load_source
from fullrank.errors import UserError

VIEW = Augmentation(
    16,
    scale=(0.3, 1.0),
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_p=0.8,
    blur=0.5,
    noise=0.1,
    mean=(0.5,) * 3,
    std=(0.25,) * 3,
)


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (24, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def fill(folder: Path, count: int, suffix: str = ".png") -> None:
    for k in range(count):
        picture(folder / f"{k:03}{suffix}", k, (20 + k % 7, 18 + k % 5))


def load(folder: Path, **settings):
    return load_source(DataSettings(f"folder:{folder}", **settings))


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    fill(tmp_path / "cat", 20)
    fill(tmp_path / "dog" / "deep", 20, ".jpg")
    source = load(tmp_path)
    assert source.classes == ("cat", "dog")
    assert (source.channels, source.size) == (3, 224)
    for part in (source.train, source.test):
        assert isinstance(part, FolderImages) and part.labels is not None
        for path, label in zip(part.paths, part.labels.tolist(), strict=True):
            assert f"/{source.classes[label]}/" in path
    assert len(source.train) + len(source.test) == 40


def test_a_file_beside_the_classes_means_no_labels(tmp_path: Path) -> None:
    fill(tmp_path / "cat", 3)
    fill(tmp_path / "dog", 3)
    picture(tmp_path / "stray.png")
    source = load(tmp_path)
    assert source.classes is None and source.train.labels is None


def test_own_splits_are_kept(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("val", 3)):
        for name in ("a", "b"):
            fill(tmp_path / split / name, count)
    source = load(tmp_path)
    assert (len(source.train), len(source.test)) == (12, 6)
    assert source.classes == ("a", "b")
    assert all("/val/" in path for path in source.test.paths)


def test_the_held_out_tenth_does_not_move_when_files_are_added(tmp_path: Path) -> None:
    fill(tmp_path, 60)
    before = {Path(p).name for p in load(tmp_path).test.paths}
    for k in range(60, 120):
        picture(tmp_path / f"{k:03}.png", k)
    after = {Path(p).name for p in load(tmp_path).test.paths}
    assert before == {name for name in after if int(name[:3]) < 60}
    assert 3 <= len(after) <= 24  # 12 expected


def test_two_images_are_one_to_train_and_one_to_test(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    source = load(tmp_path)
    assert (len(source.train), len(source.test)) == (1, 1)


def test_limit_keeps_some(tmp_path: Path) -> None:
    fill(tmp_path, 20)
    source = load(tmp_path, limit=5)
    assert len(source.train) == 5
    with pytest.raises(UserError, match=r"data\.limit: 99"):
        load(tmp_path, limit=99)


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is not a folder"):
        load(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    with pytest.raises(UserError) as error:
        load(tmp_path / "empty")
    assert all(extension in str(error.value) for extension in EXTENSIONS)
    picture(tmp_path / "one" / "a.png")
    with pytest.raises(UserError, match="only one image"):
        load(tmp_path / "one")
    (tmp_path / "half" / "train").mkdir(parents=True)
    picture(tmp_path / "half" / "val" / "a.png")
    with pytest.raises(UserError, match=r"no images in .*train"):
        load(tmp_path / "half")


def test_read_is_the_central_square(tmp_path: Path) -> None:
    for k, name in enumerate(("a.png", "b.png")):
        pixels = np.zeros((10, 30, 3), np.uint8)
        pixels[:, 10:20] = 100 + k
        Image.fromarray(pixels).save(tmp_path / name)
    images = FolderImages([str(tmp_path / "a.png"), str(tmp_path / "b.png")], None)
    out = images.read(torch.tensor([1, 0]), 10)
    assert out.shape == (2, 3, 10, 10)
    assert out[0].unique().tolist() == [101] and out[1].unique().tolist() == [100]


def test_kinds_of_pictures_become_rgb(tmp_path: Path) -> None:
    paths = []
    for mode in ("L", "RGBA", "P", "1", "CMYK"):
        path = tmp_path / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}"
        Image.new(mode, (8, 8)).save(path)
        paths.append(str(path))
    assert FolderImages(paths, None).read(torch.arange(5), 8).shape == (5, 3, 8, 8)


def damage(path: str) -> None:
    raw = Path(path).read_bytes()
    Path(path).write_bytes(raw[: len(raw) // 3])


def take(stream: ViewStream, count: int, start: int = 0) -> list[Batch]:
    return list(islice(stream.batches(start), count))


def equal(a: Batch, b: Batch) -> bool:
    views = all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))
    return views and torch.equal(a.indices, b.indices)


def test_damaged_pictures_are_named_skipped_and_replaced(tmp_path: Path) -> None:
    fill(tmp_path, 12)
    paths = sorted(str(p) for p in tmp_path.iterdir())
    damage(paths[3])
    Path(paths[4]).write_bytes(b"no picture")
    labels = torch.arange(12)
    images = FolderImages(paths, labels)
    out = images.read(torch.tensor([2, 3, 4, 5]), 8)
    assert torch.equal(out[1], out[3]) and torch.equal(out[2], out[3])
    assert set(images.skipped) == set(paths[3:5])
    assert all(images.skipped.values())
    assert images.labels_of(torch.tensor([2, 3, 4, 5])).tolist() == [2, 5, 5, 5]
    damage(paths[11])
    images.read(torch.tensor([11]), 8)  # after the last comes the first
    assert images.labels_of(torch.tensor([11, 0])).tolist() == [0, 0]


def test_all_damaged_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    paths = sorted(str(p) for p in tmp_path.iterdir())
    for path in paths:
        damage(path)
    with pytest.raises(UserError, match=r"none of the 3 images can be read.*000\.png"):
        FolderImages(paths, None).read(torch.tensor([1]))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_tells_what_it_skipped(tmp_path: Path, workers: int) -> None:
    fill(tmp_path, 12)
    paths = sorted(str(p) for p in tmp_path.iterdir())
    damage(paths[3])
    images = FolderImages(paths, None)
    stream = ViewStream(images, Augment((VIEW, VIEW), 3), 12, 0, workers=workers)
    batch = take(stream, 1)[0]
    assert list(stream.skipped) == [paths[3]] and list(images.skipped) == [paths[3]]
    assert sorted(batch.indices.tolist()) == [0, 1, 2, 4, 4, 5, 6, 7, 8, 9, 10, 11]


def test_an_unreadable_folder_stops_the_stream(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    paths = sorted(str(p) for p in tmp_path.iterdir())
    for path in paths:
        damage(path)
    stream = ViewStream(FolderImages(paths, None), Augment((VIEW,), 3), 2, 0, workers=1)
    with pytest.raises(UserError, match="none of the 3 images"):
        take(stream, 1)


def test_workers_and_resuming_change_nothing(tmp_path: Path) -> None:
    fill(tmp_path, 10)
    paths = sorted(str(p) for p in tmp_path.iterdir())

    def stream(workers: int) -> ViewStream:
        return ViewStream(
            FolderImages(paths, None), Augment((VIEW, VIEW), 3), 4, 1, workers=workers
        )

    here, there = take(stream(0), 5), take(stream(2), 5)
    resumed = take(stream(2), 2, start=3)
    assert all(equal(a, b) for a, b in zip(here, there, strict=True))
    assert all(equal(a, b) for a, b in zip(here[3:], resumed, strict=True))


def test_processes_share_a_batch(tmp_path: Path) -> None:
    fill(tmp_path, 8)
    paths = sorted(str(p) for p in tmp_path.iterdir())

    def stream(rank: int, world: int) -> ViewStream:
        return ViewStream(
            FolderImages(paths, None), Augment((VIEW,), 3), 8, 1, rank=rank, world=world
        )

    whole = take(stream(0, 1), 1)[0]
    parts = [take(stream(rank, 2), 1)[0] for rank in range(2)]
    assert torch.equal(whole.indices, torch.cat([p.indices for p in parts]))
    torch.testing.assert_close(whole.views[0], torch.cat([p.views[0] for p in parts]))


def test_a_folder_and_memory_give_the_same_views(tmp_path: Path) -> None:
    """Crops cut by PIL in bytes against ours in floats: the same boxes, to rounding."""
    smooth = np.linspace(0, 255, 32, dtype=np.uint8)
    for k in range(6):
        pixels = np.stack([np.roll(np.tile(smooth, (32, 1)), k, 0)] * 3, 2)
        pixels[..., 1] = pixels[..., 1].T
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    paths = sorted(str(p) for p in tmp_path.iterdir())
    view = Augmentation(16, scale=(0.3, 1.0), mean=(0.0,) * 3, std=(1.0,) * 3)
    images = FolderImages(paths, None)
    batch = take(ViewStream(images, Augment((view,), 3), 6, 0), 1)[0]
    memory = images.read(batch.indices, 32)
    own = Augment((view,), 3)(memory, 0, 0)[0]
    assert float((batch.views[0] - own).abs().max()) < 3 / 255


def test_a_file_that_goes_away_is_skipped(tmp_path: Path) -> None:
    fill(tmp_path / "a", 5)
    paths = sorted(str(p) for p in (tmp_path / "a").iterdir())
    images = FolderImages(paths, None)
    shutil.move(paths[0], tmp_path / "gone.png")
    images.read(torch.tensor([0]), 8)
    assert list(images.skipped) == paths[:1]


def test_readers_end_with_the_process_they_read_for(tmp_path: Path) -> None:
    fill(tmp_path, 8)
    context = multiprocessing.get_context("forkserver")
    told, tell = context.Pipe()
    process = context.Process(target=read_and_wait, args=(tmp_path, tell))
    process.start()
    assert told.poll(60)
    readers = told.recv()
    assert len(readers) == 2 and all(Path(f"/proc/{pid}").exists() for pid in readers)
    process.kill()
    process.join()
    end = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in readers):
        assert time.monotonic() < end, "readers are left behind"
        time.sleep(0.05)


def read_and_wait(folder: Path, tell: Connection) -> None:
    """Read a batch with two workers, name their processes, and wait for the end."""
    images = FolderImages(sorted(str(p) for p in folder.iterdir()), None)
    reading = ViewStream(images, Augment((VIEW,), 3), 2, 0, workers=2).batches()
    next(reading)
    tell.send([child.pid for child in multiprocessing.active_children()])
    time.sleep(600)

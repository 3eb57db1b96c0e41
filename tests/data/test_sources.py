"""Sets on disk in their published formats, and what happens when they are not right."""

from __future__ import annotations

import gzip
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from fullrank.data.fashion_mnist import DEBIAN, FILES
from fullrank.data.idx import read_idx
from fullrank.data.settings import DataSettings
from fullrank.data.sources import load_source, resize
from fullrank.errors import UserError

RNG = np.random.default_rng(0)


# ---- idx ------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_fashion(folder: Path, n: int = 20, zipped: bool = True) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    first = None
    for name in FILES:
        shape = (n, 28, 28) if "images" in name else (n,)
        values = RNG.integers(0, 256 if "images" in name else 10, shape, dtype=np.uint8)
        first = values if first is None else first
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(idx(values)) if zipped else idx(values))
    assert first is not None
    return first


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("layout", ["FashionMNIST/raw", "."])
def test_fashion_mnist_in_both_layouts(tmp_path: Path, layout: str, zipped: bool) -> None:
    expected = write_fashion(tmp_path / layout, zipped=zipped)
    source = load_source(DataSettings("fashion-mnist", root=str(tmp_path)))
    assert source.train.images is not None
    assert np.array_equal(source.train.images[:, 0].numpy(), expected)
    assert (source.channels, source.size, len(source.test)) == (1, 28, 20)
    assert source.classes is not None and source.classes[9] == "ankle boot"


def test_fashion_mnist_reads_what_torchvision_reads(tmp_path: Path) -> None:
    from torchvision.datasets import FashionMNIST

    write_fashion(tmp_path / "FashionMNIST" / "raw", zipped=False)
    peer = FashionMNIST(str(tmp_path), train=True)
    source = load_source(DataSettings("fashion-mnist", root=str(tmp_path)))
    assert source.train.images is not None and source.train.labels is not None
    assert torch.equal(source.train.images[:, 0], peer.data)
    assert torch.equal(source.train.labels, peer.targets)


@pytest.mark.skipif(
    not (DEBIAN / f"{FILES[0]}.gz").is_file(), reason="needs Debian's dataset-fashion-mnist"
)
def test_fashion_mnist_of_debian(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FULLRANK_DATA", raising=False)
    source = load_source(DataSettings("fashion-mnist", limit=1000))
    assert (len(source.train), len(source.test)) == (1000, 10000)
    assert torch.bincount(source.test.labels).tolist() == [1000] * 10


def test_the_environment_names_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_fashion(tmp_path)
    monkeypatch.setenv("FULLRANK_DATA", str(tmp_path))
    assert len(load_source(DataSettings("fashion-mnist")).train) == 20


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10", "cifar100", "stl10"])
def test_a_missing_set_says_where_it_looked_and_what_to_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError) as error:
        load_source(DataSettings(name, root=str(tmp_path / "nothing")))
    for part in (name, str(tmp_path), "--data.download true", "--data.root DIR"):
        assert part in str(error.value)


def test_damaged_idx_files_are_named(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    victim = tmp_path / f"{FILES[0]}.gz"
    whole = victim.read_bytes()
    for damaged in (
        whole[: len(whole) // 2],
        gzip.compress(gzip.decompress(whole)[:-5]),
        gzip.compress(b"\x00\x00\x08\x03\x00"),
        b"<html>404</html>",
        b"",
    ):
        victim.write_bytes(damaged)
        with pytest.raises(UserError, match="train-images-idx3-ubyte"):
            load_source(DataSettings("fashion-mnist", root=str(tmp_path)))


def test_labels_that_do_not_fit_are_named(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    (tmp_path / f"{FILES[1]}.gz").write_bytes(gzip.compress(idx(np.zeros(19, np.uint8))))
    with pytest.raises(UserError, match="train-labels"):
        load_source(DataSettings("fashion-mnist", root=str(tmp_path)))


def test_idx_of_any_rank(tmp_path: Path) -> None:
    values = RNG.integers(0, 256, (2, 3, 4, 5), dtype=np.uint8)
    (tmp_path / "x").write_bytes(idx(values))
    assert np.array_equal(read_idx(tmp_path / "x").numpy(), values)


# ---- CIFAR ----------------------------------------------------------------------------------


def write_cifar(root: Path, name: str, n: int = 6) -> dict[str, dict]:
    """Write the Python version of a CIFAR set, with the keys in bytes as published."""
    ten = name == "cifar10"
    folder = root / ("cifar-10-batches-py" if ten else "cifar-100-python")
    folder.mkdir(parents=True)
    files = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"] if ten else ["train", "test"]
    written = {}
    for file in files:
        data = RNG.integers(0, 256, (n, 3072), dtype=np.uint8)
        entries = {b"data": data, b"batch_label": b"x"}
        if ten:
            entries[b"labels"] = RNG.integers(0, 10, n).tolist()
        else:
            entries[b"fine_labels"] = RNG.integers(0, 100, n).tolist()
            entries[b"coarse_labels"] = [0] * n
        (folder / file).write_bytes(pickle.dumps(entries, protocol=2))
        written[file] = entries
    names = [f"class{k}".encode() for k in range(10 if ten else 100)]
    meta = {b"label_names" if ten else b"fine_label_names": names}
    (folder / ("batches.meta" if ten else "meta")).write_bytes(pickle.dumps(meta, protocol=2))
    return written


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_extracted_and_as_published(tmp_path: Path, name: str, packed: bool) -> None:
    written = write_cifar(tmp_path / "files", name)
    root = tmp_path / "files"
    if packed:
        archive = "cifar-10-python.tar.gz" if name == "cifar10" else "cifar-100-python.tar.gz"
        with tarfile.open(tmp_path / archive, "w:gz") as tar:
            for folder in root.iterdir():
                tar.add(folder, folder.name)
        root = tmp_path
    source = load_source(DataSettings(name, root=str(root)))
    first = written["data_batch_1" if name == "cifar10" else "train"]
    key = b"labels" if name == "cifar10" else b"fine_labels"
    assert source.train.images is not None and source.train.labels is not None
    assert np.array_equal(source.train.images[:6].flatten(1).numpy(), first[b"data"])
    assert source.train.labels[:6].tolist() == first[key]
    assert len(source.train) == (30 if name == "cifar10" else 6)
    assert len(source.test) == 6
    assert source.classes is not None and source.classes[-1] == f"class{len(source.classes) - 1}"


def test_cifar_files_damaged_missing_or_hostile(tmp_path: Path) -> None:
    write_cifar(tmp_path, "cifar10")
    victim = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    whole = victim.read_bytes()
    settings = DataSettings("cifar10", root=str(tmp_path))
    for damaged in (whole[:-100], b"", pickle.dumps({b"data": 3}), pickle.dumps([1])):
        victim.write_bytes(damaged)
        with pytest.raises(UserError, match="data_batch_3"):
            load_source(settings)
    victim.write_bytes(pickle.dumps(Path.cwd))  # a pickle that names code, not arrays
    with pytest.raises(UserError, match="no array"):
        load_source(settings)
    victim.unlink()
    with pytest.raises(UserError, match="data_batch_3 is missing"):
        load_source(settings)


def test_cifar_archive_truncated(tmp_path: Path) -> None:
    write_cifar(tmp_path / "files", "cifar10", n=30)
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tmp_path / "files" / "cifar-10-batches-py", "cifar-10-batches-py")
    path.write_bytes(path.read_bytes()[:-20000])
    with pytest.raises(UserError, match=r"cifar-10-python\.tar\.gz: cannot be read"):
        load_source(DataSettings("cifar10", root=str(tmp_path)))


# ---- STL-10 ---------------------------------------------------------------------------------


def write_stl10(folder: Path, labelled: int = 5, unlabelled: int = 7) -> np.ndarray:
    folder.mkdir(parents=True)
    images = RNG.integers(0, 256, (labelled + unlabelled, 3, 96, 96), dtype=np.uint8)
    columns = images.swapaxes(2, 3)  # the format stores each channel column by column
    columns[:labelled].tofile(folder / "train_X.bin")
    columns[labelled:].tofile(folder / "unlabeled_X.bin")
    columns[:3].tofile(folder / "test_X.bin")
    np.arange(1, labelled + 1, dtype=np.uint8).tofile(folder / "train_y.bin")
    np.array([10, 1, 2], np.uint8).tofile(folder / "test_y.bin")
    return images


def test_stl10(tmp_path: Path) -> None:
    images = write_stl10(tmp_path / "stl10_binary")
    source = load_source(DataSettings("stl10", root=str(tmp_path)))
    assert source.train.images is not None and source.train.labels is not None
    assert np.array_equal(source.train.images.numpy(), images)
    assert source.train.labels.tolist() == [0, 1, 2, 3, 4] + [-1] * 7
    assert source.test.labels is not None and source.test.labels.tolist() == [9, 0, 1]


def test_stl10_reads_and_resizes_only_what_is_kept(tmp_path: Path) -> None:
    images = torch.from_numpy(write_stl10(tmp_path / "stl10_binary"))
    whole = load_source(DataSettings("stl10", root=str(tmp_path), size=24))
    part = load_source(DataSettings("stl10", root=str(tmp_path), size=24, limit=4))
    assert torch.equal(whole.train.images, resize(images, 24))
    keep = [int((whole.train.images == i).flatten(1).all(1).nonzero()) for i in part.train.images]
    assert part.train.labels.tolist() == whole.train.labels[keep].tolist()


def test_stl10_damaged(tmp_path: Path) -> None:
    write_stl10(tmp_path / "stl10_binary")
    folder = tmp_path / "stl10_binary"
    settings = DataSettings("stl10", root=str(tmp_path))
    labels = (folder / "train_y.bin").read_bytes()
    (folder / "train_y.bin").write_bytes(labels[:-1])
    with pytest.raises(UserError, match="train_y"):
        load_source(settings)
    (folder / "train_y.bin").write_bytes(labels)
    pixels = (folder / "unlabeled_X.bin").read_bytes()
    (folder / "unlabeled_X.bin").write_bytes(pixels[:-7])
    with pytest.raises(UserError, match=r"unlabeled_X\.bin: truncated"):
        load_source(settings)
    (folder / "unlabeled_X.bin").unlink()
    with pytest.raises(UserError, match=r"unlabeled_X\.bin is missing"):
        load_source(settings)


# ---- what all sets share ---------------------------------------------------------------------


def test_digits_are_scikit_learns_split_by_class() -> None:
    source = load_source(DataSettings("digits"))
    assert source.train.images is not None and source.test.images is not None
    assert (len(source.train), len(source.test)) == (1297, 500)
    both = torch.cat([source.train.images, source.test.images])[:, 0].flatten(1)
    expected = torch.from_numpy(load_digits().data * 255 / 16).round().to(torch.uint8)
    assert sorted(map(bytes, both.numpy())) == sorted(map(bytes, expected.numpy()))
    shares = torch.bincount(source.test.labels) / 500
    everything = torch.bincount(torch.from_numpy(load_digits().target)) / 1797
    assert float((shares - everything).abs().max()) < 0.003
    again = load_source(DataSettings("digits"))
    assert torch.equal(again.train.images, source.train.images)


def test_limits_are_nested() -> None:
    few, more = (load_source(DataSettings("digits", limit=k)).train for k in (10, 30))
    assert torch.equal(few.images, more.images[:10])
    assert torch.equal(few.labels, more.labels[:10])


@pytest.mark.parametrize("limit", [0, -3, 1298])
def test_a_limit_the_set_cannot_meet(limit: int) -> None:
    with pytest.raises(UserError, match=rf"data.limit: {limit} given; allowed: 1 to 1297"):
        load_source(DataSettings("digits", limit=limit))


def test_size_resizes_both_splits() -> None:
    source = load_source(DataSettings("digits", size=5))
    assert source.train.images.shape[2:] == source.test.images.shape[2:] == (5, 5)
    assert source.size == 5


def test_read_resizes_for_evaluation() -> None:
    test = load_source(DataSettings("digits")).test
    indices = torch.tensor([4, 0])
    assert torch.equal(test.read(indices), test.images[indices])
    assert test.read(indices, 4).shape == (2, 1, 4, 4)
    assert torch.equal(test.labels_of(indices), test.labels[indices])


def test_names_settings_and_labels_that_do_not_exist() -> None:
    with pytest.raises(UserError, match=r"'cifar-10' is not known.*'cifar10'"):
        load_source(DataSettings("cifar-10"))
    with pytest.raises(UserError, match="only shapes has factors"):
        load_source(DataSettings("digits", label="shape"))
    with pytest.raises(UserError, match=r"data\.size: 0"):
        load_source(DataSettings("digits", size=0))

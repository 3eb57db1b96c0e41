"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 32x32 photographs, in the published Python format.

torchvision refuses archives whose checksum is not the original's, and unpickles them without
restraint; this reader takes any files of the format, a reduced copy too, and loads nothing but
arrays and lists.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fullrank.data.settings import DataSettings
from fullrank.data.sources import Images, Source, in_memory, missing, roots
from fullrank.errors import UserError

_LAYOUT = {
    # folder in the archive, archive, training files, test file, names, keys of labels and names
    "cifar10": (
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        tuple(f"data_batch_{k}" for k in range(1, 6)),
        "test_batch",
        "batches.meta",
        "labels",
        "label_names",
    ),
    "cifar100": (
        "cifar-100-python",
        "cifar-100-python.tar.gz",
        ("train",),
        "test",
        "meta",
        "fine_labels",
        "fine_label_names",
    ),
}
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _Unpickler(pickle.Unpickler):
    """Loads arrays and plain containers; a pickle can otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")
        return super().find_class(module, name)


def _entries(raw: bytes, name: str) -> dict[str, Any]:
    """Unpickle one file; keys are text in our own copies and bytes in the published ones."""
    try:
        found = _Unpickler(io.BytesIO(raw), encoding="bytes").load()
        return {k.decode() if isinstance(k, bytes) else k: v for k, v in found.items()}
    # Damaged bytes make pickle raise nearly anything.
    except Exception as error:
        raise UserError(f"{name}: cannot be read, it is truncated or damaged ({error}).") from None


def _read_file(folder: Path, file: str) -> bytes:
    return (folder / file).read_bytes()


def _open(root: Path, name: str) -> tuple[str, Callable[[str], bytes]] | None:
    """Return where a set lies under ``root`` and a reader of its files, or nothing."""
    inside, archive = _LAYOUT[name][:2]
    for folder in (root / inside, root):
        if (folder / _LAYOUT[name][3]).is_file() and (folder / _LAYOUT[name][4]).is_file():
            return str(folder), partial(_read_file, folder)
    if (root / archive).is_file():
        path = root / archive
        members: dict[str, bytes] = {}
        try:
            with tarfile.open(path) as tar:
                for member in tar:
                    stream = tar.extractfile(member) if member.isfile() else None
                    if stream is not None:
                        members[Path(member.name).name] = stream.read()
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise UserError(
                f"{path}: cannot be read, it is truncated or damaged ({error})."
            ) from None
        return str(path), members.__getitem__
    return None


def _batch(raw: bytes, where: str, key: str, classes: int) -> tuple[Tensor, Tensor]:
    entries = _entries(raw, where)
    data, labels = entries.get("data"), entries.get(key)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3072,):
        raise UserError(f"{where}: has no uint8 'data' of 3072 values an image.")
    if not isinstance(labels, list) or len(labels) != len(data):
        raise UserError(f"{where}: has no {key!r} for each of its {len(data)} images.")
    target = torch.tensor(labels, dtype=torch.int64)
    if len(target) and not 0 <= int(target.min()) <= int(target.max()) < classes:
        raise UserError(f"{where}: {key!r} are not all from 0 to {classes - 1}.")
    return torch.from_numpy(data.copy()).view(-1, 3, 32, 32), target


def load(settings: DataSettings) -> Source:
    """Load CIFAR-10 or CIFAR-100 (fine labels), extracted or from the archive as published."""
    name = settings.name
    _, archive, train_files, test_file, meta_file, key, names_key = _LAYOUT[name]
    places = roots(settings)
    found = next((o for root in places if (o := _open(root, name))), None)
    if found is None and settings.download:
        from torchvision import datasets

        {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name](
            str(places[0]), download=True
        )
        found = _open(places[0], name)
    if found is None:
        raise missing(settings, places, f"{_LAYOUT[name][0]}/ or {archive}")
    where, read = found

    def get(file: str) -> bytes:
        try:
            return read(file)
        except (OSError, KeyError):
            raise UserError(f"{where}: the file {file} is missing in it.") from None

    meta = _entries(get(meta_file), f"{where}/{meta_file}")
    classes = tuple(
        c.decode() if isinstance(c, bytes) else str(c) for c in meta.get(names_key) or ()
    )
    if not classes:
        raise UserError(f"{where}/{meta_file}: has no {names_key!r}.")
    train = [_batch(get(f), f"{where}/{f}", key, len(classes)) for f in train_files]
    test = _batch(get(test_file), f"{where}/{test_file}", key, len(classes))
    images, labels = (torch.cat(parts) for parts in zip(*train, strict=True))
    return in_memory(settings, Images(images, labels), Images(*test), classes)

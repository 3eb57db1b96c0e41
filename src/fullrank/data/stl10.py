"""STL-10 (Coates, Ng and Lee 2011): 96x96 photographs, in the published binary format.

torchvision refuses files whose checksum is not the original's, and reads all 2.7 GB of unlabelled
images at once; this reader takes any files of the format and keeps only what is asked for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fullrank.data.settings import DataSettings
from fullrank.data.sources import CHUNK, Images, Source, limited, missing, resize, roots
from fullrank.errors import UserError

SIDE = 96
_BYTES = 3 * SIDE * SIDE
CLASSES = (
    "airplane",
    "bird",
    "car",
    "cat",
    "deer",
    "dog",
    "horse",
    "monkey",
    "ship",
    "truck",
)


def _images(path: Path) -> np.ndarray:
    """Map the images of a file, ``(n, 3, 96, 96)``, without reading them."""
    size = path.stat().st_size
    if size == 0 or size % _BYTES:
        raise UserError(
            f"{path}: truncated or damaged: {size} bytes are no multiple of an image's {_BYTES}."
        )
    # Stored column by column: the last two axes are exchanged.
    return np.memmap(path, np.uint8, mode="r").reshape(-1, 3, SIDE, SIDE).swapaxes(2, 3)


def _labels(path: Path, n: int) -> Tensor:
    labels = torch.from_numpy(np.fromfile(path, np.uint8)).long() - 1  # stored from 1 to 10
    if len(labels) != n or not 0 <= int(labels.min()) <= int(labels.max()) < len(CLASSES):
        raise UserError(f"{path}: does not hold one label, 1 to 10, for each of {n} images.")
    return labels


def _take(parts: list[np.ndarray], keep: Tensor, size: int) -> Tensor:
    """Read and resize some images of the files put end to end, a chunk at a time."""
    starts = np.cumsum([0, *(len(p) for p in parts)])
    out = torch.empty(len(keep), 3, size, size, dtype=torch.uint8)
    for begin in range(0, len(keep), CHUNK):
        some = keep[begin : begin + CHUNK].numpy()
        pixels = np.empty((len(some), 3, SIDE, SIDE), np.uint8)
        for start, part in zip(starts, parts, strict=False):
            inside = (some >= start) & (some < start + len(part))
            pixels[inside] = part[some[inside] - start]
        out[begin : begin + CHUNK] = resize(torch.from_numpy(pixels), size)
    return out


def load(settings: DataSettings) -> Source:
    """Load STL-10: trained on the 5,000 labelled and 100,000 unlabelled images together.

    Unlabelled images have label -1. Files are expected in ``stl10_binary/`` or in the root itself.
    """
    files = ("train_X.bin", "train_y.bin", "unlabeled_X.bin", "test_X.bin", "test_y.bin")
    bases = roots(settings)
    places = [folder for root in bases for folder in (root / "stl10_binary", root)]

    def find() -> Path | None:
        return next((d for d in places if (d / "train_X.bin").is_file()), None)

    folder = find()
    if folder is None and settings.download:
        from torchvision.datasets import STL10

        STL10(str(bases[0]), download=True)
        folder = find()
    if folder is None:
        raise missing(settings, places, "train_X.bin and its companions")
    for name in files:
        if not (folder / name).is_file():
            raise UserError(f"{folder}: the file {name} is missing in it.")
    labelled, unlabelled, test = (_images(folder / files[k]) for k in (0, 2, 3))
    labels = torch.full((len(labelled) + len(unlabelled),), -1)
    labels[: len(labelled)] = _labels(folder / files[1], len(labelled))
    keep = limited(len(labels), settings.limit)
    if keep is None:
        keep = torch.arange(len(labels))
    size = settings.size or SIDE
    train_images = Images(_take([labelled, unlabelled], keep, size), labels[keep])
    test_images = Images(
        _take([test], torch.arange(len(test)), size), _labels(folder / files[4], len(test))
    )
    return Source(settings.name, train_images, test_images, CLASSES, 3, size)

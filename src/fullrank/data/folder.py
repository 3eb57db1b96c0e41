"""Pictures in a folder: which there are, their classes and splits, and reading them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from fullrank.data.settings import DataSettings
from fullrank.data.sources import Images, Source, limited
from fullrank.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
SIZE = 224  # side of a view when none is asked for, as on ImageNet
HELD_OUT = 10  # one file in so many is held out where the folder has no split of its own


def _decode(path: str) -> Image.Image:
    """Read a picture completely, as RGB; raises what PIL raises for a damaged file."""
    with Image.open(path) as picture:
        return picture.convert("RGB")


def _pixels(picture: Image.Image) -> UInt8[Tensor, "3 h w"]:
    flat = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return flat.view(picture.height, picture.width, 3).permute(2, 0, 1)


def cut(
    picture: Image.Image, box: tuple[float, float, float, float], size: int
) -> UInt8[Tensor, "3 size size"]:
    """Cut left, top, width, height out of a picture and resample it, with antialiasing."""
    left, top, width, height = box
    corners = (
        max(left, 0.0),
        max(top, 0.0),
        min(left + width, picture.width),
        min(top + height, picture.height),
    )
    return _pixels(picture.resize((size, size), Image.Resampling.BILINEAR, box=corners))


class FolderImages(Images):
    """Pictures that are read from their files when asked for.

    A damaged picture is remembered in ``skipped``, and the next readable one in the order of
    the files takes its place, wherever and whenever it is met.

    Args:
        paths: the files, in order.
        labels: class of each file.
    """

    def __init__(self, paths: list[str], labels: Int[Tensor, " n"] | None) -> None:
        super().__init__(images=None, labels=labels)
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def open(self, index: int) -> tuple[int, Image.Image]:
        """Decode a picture, or the next readable one.

        Returns:
            The index of the picture that was read, and the picture in RGB.

        Raises:
            UserError: not one of the files can be read.
        """
        for turn in range(len(self.paths)):
            at = (index + turn) % len(self.paths)
            path = self.paths[at]
            if path in self.skipped:
                continue
            try:
                picture = _decode(path)
            # PIL raises these for files that are cut short, no picture, or absurdly large.
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                self.skipped[path] = str(error) or type(error).__name__
                continue
            return at, picture
        raise UserError(
            f"data.name: none of the {len(self.paths)} images can be read; the first, "
            f"{self.paths[0]}: {self.skipped[self.paths[0]]}"
        )

    def read(
        self, indices: Int[Tensor, " k"], size: int | None = None
    ) -> UInt8[Tensor, "k 3 s1 s2"]:
        """Read the central square of some pictures, resampled to ``size`` (224 by default)."""
        side = SIZE if size is None else size
        out = torch.empty(len(indices), 3, side, side, dtype=torch.uint8)
        for row, index in enumerate(indices.tolist()):
            _, picture = self.open(index)
            short = min(picture.size)
            left, top = (picture.width - short) / 2, (picture.height - short) / 2
            out[row] = cut(picture, (left, top, short, short), side)
        return out

    def labels_of(self, indices: Int[Tensor, " k"]) -> Int[Tensor, " k"] | None:
        """Return the labels of the pictures that ``read(indices)`` returned.

        Ask after reading: no file is opened here, and one that was never met counts as readable.
        """
        if self.labels is None or not self.skipped:
            return None if self.labels is None else self.labels[indices]
        readable = torch.tensor([path not in self.skipped for path in self.paths])
        places = readable.nonzero()[:, 0]
        if len(places) == 0:
            return self.labels[indices]
        # The next readable one, and after the last the first.
        return self.labels[places[torch.searchsorted(places, indices) % len(places)]]

    def select(self, indices: Int[Tensor, " k"]) -> FolderImages:
        """Return some of the pictures as a set of their own."""
        chosen = indices.tolist()
        labels = None if self.labels is None else self.labels[indices]
        return FolderImages([self.paths[i] for i in chosen], labels)


def _files(folder: Path) -> list[str]:
    """Return the pictures under ``folder`` relative to it, sorted, hidden ones left out."""
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [f for f in folders if not f.startswith(".")]
        for name in names:
            if name.lower().endswith(EXTENSIONS) and not name.startswith("."):
                found.append((Path(parent) / name).relative_to(folder).as_posix())
    return sorted(found)


def _held_out(name: str) -> bool:
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest) % HELD_OUT == 0


def _split(names: list[str]) -> tuple[list[str], list[str]]:
    """Hold out about one file in ten, chosen by the hash of its name: adding files moves none."""
    test = [name for name in names if _held_out(name)]
    if not test or len(test) == len(names):  # so few files that chance left one side empty
        test = names[-max(1, len(names) // HELD_OUT) :]
    chosen = set(test)
    return [name for name in names if name not in chosen], test


def _classes(names: Iterable[str]) -> tuple[str, ...] | None:
    """Return the immediate sub-folders if every file lies in one and there are at least two."""
    parts = [name.split("/") for name in names]
    classes = sorted({p[0] for p in parts})
    return tuple(classes) if all(len(p) > 1 for p in parts) and len(classes) > 1 else None


def _images(folder: Path, names: list[str], classes: tuple[str, ...] | None) -> FolderImages:
    labels = None
    if classes is not None:
        number = {name: k for k, name in enumerate(classes)}
        labels = torch.tensor([number[name.split("/")[0]] for name in names])
    return FolderImages([str(folder / name) for name in names], labels)


def load(settings: DataSettings) -> Source:
    """List the pictures of ``folder:PATH``.

    ``PATH/train`` and ``PATH/val`` (or ``test``) are the splits where both exist; otherwise about
    one file in ten is held out by the hash of its name. Immediate sub-folders of a split are its
    classes where every picture lies in one of them.

    Raises:
        UserError: no such folder, no picture in it, or only one.
    """
    path = Path(settings.name.removeprefix("folder:")).expanduser()
    if settings.root is not None:
        path = Path(settings.root).expanduser() / path
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise UserError(f"data.name: {settings.name}: {path} {what}.")
    held = next((path / name for name in ("val", "test") if (path / name).is_dir()), None)
    splits = (path / "train", held) if held and (path / "train").is_dir() else None
    if splits is not None:
        bases = splits
        names = tuple(_files(base) for base in splits)
    else:
        bases = (path, path)
        listed = _files(path)
        names = _split(listed) if len(listed) > 1 else (listed, [])
    for base, found in zip(bases, names, strict=True):
        if not found and (splits is not None or not names[0]):
            raise UserError(
                f"data.name: no images in {base}. Looked in it and below for files ending in "
                f"{', '.join(EXTENSIONS)}."
            )
    if len(names[0]) + len(names[1]) < 2 or len(names[0]) < 1:
        raise UserError(
            f"data.name: only one image in {path}; self-supervised learning compares images, "
            "give it at least two, better thousands."
        )
    classes = _classes([*names[0], *names[1]])
    train, test = (_images(b, n, classes) for b, n in zip(bases, names, strict=True))
    keep = limited(len(train), settings.limit)
    if keep is not None:
        train = train.select(keep)
    return Source(settings.name, train, test, classes, 3, settings.size or SIZE)

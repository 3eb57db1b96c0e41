"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747): 28x28, grey, 10 classes."""

from __future__ import annotations

from pathlib import Path

from fullrank.data.idx import read_idx
from fullrank.data.settings import DataSettings
from fullrank.data.sources import Images, Source, in_memory, missing, roots
from fullrank.errors import UserError

CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def _find(folder: Path) -> list[Path] | None:
    """Return the four files, plain or gzipped, if all are in ``folder``."""
    found = []
    for name in FILES:
        here = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
        if here is None:
            return None
        found.append(here)
    return found


def load(settings: DataSettings) -> Source:
    """Load Fashion-MNIST from torchvision's layout, Debian's folder, or files under the root."""
    places = [d for root in roots(settings) for d in (root / "FashionMNIST" / "raw", root)]
    if settings.root is None:
        places.append(DEBIAN)
    found = next(filter(None, map(_find, places)), None)
    if found is None and settings.download:
        from torchvision.datasets import FashionMNIST

        root = roots(settings)[0]
        FashionMNIST(str(root), download=True)
        found = _find(root / "FashionMNIST" / "raw")
    if found is None:
        raise missing(settings, places, f"{FILES[0]}[.gz] and its three companions")
    parts = []
    for images_path, labels_path in (found[:2], found[2:]):
        images, labels = read_idx(images_path), read_idx(labels_path)
        if images.ndim != 3 or len(images) == 0:
            raise UserError(f"{images_path}: holds {tuple(images.shape)}, not n images.")
        if labels.shape != images.shape[:1] or labels.max() >= len(CLASSES):
            raise UserError(f"{labels_path}: does not hold one label, 0 to 9, for each image.")
        parts.append(Images(images[:, None], labels.long()))
    return in_memory(settings, parts[0], parts[1], CLASSES)

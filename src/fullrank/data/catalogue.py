"""The data sets there are, in words; without torch, so that listing them costs nothing."""

from __future__ import annotations

from dataclasses import dataclass

from fullrank.errors import UserError, unknown_name


@dataclass(frozen=True)
class DataDescription:
    """One line of ``fullrank data``.

    Attributes:
        name: what ``DataSettings.name`` takes.
        what: it shows.
        train: number of training images; ``None`` where it depends on the user.
        test: number of held-out images.
        size: side of the images in pixels.
        channels: 1 or 3.
        classes: number of classes.
        where: it is looked for.
    """

    name: str
    what: str
    train: int | None
    test: int | None
    size: int | None
    channels: int
    classes: int | None
    where: str


_USUAL = "$FULLRANK_DATA, ~/.cache/fullrank, ./data"

_DESCRIPTIONS = (
    DataDescription(
        "digits", "handwritten digits of scikit-learn", 1297, 500, 8, 1, 10, "built in"
    ),
    DataDescription(
        "shapes",
        "procedural textured shapes with known factors",
        60000,
        5000,
        32,
        3,
        8,
        "built in, drawn when asked for",
    ),
    DataDescription(
        "fashion-mnist",
        "grey pictures of clothes (Xiao et al. 2017)",
        60000,
        10000,
        28,
        1,
        10,
        f"{_USUAL}, /usr/share/datasets/fashion-mnist (Debian: dataset-fashion-mnist)",
    ),
    DataDescription(
        "cifar10", "small photographs (Krizhevsky 2009)", 50000, 10000, 32, 3, 10, _USUAL
    ),
    DataDescription(
        "cifar100",
        "small photographs, fine classes (Krizhevsky 2009)",
        50000,
        10000,
        32,
        3,
        100,
        _USUAL,
    ),
    DataDescription(
        "stl10",
        "photographs, most without labels (Coates et al. 2011)",
        105000,
        8000,
        96,
        3,
        10,
        _USUAL,
    ),
    DataDescription("folder", "your own pictures: folder:PATH", None, None, None, 3, None, "PATH"),
)


def data_names() -> tuple[str, ...]:
    """Return the names that ``DataSettings.name`` takes; ``folder`` stands for ``folder:PATH``."""
    return tuple(d.name for d in _DESCRIPTIONS)


def data_descriptions() -> tuple[DataDescription, ...]:
    """Return one description a data set, in the order of ``data_names()``."""
    return _DESCRIPTIONS


def data_family(name: str) -> str:
    """Return the entry of ``data_names()`` that ``name`` belongs to, ``folder`` for a path.

    Raises:
        UserError: the name is unknown, or it is ``folder`` without a path.
    """
    if name.startswith("folder:") and len(name) > len("folder:"):
        return "folder"
    if name in ("folder", "folder:"):
        raise UserError("data.name: 'folder' needs a path, for example folder:pictures/.")
    if name not in data_names():
        raise unknown_name("data.name", name, [*data_names()[:-1], "folder:PATH"])
    return name

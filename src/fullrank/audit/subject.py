"""What an audit is pointed at: rows of features a layer and a view, however they come about."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fullrank.errors import UserError, unknown_name

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

Block = dict[str, "tuple[Tensor, ...]"]
"""Layer name → one tensor ``(b, d)`` a view; the rows of the views of a layer belong together."""

POOLS = ("cls", "mean", "grid", "grid_last", "flatten", "views", "tokens")
DEVICES = ("auto", "cpu", "cuda", "mps")
LEVELS = ("sample", "tokens", "within")


@dataclass(frozen=True)
class Options:
    """What a subject can be asked for; what does not concern its kind is left alone.

    Args:
        data: data set that a model is shown (a name of ``fullrank data``).
        data_root: folder that holds the files of the data set.
        split: ``test`` (held out) or ``train``.
        views: views of each image that a model is shown; 1 is the plain evaluation view, more
            are augmented. None is 2. Views of a file are its ``key``s, or ``pool="views"``.
        augment: preset of the augmentation; ``auto`` is the data set's own.
        pool: how one vector is made of features of rank 3 or 4 (see
            :mod:`fullrank.audit.pooling`). None refuses them in files, and in models takes the
            model's own output and the mean over positions of everything tapped.
        level: ``sample`` (one vector a sample), ``tokens`` (the tokens of all samples are the
            rows) or ``within`` (the same rows; each sample's tokens are a matrix of their own).
        taps: names of submodules, or ``("blocks",)`` for every block of the backbone.
        backbone: architecture of a checkpoint, by name, or a mapping of its settings.
        weights: of a named model: ``random``, ``pretrained``, or the path of a checkpoint.
        key: arrays of a file that holds several; more than one are views of the same images.
        labels: file with one label a sample, or the name of such an array in the file itself.
        bad_rows: whether NaN and infinite rows are refused or excluded.
        trust: whether a pickle that can run code may be loaded.
        limit: samples to measure at most, the first of a fixed permutation.
        seed: of views and random weights.
        batch: samples that pass a model at once.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        threads: on a processor; None leaves PyTorch's choice.
        size: side in pixels of the images that a model is shown.
    """

    data: str | None = None
    data_root: str | None = None
    split: Literal["test", "train"] = "test"
    views: int | None = None
    augment: str = "auto"
    pool: str | None = None
    level: Literal["sample", "tokens", "within"] = "sample"
    taps: tuple[str, ...] = ()
    backbone: str | Mapping[str, Any] | None = None
    weights: str = "random"
    key: tuple[str, ...] = ()
    labels: str | None = None
    bad_rows: Literal["refuse", "exclude"] = "refuse"
    trust: bool = False
    limit: int | None = None
    seed: int = 0
    batch: int = 64
    device: str = "auto"
    threads: int | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        choices = {
            "split": ("test", "train"),
            "bad_rows": ("refuse", "exclude"),
            "level": LEVELS,
            "device": DEVICES,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise unknown_name(name, str(getattr(self, name)), allowed)
        if self.pool is not None and self.pool not in POOLS:
            raise unknown_name("pool", self.pool, POOLS)
        for name in ("views", "limit", "batch", "threads", "size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name}: {value} given. Allowed: 1 or more.")


class Subject(ABC):
    """Something that can be audited.

    Attributes:
        what: as the user named it.
        kind: ``embeddings``, ``run``, ``checkpoint`` or ``model``.
        conventions: how the rows came about: dtype, pooling, level, views, mode, weights, trust;
            ``excluded`` (bad rows left out) and ``tokens`` (rows a sample, by layer, at token
            levels) stand there once ``blocks`` has been gone through.
        data_key: what the forecaster calls the data; None where it cannot be known.
    """

    what: str
    kind: str
    conventions: dict[str, Any]
    data_key: str | None = None

    @property
    @abstractmethod
    def labels(self) -> Int[Tensor, " n"] | None:
        """The class of each sample that ``blocks`` yields, in order, where it is known.

        At token levels there is one label a sample, not a row.
        """

    @abstractmethod
    def blocks(self) -> Iterable[Block]:
        """Yield the rows a block at a time, in the order of the data; the same at every call.

        Raises:
            UserError: a row is NaN or infinite and was not asked to be excluded, the pooling does
                not fit the features, or there are no rows.
        """

    @abstractmethod
    def reference(self) -> Subject | None:
        """Return the untrained twin: the same architecture with random weights.

        Its batch-norm statistics are those of the same data. None for what has no architecture.
        """

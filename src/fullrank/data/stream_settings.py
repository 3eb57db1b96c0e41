"""The orders that data can come in over time, as plain data that imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, get_args

from fullrank.errors import UserError, unknown_name

Visits = Literal["share", "all"]
VISITS: tuple[str, ...] = get_args(Visits)


@dataclass(frozen=True)
class Stream:
    """An order of data in time; ``kind`` names it in YAML and on the command line.

    Whatever the order, a run has the same number of steps: epochs count passes over the whole
    training set.
    """

    kind: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"kind": ..., field: value, ...}``, from which the order can be made again."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class IID(Stream):
    """Every epoch is a new permutation of all images."""

    kind: ClassVar[str] = "iid"


@dataclass(frozen=True)
class Fraction(Stream):
    """Epochs over a share of the images, for as many steps as over all of them.

    Li, Efros and Pathak (2022) train so on 1 % to 100 % of ImageNet.

    Args:
        share: of the images, drawn by the run's seed; a smaller share is part of a larger one.
    """

    kind: ClassVar[str] = "fraction"
    share: float = 0.01

    def __post_init__(self) -> None:
        _check_share(self.share)


@dataclass(frozen=True)
class Chunked(Stream):
    """An order that cuts the images into chunks.

    Args:
        chunks: equal parts of the images, by a permutation of the run's seed.
        share: of the images that are cut into chunks.
    """

    chunks: int = 100
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.chunks < 2:
            raise UserError(
                f"data.stream.chunks: {self.chunks} is not allowed. Allowed: a whole number from 2."
            )
        _check_share(self.share)


@dataclass(frozen=True)
class SinglePass(Chunked):
    """One chunk of the images after the other: each for its share of the steps, then never again.

    Epochs over the chunk that is due, as Li, Efros and Pathak (2022, sec. 5) with 100 chunks.
    """

    kind: ClassVar[str] = "single-pass"


@dataclass(frozen=True)
class Cumulative(Chunked):
    """As ``single-pass``, but with every chunk that came before."""

    kind: ClassVar[str] = "cumulative"


@dataclass(frozen=True)
class Hybrid(Chunked):
    """A single pass until a step, and epochs over all images from then on.

    Until the switch this is ``single-pass``, batch for batch: the run is what resuming from a
    checkpoint of the single pass gives, on the same schedule (Li, Efros and Pathak 2022, sec. 5,
    who switch at epoch 40 of 100).

    Args:
        switch: share of the steps before the switch, in (0, 1).
        visits: ``share`` of the chunks, at the pace of a single pass over the whole run; or
            ``all`` of them, each for fewer steps.
    """

    kind: ClassVar[str] = "hybrid"
    switch: float = 0.4
    visits: Visits = "share"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.switch < 1:
            raise UserError(
                f"data.stream.switch: {self.switch} is not allowed. Allowed: a share of the "
                "steps between 0 and 1."
            )
        if self.visits not in VISITS:
            raise unknown_name("data.stream.visits", str(self.visits), VISITS)


@dataclass(frozen=True)
class Once(Stream):
    """Each image once in the whole run.

    A procedural set goes on drawing new images beyond those that it counts; any other needs as many
    images as the run shows.
    """

    kind: ClassVar[str] = "once"


STREAMS: dict[str, type[Stream]] = {
    stream.kind: stream for stream in (IID, Fraction, SinglePass, Cumulative, Hybrid, Once)
}


def stream_of(given: str | Mapping[str, Any] | Stream) -> Stream:
    """Return an order, given its kind, or a mapping with the kind and its settings.

    Raises:
        UserError: the kind or a setting is not known.
    """
    if isinstance(given, Stream):
        return given
    settings = {"kind": given} if isinstance(given, str) else dict(given)
    kind = str(settings.pop("kind", IID.kind))
    if kind not in STREAMS:
        raise unknown_name("data.stream", kind, STREAMS)
    known = [field.name for field in fields(STREAMS[kind])]
    for name in settings:
        if name not in known:
            raise unknown_name(f"data.stream {kind}", name, known)
    return STREAMS[kind](**settings)


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise UserError(
            f"data.stream.share: {share} is not allowed. Allowed: a share of the images above 0, "
            "at most 1."
        )

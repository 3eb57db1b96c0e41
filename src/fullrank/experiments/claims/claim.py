"""What a claim is: a statement, how it is tested, and when it holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fullrank.train.config import Config
from fullrank.train.record import Record

Verdict = Literal["held", "did not hold", "inconclusive"]
ScaleName = Literal["cpu", "paper"]


@dataclass(frozen=True)
class Trained:
    """A finished run, as a claim sees it.

    Attributes:
        arm: the condition that it is a run of.
        seed: of the run.
        hash: its identity.
        folder: where it is.
        shown: what it showed at its end (``fullrank.experiments.stored.read``).
    """

    arm: str
    seed: int
    hash: str
    folder: Path
    shown: Mapping[str, Any]

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """Return the lines of its record that count, in order."""
        return list(Record(self.folder).current())

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of one kind: ``checkup``, ``modes``, ``step``."""
        return [line for line in self.events if line.get("event") == event]


@dataclass(frozen=True)
class Number:
    """A number that a claim rests on, with its 95 % interval where it has one.

    Attributes:
        name: what it is.
        value: its best estimate.
        low: lower end; None for an exact value.
        high: upper end.
        unit: "" for none.
        n: of what the interval is: seeds, runs, modes; None for an exact value.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""
    n: int | None = None


@dataclass(frozen=True)
class Series:
    """One line, set of points or set of bars of a figure.

    Attributes:
        name: in the legend.
        x: positions, numbers or names.
        y: values.
        low: lower ends of intervals, or empty.
        high: upper ends.
        kind: how it is drawn.
    """

    name: str
    x: Sequence[float | str]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    kind: Literal["line", "points", "bars"] = "line"


@dataclass(frozen=True)
class Figure:
    """A picture as data; pages draw it.

    Attributes:
        title: what it shows, as a sentence that a reader takes away.
        x: name of the horizontal axis, with its unit.
        y: name of the vertical axis, with its unit.
        series: what is drawn.
        log_x: whether the horizontal axis is logarithmic.
        log_y: whether the vertical axis is.
    """

    title: str
    x: str
    y: str
    series: Sequence[Series]
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Finding:
    """What the runs, or the theory, showed of a claim.

    Attributes:
        verdict: by the claim's criterion alone.
        text: what was found, with its numbers, in a sentence or two.
        numbers: those that decide, first.
        figures: to look at.
    """

    verdict: Verdict
    text: str
    numbers: Sequence[Number] = ()
    figures: Sequence[Figure] = ()


Arms = Mapping[str, Sequence[Trained]]


def no_arms(scale: ScaleName, seeds: Sequence[int]) -> Mapping[str, Sequence[Config]]:
    """Return the runs of a claim that needs none: theory decides it."""
    return {}


@dataclass(frozen=True)
class Claim:
    """A paper's claim as a program.

    Attributes:
        name: ``paper/short-name``.
        statement: what is claimed, in one sentence.
        source: theorem, equation, table or figure of the paper.
        protocol: by scale, how it is tested, in words.
        criterion: when it holds, when not; fixed before the runs.
        judge: from the finished runs of every arm, by seed, to what was found. Seeds whose run
            failed are missing.
        arms: from scale and seeds to the configurations of every condition, one a seed; runs of
            the same configuration are shared with all other claims.
        seeds: runs of every arm: three, or five where two conditions are compared.
        needs_labels: whether it rests on probes.
        care: what its verdict does not say: where the paper claims more, what was tried before,
            what its runs show beside it.
        own: whether the paper itself claims it; else it is others' or ours, about the same.
    """

    name: str
    statement: str
    source: str
    protocol: Mapping[ScaleName, str]
    criterion: str
    judge: Callable[[Arms], Finding]
    arms: Callable[[ScaleName, Sequence[int]], Mapping[str, Sequence[Config]]] = no_arms
    seeds: int = 3
    needs_labels: bool = False
    care: str = ""
    own: bool = True


@dataclass(frozen=True)
class Paper:
    """The claims of one paper.

    Attributes:
        name: as ``fullrank reproduce`` takes it, e.g. ``tian2021``.
        title: of the paper.
        citation: authors, year, and where.
        claims: in the order of the paper.
        about: what all of its claims have in common, for the top of its page.
    """

    name: str
    title: str
    citation: str
    claims: Sequence[Claim]
    about: str = field(default="")

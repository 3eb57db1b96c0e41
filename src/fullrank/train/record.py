"""The record of a run: one JSON object a line, only ever appended to."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from fullrank.errors import UserError
from fullrank.train.storage import writing

RECORD = "record.jsonl"


def plain(value: Any) -> Any:
    """Make ``value`` fit for JSON: rounded floats, and null for what is not finite."""
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


# What ends a run, or this part of it; after a resume the earlier ones no longer hold.
_ENDINGS = frozenset({"verdict", "forecast", "interrupt", "stop", "end"})


def current(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop what a resume has superseded: later steps, and endings that did not last."""
    kept: list[dict[str, Any]] = []
    for event in events:
        resumed = step_of(event)
        if event["event"] == "resume" and resumed is not None:
            kept = [
                earlier
                for earlier in kept
                if earlier["event"] not in _ENDINGS and (step_of(earlier) or 0) <= resumed
            ]
        kept.append(event)
    return kept


def step_of(event: Mapping[str, Any]) -> int | None:
    """Return the step that an event is of, or None."""
    step = number(event.get("step"))
    return None if step is None or step < 0 else int(step)


def number(value: object) -> float | None:
    """Return ``value`` as a finite float, or None for anything else (null, text, NaN, a flag)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        result = float(value)
    except OverflowError:  # an integer beyond the range of a float
        return None
    return result if math.isfinite(result) else None


class Record:
    """Appends events to ``record.jsonl`` of a run folder.

    What is written outlives this process, whatever ends it; after ``sync`` the machine, too.

    Args:
        folder: the run folder.
        active: false on processes that leave the writing to another.
    """

    def __init__(self, folder: Path, active: bool = True) -> None:
        self.path = folder / RECORD
        self.active = active

    def write(self, event: str, **fields: Any) -> None:
        """Append one event.

        Raises:
            UserError: the disk is full or cannot be written.
        """
        if not self.active:
            return
        line = json.dumps(plain({"event": event, **fields}), ensure_ascii=False)
        with writing(self.path), self.path.open("ab+") as file:
            if file.tell() and not self._ends_whole(file):
                file.write(b"\n")  # a line was cut off when the process died
            file.write(line.encode() + b"\n")

    def sync(self) -> None:
        """Wait until the disk has every event.

        Raises:
            UserError: the disk cannot be written.
        """
        if self.active and self.path.exists():
            with writing(self.path), self.path.open("rb") as file:
                os.fsync(file.fileno())

    @staticmethod
    def _ends_whole(file: BinaryIO) -> bool:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events on disk; a line that was cut off is left out."""
        if not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue

    def current(self) -> list[dict[str, Any]]:
        """Return the events without those that a resume from an earlier step took back."""
        return current(list(self.events()))

    def last(self, event: str) -> dict[str, Any] | None:
        """Return the last event of a kind, if there is one."""
        found = [e for e in self.events() if e.get("event") == event]
        return found[-1] if found else None


# What reading a damaged record, or one of another version, may raise.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError)


def reason(error: Exception) -> str:
    """Return one line on why a run folder could not be read."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

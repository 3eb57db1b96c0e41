"""The lines of a run's record, each step once.

The record (``record.jsonl``) is append-only, one JSON object a line. A run that was resumed has
written some steps twice, and a run that was killed may have half a line at its end; both are
sorted out here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fullrank.train.record import current, number, step_of

Event = Mapping[str, Any]

__all__ = [
    "RANDOM_INIT",
    "Event",
    "by_step",
    "current",
    "last_of",
    "mapping",
    "number",
    "read_lines",
    "split_reference",
    "step_of",
    "texts",
]

RANDOM_INIT = "random-init"


def mapping(value: object) -> Mapping[str, Any]:
    """Return ``value`` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def texts(value: object) -> list[str]:
    """Return the items of a JSON list as strings; a lone string is a list of one."""
    if isinstance(value, str):
        return [value]
    return [str(item) for item in value] if isinstance(value, list) else []


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the events of a record and the number of lines that are none.

    A last line without its newline is one that is being written, or never was finished: it is
    ignored without being counted, unless it is whole.
    """
    events: list[dict[str, Any]] = []
    unreadable = 0
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for i, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            unreadable += i < len(lines) - 1
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            events.append(event)
        else:
            unreadable += 1
    return events, unreadable


def split_reference(
    events: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the events of the run itself, and those of its random-init reference."""
    run = [event for event in events if event.get("network") != RANDOM_INIT]
    return run, [event for event in events if event.get("network") == RANDOM_INIT]


def by_step(events: list[dict[str, Any]]) -> list[Event]:
    """Order by step, the last writing of a step alone."""
    latest = {step: event for event in events if (step := step_of(event)) is not None}
    return [latest[step] for step in sorted(latest)]


def last_of(events: list[dict[str, Any]], *names: str) -> Event:
    """Return the last event of these names, or an empty one."""
    return next((event for event in reversed(events) if event["event"] in names), {})

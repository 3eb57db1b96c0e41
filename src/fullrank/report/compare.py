"""What distinguishes runs: their labels, their settings, the boxes of their method."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fullrank.report.events import mapping, texts
from fullrank.report.numbers import NONE
from fullrank.report.record import RunRecord

# Where a run was written says nothing about what it is.
_PLACES = frozenset({"out", "resume", "root"})

BOXES = ("views", "backbone", "projector", "predictor", "target", "objective")


def labels(records: Sequence[RunRecord]) -> list[str]:
    """Name runs apart: by the method's title if that does, else by folder, else by both."""
    folders = [record.path.resolve() for record in records]
    choices = (
        [record.text("title") or record.text("recipe") or "run" for record in records],
        [folder.name for folder in folders],
        [f"{folder.parent.name}/{folder.name}" for folder in folders],
    )
    for names in choices:
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def differing_settings(records: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """Return the settings in which runs differ: dotted name, and each run's value as text."""
    if len(records) < 2:
        return []
    flat = [_flattened(record.config) for record in records]
    names = dict.fromkeys(name for settings in flat for name in settings)
    rows = [(name, [settings.get(name, NONE) for settings in flat]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def method_boxes(records: Sequence[RunRecord]) -> list[dict[str, dict[str, Any]]]:
    """Return each run's method as boxes: what is in each, and whether the runs differ there."""
    words = [texts(record.start.get("diagram")) for record in records]
    methods = [dict(zip(BOXES, listed, strict=False)) for listed in words]
    return [
        {
            box: {
                "text": method.get(box, NONE),
                "differs": len({other.get(box) for other in methods}) > 1,
            }
            for box in BOXES
        }
        for method in methods
    ]


def mechanisms(record: RunRecord) -> list[tuple[str, str]]:
    """Return what keeps a method from collapsing: (mechanism, kind of collapse)."""
    listed = record.start.get("prevents")
    pairs = [mapping(item) for item in listed] if isinstance(listed, list) else []
    return [(str(p["mechanism"]), str(p.get("collapse", ""))) for p in pairs if "mechanism" in p]


def missing_mechanisms(records: Sequence[RunRecord]) -> list[list[tuple[str, str]]]:
    """Return, for each run, the mechanisms of the others that it does not have."""
    own = [mechanisms(record) for record in records]
    every = list(Counter(pair for pairs in own for pair in pairs))
    return [[pair for pair in every if pair not in pairs] for pairs in own]


def _flattened(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested settings to dotted names; lists and values become text."""
    flat: dict[str, str] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if str(key) in _PLACES:
            continue
        if isinstance(item, dict) and item:
            flat |= _flattened(item, f"{name}.")
        else:
            flat[name] = item if isinstance(item, str) else json.dumps(item, default=str)
    return flat

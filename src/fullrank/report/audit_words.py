"""The words of an audit's page: names, conditions, and what verdicts and metrics mean."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from fullrank.report.numbers import NONE, count, significant

if TYPE_CHECKING:
    from fullrank.audit.verb import Audit, LayerAudit
    from fullrank.measure.about import About

KINDS = {
    "embeddings": "embeddings file",
    "run": "run folder",
    "checkpoint": "checkpoint",
    "model": "model",
}
MEANINGS = {
    "healthy": "Samples are told apart, and many directions are in use.",
    "partial dimensional collapse": "The leading directions are in use, but the tail of the "
    "spectrum is empty: many dimensions carry almost nothing.",
    "dimensional collapse": "Samples still differ, but along a few directions only; the others "
    "carry almost nothing. Spread and standard deviations do not show this. The spectrum does: "
    "look for its steep fall.",
    "cluster collapse": "Samples sit on copies of a few points: these are told apart, samples at "
    "one point are not.",
    "complete collapse": "Nearly every sample has the same representation. Read the spread; "
    "ranks only describe what little is left around the common point.",
}
HEALTHY = {
    "higher": "higher is healthy",
    "lower": "lower is healthy",
    "near 1": "near 1 is healthy",
}
# Conventions that a reader must know before any number, and how each is said.
_CONDITIONS = {
    "views": lambda v: f"{v} views",
    "mode": lambda v: f"{v} mode",
    "pooling": lambda v: f"{v} pooling",
    "level": lambda v: f"level {v}",
    "data": lambda v: f"data {v}",
    "split": lambda v: f"{v} split",
    "weights": lambda v: f"{v} weights",
    "excluded": lambda v: f"{v} bad rows excluded",
}
# What goes without saying.
_DEFAULTS = {"views": (1,), "mode": ("as stored",), "level": ("sample",), "excluded": (0,)}


def labels(audits: Sequence[Audit]) -> list[str]:
    """Name what was audited apart, in as few trailing parts of its path as that takes."""
    whats = [audit.what for audit in audits]
    parts = [
        (audit.what,) if audit.kind == "model" else PurePath(audit.what).parts or (audit.what,)
        for audit in audits
    ]
    for kept in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-kept:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return whats


def conditions(layer: LayerAudit) -> dict[str, str]:
    """Return the conditions of a layer's numbers in words, by the convention they are from."""
    conventions = layer.conventions
    rows = "rows" if conventions.get("mode") == "as stored" else "images"
    said = {
        "n": f"n = {count(layer.n)} {rows}",
        "d": f"d = {count(layer.d)}",
        "n_over_d": f"n/d = {significant(layer.n / layer.d)}",
    }
    for name, say in _CONDITIONS.items():
        value = conventions.get(name)
        if value is not None and value not in _DEFAULTS.get(name, ()):
            said[name] = say(plain(value))
    return said


def plain(value: Any) -> str:
    """Write the value of a convention: lists with commas, mappings as ``name: value``."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {plain(item)}" for key, item in value.items())
    if isinstance(value, Sequence):
        return ", ".join(plain(item) for item in value) or NONE
    return json.dumps(value, default=str)


@cache
def abouts() -> dict[str, About]:
    """Return what is known in words of every metric, by name."""
    from fullrank.measure.listing import metrics

    return metrics()


def grouped(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Group metrics as ``fullrank metrics`` does; what it does not list comes last."""
    from fullrank.measure.listing import FAMILIES

    listed, left = abouts(), set(names)
    groups = [
        (title, [n for n, about in listed.items() if about.family == family and n in left])
        for family, title in FAMILIES.items()
    ]
    groups.append(("others", sorted(left - set(listed))))
    return [(title, members) for title, members in groups if members]


def glossary(names: Iterable[str]) -> list[dict[str, Any]]:
    """Return the rows of words about each listed metric."""
    listed = abouts()
    return [
        {
            "name": name,
            "measures": listed[name].measures,
            "rows": [
                ("on", listed[name].on),
                ("range", listed[name].range),
                ("healthy", listed[name].healthy),
                ("misleads", listed[name].fails),
                ("source", listed[name].source),
            ],
        }
        for name in names
        if name in listed
    ]

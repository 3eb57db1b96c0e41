"""The tables of an audit's numbers: vital signs, and every metric with its error bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fullrank.report.audit_layers import Together
from fullrank.report.audit_tracks import (
    Axis,
    finite,
    reach_of,
    reading_track,
    relative_axis,
    shared_axis,
    track,
)
from fullrank.report.audit_words import HEALTHY, abouts, grouped
from fullrank.report.numbers import NONE, count, percent, significant
from fullrank.report.vitals import VITALS, Vital

if TYPE_CHECKING:
    from fullrank.audit.verb import LayerAudit
    from fullrank.measure.table import Reading

DIGITS = 4  # of a metric's value: one more than its interval usually settles


def vitals(groups: Sequence[Together]) -> list[dict[str, Any]]:
    """Return the table of vital signs: groups of rows, a cell an audit.

    A cell has the plug-in value, its interval, and where both lie in the vital sign's range.
    """
    tables = []
    for group in groups:
        rows = [
            {
                "name": vital.name,
                "meaning": vital.meaning,
                "ends": _ends(vital, group),
                "cells": {i: _vital_cell(vital, layer) for i, layer in group.members},
            }
            for vital in VITALS
            if any(layer.vitals.get(vital.key) is not None for _, layer in group.members)
        ]
        tables.append({"title": group.title, "note": group.note, "rows": rows})
    return tables


def metrics(groups: Sequence[Together]) -> list[dict[str, Any]]:
    """Return the table of every metric: a table a layer, a row a metric and audit.

    Several numbers of one metric are drawn on one axis of their own. A number without others is
    drawn in the middle of an axis that reaches equally far, as a share of it, in all rows: so the
    intervals of metrics are compared.
    """
    return [_table(group) for group in groups]


def _table(group: Together) -> dict[str, Any]:
    every = [reading for _, layer in group.members for reading in layer.metrics.values()]
    reach = reach_of(every) if len(group.members) == 1 else None
    return {
        "title": group.title,
        "note": group.note,
        "reach": "" if reach is None else f"{100 * reach:g} %",
        "families": [
            {"title": title, "metrics": [_metric(name, group, reach) for name in names]}
            for title, names in grouped(
                name for _, layer in group.members for name in layer.metrics
            )
        ],
    }


def interval(reading: Reading | None, digits: int = 3) -> str:
    """Write the 95 % interval of a metric, or '' without one."""
    low, high = (None, None) if reading is None else (finite(reading.low), finite(reading.high))
    if low is None or high is None:
        return ""
    return f"{significant(low, digits)} to {significant(high, digits)}"


def _metric(name: str, group: Together, reach: float | None) -> dict[str, Any]:
    readings = {i: layer.metrics.get(name) for i, layer in group.members}
    known = [reading for reading in readings.values() if reading is not None]
    axis = shared_axis(known) if reach is None else relative_axis(known[0], reach)
    about = abouts().get(name)
    healthy = "" if about is None else HEALTHY.get(about.healthy, "")
    logarithmic = "drawn on a logarithmic axis" if axis is not None and axis.logarithmic else ""
    return {
        "name": name,
        "listed": about is not None,
        "notes": [note for note in (healthy, logarithmic) if note],
        "cells": [{"subject": i, **_cell(reading, axis)} for i, reading in readings.items()],
    }


def _cell(reading: Reading | None, axis: Axis | None) -> dict[str, Any]:
    if reading is None:
        return _without("not computed")
    value = finite(reading.value)
    if value is None:
        return _without(*(reading.flags or ("undefined",)))
    return {
        "value": count(value) if value.is_integer() else significant(value, DIGITS),
        "corrected": significant(finite(reading.corrected), DIGITS),
        "interval": interval(reading, DIGITS) or NONE,
        "track": None if axis is None else reading_track(axis, reading),
        "flags": list(reading.flags),
    }


def _without(*flags: str) -> dict[str, Any]:
    return {
        "value": NONE,
        "corrected": NONE,
        "interval": NONE,
        "track": None,
        "flags": list(flags),
    }


def _vital_cell(vital: Vital, layer: LayerAudit) -> dict[str, Any]:
    value = finite(layer.vitals.get(vital.key))  # type: ignore[arg-type]
    reading = layer.metrics.get(vital.key)
    text = significant(value)
    if vital.key == "effective_rank" and value is not None:
        text += f" ({percent(layer.vitals['rank_share'])})"
    axis = _axis(vital, layer)
    corrected = None if reading is None else finite(reading.corrected)
    drawn = None
    if axis is not None and value is not None:
        ends = (None, None) if reading is None else (reading.low, reading.high)
        drawn = track(axis, value, *ends, corrected)
    return {
        "text": text,
        "corrected": "" if corrected is None else significant(corrected),
        "interval": interval(reading),
        "flags": [] if reading is None else list(reading.flags),
        "track": drawn,
    }


def _axis(vital: Vital, layer: LayerAudit) -> Axis | None:
    """Return the range of a vital sign of a layer, from what it shows to what it could be."""
    signs = layer.vitals
    if vital.key == "effective_rank":
        rank, share = signs["effective_rank"], signs["rank_share"]
        return Axis(0.0, rank / share if _ranks(layer) else layer.d)
    if vital.key == "alignment":
        # Two images drawn at random are 2 x spread apart.
        return Axis(0.0, 2 * signs["spread"]) if signs["spread"] > 0 else None
    low, high = vital.range
    return None if low is None or high is None else Axis(low, high)


def _ends(vital: Vital, group: Together) -> tuple[str, str]:
    """Say what the ends of a vital sign's range mean."""
    most = {
        count(layer.vitals["effective_rank"] / layer.vitals["rank_share"])
        for _, layer in group.members
        if _ranks(layer)
    }
    ends = {
        "spread": ("0: all alike", "1: spread evenly"),
        "effective_rank": ("0", f"{most.pop()}: full rank" if len(most) == 1 else "full rank"),
        "cev_auc": ("0.5: all directions equal", "1: one direction"),
        "alignment": ("0: views alike", "as far as two images"),
    }
    return ends.get(vital.key, ("", ""))


def _ranks(layer: LayerAudit) -> bool:
    return layer.vitals["rank_share"] > 0 and layer.vitals["effective_rank"] > 0

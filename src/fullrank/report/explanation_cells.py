"""Cells of a factorial as small cards: a spectrum, what was predicted, what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from fullrank.report.explain import LOOKS
from fullrank.report.numbers import significant

WIDTH, HEIGHT = 132, 46
_FLOOR = 1e-4  # of a small spectrum's logarithmic axis
_POINTS = 40

# How a prediction and a measurement go together, in a sign that is read without colour.
MARKS = {
    "agrees": "✓",
    "differs": "✗",
    "mixed": "±",
    "no prediction": "",
    "not run": "",
}


def curve(values: Sequence[float]) -> str:
    """Return the points of a spectrum ``σ_j/σ_1`` in a box of ``WIDTH`` by ``HEIGHT``.

    Horizontal is the share ``j/d``, vertical logarithmic down to 1e-4; empty without a spectrum.

    Args:
        values: singular values, descending.
    """
    if len(values) < 2 or not values[0] > 0:
        return ""
    step = max(1, len(values) // _POINTS)
    kept = [*range(0, len(values), step)]
    if kept[-1] != len(values) - 1:
        kept.append(len(values) - 1)
    points = []
    for j in kept:
        share = max(values[j] / values[0], _FLOOR)
        x = WIDTH * j / (len(values) - 1)
        y = HEIGHT * math.log(share) / math.log(_FLOOR)
        points.append(f"{x:.1f},{y:.1f}")
    return " ".join(points)


def card(cell: Mapping[str, Any], layer: str = "embedding") -> dict[str, Any]:
    """Return what the page shows of one cell.

    Args:
        cell: as an explanation holds it.
        layer: whose spectra and numbers are shown.
    """
    measured = cell.get("measured") or {}
    predicted = cell.get("predicted") or {}
    kind = measured.get("kind")
    counts = measured.get("counts") or {}
    runs = [run for run in cell.get("runs", ()) if (run.get(layer) or {}).get("spectrum")]
    numbers = measured if layer == "embedding" else measured.get(layer) or {}
    return {
        "id": cell.get("id", ""),
        "label": cell.get("label", ""),
        "merged": list(cell.get("merged") or ()),
        "kind": kind or "not run",
        "split": ", ".join(f"{n} {k}" for k, n in counts.items()) if len(counts) > 1 else "",
        "look": LOOKS.get(kind or "", "none"),
        "curves": [c for c in (curve(run[layer]["spectrum"]) for run in runs) if c],
        "predicted": predicted.get("kind"),
        "predicted_look": LOOKS.get(predicted.get("kind") or "", "none"),
        "by": predicted.get("by"),
        "why": predicted.get("text"),
        "mark": MARKS.get(cell.get("agreement", ""), ""),
        "agreement": cell.get("agreement", "not run"),
        "numbers": [
            (name, interval(numbers.get(key), scale))
            for name, key, scale in (
                ("spread", "spread", 1),
                ("rank", "effective_rank", 1),
                ("tail", "cev_auc", 1),
                ("kNN gain", "knn_gain", 100),
                ("linear gain", "linear_gain", 100),
            )
            if numbers.get(key)
        ],
        "errors": [run["error"] for run in cell.get("runs", ()) if run.get("error")],
        "folders": [run["folder"] for run in cell.get("runs", ()) if run.get("folder")],
    }


def interval(value: Mapping[str, Any] | None, scale: float = 1) -> str:
    """Write a mean and its 95 % interval: ``0.61 (0.55 to 0.67)``.

    Args:
        value: ``mean``, ``low`` and ``high``; the last two may be None.
        scale: what they are multiplied by.
    """
    if not value or value.get("mean") is None:
        return ""
    mean, low, high = (value.get(key) for key in ("mean", "low", "high"))
    text = significant(scale * float(mean or 0))
    if low is None or high is None or low == high:
        return text
    return f"{text} ({significant(scale * low)} to {significant(scale * high)})"


def groups(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the cells of the factorial under headings: one for each target and output norm."""
    factorial = [cell for cell in cells if cell.get("factors") and not cell.get("published")]

    def heading(cell: Mapping[str, Any]) -> tuple[str, str]:
        factors = cell["factors"]
        return str(factors.get("target", "")), str(factors.get("output_norm", ""))

    return [
        {
            "title": " · ".join(part for part in title if part),
            "cards": [card(cell) for cell in together],
        }
        for title, together in groupby(sorted(factorial, key=heading), key=heading)
    ]


def named(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the recipe as published and its named ablations, in their order."""
    return [card(cell) for cell in cells if cell.get("published") or not cell.get("factors")]


def tally(cells: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count how often predictions and measurements agree."""
    found = dict.fromkeys(MARKS, 0)
    for cell in cells:
        found[cell.get("agreement", "not run")] = found.get(cell.get("agreement", "not run"), 0) + 1
    return {name: n for name, n in found.items() if n}

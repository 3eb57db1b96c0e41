"""What each section of the page shows, as plain values for the template."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from fullrank.measure.forecast_words import sentences as forecast_sentences
from fullrank.report import explain, over_time, spectra
from fullrank.report.document import Figures
from fullrank.report.events import mapping, number
from fullrank.report.figures import Run
from fullrank.report.numbers import (
    NONE,
    count,
    difference,
    duration,
    percent,
    points,
    significant,
)
from fullrank.report.record import RunRecord
from fullrank.report.vitals import LAYERS, VITALS, conditions, dimensions, layer_title

PROBES = {"knn": "kNN accuracy", "linear": "Linear probe accuracy"}


def about(record: RunRecord) -> list[str]:
    """Return the facts of a run that fit one line."""
    n, batch = number(record.start.get("n_train")), number(record.start.get("batch_size"))
    planned = number(record.start.get("steps"))
    steps = count(record.last_step)
    if planned is not None and planned != record.last_step:
        steps += f" of {count(planned)}"
    facts = [record.text("title"), record.text("data"), f"{steps} steps"]
    facts += [] if n is None else [f"{count(n)} training images"]
    facts += [] if batch is None else [f"batch of {count(batch)}"]
    return [fact for fact in facts if fact]


def paper(record: RunRecord) -> tuple[str, str]:
    """Return the method's paper in words, and its address on arXiv or ''."""
    text = record.text("paper")
    found = re.search(r"arXiv:(\d{4}\.\d{4,5})(?!\d)", text)
    return text, f"https://arxiv.org/abs/{found[1]}" if found else ""


def verdicts(record: RunRecord) -> list[dict[str, Any]]:
    """Return the verdict cards of a run: backbone, then embedding."""
    return [
        {"title": title, "symbol": symbol, "role": role, "verdict": explain.verdict_on(record, key)}
        for key, (title, symbol, role) in LAYERS.items()
    ]


def forecast(record: RunRecord) -> str:
    """Return the sentences of a run's forecast; '' of a run without one."""
    return " ".join(forecast_sentences(record.forecast))


def notes(record: RunRecord) -> list[str]:
    """Return the run's warnings, and what of its record could not be read."""
    lines = record.unreadable
    unread = f"{lines} unreadable line{'s' * (lines > 1)} of its record left out."
    return [*record.warnings, *([unread] if lines else [])]


def headline(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return the table of vitals and probes: groups of rows, a cell a run.

    A cell has the run's value, that of its random-init network, and the signed difference.
    """
    groups = []
    for layer in dict.fromkeys(layer for record in records for layer in record.layers):
        rows = []
        for vital in VITALS:
            cells = []
            for record in records:
                run = record.last.value(layer, vital.key) if record.last else None
                start = record.reference.value(layer, vital.key) if record.reference else None
                cells.append(
                    {
                        "run_text": vital.text(record.last, layer),
                        "reference": vital.text(record.reference, layer),
                        "difference": difference(run, start),
                    }
                )
            rows.append({"name": vital.name, "cells": cells})
        sizes = dict.fromkeys(dimensions(record.last, layer) for record in records)
        about_layer = " / ".join(size for size in sizes if size)
        groups.append({"title": layer_title(layer), "note": about_layer, "rows": rows})
    probe_rows = [
        {"name": name, "cells": [_probe_cell(record, key) for record in records]}
        for key, name in PROBES.items()
    ]
    if any(record.probe or record.reference_probe for record in records):
        layer = next((str(r.probe["layer"]) for r in records if r.probe.get("layer")), "")
        note = f"on the {layer}" if layer else ""
        groups.append({"title": "Probes", "note": note, "rows": probe_rows})
    for group in groups:
        group["conditions"] = [conditions(record.last) for record in records]
    return groups


def _probe_cell(record: RunRecord, key: str) -> dict[str, str]:
    run, start = number(record.probe.get(key)), number(record.reference_probe.get(key))
    return {"run_text": percent(run), "reference": percent(start), "difference": points(run, start)}


def loss(runs: Sequence[Run], figures: Figures) -> dict[str, str]:
    """Return the loss figure and its levels for constant features; empty without any step."""
    if not any(number(event.get("loss")) is not None for r, _ in runs for event in r.steps):
        return {}
    levels = over_time.collapsed_losses(record for record, _ in runs)
    return {
        "figure": figures.add("loss", over_time.loss_figure(runs)),
        "levels": " and ".join(significant(level) for level in levels),
    }


def vitals(runs: Sequence[Run], figures: Figures) -> list[dict[str, Any]]:
    """Return the panels over time: a row a vital sign, a panel a layer."""
    layers = dict.fromkeys(layer for record, _ in runs for layer in record.layers)
    rows = []
    for vital in VITALS:
        panels = []
        for layer in layers:
            if any(c.value(layer, vital.key) is not None for r, _ in runs for c in r.checkups):
                figure = over_time.vital_figure(runs, vital, layer)
                panels.append(
                    {
                        "title": layer_title(layer),
                        "figure": figures.add(f"{vital.key}-{layer}", figure),
                    }
                )
        if panels:
            rows.append({"name": vital.name, "meaning": vital.meaning, "panels": panels})
    return rows


def spectrum(runs: Sequence[Run], figures: Figures) -> dict[str, Any]:
    """Return the spectra: all runs at their last check-up, and each run's evolution."""
    floor = spectra.spectrum_floor(record for record, _ in runs)
    layers = dict.fromkeys(layer for record, _ in runs for layer in record.layers)
    last: list[dict[str, str]] = []
    evolution = []
    if len(runs) > 1:
        for layer in layers:
            if any(record.last and record.last.spectrum(layer) for record, _ in runs):
                figure = spectra.final_spectra_figure(runs, layer, floor)
                name = figures.add(f"last-spectrum-{layer}", figure)
                last.append({"title": layer_title(layer), "figure": name})
    for i, (record, _) in enumerate(runs):
        panels = [
            {
                "title": layer_title(layer),
                "figure": figures.add(
                    f"spectrum-{i}-{layer}", spectra.spectrum_figure(record, layer, floor)
                ),
            }
            for layer in record.layers
            if any(checkup.spectrum(layer) for checkup in record.checkups)
        ]
        steps = [checkup.step for checkup in record.checkups]
        evolution.append(
            {
                "run": i,
                "panels": panels,
                "first": count(min(steps, default=0)),
                "last": count(max(steps, default=0)),
            }
        )
    return {"last": last, "evolution": [run for run in evolution if run["panels"]]}


def probes(runs: Sequence[Run], figures: Figures) -> dict[str, Any]:
    """Return the probes: the table's rows, and panels over time if there are several in a run."""
    panels = []
    for key, name in PROBES.items():
        if any(len(over_time.probe_series(record, key)) > 1 for record, _ in runs):
            figure = over_time.probe_figure(runs, key)
            panels.append({"title": name, "figure": figures.add(f"probe-{key}", figure)})
    rows: list[dict[str, Any]] = []
    for i, (record, _) in enumerate(runs):
        for key, name in PROBES.items():
            marks = [number(p.get(key)) for p in (record.reference_probe, record.probe)]
            if marks != [None, None]:
                probe = name.removesuffix(" accuracy")
                rows.append({"run": i, "probe": probe, "marks": marks, **_probe_cell(record, key)})
    low, high = _probe_range([mark for row in rows for mark in row["marks"]])
    for row in rows:
        row["marks"] = [
            None if mark is None else round(100 * (mark - low) / (high - low), 2)
            for mark in row["marks"]
        ]
    found = dict.fromkeys(explain.probe_conditions(r.probe or r.reference_probe) for r, _ in runs)
    return {
        "rows": rows,
        "panels": panels,
        "range": (f"{low:.0%}", f"{high:.0%}"),
        "conditions": "; ".join(text for text in found if text),
    }


def _probe_range(accuracies: Sequence[float | None]) -> tuple[float, float]:
    """Return the ends of an accuracy axis: whole tens of percent around what there is."""
    known = [accuracy for accuracy in accuracies if accuracy is not None] or [0.0, 1.0]
    low = max(0.0, math.floor(10 * min(known) - 0.2) / 10)
    return low, max(low + 0.1, min(1.0, math.ceil(10 * max(known) + 0.2) / 10))


def environment(records: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """Return the environment, a value a run."""
    found = [
        {"fullrank": record.text("fullrank", NONE), "started": record.text("time", NONE)}
        | {str(k): str(v) for k, v in mapping(record.start.get("environment")).items()}
        | {"configuration hash": record.text("hash", NONE)}
        for record in records
    ]
    names = dict.fromkeys(name for values in found for name in values)
    return [(name, [values.get(name, NONE) for values in found]) for name in names]


def timings(records: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """Return times, speed and sizes, a value a run."""
    rows: list[tuple[str, Callable[[RunRecord], str]]] = [
        ("training time", lambda r: duration(number(r.ending.get("seconds")))),
        ("images per second", lambda r: significant(_speed(r))),
        ("check-ups", lambda r: count(len(r.checkups))),
        ("time in check-ups", _checkup_time),
        ("parameters, backbone", lambda r: _parameters(r, "backbone")),
        ("parameters, projector", lambda r: _parameters(r, "projector")),
        ("parameters, predictor", lambda r: _parameters(r, "predictor")),
    ]
    return [(name, [write(record) for record in records]) for name, write in rows]


def encoder(record: RunRecord) -> list[tuple[str, str]]:
    """Return what ``encoder.json`` says of the saved encoder."""
    return [
        (str(key), str(value))
        for key, value in record.encoder.items()
        if isinstance(value, str | int | float)
    ]


def _speed(record: RunRecord) -> float | None:
    overall = number(record.ending.get("images_per_second"))
    if overall is not None:
        return overall
    steps = [number(event.get("images_per_second")) for event in record.steps]
    measured = [speed for speed in steps if speed is not None]
    return median(measured) if measured else None


def _checkup_time(record: RunRecord) -> str:
    spent = sum(checkup.seconds or 0.0 for checkup in record.checkups)
    if not spent:
        return NONE
    total = number(record.ending.get("seconds"))
    share = f", {percent(spent / total)} of the time" if total else ""
    return f"{duration(spent)}{share}"


def _parameters(record: RunRecord, part: str) -> str:
    return count(number(mapping(record.start.get("parameters")).get(part)))

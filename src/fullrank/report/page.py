"""Run folders drawn as one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fullrank.errors import UserError
from fullrank.report import compare, explain, sections
from fullrank.report.document import Figures, render_document, write_document
from fullrank.report.events import texts
from fullrank.report.explanation_tracks import tracks_of
from fullrank.report.figures import run_colour, run_symbol
from fullrank.report.record import RunRecord


def report(runs: Sequence[str | Path] | str | Path, out: str | Path | None = None) -> Path:
    """Draw run folders as one self-contained HTML page.

    The page holds its styles, scripts, figures and images, and makes no network request. Several
    runs are overlaid, one colour and marker a run.

    Args:
        runs: the run folders, one or several; one given twice is drawn once.
        out: the file to write, or a folder to write ``report.html`` in. By default
            ``report.html`` in the run folder, or in the folder that all runs are in.

    Returns:
        The path of the page.

    Raises:
        UserError: no run is given, a folder is not a run (the message says what is missing), or
            the page cannot be written.
    """
    given = [runs] if isinstance(runs, str | Path) else list(runs)
    if not given:
        raise UserError("runs: none given; give one or more run folders.")
    folders = list({Path(run).resolve(): Path(run) for run in given}.values())
    records = [RunRecord.read(folder) for folder in folders]
    path = _destination(folders, out)
    write_document(path, render(records))
    return path


def render(records: Sequence[RunRecord]) -> str:
    """Return the page of these runs as text.

    Args:
        records: one or more runs, in the order in which they are shown.
    """
    return render_document("page.html", context(records))


def context(records: Sequence[RunRecord]) -> dict[str, Any]:
    """Return what the page's template shows of these runs."""
    labels = compare.labels(records)
    runs = list(zip(records, labels, strict=True))
    boxes = compare.method_boxes(records)
    figures = Figures()
    return {
        "heading": _heading(records, labels),
        "data": ", ".join(dict.fromkeys(r.text("data", "unknown data") for r in records)),
        "runs": [
            {
                "label": label,
                "colour": run_colour(i),
                "symbol": run_symbol(i),
                "folder": record.path.resolve().name,
                "about": sections.about(record),
                "paper": sections.paper(record),
                "status": record.status,
                "status_sentence": explain.status_sentence(record),
                "causes": texts(record.ending.get("causes")),
                "verdicts": sections.verdicts(record),
                "loss": explain.loss_at_collapse(record),
                "meaning": explain.meaning(record),
                "forecast": sections.forecast(record),
                "notes": sections.notes(record),
                "boxes": boxes[i],
                "mechanisms": compare.mechanisms(record),
                "views": _image(record.views),
                "config": record.config_text,
                "encoder": sections.encoder(record),
            }
            for i, (record, label) in enumerate(runs)
        ],
        "reasons": explain.reasons(records, labels),
        "differences": compare.differing_settings(records),
        "headline": sections.headline(records),
        "vitals": sections.vitals(runs, figures),
        "loss": sections.loss(runs, figures),
        "spectra": sections.spectrum(runs, figures),
        "tracks": tracks_of(records, figures),
        "probes": sections.probes(runs, figures),
        "environment": sections.environment(records),
        "timings": sections.timings(records),
        "figures": figures.drawn,
    }


def _heading(records: Sequence[RunRecord], labels: Sequence[str]) -> str:
    if len(records) == 1:
        return labels[0]
    if len(records) <= 3 and sum(map(len, labels)) <= 60:
        return " · ".join(labels)
    return f"{len(records)} runs"


def _image(png: bytes | None) -> str | None:
    return None if png is None else f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _destination(folders: Sequence[Path], out: str | Path | None) -> Path:
    if out is not None:
        path = Path(out)
        return path / "report.html" if path.is_dir() else path
    if len(folders) == 1:
        return folders[0] / "report.html"
    return Path(os.path.commonpath([folder.resolve().parent for folder in folders])) / "report.html"

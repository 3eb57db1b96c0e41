"""Run folders drawn as one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fullrank.errors import UserError
from fullrank.report import compare, explain, sections
from fullrank.report.events import texts
from fullrank.report.figures import run_colour, run_symbol
from fullrank.report.record import RunRecord

if TYPE_CHECKING:
    from jinja2 import Environment


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
    _write(path, render(records))
    return path


def render(records: Sequence[RunRecord]) -> str:
    """Return the page of these runs as text.

    Args:
        records: one or more runs, in the order in which they are shown.
    """
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = _environment()
    scripts = {
        "watch": _template_text(environment, "watch.js"),
        "plotly": get_plotlyjs().replace("</script", "<\\/script"),
        "page": _template_text(environment, "page.js"),
    }
    return environment.get_template("page.html").render(
        **context(records),
        style=Markup(environment.get_template("style.css").render()),
        scripts={name: Markup(text) for name, text in scripts.items()},
        policy=_policy(scripts.values()),
    )


def context(records: Sequence[RunRecord]) -> dict[str, Any]:
    """Return what the page's template shows of these runs."""
    labels = compare.labels(records)
    runs = list(zip(records, labels, strict=True))
    boxes = compare.method_boxes(records)
    figures = sections.Figures()
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


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("fullrank.report"),
        autoescape=True,  # every text of a record is somebody's input
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _template_text(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _policy(scripts: Iterable[str]) -> str:
    """Return a content security policy: these scripts run and no other, nothing is fetched."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _image(png: bytes | None) -> str | None:
    return None if png is None else f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _destination(folders: Sequence[Path], out: str | Path | None) -> Path:
    if out is not None:
        path = Path(out)
        return path / "report.html" if path.is_dir() else path
    if len(folders) == 1:
        return folders[0] / "report.html"
    return Path(os.path.commonpath([folder.resolve().parent for folder in folders])) / "report.html"


def _write(path: Path, page: str) -> None:
    """Write the page whole or not at all: a full disk leaves an earlier page as it was."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UserError(f"out: cannot write {str(path)!r}: {error.strerror or error}.") from error
    part = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(page)
        part.chmod(0o644)  # mkstemp's files are for their owner alone
        part.replace(path)
    except OSError as error:
        raise UserError(f"out: cannot write {str(path)!r}: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)

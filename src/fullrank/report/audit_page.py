"""An audit drawn as one HTML page that needs nothing beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fullrank.errors import UserError
from fullrank.report import audit_metrics, audit_sections
from fullrank.report.audit_layers import leading, side_by_side
from fullrank.report.audit_words import glossary, labels
from fullrank.report.document import Figures, render_document, write_document

if TYPE_CHECKING:
    from fullrank.audit.verb import Audits


def write_audit(audits: Audits, out: str | Path) -> Path:
    """Draw an audit as one self-contained HTML page.

    The page holds its styles, scripts and figures, and makes no network request. Several
    representations are side by side, one colour and marker each.

    Args:
        audits: what was found.
        out: the file to write, or a folder to write ``audit.html`` in.

    Returns:
        The path of the page.

    Raises:
        UserError: nothing was audited, or the page cannot be written.
    """
    path = Path(out)
    path = path / "audit.html" if path.is_dir() else path
    write_document(path, render_audit(audits))
    return path


def render_audit(audits: Audits) -> str:
    """Return the page of an audit as text.

    Raises:
        UserError: nothing was audited.
    """
    return render_document("audit.html", context(audits))


def context(audits: Audits) -> dict[str, Any]:
    """Return what the page's template shows of an audit.

    Raises:
        UserError: nothing was audited.
    """
    every = audits.audits
    if not every:
        raise UserError("audits: none given; audit something first.")
    names = labels(every)
    figures = Figures()
    groups, ends = side_by_side(every), leading(every)
    metrics = audit_metrics.metrics(groups)
    named = {m["name"]: None for table in metrics for f in table["families"] for m in f["metrics"]}
    return {
        "heading": audit_sections.heading(every, names),
        "data": audit_sections.data(every),
        "subjects": audit_sections.subjects(every, names),
        "meanings": audit_sections.meanings(every),
        "vitals": audit_metrics.vitals(ends),
        "ranking": audit_sections.ranking(audits),
        "criterion": audits.criterion,
        "spectra": audit_sections.spectra(every, names, figures),
        "profile": audit_sections.profile(every, names, figures),
        "metrics": metrics,
        "probes": audit_sections.probes(groups),
        "drift": audit_sections.drift(audits),
        "drifts": list(audit_sections.drift_columns(audits).values()),
        "failures": [failure.line for failure in audits.failures],
        "convergence": audit_sections.convergence(ends, names, figures),
        "conventions": audit_sections.conventions(every),
        "glossary": glossary(named),
        "figures": figures.drawn,
    }

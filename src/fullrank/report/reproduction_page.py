"""The claims of a paper drawn as one HTML page: what was claimed, how it was tested, what held."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fullrank.experiments.claims.registry import short_name
from fullrank.report.document import Figures, render_document, write_document
from fullrank.report.reproduction_figures import claim_figure
from fullrank.report.reproduction_words import (
    SHOWN,
    conditions,
    count_text,
    look,
    number_text,
    outline,
    run_cells,
    run_command,
    tally,
)


def write_reproduction(found: Mapping[str, Any], path: Path) -> Path:
    """Draw the claims of a paper as one self-contained HTML page.

    Args:
        found: what ``PAPER.json`` holds.
        path: the file to write.

    Returns:
        The path.

    Raises:
        UserError: the page cannot be written.
    """
    write_document(path, render_document("reproduction.html", context(found)))
    return path


def context(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page's template shows of a paper's claims.

    Args:
        found: what ``PAPER.json`` holds.
    """
    figures = Figures()
    claims = [_claim(found, claim, figures) for claim in found["claims"]]
    return {
        "paper": found["paper"],
        "heading": found["title"],
        "citation": found["citation"],
        "about": found["about"],
        "tally": tally(found["claims"]),
        "claims": claims,
        "conditions": conditions(found),
        "shown": SHOWN,
        "figures": figures.drawn,
    }


def _claim(found: Mapping[str, Any], claim: Mapping[str, Any], figures: Figures) -> dict[str, Any]:
    drawn = []
    short = short_name(claim["name"])
    for i, figure in enumerate(claim["figures"]):
        plot, key = claim_figure(figure)
        drawn.append(
            {"figure": figures.add(f"{short}-{i}", plot), "title": figure["title"], "key": key}
        )
    runs = outline(claim)
    return {
        "id": short,
        "name": claim["name"],
        "statement": claim["statement"],
        "source": claim["source"],
        "verdict": claim["verdict"] or "not judged yet",
        "look": look(claim["verdict"]),
        "text": claim["text"],
        "reason": claim["reason"],
        "detail": claim["detail"],
        "criterion": claim["criterion"],
        "care": claim["care"],
        "criterion_hash": claim["criterion_hash"],
        "judge": claim["source_file"],
        "protocol": claim["protocol"][found["scale"]],
        "other": [
            (name, text)
            for name, text in claim["protocol"].items()
            if text != claim["protocol"][found["scale"]]
        ],
        "numbers": [(n["name"], number_text(n), count_text(n)) for n in claim["numbers"]],
        "drawn": drawn,
        "arms": [_arm(arm) for arm in claim["arms"]],
        "runs": runs,
        "command": run_command("HASH", found["scale"]) if runs else "",
    }


def _arm(arm: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": arm["name"], "rows": [_run(row) for row in arm["runs"]]}


def _run(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "seed": str(row["seed"]),
        "hash": row["hash"],
        "folder": row["folder"],
        "cells": run_cells(row),
    }

"""A sweep drawn as one HTML page: what each axis does, and every run with its verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fullrank.experiments.grid import label_text
from fullrank.experiments.sweep import SWEEP, read_sweep
from fullrank.report.document import Figures, render_document, write_document
from fullrank.report.explain import LOOKS
from fullrank.report.figures import run_colour
from fullrank.report.numbers import NONE, duration, percent, significant
from fullrank.report.sweep_axes import axes

PAGE = "sweep.html"


def is_sweep(folder: str | Path) -> bool:
    """Say whether a folder holds a sweep."""
    return (Path(folder) / SWEEP).is_file()


def write_sweep(folder: str | Path, out: str | Path | None = None) -> Path:
    """Draw the sweep in a folder as one self-contained HTML page.

    Args:
        folder: holds ``sweep.json``.
        out: the file to write, or a folder to write ``sweep.html`` in; by default beside it.

    Returns:
        The path of the page.

    Raises:
        UserError: there is no sweep, it cannot be read, or the page cannot be written.
    """
    path = Path(out) if out is not None else Path(folder) / PAGE
    path = path / PAGE if path.is_dir() else path
    write_document(path, render_document("sweep.html", context(read_sweep(folder))))
    return path


def context(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page's template shows of a sweep.

    Args:
        found: what ``sweep.json`` holds.
    """
    figures = Figures()
    rows = found["runs"]
    return {
        "heading": found.get("name", ""),
        "tally": _tally(found),
        "key": [(layer, run_colour(i)) for i, layer in enumerate(("embedding", "backbone"))],
        "probe_key": [(name, run_colour(i)) for i, name in enumerate(("trained", "random-init"))],
        "axes": axes(found, figures),
        "columns": list(found["axes"]),
        "rows": [_row(row, list(found["axes"])) for row in rows],
        "failures": [(row["folder"], row["error"]) for row in rows if row.get("error")],
        "aside": [row["set_aside"] for row in rows if row.get("set_aside")],
        "merged": found.get("merged") or (),
        "seeds": f"{len(found.get('seeds') or ())} seeds",
        "grid": yaml.safe_dump(found.get("grid") or {}, sort_keys=False, allow_unicode=True),
        "conditions": _conditions(found),
        "figures": figures.drawn,
    }


def _tally(found: Mapping[str, Any]) -> str:
    """Say how many runs ended how."""
    rows = found["runs"]
    states = Counter(row["status"] for row in rows)
    kinds = Counter(row["verdict_embedding"] for row in rows if row.get("verdict_embedding"))
    total = found.get("total", len(rows))
    parts = [f"{total} runs"]
    if len(rows) < total:
        parts.append(f"{total - len(rows)} still to be made")
    if states["failed"]:
        parts.append(f"{states['failed']} failed")
    said = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
    ended = f"{', '.join(parts)}."
    return f"{ended} Verdicts on the embedding: {said}." if said else ended


def _row(row: Mapping[str, Any], axes: list[str]) -> dict[str, Any]:
    kind = row.get("verdict_embedding")
    return {
        "labels": [label_text(row["axes"].get(axis)) for axis in axes],
        "seed": row["seed"],
        "kind": kind or row["status"],
        "look": LOOKS.get(kind or "", "none"),
        "backbone": row.get("verdict_backbone") or NONE,
        "backbone_look": LOOKS.get(row.get("verdict_backbone") or "", "none"),
        "values": [
            *(significant(row.get(f"embedding_{name}")) for name in ("spread", "effective_rank")),
            significant(row.get("backbone_effective_rank")),
            significant(row.get("backbone_cev_auc")),
            *(percent(row.get(name)) for name in ("knn", "knn_random", "linear", "linear_random")),
            significant(row.get("loss")),
            duration(row.get("seconds")),
        ],
        "folder": row["folder"],
    }


def _conditions(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("seeds", ", ".join(map(str, found.get("seeds") or ())))]
    rows.append(("engine", str(found.get("engine", ""))))
    rows += [(str(name), str(value)) for name, value in (found.get("environment") or {}).items()]
    if found.get("seconds"):
        rows.append(("took", duration(found["seconds"])))
    return [(name, value) for name, value in rows if value]

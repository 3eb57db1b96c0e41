"""An explanation drawn as one HTML page: theory, the runs' own modes, and the factorial."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fullrank.errors import UserError
from fullrank.report import explanation_cells as cells
from fullrank.report.compare import BOXES
from fullrank.report.document import Figures, render_document, write_document
from fullrank.report.explanation_figures import phase_figure, portrait_figure
from fullrank.report.explanation_tracks import tracks
from fullrank.report.numbers import NONE, duration

EXPLANATION = "explanation.json"
PAGE = "explanation.html"


def is_explanation(folder: str | Path) -> bool:
    """Say whether a folder holds an explanation."""
    return (Path(folder) / EXPLANATION).is_file()


def write_explanation(folder: str | Path, out: str | Path | None = None) -> Path:
    """Draw the explanation in a folder as one self-contained HTML page.

    The records of its runs are read where they lie; runs that are gone are left out.

    Args:
        folder: holds ``explanation.json``.
        out: the file to write, or a folder to write ``explanation.html`` in; by default beside it.

    Returns:
        The path of the page.

    Raises:
        UserError: there is no explanation, it cannot be read, or the page cannot be written.
    """
    path = Path(out) if out is not None else Path(folder) / PAGE
    path = path / PAGE if path.is_dir() else path
    write_document(path, render_explanation(read_explanation(folder)))
    return path


def read_explanation(folder: str | Path) -> dict[str, Any]:
    """Read ``explanation.json``.

    Raises:
        UserError: it is missing or damaged.
    """
    path = Path(folder) / EXPLANATION
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"explanation: {path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"explanation: {path} is damaged ({error}).") from error
    if not isinstance(found, dict) or "recipe" not in found:
        raise UserError(f"explanation: {path} holds no explanation.")
    return found


def render_explanation(found: Mapping[str, Any]) -> str:
    """Return the page of an explanation as text."""
    return render_document("explanation.html", context(found))


def context(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page's template shows of an explanation.

    Args:
        found: what ``explanation.json`` holds.
    """
    every: Sequence[Mapping[str, Any]] = found.get("cells") or ()
    theory: Mapping[str, Any] = found.get("theory") or {}
    figures = Figures()
    shown = cells.named(every)
    whole = cells.groups(every)
    cards = [*shown, *(card for group in whole for card in group["cards"])]
    return {
        "heading": found.get("title") or found["recipe"],
        "data": _data(found),
        "quick": found.get("quick_note") or ("fewer cells, one seed" if found.get("quick") else ""),
        "boxes": [
            {"role": role, "text": text}
            for role, text in zip(BOXES, found.get("diagram") or (), strict=False)
        ],
        "mechanisms": [(p["mechanism"], p["collapse"]) for p in found.get("prevents") or ()],
        "paper": found.get("paper", ""),
        # Where there are runs, each cell has its own prediction.
        "statements": [
            *(theory.get("statements") or ()),
            *(() if every else theory.get("ablations") or ()),
        ],
        "portraits": _portraits(theory, every, figures),
        "tracks": tracks(every, figures),
        "named": shown,
        "groups": whole,
        "tally": _tally(every),
        "columns": [name for name, _ in cards[0]["numbers"]] if cards else [],
        "rows": [_row(card) for card in cards],
        "seeds": f"{len(found.get('seeds') or ())} seeds",
        "conditions": _conditions(found),
        "folders": [(card["label"], card["folders"]) for card in cards if card["folders"]],
        "figures": figures.drawn,
    }


def _data(found: Mapping[str, Any]) -> str:
    data = (found.get("settings") or {}).get("data", "")
    return str(data.get("name", "") if isinstance(data, Mapping) else data)


def _portraits(
    theory: Mapping[str, Any], every: Sequence[Mapping[str, Any]], figures: Figures
) -> list[dict[str, Any]]:
    drawn = []
    for i, portrait in enumerate(theory.get("portraits") or ()):
        figure = figures.add(f"portrait-{i}", portrait_figure(portrait))
        drawn.append({"figure": figure, **_texts(portrait)})
    for i, phase in enumerate(theory.get("phases") or ()):
        figure = figures.add(f"phase-{i}", phase_figure(phase))
        drawn.append({"figure": figure, **_texts(phase)})
    return drawn


def _texts(panel: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(panel.get(key, "")) for key in ("title", "note", "caption")}


def _tally(every: Sequence[Mapping[str, Any]]) -> str:
    """Say how often predictions and measurements agree over the cells."""
    counts = cells.tally(every)
    said = {
        "agrees": "as predicted",
        "differs": "otherwise than predicted",
        "mixed": "as predicted in some seeds only",
        "no prediction": "without a prediction",
        "not run": "not run",
    }
    parts = [f"{n} {said[name]}" for name, n in counts.items() if name in said]
    return f"Of {sum(counts.values())} cells: {', '.join(parts)}." if parts else ""


def _row(card: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "label": card["label"],
        "predicted": card["predicted"] or NONE,
        "kind": card["kind"],
        "split": card["split"],
        "mark": card["mark"],
        "values": [value or NONE for _, value in card["numbers"]],
    }


def _conditions(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    environment = found.get("environment") or {}
    rows = [("scale", str(found.get("scale", "")))]
    rows += [("seeds", ", ".join(map(str, found.get("seeds") or ())))]
    for name, value in (found.get("settings") or {}).items():
        rows.append((str(name).replace("_", " "), _plain(value)))
    rows += [(str(name), str(value)) for name, value in environment.items()]
    if found.get("seconds"):
        rows.append(("took", duration(found["seconds"])))
    return [(name, value) for name, value in rows if value]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)

"""A claim's figure as a small SVG, drawn with matplotlib."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fullrank.errors import UserError
from fullrank.report.document import write_document

COLOURS = ("#0072b2", "#d55e00", "#00845f", "#b0578d", "#8a6d00", "#3b4a5a", "#6a51a3", "#a1442b")
DASHES = ("-", "--", ":")
MARKERS = ("o", "s", "D", "^", "P", "*", "h", "p")
FEW = 6  # names or series that have room
LINE = 90  # letters that stand side by side under an axis
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "fullrank",  # the same picture is the same file
    "svg.fonttype": "none",
}


def check_drawing() -> None:
    """Refuse to begin where figures cannot be drawn.

    Raises:
        UserError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise UserError(
            "evidence: matplotlib, which draws its figures, is not installed. Install it with: "
            "pip install 'fullrank[bench]'."
        )


def draw_figure(figure: Mapping[str, Any], path: Path) -> None:
    """Draw a figure of a claim (``fullrank.experiments.claims.claim.Figure`` as plain values).

    Raises:
        UserError: matplotlib is not installed, or the file cannot be written.
    """
    check_drawing()
    # Not imported by name: type checks need no matplotlib either.
    matplotlib: Any = import_module("matplotlib")
    with matplotlib.rc_context(STYLE):
        drawn: Any = import_module("matplotlib.figure").Figure(
            figsize=(6.4, 3.4), layout="constrained"
        )
        axes = drawn.add_subplot()
        for i, series in enumerate(figure["series"]):
            _add(axes, figure, series, i)
        if figure["log_x"]:
            axes.set_xscale("log")
        if figure["log_y"]:
            axes.set_yscale("log")
        _wrap_names(axes, figure)
        axes.set(xlabel=figure["x"], ylabel=figure["y"])
        axes.set_title(figure["title"], fontsize=9, loc="left", wrap=True)
        named = sum(bool(series["name"]) for series in figure["series"])
        if named > FEW:  # beside the lines, which would be hidden
            axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        elif named > 1:
            axes.legend(fontsize=8)
        text = io.StringIO()
        drawn.savefig(text, format="svg", metadata={"Date": None})
    write_document(path, text.getvalue())


def _add(axes: Any, figure: Mapping[str, Any], series: Mapping[str, Any], i: int) -> None:
    colour, label = COLOURS[i % len(COLOURS)], series["name"] or None
    x, y = series["x"], [float("nan") if v is None else v for v in series["y"]]
    # An end that there is not is drawn as none.
    low = [v if end is None else end for v, end in zip(y, series["low"] or y, strict=True)]
    high = [v if end is None else end for v, end in zip(y, series["high"] or y, strict=True)]
    bars = None
    if series["low"] and series["high"]:
        bars = [
            [max(0.0, v - end) for v, end in zip(y, low, strict=True)],
            [max(0.0, end - v) for v, end in zip(y, high, strict=True)],
        ]
    if series["kind"] == "bars":
        names = _positions(figure)
        width = 0.8 / len(figure["series"])
        middle = (i - (len(figure["series"]) - 1) / 2) * width
        places = [names.index(v) + middle for v in x]
        axes.bar(places, y, width, yerr=bars, color=colour, label=label, capsize=2)
    elif series["kind"] == "points":
        marker = MARKERS[i % len(MARKERS)]
        style = {"color": colour, "label": label, "ms": 4, "marker": marker, "ls": ""}
        axes.errorbar(x, y, yerr=bars, capsize=2, **style)
    else:
        dashes = DASHES[i // len(COLOURS) % len(DASHES)]
        axes.plot(x, y, color=colour, label=label, lw=1.4, ls=dashes)
        if bars is not None:
            axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)


def _positions(figure: Mapping[str, Any]) -> list[Any]:
    """Return the horizontal positions of a figure, in the order in which they are drawn."""
    return list(dict.fromkeys(v for series in figure["series"] for v in series["x"]))


def _wrap_names(axes: Any, figure: Mapping[str, Any]) -> None:
    """Write names under the axis in lines that are no wider than the space each has."""
    names = _positions(figure)
    named = all(isinstance(name, str) for name in names)
    if names and (named or any(s["kind"] == "bars" for s in figure["series"])):
        wide = max(8, LINE // len(names))
        lines = [textwrap.fill(str(name), wide, break_long_words=False) for name in names]
        axes.set_xticks(range(len(names)), lines, fontsize=9 if len(names) <= FEW else 7)

"""What all figures of the page share: axes, run colours and markers.

Figures have no colours of their own but names of the page's style (``var(--run-1)``,
``var(--sequence-40)``), which its script turns into the colours of the theme in use; so one figure
serves light, dark and print.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fullrank.report.record import RunRecord

if TYPE_CHECKING:
    import plotly.graph_objects as go

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "pentagon")

Run = tuple[RunRecord, str]  # a record and its label on the page


def empty_figure() -> go.Figure:
    """Return a figure with the page's axes, margins and hover labels, and nothing drawn."""
    import plotly.graph_objects as go

    axis = {
        "gridcolor": "var(--grid)",
        "linecolor": "var(--line)",
        "showline": True,
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": "var(--line)",
        "tickfont": {"size": 11, "color": "var(--muted)"},
        "fixedrange": True,
        "automargin": True,
    }
    return go.Figure(
        layout={
            "template": "none",
            "autosize": True,
            "margin": {"l": 44, "r": 12, "t": 8, "b": 28},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"color": "var(--ink)", "size": 12},
            "showlegend": False,
            "hovermode": "closest",
            "dragmode": False,
            "hoverlabel": {
                "bgcolor": "var(--surface)",
                "bordercolor": "var(--line)",
                "font": {"color": "var(--ink)", "size": 12},
                "align": "left",
            },
            "xaxis": {**axis, "showgrid": False},
            "yaxis": {**axis, "nticks": 6},
        }
    )


def run_colour(index: int) -> str:
    """Return the colour of the run at a position of the page."""
    return f"var(--run-{index % len(SYMBOLS) + 1})"


def run_symbol(index: int) -> str:
    """Return the marker of the run at a position of the page."""
    return SYMBOLS[index % len(SYMBOLS)]

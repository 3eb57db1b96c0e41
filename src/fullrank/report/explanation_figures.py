"""Phase portraits and phase diagrams: what theory says, as pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fullrank.report.figures import empty_figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

_FATES = {"survives": "var(--healthy)", "collapses": "var(--complete)"}


def portrait_figure(portrait: Mapping[str, Any]) -> go.Figure:
    """Draw how modes move in the plane of the predictor's and the representation's eigenvalue.

    Args:
        portrait: ``x_name``, ``y_name``; ``paths``, each ``x``, ``y`` and ``fate`` (``survives`` or
            ``collapses``), in the order of time; ``fixed``, each ``x``, ``y``, ``stable``;
            ``boundary``, ``x`` and ``y`` of the line between the fates, which may be empty.
    """
    figure = empty_figure()
    for path in portrait.get("paths") or ():
        colour = _FATES.get(path["fate"], "var(--muted)")
        figure.add_scatter(
            x=path["x"],
            y=path["y"],
            mode="lines",
            line={"color": colour, "width": 1.1},
            hovertemplate=f"{path['fate']}<extra></extra>",
        )
        figure.add_scatter(
            x=path["x"][:1],
            y=path["y"][:1],
            mode="markers",
            marker={"color": colour, "size": 4},
            hoverinfo="skip",
        )
    boundary = portrait.get("boundary") or {}
    if boundary.get("x"):
        figure.add_scatter(
            x=boundary["x"],
            y=boundary["y"],
            mode="lines",
            line={"color": "var(--ink)", "width": 2, "dash": "dash"},
            hovertemplate="boundary between the fates<extra></extra>",
        )
    for point in portrait.get("fixed") or ():
        stable = point["stable"]
        figure.add_scatter(
            x=[point["x"]],
            y=[point["y"]],
            mode="markers",
            marker={
                "color": "var(--ink)" if stable else "var(--paper)",
                "size": 11,
                "line": {"color": "var(--ink)", "width": 2},
            },
            hovertemplate=f"{'stable' if stable else 'unstable'} fixed point<br>"
            "%{x:.3g}, %{y:.3g}<extra></extra>",
        )
    _titles(figure, portrait)
    return figure


def phase_figure(phase: Mapping[str, Any]) -> go.Figure:
    """Draw the outcome over two parameters, with the analytic boundaries over it.

    Args:
        phase: what ``fullrank.theory.phase.PhaseDiagram.to_dict`` gives.
    """
    figure = empty_figure()
    x, y = phase["x"], phase["y"]
    figure.add_heatmap(
        x=x["values"],
        y=y["values"],
        z=phase["outcome"],
        colorscale=[[i / 4, f"var(--sequence-{25 * i})"] for i in range(5)],
        colorbar={
            "title": {"text": phase.get("outcome_label", ""), "side": "right"},
            "thickness": 10,
            "tickfont": {"color": "var(--muted)", "size": 11},
        },
        hovertemplate=f"{x['label']}: %{{x:.3g}}<br>{y['label']}: %{{y:.3g}}<br>"
        "%{z:.3g}<extra></extra>",
    )
    for boundary in phase.get("boundaries") or ():
        points = boundary["points"]
        # A light line below the dashed one, to be seen on every colour.
        for line in (
            {"color": "var(--paper)", "width": 3},
            {"color": "var(--ink)", "width": 1.5, "dash": "dash"},
        ):
            figure.add_scatter(
                x=[place[0] for place in points],
                y=[place[1] for place in points],
                mode="lines",
                line=line,
                hovertemplate=f"{boundary['label']}<br>%{{x:.3g}}, %{{y:.3g}}<extra></extra>",
            )
    _titles(figure, {"x_name": x["label"], "y_name": y["label"]})
    for axis, along in ((figure.update_xaxes, x), (figure.update_yaxes, y)):
        ends = [min(along["values"]), max(along["values"])]
        if along["log"]:
            axis(type="log", range=[math.log10(end) for end in ends])
        else:
            axis(range=ends)
    return figure


def _titles(figure: go.Figure, shown: Mapping[str, Any]) -> None:
    for axis, key in ((figure.update_xaxes, "x_name"), (figure.update_yaxes, "y_name")):
        axis(title={"text": shown.get(key, ""), "standoff": 6, "font": {"size": 12}})
    figure.update_layout(margin={"l": 58, "r": 12, "t": 8, "b": 44})

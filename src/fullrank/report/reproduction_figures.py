"""A claim's figure drawn with Plotly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fullrank.report.figures import empty_figure, run_colour, run_symbol

if TYPE_CHECKING:
    import plotly.graph_objects as go


def claim_figure(figure: Mapping[str, Any]) -> tuple[go.Figure, list[dict[str, str]]]:
    """Draw a figure of a claim.

    Args:
        figure: ``title``, ``x`` and ``y`` (names of the axes), ``log_x``, ``log_y``, and
            ``series``, each ``name``, ``kind`` (``line``, ``points`` or ``bars``), ``x``, ``y``,
            and ``low`` and ``high``, which may be empty.

    Returns:
        The figure, and its key: ``text`` and ``colour`` of every named series.
    """
    drawn, key = empty_figure(), []
    for i, series in enumerate(figure["series"]):
        colour = run_colour(i)
        _add(drawn, series, colour, run_symbol(i))
        if series["name"]:
            key.append({"text": series["name"], "colour": colour})
    for axis, name, log in (
        (drawn.update_xaxes, figure["x"], figure["log_x"]),
        (drawn.update_yaxes, figure["y"], figure["log_y"]),
    ):
        axis(title={"text": name, "standoff": 6, "font": {"size": 12}})
        if log:
            axis(type="log", exponentformat="power")
    drawn.update_layout(margin={"l": 58, "r": 12, "t": 8, "b": 44}, barmode="group")
    return drawn, key if len(key) > 1 else []


def _add(drawn: go.Figure, series: Mapping[str, Any], colour: str, symbol: str) -> None:
    name = series["name"]
    hover = (
        f"{name}<br>%{{x}}: %{{y:.4g}}<extra></extra>" if name else "%{x}: %{y:.4g}<extra></extra>"
    )
    bars = _error_bars(series)
    if series["kind"] == "bars":
        drawn.add_bar(
            x=series["x"],
            y=series["y"],
            error_y=bars and bars | {"color": "var(--muted)"},
            marker={"color": colour},
            hovertemplate=hover,
        )
    elif series["kind"] == "points":
        drawn.add_scatter(
            x=series["x"],
            y=series["y"],
            error_y=bars and bars | {"color": colour},
            mode="markers",
            marker={"color": colour, "size": 7, "symbol": symbol},
            hovertemplate=hover,
        )
    else:
        if bars:
            _band(drawn, series, colour)
        drawn.add_scatter(
            x=series["x"],
            y=series["y"],
            mode="lines",
            line={"color": colour, "width": 1.8},
            hovertemplate=hover,
        )


def _error_bars(series: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the bars of a series with intervals; None of any other."""
    y, low, high = series["y"], series["low"], series["high"]
    if not low or not high:
        return None

    def apart(ends: Sequence[float | None], sign: int) -> list[float | None]:
        return [
            None if end is None or v is None else sign * (end - v)
            for v, end in zip(y, ends, strict=True)
        ]

    return {"type": "data", "array": apart(high, 1), "arrayminus": apart(low, -1), "width": 3}


def _band(drawn: go.Figure, series: Mapping[str, Any], colour: str) -> None:
    """Draw the interval of a line as thin lines above and below."""
    for end in ("low", "high"):
        drawn.add_scatter(
            x=series["x"],
            y=series[end],
            mode="lines",
            line={"color": colour, "width": 0.8, "dash": "dot"},
            hoverinfo="skip",
        )

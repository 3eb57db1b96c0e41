"""What each axis of a sweep does: vital signs and probes over its values, with intervals."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fullrank.experiments.grid import label_text
from fullrank.experiments.measured import interval
from fullrank.report.document import Figures
from fullrank.report.figures import empty_figure, run_colour, run_symbol

if TYPE_CHECKING:
    import plotly.graph_objects as go

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Panel:
    """One small figure.

    Attributes:
        title: what is drawn, with its unit.
        columns: of the results, by what each is called in the figure.
        scale: what values are multiplied by.
    """

    title: str
    columns: Mapping[str, str]
    scale: float = 1


_LAYERS = ("embedding", "backbone")
PANELS = (
    Panel("spread", {layer: f"{layer}_spread" for layer in _LAYERS}),
    Panel("effective rank", {layer: f"{layer}_effective_rank" for layer in _LAYERS}),
    Panel("tail (CEV AUC)", {layer: f"{layer}_cev_auc" for layer in _LAYERS}),
    Panel("kNN probe, %", {"trained": "knn", "random-init": "knn_random"}, 100),
    Panel("linear probe, %", {"trained": "linear", "random-init": "linear_random"}, 100),
)


def over_seeds(
    rows: Sequence[Row], axis: str, value: Any, column: str
) -> dict[str, float | None] | None:
    """Return mean and 95 % interval (Student's t) over seeds of a column at one value of an axis.

    A seed counts as the mean of its runs at that value, over all other axes.

    Args:
        rows: of ``sweep.json``.
        axis: of the grid.
        value: of the axis.
        column: of the rows.

    Returns:
        ``mean``, ``low``, ``high``; the last two are None for one seed; None without values.
    """
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        if row["axes"].get(axis) == value and row.get(column) is not None:
            by_seed.setdefault(row["seed"], []).append(row[column])
    if not by_seed:
        return None
    return interval([statistics.fmean(values) for values in by_seed.values()])


def axes(found: Mapping[str, Any], figures: Figures) -> list[dict[str, Any]]:
    """Return what the page shows of every axis with several values.

    Args:
        found: what ``sweep.json`` holds.
        figures: to draw into.
    """
    shown = []
    several = {axis: values for axis, values in found["axes"].items() if len(values) > 1}
    for number, (axis, values) in enumerate(several.items()):
        panels = []
        for place, panel in enumerate(PANELS):
            drawn = _figure(found["runs"], axis, values, panel)
            if drawn is not None:
                name = figures.add(f"axis-{number}-{place}", drawn)
                panels.append({"title": panel.title, "figure": name, "names": list(panel.columns)})
        others = [other for other in several if other != axis]
        note = f"Means over {', '.join(others)}. " if others else ""
        if panels:
            shown.append({"name": axis, "note": note, "panels": panels})
    return shown


def _figure(rows: Sequence[Row], axis: str, values: Sequence[Any], panel: Panel) -> Any:
    figure: go.Figure = empty_figure()
    empty = True
    names = [label_text(value) for value in values]
    for index, (name, column) in enumerate(panel.columns.items()):
        found = [over_seeds(rows, axis, value, column) for value in values]
        if not any(found):
            continue
        empty = False
        scale = panel.scale
        means = [None if f is None else scale * (f["mean"] or 0) for f in found]
        half = [
            0.0 if f is None or f["high"] is None else scale * (f["high"] - (f["mean"] or 0))
            for f in found
        ]
        colour = run_colour(index)
        figure.add_scatter(
            x=names,
            y=means,
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 1.6},
            marker={"color": colour, "size": 7, "symbol": run_symbol(index)},
            error_y={"type": "data", "array": half, "color": colour, "thickness": 1.2, "width": 4},
            hovertemplate=f"{name}, {axis} %{{x}}: %{{y:.4g}}<extra></extra>",
        )
    if empty:
        return None
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=names)
    return figure

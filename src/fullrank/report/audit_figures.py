"""Figures of an audit: spectra, depth profiles, values over the number of samples."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fullrank.report.audit_layers import Together
from fullrank.report.audit_tracks import finite
from fullrank.report.figures import empty_figure, run_colour, run_symbol
from fullrank.report.numbers import count, significant
from fullrank.report.spectra import add_spectrum, spectrum_axes

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from fullrank.audit.verb import LayerAudit
    from fullrank.measure.table import Reading

# Characters of a layer's name that an axis shows.
NAME = 12


def spectra_figure(group: Together, labels: Sequence[str], floor: float) -> go.Figure:
    """Draw the normalised spectra σ_j/σ_1 of one layer over each other.

    Args:
        group: the layer in every audit.
        labels: of the audits.
        floor: lower end of the logarithmic axis.
    """
    shares = len({layer.d for _, layer in group.members}) > 1
    figure = spectrum_axes(floor, shares=shares)
    for i, layer in group.members:
        line = {"color": run_colour(i), "width": 2.25}
        name = html.escape(labels[i] if len(labels) > 1 else layer.layer)
        dim = layer.d if shares else None
        add_spectrum(figure, layer.vitals["spectrum"], name=name, line=line, dim=dim)
    return figure


def depth_spectra_figure(layers: Sequence[LayerAudit], floor: float) -> go.Figure:
    """Draw the normalised spectra of one network's layers, light to dark from input to output."""
    shares = len({layer.d for layer in layers}) > 1
    figure = spectrum_axes(floor, shares=shares)
    for i, layer in enumerate(layers):
        share = i / (len(layers) - 1) if len(layers) > 1 else 1.0
        line = {
            "color": f"var(--sequence-{round(100 * share)})",
            "width": 2.5 if i == len(layers) - 1 else 1.25,
        }
        name = f"{html.escape(layer.layer)}, d = {count(layer.d)}"
        dim = layer.d if shares else None
        add_spectrum(figure, layer.vitals["spectrum"], name=name, line=line, dim=dim)
    return figure


def depth_figure(
    profiles: Sequence[tuple[int, Sequence[LayerAudit]]], labels: Sequence[str], metric: str
) -> go.Figure:
    """Draw one metric over the layers, with its intervals.

    Args:
        profiles: position of an audit, and its layers from input to output.
        labels: of the audits.
        metric: its name.
    """
    figure = empty_figure()
    for i, layers in profiles:
        readings = [layer.metrics.get(metric) for layer in layers]
        values = [None if r is None else finite(r.value) for r in readings]
        best = [
            v if r is None or r.corrected is None else finite(r.corrected)
            for r, v in zip(readings, values, strict=True)
        ]
        bars = [_bars(r, b) for r, b in zip(readings, best, strict=True)]
        place = html.escape(labels[i]) if len(labels) > 1 else ""
        figure.add_scatter(
            x=list(range(1, len(layers) + 1)),
            y=best,
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [up for up, _ in bars],
                "arrayminus": [down for _, down in bars],
                "thickness": 1.25,
                "width": 0,
                "color": run_colour(i),
            },
            customdata=[
                [html.escape(layer.layer), count(layer.d), significant(v), significant(b)]
                for layer, v, b in zip(layers, values, best, strict=True)
            ],
            mode="lines+markers",
            line={"color": run_colour(i), "width": 1.75},
            marker={"color": run_colour(i), "symbol": run_symbol(i), "size": 6},
            name=place,
            hovertemplate=(f"{place}<br>" if place else "")
            + "%{customdata[0]}, d = %{customdata[1]}<br>%{customdata[3]}"
            + " (plug-in %{customdata[2]})<extra></extra>",
        )
    names = {tuple(layer.layer for layer in layers) for _, layers in profiles}
    longest = max(len(layers) for _, layers in profiles)
    figure.update_xaxes(range=[0.6, longest + 0.4])
    if len(names) == 1:
        every = math.ceil(longest / 12)
        ticks = [(k + 1, name) for k, name in enumerate(names.pop()) if k % every == 0]
        figure.update_xaxes(
            tickvals=[k for k, _ in ticks],
            ticktext=[_short(name) for _, name in ticks],
            tickangle=-45,  # names end at their ticks, and so within the figure
        )
    if metric == "spread":
        figure.update_yaxes(range=[0, 1])
    elif metric != "cev_auc":
        figure.update_yaxes(rangemode="tozero")
    return figure


def convergence_figure(group: Together, labels: Sequence[str], metric: str) -> go.Figure:
    """Draw one metric over the number of samples it is computed from, on a logarithmic axis.

    Dotted: the corrected value, which the curve should be on its way to.
    """
    figure = empty_figure()
    counts: set[int] = set()
    for i, layer in group.members:
        points = [(n, finite(value)) for n, value in layer.convergence.get(metric, [])]
        if not points:
            continue
        counts |= {n for n, _ in points}
        reading = layer.metrics.get(metric)
        corrected = None if reading is None else finite(reading.corrected)
        if corrected is not None:
            line = {"color": run_colour(i), "width": 1.25, "dash": "dot"}
            figure.add_hline(y=corrected, line=line)
        name = html.escape(labels[i]) if len(labels) > 1 else ""
        figure.add_scatter(
            x=[n for n, _ in points],
            y=[value for _, value in points],
            mode="lines+markers",
            line={"color": run_colour(i), "width": 1.75},
            marker={"color": run_colour(i), "symbol": run_symbol(i), "size": 6},
            name=name,
            customdata=[[significant(value)] for _, value in points],
            hovertemplate=(f"{name}<br>" if name else "")
            + "n = %{x:,}<br>%{customdata[0]}<extra></extra>",
        )
    low, high = min(counts), max(counts)
    margin = max(0.08 * math.log10(high / low), 0.05)
    ticks = [
        m * 10**power
        for power in range(math.ceil(math.log10(high)) + 1)
        for m in ((1, 2, 5) if high < 100 * low else (1,))
        if low * 0.95 <= m * 10**power <= high * 1.05
    ] or sorted({low, high})
    figure.update_xaxes(
        type="log",
        range=[math.log10(low) - margin, math.log10(high) + margin],
        tickvals=ticks,
        ticktext=[_thousands(n) for n in ticks],
    )
    figure.update_yaxes(nticks=5)
    return figure


def _bars(reading: Reading | None, best: float | None) -> tuple[float | None, float | None]:
    """Return how far an interval reaches above and below the number it is drawn about."""
    low, high = (None, None) if reading is None else (finite(reading.low), finite(reading.high))
    if best is None or low is None or high is None:
        return None, None
    return max(0.0, high - best), max(0.0, best - low)


def _short(name: str) -> str:
    """Return the end of a layer's name, which tells it from its neighbours."""
    return html.escape(name if len(name) <= NAME else f"…{name[1 - NAME :]}")


def _thousands(n: int) -> str:
    for size, unit in ((1_000_000, "M"), (1000, "k")):
        if n >= size:
            return f"{n / size:g}{unit}"
    return str(n)

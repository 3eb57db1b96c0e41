"""Figures of spectra: singular values, normalised by the largest, against their index."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fullrank.report.figures import Run, empty_figure, run_colour
from fullrank.report.numbers import significant
from fullrank.report.record import Checkup, RunRecord

if TYPE_CHECKING:
    import plotly.graph_objects as go

FLOOR = 1e-7  # singular values below this share of the largest are rounding in float32
SINGULAR_VALUES = 192  # drawn of one spectrum
SIGMA_1 = "σ<sub>1</sub>"
HOVER = f"%{{fullData.name}}<br>σ<sub>%{{x}}</sub> / {SIGMA_1} = %{{y:.3g}}<extra></extra>"


def spectrum_figure(record: RunRecord, layer: str, floor: float) -> go.Figure:
    """Draw the normalised spectrum σ_j/σ_1 of one layer at every check-up.

    Args:
        record: the run.
        layer: the layer.
        floor: lower end of the logarithmic axis (see `spectrum_floor`).
    """
    figure = spectrum_axes(floor)
    drawn = [c for c in record.checkups if c.spectrum(layer)]
    for i, checkup in enumerate(drawn):
        share = i / (len(drawn) - 1) if len(drawn) > 1 else 1.0
        add_spectrum(
            figure,
            checkup.spectrum(layer),
            name=f"step {checkup.step:,}",
            line={
                "color": f"var(--sequence-{round(100 * share)})",
                "width": 2.5 if i == len(drawn) - 1 else 1.25,
            },
        )
    add_spectrum(
        figure,
        _spectrum_of(record.reference, layer),
        name="random-init",
        line={"color": "var(--muted)", "width": 1.5, "dash": "dash"},
    )
    return figure


def final_spectra_figure(runs: Sequence[Run], layer: str, floor: float) -> go.Figure:
    """Draw the last spectrum of every run over each other, each with its reference dashed."""
    figure = spectrum_axes(floor)
    references = [_spectrum_text(record.reference, layer) for record, _ in runs]
    shared = references[0] != "" and len(set(references)) == 1
    for i, (record, label) in enumerate(runs):
        name = html.escape(label)
        if not shared or i == 0:
            colour = "var(--muted)" if shared else run_colour(i)
            line = {"color": colour, "width": 1.25, "dash": "dash"}
            title = "random-init" if shared else f"{name}, random-init"
            add_spectrum(figure, _spectrum_of(record.reference, layer), name=title, line=line)
        line = {"color": run_colour(i), "width": 2.25}
        add_spectrum(figure, _spectrum_of(record.last, layer), name=name, line=line)
    return figure


def spectrum_floor(records: Iterable[RunRecord]) -> float:
    """Return one lower end for all spectra of these runs (see `lowest`)."""
    return lowest(
        checkup.spectrum(layer)
        for record in records
        for checkup in (record.reference, *record.checkups)
        if checkup is not None
        for layer in record.layers
    )


def spectrum_axes(floor: float, *, shares: bool = False) -> go.Figure:
    """Return an empty figure of σ_j/σ_1, logarithmic from ``floor``, over j or the share j/d."""
    figure = empty_figure()
    title = "component j / d" if shares else "component j"
    figure.update_xaxes(title={"text": title, "standoff": 6, "font": {"size": 11}})
    figure.update_yaxes(
        type="log",
        range=[math.log10(floor), math.log10(1.3)],
        tickvals=[10.0**-power for power in range(8)],
        ticktext=["1", "0.1", "0.01", "0.001", "10⁻⁴", "10⁻⁵", "10⁻⁶", "10⁻⁷"],
        title={"text": f"σ<sub>j</sub> / {SIGMA_1}", "standoff": 4, "font": {"size": 11}},
    )
    figure.update_layout(margin={"l": 52, "r": 12, "t": 8, "b": 40})
    return figure


def add_spectrum(
    figure: go.Figure,
    values: Sequence[float],
    *,
    name: str,
    line: dict[str, Any],
    dim: int | None = None,
) -> None:
    """Draw σ_j/σ_1 of one spectrum; nothing of one that is empty or zero.

    Args:
        figure: with the axes of `spectrum_axes`.
        values: singular values in descending order.
        name: of the line, safe as HTML.
        line: its look.
        dim: d, for axes of the share j/d.
    """
    points = normalised(values)
    if not points:
        return
    figure.add_scatter(
        x=[j if dim is None else float(f"{j / dim:.4g}") for j, _ in points],
        y=[None if y is None else float(f"{y:.4g}") for _, y in points],
        mode="lines" if len(points) > 1 else "markers",
        line=line,
        marker={"color": line["color"]},
        name=name,
        hovertemplate=HOVER
        if dim is None
        else HOVER.replace("<sub>%{x}</sub>", "<sub>%{x} d</sub>"),
    )


def normalised(values: Sequence[float]) -> list[tuple[int, float | None]]:
    """Return (j, σ_j/σ_1) from j = 1, thinned where there are many; zero is None on a log axis."""
    if not values or values[0] <= 0:
        return []
    kept = list(range(len(values)))
    if len(values) > SINGULAR_VALUES:
        head = SINGULAR_VALUES // 3  # the head bends the most: all of it
        rest, last = SINGULAR_VALUES - head, len(values) - 1
        kept = [*range(head), *(head + i * (last - head) // (rest - 1) for i in range(rest))]
    return [(j + 1, values[j] / values[0] if values[j] > 0 else None) for j in kept]


def lowest(spectra: Iterable[Sequence[float]]) -> float:
    """Return one lower end for all spectra of a page: just below the smallest, `FLOOR` at least."""
    smallest = 1.0
    for values in spectra:
        smallest = min([smallest, *(y for _, y in normalised(values) if y is not None)])
    return max(FLOOR, smallest / 2)


def _spectrum_of(checkup: Checkup | None, layer: str) -> list[float]:
    return checkup.spectrum(layer) if checkup else []


def _spectrum_text(checkup: Checkup | None, layer: str) -> str:
    return " ".join(significant(y) for _, y in normalised(_spectrum_of(checkup, layer)))

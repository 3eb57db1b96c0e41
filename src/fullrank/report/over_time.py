"""Figures over the training steps: loss, vital signs, probes."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from fullrank.report.events import number
from fullrank.report.figures import Run, empty_figure, run_colour, run_symbol
from fullrank.report.numbers import percent, significant
from fullrank.report.record import RunRecord
from fullrank.report.vitals import Vital

if TYPE_CHECKING:
    import plotly.graph_objects as go

Series = list[tuple[int, float | None]]  # (step, value)

STEP_0 = 0.5  # where a logarithmic axis shows step 0
POINTS = 1200  # per-step points drawn of one run


def loss_figure(runs: Sequence[Run]) -> go.Figure:
    """Draw the loss of every step, with a line where a constant representation would have it."""
    figure = _step_figure(runs)
    for value in collapsed_losses(record for record, _ in runs):
        figure.add_hline(y=value, line={"color": "var(--alarm)", "width": 1.5, "dash": "dot"})
    for i, (record, label) in enumerate(runs):
        _add_steps(figure, record, "loss", label, i, width=1.75, opacity=1.0)
    return figure


def collapsed_losses(records: Iterable[RunRecord]) -> list[float]:
    """Return the losses that a constant representation would show, each once, ascending."""
    values = {number(record.start.get("collapsed_loss")) for record in records}
    return sorted(value for value in values if value is not None)


def vital_figure(runs: Sequence[Run], vital: Vital, layer: str) -> go.Figure:
    """Draw one vital sign of one layer over the steps, the random-init reference dashed.

    The spread of the embedding has that of the training batches beside it, as a thin line.
    """
    figure = _step_figure(runs)
    references = [r.reference.value(layer, vital.key) if r.reference else None for r, _ in runs]
    _add_references(figure, runs, references)
    for i, (record, label) in enumerate(runs):
        if vital.key == "spread" and layer == "embedding":
            _add_steps(figure, record, "spread", label, i, width=1.0, opacity=0.45)
        measured = [(c.step, c.value(layer, vital.key)) for c in record.checkups]
        _add_checkups(figure, measured, label, i, significant)
    if None in vital.range:
        figure.update_yaxes(rangemode="tozero")
    else:
        figure.update_yaxes(range=list(vital.range))
    return figure


def probe_figure(runs: Sequence[Run], probe: str) -> go.Figure:
    """Draw the accuracy of one probe at the check-ups, the random-init reference dashed."""
    figure = _step_figure(runs)
    _add_references(figure, runs, [number(r.reference_probe.get(probe)) for r, _ in runs])
    for i, (record, label) in enumerate(runs):
        _add_checkups(figure, probe_series(record, probe), label, i, percent)
    figure.update_yaxes(tickformat=".0%")
    return figure


def probe_series(record: RunRecord, probe: str) -> Series:
    """Return the accuracy of one probe by step, from the check-ups and the final probe."""
    series = {c.step: number(c.probe.get(probe)) for c in record.checkups if c.probe}
    final = number(record.probe.get(probe))
    if final is not None:
        series[int(number(record.probe.get("step")) or record.last_step)] = final
    return sorted(series.items())


def thinned(series: Series) -> Series:
    """Keep about `POINTS` of a series by step: lowest and highest of each stretch, so every spike.

    The stretches grow with the step, like the axis.
    """
    if len(series) <= POINTS:
        return series
    first, last = math.log(max(1, series[0][0])), math.log(max(2, series[-1][0]))
    stretches: dict[int, Series] = {}
    for point in series:
        place = (math.log(max(1, point[0])) - first) / (last - first)
        stretches.setdefault(int(place * POINTS / 2), []).append(point)
    kept: dict[int, float | None] = {}
    for stretch in stretches.values():
        finite = sorted((p for p in stretch if p[1] is not None), key=lambda p: p[1] or 0.0)
        kept.update([finite[0], finite[-1]] if finite else stretch[:1])
    return sorted(kept.items())


def _step_figure(runs: Sequence[Run]) -> go.Figure:
    """Return an empty figure over the steps.

    Check-ups are geometric at first, and collapse happens in the first hundred steps of any
    length of run: a logarithmic axis shows both, with step 0 at its left end.
    """
    figure = empty_figure()
    last = max(1, _last_step(runs))
    ticks = [STEP_0] + [
        tick
        for power in range(math.ceil(math.log10(last)) + 1)
        for tick in ([10**power] if last >= 5000 else [m * 10**power for m in (1, 2, 5)])
        if tick <= last
    ]
    figure.update_xaxes(
        type="log",
        range=[math.log10(STEP_0 * 0.92), math.log10(last * 1.06)],
        tickvals=ticks,
        ticktext=["0", *(f"{t // 1000}k" if t >= 1000 else str(t) for t in ticks[1:])],
    )
    return figure


def _add_steps(
    figure: go.Figure,
    record: RunRecord,
    key: str,
    label: str,
    index: int,
    *,
    width: float,
    opacity: float,
) -> None:
    """Add a number of the training steps as a thin line, at most about `POINTS` points of it."""
    series = thinned([(int(event["step"]), number(event.get(key))) for event in record.steps])
    if all(value is None for _, value in series):
        return
    figure.add_scatter(
        x=[max(step, STEP_0) for step, _ in series],
        y=[_rounded(value) for _, value in series],
        mode="lines" if len(series) > 1 else "markers",
        line={"color": run_colour(index), "width": width},
        marker={"color": run_colour(index), "size": 4},
        opacity=opacity,
        name=html.escape(label),
        text=[f"step {step:,}: {significant(value)}" for step, value in series],
        hovertemplate="%{fullData.name}<br>%{text}<extra></extra>",
    )


def _add_references(figure: go.Figure, runs: Sequence[Run], values: Sequence[float | None]) -> None:
    """Add the random-init networks as dashed lines: one for all where they are all the same."""
    shared = len(runs) == 1 or same(values)
    for i, value in enumerate(values[:1] if shared else values):
        colour = "var(--muted)" if shared else run_colour(i)
        if value is not None:
            figure.add_scatter(
                x=[STEP_0, max(1, _last_step(runs))],
                y=[_rounded(value)] * 2,
                mode="lines",
                line={"color": colour, "width": 1.25, "dash": "dash"},
                hoverinfo="skip",
            )


def same(values: Sequence[float | None]) -> bool:
    """Whether all are there and equal as far as the page writes numbers (3 digits)."""
    return None not in values and len({significant(value) for value in values}) == 1


def _add_checkups(
    figure: go.Figure,
    measured: Series,
    label: str,
    index: int,
    write: Callable[[float | None], str],
) -> None:
    figure.add_scatter(
        x=[max(step, STEP_0) for step, _ in measured],
        y=[_rounded(value) for _, value in measured],
        mode="lines+markers",
        line={"color": run_colour(index), "width": 1.75},
        marker={"size": 6, "symbol": run_symbol(index), "color": run_colour(index)},
        cliponaxis=False,  # a marker at the end of the range is whole
        name=html.escape(label),
        text=[f"step {step:,}: {write(value)}" for step, value in measured],
        hovertemplate="%{fullData.name}<br>%{text}<extra></extra>",
    )


def _last_step(runs: Sequence[Run]) -> int:
    return max((record.last_step for record, _ in runs), default=0)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")

"""The eigenmodes of a run beside what theory expects of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fullrank.errors import UserError
from fullrank.report.document import Figures
from fullrank.report.figures import empty_figure
from fullrank.report.record import RunRecord

if TYPE_CHECKING:
    import plotly.graph_objects as go

Event = Mapping[str, Any]

# Modes drawn, and the cosine from which a mode counts as one of those before.
_MODES, _SAME = 8, 0.5


def tracks(every: Sequence[Mapping[str, Any]], figures: Figures) -> dict[str, Any] | None:
    """Draw the modes that a run of the method recorded; None if no run did.

    Args:
        every: cells of an explanation; the published one is preferred.
        figures: where the figures go.
    """
    found = _recorded(every)
    if found is None:
        return None
    label, events = found
    return drawn(f"{label}, seed {events[0].get('seed', 0)}", events, figures)


def tracks_of(records: Sequence[RunRecord], figures: Figures) -> dict[str, Any] | None:
    """Draw the modes that one run recorded; None of several runs, and of one without any."""
    if len(records) != 1:
        return None
    events = [event for event in records[0].modes if event.get("variance")]
    return drawn("this run", events, figures) if len(events) > 1 else None


def drawn(whose: str, events: Sequence[Event], figures: Figures) -> dict[str, Any]:
    """Draw modes over time.

    Args:
        whose: the run, in words.
        events: its ``modes`` events with at least one mode, by step.
        figures: where the figures go.
    """
    followed = follow(events)
    panels = (
        (
            "plane",
            "In the plane of predictor and representation",
            plane_figure(followed),
            "Each line is a mode, from the first check-up (small) to the last (large dot).",
        ),
        (
            "variance",
            "Measured and expected",
            variance_figure(followed),
            "Solid: the variance s of each mode at the check-ups. Dashed: where the theory, "
            "started at one check-up, expects it at the next.",
        ),
        (
            "alignment",
            "How far the linear picture holds",
            alignment_figure(events),
            "Share of the predictor's action that is linear; whether that is symmetric; whether "
            "it has the eigenvectors of F. 1 is what the theory assumes.",
        ),
    )
    return {
        "title": "The run's own modes",
        "lead": f"Estimated at the check-ups of {whose}: each eigenmode of F with its variance s "
        "and the predictor's eigenvalue p along it, and what the equations of linear networks "
        "expect until the next check-up.",
        "key": [
            {"dash": "", "colour": "var(--muted)", "text": "measured"},
            {"dash": "4 3", "colour": "var(--muted)", "text": "expected"},
        ],
        "panels": [
            {"figure": figures.add(f"modes-{name}", figure), "title": title, "caption": caption}
            for name, title, figure, caption in panels
        ],
    }


def _recorded(every: Sequence[Mapping[str, Any]]) -> tuple[str, list[Event]] | None:
    """Return the label and mode events of the run that shows most."""
    best: tuple[str, list[Event]] | None = None
    for cell in sorted(every, key=lambda cell: not cell.get("published")):
        for run in cell.get("runs") or ():
            try:
                events = list(RunRecord.read(Path(run["folder"])).modes)
            except (UserError, KeyError):
                continue  # the run is gone
            events = [{**event, "seed": run.get("seed", 0)} for event in events]
            events = [event for event in events if event.get("variance")]
            if len(events) > max(2, len(best[1]) if best else 0):
                best = str(cell.get("label")), events
        if best is not None:
            return best
    return best


def follow(events: Sequence[Event]) -> list[list[dict[str, float]]]:
    """Return the largest modes over time: of each its step, variance, p, and expected variance.

    A mode goes on as the one of the next check-up whose direction is nearest to its own.

    Args:
        events: ``modes`` events of one run, by step.
    """
    tracks: list[list[dict[str, float]]] = []
    current: dict[int, int] = {}  # mode of the last event -> its track
    for number, event in enumerate(events):
        following: dict[int, int] = {}
        matched, overlap = event.get("matched") or [], event.get("overlap") or []
        for j, variance in enumerate(event["variance"][:_MODES]):
            before = int(matched[j]) if number and j < len(matched) else -1
            same = before in current and j < len(overlap) and overlap[j] >= _SAME
            if same and current[before] not in following.values():
                track = current[before]
            else:
                tracks.append([])
                track = len(tracks) - 1
            following[j] = track
            tracks[track].append(_instant(event, j, variance))
        current = following
    return sorted((t for t in tracks if len(t) > 1), key=lambda t: -t[-1]["s"])[:_MODES]


def _instant(event: Event, j: int, variance: float) -> dict[str, float]:
    def at(name: str) -> float:
        values = event.get(name) or []
        value = values[j] if j < len(values) else None
        return math.nan if value is None else float(value)

    until = event.get("until")
    return {
        "step": float(event["step"]),
        "s": float(variance),
        "p": at("p"),
        "until": math.nan if until is None else float(until),
        "expected": float(variance) * math.exp(min(at("expected"), 50.0)),
    }


def plane_figure(followed: Sequence[Sequence[Mapping[str, float]]]) -> go.Figure:
    """Draw the modes' ways in the plane of p and s."""
    figure = empty_figure()
    for number, track in enumerate(followed):
        sizes = [3.0] * (len(track) - 1) + [9.0]
        figure.add_scatter(
            x=_rounded([point["p"] for point in track]),
            y=_rounded([point["s"] for point in track]),
            text=[f"step {point['step']:,.0f}" for point in track],
            mode="lines+markers",
            line={"color": _colour(number, len(followed)), "width": 1.5},
            marker={"color": _colour(number, len(followed)), "size": sizes},
            hovertemplate=f"mode {number + 1}, %{{text}}<br>p %{{x:.3g}}, s %{{y:.3g}}"
            "<extra></extra>",
        )
    figure.update_xaxes(title={"text": "p, predictor along the mode", "standoff": 6})
    figure.update_yaxes(type="log", title={"text": "s, variance of the mode", "standoff": 4})
    figure.update_layout(margin={"l": 58, "r": 12, "t": 8, "b": 44})
    return figure


def variance_figure(followed: Sequence[Sequence[Mapping[str, float]]]) -> go.Figure:
    """Draw each mode's variance over steps, and what was expected of it."""
    figure = empty_figure()
    for number, track in enumerate(followed):
        colour = _colour(number, len(followed))
        figure.add_scatter(
            x=[point["step"] for point in track],
            y=_rounded([point["s"] for point in track]),
            mode="lines+markers",
            line={"color": colour, "width": 1.75},
            marker={"color": colour, "size": 4},
            hovertemplate=f"mode {number + 1}<br>step %{{x}}: s %{{y:.3g}}<extra></extra>",
        )
        foretold = [p for p in track if math.isfinite(p["expected"]) and math.isfinite(p["until"])]
        x: list[float | None] = []
        y: list[float | None] = []
        for point in foretold:
            x += [point["step"], point["until"], None]
            y += [point["s"], point["expected"], None]
        figure.add_scatter(
            x=x,
            y=[None if v is None else float(f"{v:.4g}") for v in y],
            mode="lines",
            line={"color": colour, "width": 1.25, "dash": "dash"},
            hovertemplate=f"mode {number + 1}, expected<br>step %{{x}}: s %{{y:.3g}}"
            "<extra></extra>",
        )
    figure.update_xaxes(title={"text": "step", "standoff": 6})
    figure.update_yaxes(type="log", title={"text": "s", "standoff": 4})
    figure.update_layout(margin={"l": 58, "r": 12, "t": 8, "b": 44})
    return figure


def alignment_figure(events: Sequence[Event]) -> go.Figure:
    """Draw how linear, symmetric and aligned the predictor is, over steps."""
    figure = empty_figure()
    for number, name in enumerate(("linear", "symmetric", "aligned"), 1):
        known = [event for event in events if event.get(name) is not None]
        figure.add_scatter(
            x=[event["step"] for event in known],
            y=_rounded([event[name] for event in known]),
            name=name,
            mode="lines+markers",
            line={"color": f"var(--run-{number})", "width": 2},
            marker={"color": f"var(--run-{number})", "size": 5},
            hovertemplate=f"{name}<br>step %{{x}}: %{{y:.3f}}<extra></extra>",
        )
    figure.update_layout(
        showlegend=True,
        legend={"orientation": "h", "y": 1.12, "x": 0},
        margin={"l": 58, "r": 12, "t": 28, "b": 44},
    )
    figure.update_xaxes(title={"text": "step", "standoff": 6})
    figure.update_yaxes(range=[-0.05, 1.05])
    return figure


def _colour(number: int, count: int) -> str:
    return (
        f"var(--sequence-{round(100 * (1 - number / max(1, count - 1)))})"
        if count > 1
        else ("var(--run-1)")
    )


def _rounded(values: Sequence[float]) -> list[float | None]:
    return [float(f"{v:.4g}") if math.isfinite(v) else None for v in values]

"""An audit as text for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from fullrank.audit.verb import Audits, LayerAudit
from fullrank.measure.table import Reading

# Layers that stand for a file or a model; the others are its taps.
WHOLE = ("features", "backbone", "embedding")
# Wide enough for the table where there is no terminal to ask.
WIDTH = 110
# What stands beside a metric for each flag that is spelled out below the table.
MARKS = "abcdefghijklmnopqrstuvwxyz"


def print_audits(audits: Audits, console: Console | None = None, every_layer: bool = False) -> None:
    """Print verdicts with their evidence, the table of each main layer, ranking and drift.

    Args:
        audits: what was found.
        console: where to print; the standard output by default.
        every_layer: print the table of every layer, and not of the main one only.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    for audit in audits.audits:
        console.print(f"\n[bold]{audit.what}[/bold]", end="  ")
        console.print(_conditions(audit.main), markup=False)
        unnoticed = []
        for name, verdict in audit.verdict.items():
            if verdict.kind == "healthy" and name not in WHOLE:
                unnoticed.append(name)
                continue
            colour = "green" if verdict.kind == "healthy" else "red"
            console.print(f"[bold]{name}:[/bold] [bold {colour}]{verdict.kind}[/]")
            for sentence in verdict.evidence:
                console.print(f"  {sentence}", markup=False)
        if unnoticed:
            console.print(f"healthy, too: {', '.join(unnoticed)}", markup=False)
        if audit.forecast is not None:
            said = " ".join(audit.forecast.sentences())
            console.print(f"forecast without labels: {said}", markup=False)
        shown = audit.layers.values() if every_layer else [audit.main]
        for layer in shown:
            flags = list(dict.fromkeys(f for r in layer.metrics.values() for f in r.flags))
            console.print(_metrics(layer, flags))
            for mark, flag in zip(MARKS, flags, strict=False):
                console.print(f"  {mark}: {flag}", style="dim", markup=False)
            for absent in ("probes", "convergence"):
                if absent in layer.conventions:
                    console.print(f"{absent}: {layer.conventions[absent]}", markup=False)
        if len(audit.layers) > 2:
            console.print(_profile(list(audit.layers.values())))
    if audits.ranking:
        console.print(_ranking(audits))
    if audits.drift:
        console.print(_drift(audits))


def _conditions(layer: LayerAudit) -> str:
    c = layer.conventions
    views = f", {c['views']} views" if c["views"] > 1 else ""
    weights = f", weights: {c['weights']}" if "weights" in c else ""
    excluded = f", {c['excluded']:,} bad rows excluded" if c.get("excluded") else ""
    return (
        f"layer {layer.layer}: n = {layer.n:,}, d = {layer.d:,}, n/d = {c['n_over_d']:.1f}"
        f"{views}{weights}{excluded}"
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def _metrics(layer: LayerAudit, flags: list[str]) -> Table:
    table = _table(layer.layer, "metric", "value", "corrected", "95 % interval")
    table.add_column("", style="dim", no_wrap=True)
    for name, reading in layer.metrics.items():
        table.add_row(
            name,
            "—" if reading.value is None else _number(reading.value),
            "" if reading.corrected is None else _number(reading.corrected),
            _interval(reading),
            " ".join(MARKS[flags.index(flag)] for flag in reading.flags),
        )
    for kind, probe in layer.probes.items():
        table.add_row(
            f"{kind} probe",
            f"{probe['accuracy']:.1%}",
            "",
            f"{probe['low']:.1%} to {probe['high']:.1%}",
            f"({probe['n_train']} to fit, {probe['n_test']} to score)",
        )
    return table


def _interval(reading: Reading) -> str:
    if reading.low is None or reading.high is None:
        return ""
    return f"{_number(reading.low)} to {_number(reading.high)}"


def _number(value: float) -> str:
    return f"{value:.5g}" if abs(value) < 1e5 else f"{value:.3e}"


def _profile(layers: list[LayerAudit]) -> Table:
    names = ("spread", "effective_rank", "participation_ratio", "cev_auc", "rankme")
    table = _table("depth profile", "layer", "d", *names)
    for layer in layers:
        values = (layer.metrics[name].value for name in names)
        cells = ("—" if value is None else _number(value) for value in values)
        table.add_row(layer.layer, str(layer.d), *cells)
    return table


def _ranking(audits: Audits) -> Table:
    title = f"ranking by {audits.criterion}, without labels"
    table = _table(title, "what", "rank", "95 % of ranks", "first with", audits.criterion)
    for ranked in audits.ranking:
        ranks = str(ranked.low) if ranked.low == ranked.high else f"{ranked.low} to {ranked.high}"
        table.add_row(
            ranked.what,
            str(ranked.rank),
            ranks,
            f"{ranked.best:.0%}",
            "collapsed" if ranked.collapsed else _number(ranked.value or 0.0),
        )
    return table


def _drift(audits: Audits) -> Table:
    names = ["linear_cka", "svcca", "neighbourhood_overlap"]
    if any("gram_drift" in row for row in audits.drift):
        names.append("gram_drift")
    title = f"drift from {audits.audits[0].what} (1 is the same; of gram_drift, 0)"
    if len(names) == 3:
        title = f"drift from {audits.audits[0].what} (1 is the same)"
    table = _table(title, "what", "layer", *names)
    for row in audits.drift:
        cells = ("—" if row.get(name) is None else f"{row[name]:.3f}" for name in names)
        table.add_row(row["to"], row["layer"], *cells)
    return table

"""What came of a run, as text for the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from fullrank.measure.forecast_words import sentences
from fullrank.train.folder import CHECKPOINT
from fullrank.train.record import Record
from fullrank.train.run import Run


def stopped_words(folder: Path) -> str:
    """Say why a run stopped early, where its last good checkpoint is, and the likely causes."""
    stop = Record(folder).last("stop") or {}
    causes = "\n".join(f"  - {cause}" for cause in stop.get("causes", []))
    kept = folder / CHECKPOINT
    good = f"The last good checkpoint is {kept}." if kept.exists() else "No checkpoint was due yet."
    likely = f" Likely causes:\n{causes}" if causes else ""
    return f"stopped: {str(stop.get('text', '')).rstrip('.')}. {good}{likely}"


def print_verdict(run: Run) -> None:
    """Print the verdict of a run with its evidence, and its probes beside the random network's."""
    console = Console(highlight=False, soft_wrap=True)
    verdict = run.verdict or {}
    for layer in ("embedding", "backbone"):
        judged = verdict.get(layer)
        if judged is None:
            continue
        colour = "green" if judged["kind"] == "healthy" else "red"
        console.print(f"[bold]{layer}:[/bold] [bold {colour}]{judged['kind']}[/]")
        for sentence in judged["evidence"]:
            console.print(f"  {sentence}", markup=False)
    loss = verdict.get("loss") or {}
    if loss:
        console.print(f"[bold]loss:[/bold] {loss['text']}")
    events = list(Record(run.folder).events())
    skipped = [e["text"] for e in events if e["event"] == "warning" and "skipped" in e["text"]]
    if skipped:
        console.print(f"[bold]data:[/bold] {len(skipped)} unreadable image(s), named in the record")
    for sentence in sentences(next((e for e in reversed(events) if e["event"] == "forecast"), {})):
        console.print("[bold]forecast without labels:[/bold]", end=" ")
        console.print(sentence, markup=False)
    probes = {e["network"]: e for e in events if e["event"] == "probe"}
    if {"run", "random-init"} <= probes.keys():
        for name in ("knn", "linear"):
            if name in probes["run"]:
                ours, random = (100 * probes[network][name] for network in ("run", "random-init"))
                console.print(
                    f"[bold]{name} probe:[/bold] {ours:.1f}% "
                    f"({ours - random:+.1f} points against the random-init network)"
                )

"""The options of ``fullrank sweep``, its live table, and what it prints. Nothing imports torch."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fullrank.audit.command import CommandParser
from fullrank.experiments.command import add_engine_options, minutes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fullrank.experiments.progress import Progress
    from fullrank.experiments.sweep import Standing, Sweep, Watch

DESCRIPTION = """\
Many runs: every point of a grid of settings, with every seed. Runs lie in the run store under the
hash of their configuration: finished ones are found, interrupted ones gone on with, and one that
fails is named and stops no other. Results: a Parquet file and a page.
"""

EXAMPLES = """\
a grid file:
  base: {recipe: simsiam, preset: small, data: fashion-mnist, backbone: conv4, steps: 300}
  grid: {optimizer.lr: [0.02, 0.05], recipe.predictor: [mlp, none]}
  sets: {width: {narrow: {backbone.width: 4}, wide: {backbone.width: 16}}}
  seeds: 3

examples:
  fullrank sweep grid.yaml
  fullrank sweep grid.yaml --workers 4 --engine pool
  fullrank sweep grid.yaml --ray 10.0.0.1:6379 --gpus 0.25 --runs /shared/runs

exit codes: 0, all runs have a result; 1, some failed; 2, bad input; 130, interrupted (the same
command goes on).
"""

_SHOWN = 40  # points that are printed at the end; the page has all


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    p = CommandParser(
        prog="fullrank sweep",
        usage="fullrank sweep GRID.yaml [options]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("grid", metavar="GRID.yaml", help="the grid, see below")
    add_engine_options(p)
    p.add_argument("--out", metavar="DIR", help="folder of the results (default: sweeps/GRID)")
    p.add_argument("--json", action="store_true", help="print what was found as JSON")
    return p


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """Parse the command's options.

    Raises:
        UserError: one is unknown, or not allowed.
    """
    return vars(parser().parse_args(list(argv)))


@dataclass
class Watching:
    """What to call while a sweep runs."""

    progress: Callable[[Progress], None]
    watch: Watch | None = None


@contextmanager
def watching() -> Iterator[Watching]:
    """Show a sweep on the error stream: a live table in a terminal, else a line a run."""
    import sys

    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:

        def line(now: Progress) -> None:
            left = "" if now.remaining is None else f", {minutes(now.remaining)} left"
            failed = f", {now.failed} failed" if now.failed else ""
            print(f"{now.done}/{now.total}{failed}{left}: {now.text}", file=sys.stderr, flush=True)

        yield Watching(line)
        return
    from rich.live import Live

    with Live(console=console, refresh_per_second=2, transient=False) as live:
        last: list[Progress] = []

        def progress(now: Progress) -> None:
            last[:] = [now]

        def watch(board: Sequence[Standing]) -> None:
            room = max(3, console.height - 6)
            live.update(live_table(board, last[0] if last else None, room))

        yield Watching(progress, watch)


def live_table(board: Sequence[Standing], now: Progress | None, room: int) -> RenderableType:
    """Return the table of a sweep as it stands.

    Args:
        board: all runs.
        now: the last that was told; None before anything is known.
        room: lines that there is room for: the runs in progress, then those that ended last.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    states = Counter(one.state for one in board)
    running = [one for one in board if one.state == "running"]
    ended = [one for one in board if one.row is not None]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("run", "seed", "state", "verdict", "spread", "rank", "kNN"):
        table.add_column(name, justify="right" if name in ("spread", "rank", "kNN") else "left")
    for one in [*running, *reversed(ended)][:room]:
        table.add_row(*_cells(one))
    words = [f"{n} {state}" for state, n in states.items() if n]
    if now is not None and now.remaining is not None:
        words.append(f"{minutes(now.remaining)} left")
    if now is not None:
        words.insert(0, f"{now.done}/{now.total} in {minutes(now.seconds)}")
    return Group(table, Text(" · ".join(words), style="bold"))


def _cells(one: Standing) -> list[str]:
    from rich.markup import escape

    labels = escape(str(one.point).rpartition("seed ")[0].rstrip(", ")) or "–"
    state, row = one.state, one.row or {}
    if state == "running":
        step, total = one.step(), one.point.config.run.steps
        state = "starting" if step is None else f"step {step}" + (f"/{total}" if total else "")
    verdict = row.get("verdict_embedding")
    colour = "green" if verdict == "healthy" else "red"
    said = f"[{colour}]{verdict}[/]" if verdict else escape(str(row.get("error") or ""))
    numbers = (
        _number(row.get("embedding_spread"), "{:.3f}"),
        _number(row.get("embedding_effective_rank"), "{:.1f}"),
        _number(row.get("knn"), "{:.1%}"),
    )
    return [labels, str(one.point.seed), state, said, *numbers]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def print_sweep(done: Sweep) -> None:
    """Print a line a point, the failures, and where the results are."""
    from rich.console import Console
    from rich.table import Table

    found = done.found
    console = Console(highlight=False)
    points: dict[str, list[Mapping[str, Any]]] = {}
    for row in found["runs"]:
        name = ", ".join(f"{axis} {value}" for axis, value in row["axes"].items())
        points.setdefault(name or "all", []).append(row)
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for name in ("point", "verdicts", "spread", "rank", "kNN", "gain"):
        table.add_column(name, justify="left" if name in ("point", "verdicts") else "right")
    for name, rows in list(points.items())[:_SHOWN]:
        counts = Counter(str(row["verdict_embedding"] or row["status"]) for row in rows)
        gains = [
            row["knn"] - row["knn_random"]
            for row in rows
            if row.get("knn") is not None and row.get("knn_random") is not None
        ]
        table.add_row(
            name,
            ", ".join(f"{n} {kind}" if len(rows) > 1 else kind for kind, n in counts.items()),
            _mean([row["embedding_spread"] for row in rows], "{:.3f}"),
            _mean([row["embedding_effective_rank"] for row in rows], "{:.1f}"),
            _mean([row["knn"] for row in rows], "{:.1%}"),
            _mean(gains, "{:+.1%}"),
        )
    console.print(table, width=None if console.is_terminal else 200)
    if len(points) > _SHOWN:
        console.print(f"… and {len(points) - _SHOWN} more on the page")
    for text in found["merged"]:
        console.print(f"one run for two points: {text}", markup=False, soft_wrap=True)
    for row in found["runs"]:
        if row["set_aside"]:
            console.print(f"damaged, set aside: {row['set_aside']}", markup=False, soft_wrap=True)
        if row["error"]:
            console.print(f"failed: {row['folder']}: {row['error']}", markup=False, soft_wrap=True)


def _mean(values: Sequence[float | None], form: str) -> str:
    given = [value for value in values if value is not None]
    return form.format(sum(given) / len(given)) if given else "–"

"""The options of ``fullrank explain``, and what it prints. Nothing here imports torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fullrank.audit.command import CommandParser

if TYPE_CHECKING:
    from fullrank.experiments.progress import Progress

DESCRIPTION = """\
What holds a method up: first what theory says of it, in seconds; then each of its mechanisms
removed in turn (for SimSiam, BYOL and DirectPred the whole factorial of predictor, stop-gradient,
momentum, weight decay and output batch norm), what was predicted beside what happened, and a page.
Finished runs are found, not repeated: an interrupted explanation goes on where it stopped.
"""

EXAMPLES = """\
examples:
  fullrank explain simsiam --theory
  fullrank explain simsiam --quick
  fullrank explain vicreg --seeds 0 1 2 3 4
"""

SCALES = ("cpu", "paper")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    p = CommandParser(
        prog="fullrank explain",
        usage="fullrank explain RECIPE [options]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("recipe", metavar="RECIPE", help="a recipe; `fullrank recipes` lists them")
    p.add_argument("--theory", action="store_true", help="theory only; nothing is trained")
    p.add_argument(
        "--phase",
        nargs=2,
        action="append",
        dest="phases",
        metavar=("X", "Y"),
        help="draw the theory's phase diagram over these two of weight_decay, noise, "
        "predictor_rate, tau, ema_rate, p, s (may be given again)",
    )
    p.add_argument("--quick", action="store_true", help="fewer cells, one seed: under two minutes")
    p.add_argument(
        "--scale",
        default="cpu",
        help="cpu: small networks, minutes; paper: the published protocol (default: cpu)",
    )
    p.add_argument("--data", default="fashion-mnist", help="data set (default: fashion-mnist)")
    p.add_argument(
        "--seeds", type=int, nargs="+", metavar="SEED", help="default: 0 1 2; with --quick 0"
    )
    p.add_argument("--workers", type=int, help="runs at a time (default: one a core)")
    p.add_argument("--out", help="folder of the explanation (default: explanations/RECIPE)")
    p.add_argument("--json", action="store_true", help="print what was found as JSON")
    return p


def add_engine_options(p: argparse.ArgumentParser) -> None:
    """Add the options of commands that carry out many runs: where these are, and what on."""
    p.add_argument("--runs", default="runs", metavar="DIR", help="the run store (default: runs)")
    p.add_argument("--workers", type=int, metavar="N", help="runs at a time (default: one a core)")
    p.add_argument(
        "--engine",
        default="auto",
        help="ray, pool (processes of this machine), or auto: ray if installed (default: auto)",
    )
    p.add_argument(
        "--ray", metavar="ADDRESS", help="a Ray cluster; the store must be on a disk it shares"
    )
    p.add_argument(
        "--gpus", type=float, default=0.0, metavar="SHARE", help="share of a GPU for each run"
    )


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """Parse the command's options.

    Raises:
        UserError: one is unknown, or not allowed.
    """
    return vars(parser().parse_args(list(argv)))


def print_theory(statements: Sequence[Mapping[str, str]]) -> None:
    """Print what theory says, before anything is trained."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for statement in statements:
        console.print(f"[bold]{statement['title']}[/bold]")
        console.print(f"  {statement['text']}", markup=False)
        if statement.get("source"):
            console.print(f"  {statement['source']}", markup=False, style="dim")


@contextmanager
def watching() -> Iterator[Callable[[Progress], None]]:
    """Show on the error stream how far the runs are: one live line, or a line a run."""
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:

        def line(now: Progress) -> None:
            left = "" if now.remaining is None else f", {minutes(now.remaining)} left"
            print(f"{now.done}/{now.total}{left}: {now.text}", file=sys.stderr, flush=True)

        yield line
        return
    columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, TextColumn("{task.description}"), console=console) as bar:
        task = bar.add_task("theory", total=None)

        def redraw(now: Progress) -> None:
            left = "" if now.remaining is None else f"{minutes(now.remaining)} left · "
            bar.update(task, total=now.total, completed=now.done, description=left + now.text)

        yield redraw


def minutes(seconds: float) -> str:
    """Write a time: 75 s, 12 min 05 s."""
    whole = round(seconds)
    return f"{whole} s" if whole < 90 else f"{whole // 60} min {whole % 60:02d} s"


def print_cells(cells: Sequence[Mapping[str, Any]]) -> None:
    """Print a line a cell: predicted, measured, and whether they agree."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for name in ("cell", "predicted", "measured", "", "spread", "rank", "kNN gain"):
        table.add_column(
            name, justify="right" if name in ("spread", "rank", "kNN gain") else "left"
        )
    for cell in cells:
        measured = cell.get("measured") or {}
        counts = measured.get("counts") or {}
        kind = ", ".join(f"{n} {k}" for k, n in counts.items()) if len(counts) > 1 else None
        table.add_row(
            str(cell["label"]),
            (cell.get("predicted") or {}).get("kind") or "–",
            kind or measured.get("kind") or "not run",
            cell.get("agreement", ""),
            _mean(measured.get("spread"), "{:.3f}"),
            _mean(measured.get("effective_rank"), "{:.1f}"),
            _mean(measured.get("knn_gain"), "{:+.1f}", 100),
        )
    console = Console(highlight=False)
    # A file or a pipe has no width to keep to.
    console.print(table, width=None if console.is_terminal else 200)


def _mean(value: Mapping[str, Any] | None, form: str, scale: float = 1) -> str:
    if not value or value.get("mean") is None:
        return "–"
    return form.format(scale * float(value["mean"]))

"""The engine of ``fullrank sweep``: every point of a grid, its results in one folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullrank.errors import UserError
from fullrank.experiments.engine import Ended, carry_out, choose_engine, words
from fullrank.experiments.grid import Grid, Point, read_grid
from fullrank.experiments.pool import check_workers, start_ahead
from fullrank.experiments.progress import Progress
from fullrank.experiments.stored import placed
from fullrank.experiments.sweep_table import has_parquet, row_of, write_results
from fullrank.train.record import RECORD, plain
from fullrank.train.storage import write_whole, writing

SWEEP = "sweep.json"
# Seconds between two writings of the results, at least: what is missing lies in the run store.
EVERY = 5.0


@dataclass(frozen=True)
class Sweep:
    """A sweep on disk.

    Attributes:
        folder: where its files are.
        found: what ``sweep.json`` holds.
        page: the page.
        results: the Parquet file; None without pyarrow.
    """

    folder: Path
    found: dict[str, Any]
    page: Path
    results: Path | None

    @property
    def failed(self) -> int:
        """Return how many runs have no result."""
        return sum(row["status"] == "failed" for row in self.found["runs"])


@dataclass
class Standing:
    """Where one run of a sweep stands.

    Attributes:
        point: which run.
        state: ``waiting``, ``running``, or how it ended.
        row: its results, once it has ended.
        folder: of the run.
    """

    point: Point
    state: str
    row: dict[str, Any] | None
    folder: Path

    def step(self) -> int | None:
        """Return the last step that its record tells of."""
        return last_step(self.folder / RECORD)


Watch = Callable[[Sequence[Standing]], None]


def sweep(
    grid: str | Path | Mapping[str, Any],
    *,
    runs: str | Path = "runs",
    workers: int | None = None,
    engine: str = "auto",
    ray: str | None = None,
    gpus: float = 0,
    out: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    watch: Watch | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Run a grid; see :func:`fullrank.sweep`.

    Args:
        grid: path of a grid file, or what one holds.
        runs: the run store.
        workers: runs at a time.
        engine: what carries them out.
        ray: address of a Ray cluster.
        gpus: share of a GPU that each run has.
        out: folder of the results; by default ``sweeps/NAME``: NAME of the grid's file, or
            ``grid-HASH`` of a mapping.
        progress: is told after every run where things stand.
        watch: is shown all runs about once a second.

    Returns:
        The folder, and what its ``sweep.json`` holds.
    """
    chosen = choose_engine(engine, ray, gpus)
    if workers is not None:
        check_workers(workers)
    if chosen == "pool":
        start_ahead()  # imports that take seconds go on while the grid is resolved
    made = read_grid(grid)
    store = Path(runs)
    folder = Path(out) if out is not None else Path("sweeps") / made.name
    if folder.exists() and not folder.is_dir():
        raise UserError(f"out: {folder} is a file. Allowed: a folder.")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    results = _Results(made, folder, chosen)
    board = [
        Standing(p, "waiting", None, Path(str(placed(p.config, store).run.out)))
        for p in made.points
    ]

    def tell(now: Progress) -> None:
        results.write(at_once=now.done == now.total)
        if progress is not None:
            progress(now)
        if watch is not None:
            watch(board)

    def running(indices: Sequence[int]) -> None:
        for index in indices:
            board[index].state = "running"
        assert watch is not None
        watch(board)

    def describe(ended: Ended) -> str:
        return f"{made.points[ended.index]}: {words(ended)}"

    try:
        with closing(
            carry_out(
                [point.config for point in made.points],
                runs=store,
                workers=workers,
                ray=ray,
                engine=chosen,
                gpus=gpus,
                progress=tell,
                describe=describe,
                watch=running if watch is not None else None,
            )
        ) as every:
            for ended in every:
                row = row_of(made.points[ended.index], ended)
                board[ended.index].state, board[ended.index].row = ended.status, row
                results.add(ended, row)
    finally:
        if results.written:  # not before it is known what there was
            results.write(at_once=True)
    return folder, results.written


def last_step(record: Path) -> int | None:
    """Return the step that the end of a record tells of; None if it tells of none."""
    try:
        with record.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().split(b"\n")
    except OSError:
        return None
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except ValueError:  # cut off by where the reading began, or by the writer
            continue
        if isinstance(event, dict) and isinstance(event.get("step"), int):
            return int(event["step"])
    return None


class _Results:
    """What a sweep has found so far."""

    def __init__(self, grid: Grid, folder: Path, engine: str) -> None:
        self.grid, self.folder = grid, folder
        self.rows: dict[int, dict[str, Any]] = {}
        self.environment: dict[str, Any] = {}
        self.started = time.perf_counter()
        self.last_write = float("-inf")
        self.written: dict[str, Any] = {}
        self.head = {
            "name": grid.name,
            "grid": grid.given,
            "axes": {axis: list(values) for axis, values in grid.axes.items()},
            "seeds": list(grid.seeds),
            "merged": list(grid.merged),
            "engine": engine,
            "total": len(grid.points),
        }

    def add(self, ended: Ended, row: dict[str, Any]) -> None:
        """Add a run."""
        self.rows[ended.index] = row
        self.environment = (ended.value or {}).get("environment") or self.environment

    def write(self, at_once: bool) -> None:
        """Write the files whole, now or when the last time is some seconds ago."""
        now = time.perf_counter()
        if not at_once and now - self.last_write < EVERY:
            return
        rows = [self.rows[index] for index in sorted(self.rows)]
        seconds = now - self.started
        small = [{k: v for k, v in row.items() if not k.endswith("_spectrum")} for row in rows]
        self.written = plain(
            {**self.head, "environment": self.environment, "seconds": seconds, "runs": small}
        )
        text = json.dumps(self.written, ensure_ascii=False, allow_nan=False, default=str)
        write_whole(self.folder / SWEEP, text.encode())
        if rows and has_parquet():
            write_results(rows, list(self.grid.axes), self.folder)
        self.last_write = now


def read_sweep(folder: str | Path) -> dict[str, Any]:
    """Read ``sweep.json``.

    Raises:
        UserError: it is missing or damaged.
    """
    path = Path(folder) / SWEEP
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"sweep: {path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"sweep: {path} is damaged ({error}).") from error
    if not isinstance(found, dict) or not isinstance(found.get("runs"), list):
        raise UserError(f"sweep: {path} holds no sweep.")
    return found

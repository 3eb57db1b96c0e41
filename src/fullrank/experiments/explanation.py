"""The engine of ``fullrank explain``: every form of a method run, beside what was predicted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeGuard

from fullrank.data.settings import DataSettings
from fullrank.errors import UserError, unknown_name
from fullrank.experiments.cells import Cell, cells, scale_for
from fullrank.experiments.engine import Ended, carry_out, words
from fullrank.experiments.measured import agreement, measured
from fullrank.experiments.pool import check_workers
from fullrank.experiments.progress import Clock, Progress
from fullrank.experiments.scale import Scale, data_settings
from fullrank.experiments.stored import folder_of
from fullrank.recipes.recipe import Recipe
from fullrank.recipes.registry import recipe as find_recipe
from fullrank.train.config import Config
from fullrank.train.rates import scaled_lr
from fullrank.train.record import plain
from fullrank.train.storage import write_whole, writing

EXPLANATION = "explanation.json"


def explain_runs(
    recipe: str,
    *,
    data: str | Mapping[str, Any] = "fashion-mnist",
    quick: bool = False,
    seeds: int | Sequence[int] | None = None,
    workers: int | None = None,
    out: Path,
    runs: Path = Path("runs"),
    progress: Callable[[Progress], None] | None = None,
    scale: Scale | None = None,
    head: Mapping[str, Any] | None = None,
    only: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Run a recipe with and without each of its mechanisms, and compare with what is predicted.

    ``explanation.json`` in ``out`` is written whole after every run, so that whatever ends this
    early loses nothing: called again, it finds the runs that are finished and goes on with those
    that were interrupted.

    Args:
        recipe: name of a recipe, as ``fullrank train`` takes it.
        data: name of a data set, or a mapping of its settings.
        quick: main effects alone, with one seed.
        seeds: of the runs of every cell, or how many: 0, 1, ...; by default three, quick one.
        workers: runs at a time; by default one a core. Where the scale leaves their threads open,
            each has its share of the cores.
        out: folder of the explanation.
        runs: the run store, where runs are kept and identical ones found.
        progress: is told after every run where things stand.
        scale: of the runs; by default ``--scale cpu`` for this recipe.
        head: what ``explanation.json`` holds beside what is measured.
        only: ids of the cells to run; the others are left out.

    Returns:
        What ``explanation.json`` holds.

    Raises:
        UserError: a recipe, data set or cell is not known (the nearest are given), the number of
            seeds or workers is below 1, or a folder cannot be written.
        KeyboardInterrupt: by Ctrl-C; what was finished is on disk.
    """
    published = find_recipe(recipe)
    scale = scale or scale_for(published)
    base = published.preset(scale.preset)
    settings = data_settings(data)
    chosen = _chosen(cells(recipe, quick, scale), only)
    every_seed = seed_list(seeds, scale.quick_seeds if quick else scale.seeds)
    workers = check_workers(workers)
    page = _Page(base, chosen, every_seed, scale, settings, quick, out)
    page.head |= head or {}
    # All cells once before any of them twice, so that an early end has something of each.
    jobs = [(cell.id, cell.config(scale, settings, seed)) for seed in every_seed for cell in chosen]

    def tell(now: Progress) -> None:
        page.write()
        if progress is not None:
            progress(now)

    # Closed at once whatever comes, so that no process goes on behind the caller's back.
    with closing(
        carry_out(
            [config for _, config in jobs],
            runs=runs,
            workers=workers,
            engine="pool",
            progress=tell,
            describe=lambda ended: _words(jobs[ended.index][0], ended),
        )
    ) as every:
        for ended in every:
            row = _row(ended.config, ended.status, ended.error)
            page.add(jobs[ended.index][0], row | (ended.value or {}))
    return page.written


def write_head(recipe: Recipe, head: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Write an ``explanation.json`` without runs: what is known of a recipe before any.

    Args:
        recipe: that is explained.
        head: what is known of it.
        out: folder of the explanation.

    Returns:
        What the file holds.

    Raises:
        UserError: an explanation with runs is there, which this would replace, or one that cannot
            be read.
    """
    if _has_runs(out / EXPLANATION):
        raise UserError(
            f"out: {out} holds an explanation with runs. Allowed for theory alone: another folder."
        )
    found: dict[str, Any] = plain({**_names(recipe), **head, "cells": []})
    _write(found, out)
    return found


def _has_runs(path: Path) -> bool:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"out: {path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise UserError(
            f"out: {path} is damaged ({error}). Allowed: another folder, or one without this file."
        ) from error
    return bool(isinstance(found, dict) and found.get("cells"))


def _names(recipe: Recipe) -> dict[str, Any]:
    return {"recipe": recipe.name, "title": recipe.title, "paper": str(recipe.paper)}


def _write(found: Mapping[str, Any], out: Path) -> None:
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, ensure_ascii=False, allow_nan=False)
    write_whole(out / EXPLANATION, text.encode())


def _chosen(found: list[Cell], only: Sequence[str] | None) -> list[Cell]:
    if only is None:
        return found
    known = {cell.id: cell for cell in found}
    for name in only:
        if name not in known:
            raise unknown_name("cell", name, known)
    return [cell for cell in found if cell.id in only]


def seed_list(seeds: object, default: int = 1) -> list[int]:
    """Return the seeds of every cell, given them or how many.

    Args:
        seeds: whole numbers from 0, how many, or None; a file may hold anything.
        default: how many without.

    Raises:
        UserError: fewer than one, a negative one, one given twice, or no whole numbers.
    """
    given = default if seeds is None else seeds
    if _whole(given) and given >= 1:
        return list(range(given))
    if isinstance(given, Sequence):
        found = [seed for seed in given if _whole(seed) and seed >= 0]
        if found and len(set(found)) == len(given):
            return found
    raise UserError(
        f"seeds: {given!r} is not allowed. Allowed: how many, a whole number from 1, or a list of "
        "different whole numbers from 0."
    )


def _whole(value: object) -> TypeGuard[int]:
    """Say whether a value, which may come from a file, is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def _row(config: Config, status: str, error: str | None = None) -> dict[str, Any]:
    """Return what is known of a run before it has shown anything."""
    return {
        "seed": config.run.seed,
        "folder": str(folder_of(config)),
        "hash": config.identity(),
        "status": status,
        "error": error,
        "seconds": None,
    }


def _words(cell: str, ended: Ended) -> str:
    return f"{cell}, seed {ended.config.run.seed}: {words(ended)}"


class _Page:
    """What an explanation holds so far."""

    def __init__(
        self,
        recipe: Recipe,
        found: Sequence[Cell],
        seeds: list[int],
        scale: Scale,
        data: DataSettings,
        quick: bool,
        out: Path,
    ) -> None:
        self.cells = {cell.id: cell for cell in found}
        self.rows: dict[str, list[dict[str, Any]]] = {cell.id: [] for cell in found}
        self.environment: dict[str, Any] = {}
        self.clock = Clock(0, 0)
        self.out = out
        self.written: dict[str, Any] = {}
        self.head: dict[str, Any] = {
            **_names(recipe),
            "scale": scale.name,
            "quick": quick,
            "seeds": seeds,
            "settings": _settings(found, scale, data),
        }

    def add(self, cell: str, row: dict[str, Any]) -> None:
        """Add a run to a cell."""
        self.environment = row.pop("environment", None) or self.environment
        self.rows[cell].append(row)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON."""
        head = self.head | {"environment": self.environment, "seconds": self.clock.seconds()}
        found: dict[str, Any] = plain(
            head | {"cells": [self._cell(cell) for cell in self.cells.values()]}
        )
        return found

    def _cell(self, cell: Cell) -> dict[str, Any]:
        rows = sorted(self.rows[cell.id], key=lambda row: int(row["seed"]))
        summary = measured([row for row in rows if row["error"] is None])
        return cell.to_dict() | {
            "runs": rows,
            "measured": summary,
            "agreement": agreement(cell.predicted.kind, summary),
        }

    def write(self) -> None:
        """Write ``explanation.json``: at any moment the old one is there, or the new one."""
        self.written = self.to_dict()
        _write(self.written, self.out)


def _settings(found: Sequence[Cell], scale: Scale, data: DataSettings) -> dict[str, Any]:
    """Return the conditions that all runs have in common."""
    first = found[0].config(scale, data, 0)
    decays = sorted({cell.optimizer.weight_decay for cell in found})
    peak = max(found, key=lambda cell: cell.optimizer.weight_decay).optimizer
    folds = None
    if scale.steps is not None:
        folds = decays[-1] * scale.travelled(peak, first.run.batch_size)
    return {
        "data": data.name,
        "backbone": first.backbone.describe(),
        "steps": scale.steps,
        "batch_size": first.run.batch_size,
        "optimizer": peak.name,
        "peak_lr": scaled_lr(peak, first.run.batch_size),
        "momentum": peak.momentum,
        "weight_decay": decays[-1],
        "weight_decay_e_folds": folds,
        "momentum_target": scale.tau,
        "precision": first.run.precision,
        "threads": first.run.threads,
        "held_out": scale.checkup.size,
        "probe": {"train": scale.probe.train, "test": scale.probe.test, "k": scale.probe.k},
    }

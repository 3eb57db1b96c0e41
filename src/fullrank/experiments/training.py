"""The work of one job: train a configuration with ``fullrank``'s own ``train``, or find its run."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from fullrank.data.settings import DataSettings
from fullrank.data.sources import Source, load_source
from fullrank.data.stream_settings import IID
from fullrank.errors import UserError
from fullrank.experiments.store import aside_note, examine, set_aside
from fullrank.experiments.stored import folder_of, read, why_stopped
from fullrank.train.config import Config
from fullrank.train.lock import locked
from fullrank.train.record import Record
from fullrank.train.run import run


@lru_cache(maxsize=2)
def _source(settings: DataSettings) -> Source:
    """Keep the data sets of the last runs: the next one mostly has the same."""
    return load_source(settings)


def train_one(config: Config) -> dict[str, Any]:
    """Train one configuration in its folder, go on with it, or find it finished.

    Args:
        config: placed in a run store (``fullrank.experiments.stored.placed``).

    Returns:
        ``folder``, ``hash``, ``status`` (``finished``, or ``found`` if it was there) and what the
        run showed; ``set_aside`` (``folder`` and ``why``) if a damaged folder was in its place.

    Raises:
        UserError: the configuration does not work, or the run stopped or was interrupted.
    """
    # A second process that wants the same run waits here, and then finds it.
    with locked(folder_of(config)):
        return _train(config)


def _train(config: Config) -> dict[str, Any]:
    folder = folder_of(config)
    known: dict[str, Any] = {"folder": str(folder), "hash": config.identity()}
    examined = examine(folder, config)
    there = examined.state
    if examined.damage is not None:
        known["set_aside"] = {"folder": str(set_aside(folder)), "why": examined.damage}
        there = "new"
    if examined.shown is not None:
        return known | {"status": "found"} | examined.shown
    if examined.stopped is not None:
        raise UserError(examined.stopped)
    try:
        return known | _run(config, folder if there == "unfinished" else None)
    except UserError as error:
        raise UserError(f"{error}{aside_note(known)}") from error


def _run(config: Config, resume: Path | None) -> dict[str, Any]:
    """Train, or go on; return the status and what was shown."""
    folder = folder_of(config)
    source = _source(replace(config.data, stream=IID()))  # in what order does not matter to it
    done = run(config, resume, source=source)
    if done.status == "stopped":
        raise UserError(why_stopped(Record(folder).current()))
    if done.status == "interrupted":
        raise UserError(f"interrupted; {folder} goes on when this is called again")
    return {"status": done.status} | read(folder)

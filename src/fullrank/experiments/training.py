"""The work of one job: train a configuration with ``fullrank``'s own ``train``, or find its run."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fullrank.data.settings import DataSettings
from fullrank.data.sources import Source, load_source
from fullrank.errors import UserError
from fullrank.experiments.stored import folder_of, read, state, why_stopped
from fullrank.train.config import Config
from fullrank.train.run import run


@lru_cache(maxsize=1)
def _source(settings: DataSettings) -> Source:
    """Keep the data set of the last run: the next one mostly has the same."""
    return load_source(settings)


def train_one(config: Config) -> dict[str, Any]:
    """Train one configuration in its folder, go on with it, or find it finished.

    Args:
        config: placed in a run store (``fullrank.experiments.stored.placed``).

    Returns:
        ``folder``, ``hash``, ``status`` (``finished``, or ``found`` if it was there) and what the
        run showed.

    Raises:
        UserError: the configuration does not work, or the run stopped or was interrupted.
    """
    folder = folder_of(config)
    known = {"folder": str(folder), "hash": config.identity()}
    there = state(folder)
    if there == "finished":
        return known | {"status": "found"} | read(folder)
    if there == "stopped":
        raise UserError(why_stopped(folder))
    done = run(config, folder if there == "unfinished" else None, source=_source(config.data))
    if done.status == "stopped":
        raise UserError(why_stopped(folder))
    if done.status == "interrupted":
        raise UserError(f"interrupted; {folder} goes on when this is called again")
    return known | {"status": done.status} | read(folder)

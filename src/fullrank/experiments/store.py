"""The run store against the world: two writers at once, full disks, damaged folders."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from fullrank.errors import UserError
from fullrank.experiments.stored import DAMAGED, shown_by, state_of, why_stopped
from fullrank.train.config import NOT_IDENTITY, Config
from fullrank.train.folder import CHECKPOINT, CONFIG, config_in
from fullrank.train.lock import LOCKS
from fullrank.train.record import UNREADABLE, Record, reason
from fullrank.train.storage import try_writing


@dataclass(frozen=True)
class Examined:
    """A place in the store, looked at without touching it.

    Attributes:
        state: how far its run came (``fullrank.experiments.stored.state``).
        damage: why it cannot be used as it is; None if it can, or if nothing is there.
        shown: what its run showed, if that is finished and not damaged.
        stopped: why its run stopped, if it did and is not damaged.
    """

    state: str
    damage: str | None = None
    shown: dict[str, Any] | None = None
    stopped: str | None = None


def check_store(runs: Path) -> None:
    """Make a run store, or refuse one that no run could be written to.

    Raises:
        UserError: it is not a folder, or its disk is full or may not be written.
    """
    try:
        try_writing(runs / LOCKS)
    except OSError as error:
        raise UserError(
            f"runs: {runs} cannot be written ({error.strerror}). Allowed: a folder with room for "
            "the runs."
        ) from error


def examine(folder: Path, config: Config) -> Examined:
    """Look at the place of a configuration in the store.

    Args:
        folder: where it belongs.
        config: the configuration.
    """
    try:
        if not folder.is_dir() or not any(folder.iterdir()):
            return Examined("new")  # what is not a folder is refused where it is to be made
        record = Record(folder).current()
        there = state_of(record, folder)
        shown = shown_by(record) if there == "finished" else None
        stopped = why_stopped(record) if there == "stopped" else None
    except FileNotFoundError:
        return Examined("new")  # another process has just set it aside
    except UNREADABLE as error:
        return Examined("new", f"its record cannot be read ({reason(error)})")
    if (folder / CONFIG).exists():
        why = _not_of(config, folder)
        if why is not None:
            return Examined(there, why)
    elif there not in ("finished", "stopped"):
        return Examined(there, f"it has no {CONFIG}")
    if there == "unfinished":
        if not any(event["event"] == "start" for event in record):
            return Examined(there, "its record does not say how it began")
        if not _is_whole(folder / CHECKPOINT):
            return Examined(there, "its checkpoint is damaged")
    return Examined(there, shown=shown, stopped=stopped)


def set_aside(folder: Path) -> Path:
    """Rename a damaged folder to the first free ``NAME.damaged-N``, and return that."""
    n = 1
    while (aside := folder.with_name(f"{folder.name}{DAMAGED}{n}")).exists():
        n += 1
    return folder.rename(aside)


def aside_note(value: Mapping[str, Any]) -> str:
    """Name the damaged folder that a run took the place of, if there was one."""
    aside = value.get("set_aside")
    return f" (what was there is {aside['folder']}: {aside['why']})" if aside else ""


def _not_of(config: Config, folder: Path) -> str | None:
    """Say why a folder's configuration is not this one; None if it is."""
    try:
        given = yaml.load((folder / CONFIG).read_bytes(), _LOADER)
        if isinstance(given, dict) and _deciding(given) == _deciding(
            _as_run(config, given.get("steps")).to_dict()
        ):
            return None
        found = config_in(folder)  # one of another version has to be resolved
    except (*UNREADABLE, yaml.YAMLError) as error:
        return f"its {CONFIG} cannot be read ({reason(error)})"
    if found.identity() != _as_run(config, found.run.steps).identity():
        return f"its {CONFIG} is of another run"
    return None


def _as_run(config: Config, steps: Any) -> Config:
    """Return a configuration as its run writes it: epochs as the steps that they came to."""
    if config.run.epochs is None or not isinstance(steps, int):
        return config
    return replace(config, run=replace(config.run, steps=steps, epochs=None))


def _deciding(values: dict[str, Any]) -> dict[str, Any]:
    """Return the plain values of a configuration that decide its run."""
    kept = {k: v for k, v in values.items() if k not in NOT_IDENTITY["run"]}
    data = kept.get("data")
    if isinstance(data, dict):
        kept["data"] = {k: v for k, v in data.items() if k not in NOT_IDENTITY["data"]}
    return kept


def _is_whole(checkpoint: Path) -> bool:
    try:
        with zipfile.ZipFile(checkpoint) as file:
            return file.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError):
        return False


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

"""Run folders: where a run goes, whether it is there already, what a resumed one was."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fullrank.errors import UserError
from fullrank.recipes.user_file import is_user_file
from fullrank.train.config import Config
from fullrank.train.record import RECORD, UNREADABLE, Record, reason
from fullrank.train.resolve import read_yaml, resolve, resolve_command_line
from fullrank.train.storage import write_whole, writing

CONFIG = "config.yaml"
CHECKPOINT = Path("checkpoints") / "last.ckpt"


def default_folder(config: Config) -> Path:
    """Return ``runs/RECIPE-DATA-BACKBONE-HASH``, without the folders in any of the names."""
    recipe = config.recipe.name
    if is_user_file(recipe):
        recipe = Path(recipe.partition(".py")[0]).name + recipe.rpartition(".py")[2]
    recipe = re.sub(r"[/:]", "-", recipe)
    data = Path(config.data.name.removeprefix("folder:")).name
    backbone = config.backbone.name.replace("/", "-")
    return Path("runs") / f"{recipe}-{data}-{backbone}-{config.identity()}"


def _last_events(folder: Path, option: str) -> dict[str, Mapping[str, Any]]:
    """Return the last event of each kind that still holds for the run in ``folder``.

    Raises:
        UserError: the record cannot be read; names the option that the folder was given by.
    """
    try:
        return {str(event["event"]): event for event in Record(folder).current()}
    except UNREADABLE as error:
        raise UserError(
            f"{option}: {folder} has a record that cannot be read ({reason(error)}). Allowed: "
            "another folder, or this one moved out of the way."
        ) from error


def claim(folder: Path, config: Config) -> bool:
    """Make the folder of a new run, or find the identical run in it.

    Returns:
        True if a finished run of the same identity is there already.

    Raises:
        UserError: the folder holds something else, an unfinished run, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"out: {folder} is a file. Allowed: a folder that is new or empty.")
    if folder.exists() and any(folder.iterdir()):
        there = folder / CONFIG
        if not there.exists():
            raise UserError(
                f"out: {folder} is not empty and not a run. Allowed: a folder that is new or empty."
            )
        if config_in(folder).identity() != config.identity():
            raise UserError(
                f"out: {folder} holds a run of another configuration. Allowed: a folder that is "
                "new or empty."
            )
        last = _last_events(folder, "out")
        if "end" in last:
            return True
        if "stop" in last:
            raise UserError(
                f"out: {folder} holds this run, which stopped: {last['stop'].get('text')}. Again "
                "it would stop there. Allowed: other settings, another --out, or the folder "
                "removed."
            )
        if (folder / RECORD).exists() and (folder / CHECKPOINT).exists():
            raise UserError(
                f"out: {folder} holds this run, unfinished. Go on with --resume {folder}, or "
                "give another --out."
            )
    with writing(folder):
        (folder / RECORD).unlink(missing_ok=True)  # it never came to a checkpoint: start anew
        folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)
    write_whole(folder / CONFIG, text.encode())
    return False


def config_in(folder: Path) -> Config:
    """Read the configuration that a run folder says it is of.

    Raises:
        UserError: it is missing, cannot be read, or is none of this version.
    """
    return resolve(read_yaml(folder / CONFIG))


MACHINE_OPTIONS = ("device", "threads", "checkpoint_minutes", "log_every", "logger", "data.root")


def config_of(folder: Path, arguments: Sequence[str] = ()) -> Config:
    """Read the configuration of a run to be resumed.

    Args:
        folder: the run folder.
        arguments: options that may differ from the first time, because they do not change what is
            computed (``MACHINE_OPTIONS``).

    Raises:
        UserError: the folder is not a run, cannot be read, or has no checkpoint to go on from.
    """
    if not (folder / CONFIG).exists():
        missing = "does not exist" if not folder.exists() else f"has no {CONFIG}"
        raise UserError(f"resume: {folder} is not a run folder: it {missing}.")
    last = _last_events(folder, "resume")
    if not (folder / CHECKPOINT).exists():
        state = "is finished" if "end" in last else "has no checkpoint yet"
        raise UserError(f"resume: {folder} {state}; there is nothing to go on from.")
    for name in (token.removeprefix("--").partition("=")[0] for token in arguments[::2]):
        if name not in MACHINE_OPTIONS:
            raise UserError(
                f"option: --{name} cannot change when a run is resumed. Allowed: "
                f"{', '.join('--' + allowed for allowed in MACHINE_OPTIONS)}."
            )
    return resolve_command_line(["--config", str(folder / CONFIG), *arguments])

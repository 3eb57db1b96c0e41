"""Runs in the run store: where a configuration's run is, how far it came, and what it showed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fullrank.errors import UserError
from fullrank.train.config import Config
from fullrank.train.folder import CHECKPOINT, CONFIG, config_in, default_folder
from fullrank.train.record import UNREADABLE, Record, reason

LAYERS = ("embedding", "backbone")
VITALS = ("spread", "effective_rank", "cev_auc", "participation_ratio", "d", "spectrum")
DAMAGED = ".damaged-"  # in the name of a folder that was set aside, before its number
ALSO = ("alignment", "rank_share", "hard_rank")  # which early records may lack
PROBES = ("knn", "linear")
ACCURACIES = (*PROBES, "factors_r2")  # the last where a set knows what its images are made of


def placed(config: Config, runs: Path) -> Config:
    """Return the configuration with its folder in a run store, ``runs/NAME-HASH``."""
    return replace(config, run=replace(config.run, out=str(runs / default_folder(config).name)))


def folder_of(config: Config) -> Path:
    """Return the folder of a configuration that has been placed."""
    return Path(config.run.out or default_folder(config))


def state(folder: Path) -> str:
    """Say how far the run in a folder came.

    Returns:
        ``finished``; ``stopped`` by a loss that is not finite or a batch that was refused, which
        training again would only repeat; ``unfinished``, with a checkpoint to go on from; or
        ``new``: what is there, if anything, is begun anew.
    """
    return state_of(Record(folder).current(), folder)


def state_of(record: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """Return the ``state`` of a folder whose current record has been read."""
    events = {event.get("event") for event in record}
    if "end" in events:
        return "finished"
    if "stop" in events:
        return "stopped"
    return "unfinished" if (folder / CHECKPOINT).exists() else "new"


def read(folder: Path) -> dict[str, Any]:
    """Read what a finished run showed, for one line of a table.

    Returns:
        ``verdict`` by layer, the vital signs of the last check-up of ``embedding`` and
        ``backbone``, ``probe`` of the run and ``random`` of the random-init network (accuracies in
        [0, 1], empty without labels), the last ``loss``, the ``environment`` it ran in, and the
        ``seconds`` it took.
    """
    return shown_by(Record(folder).current())


def shown_by(record: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what ``read`` returns, of a current record that has been read."""
    last: dict[str, Mapping[str, Any]] = {str(event.get("event")): event for event in record}
    probes = {event.get("network"): event for event in record if event.get("event") == "probe"}
    layers, verdict = last["checkup"]["layers"], last["verdict"]
    return {
        "seconds": last["end"]["seconds"],
        "verdict": {layer: verdict[layer]["kind"] for layer in LAYERS},
        **{layer: _vitals(layers[layer]) for layer in LAYERS},
        "probe": _accuracies(probes.get("run")),
        "random": _accuracies(probes.get("random-init")),
        "loss": last.get("step", {}).get("loss"),
        "environment": last["start"].get("environment", {}),
    }


def why_stopped(record: Sequence[Mapping[str, Any]]) -> str:
    """Return a current record's words on why its run stopped."""
    stops = [event for event in record if event.get("event") == "stop"]
    return str((stops and stops[-1].get("text")) or "it stopped")


@dataclass(frozen=True)
class StoredRun:
    """A run of the store.

    Attributes:
        folder: where it is.
        config: what was trained.
        state: how far it came.
        shown: what it showed, if it is finished (``read``).
    """

    folder: Path
    config: Config
    state: str
    shown: dict[str, Any] | None


def list_store(runs: Path) -> tuple[list[StoredRun], list[str]]:
    """Read all runs of a store.

    Args:
        runs: the run store; one that does not exist has no runs.

    Returns:
        The runs by name of their folders, and a line for each folder that is none that can be read:
        its configuration is of a version that is no more, or something is damaged. Such a folder
        stops no other; those that were set aside are left out.

    Raises:
        UserError: the store is not a folder, or may not be read.
    """
    try:
        there = sorted(path for path in runs.iterdir() if DAMAGED not in path.name)
        folders = [path for path in there if (path / CONFIG).exists()]
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise UserError(f"runs: {runs} cannot be read ({error.strerror}).") from error
    rows, problems = [], []
    for folder in folders:
        try:
            config, record = config_in(folder), Record(folder).current()
            came = state_of(record, folder)
            shown = shown_by(record) if came == "finished" else None
        except UNREADABLE as error:
            problems.append(f"{folder}: {reason(error)}")
        else:
            rows.append(StoredRun(folder, config, came, shown))
    return rows, problems


def _vitals(layer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: layer[name] for name in VITALS} | {name: layer.get(name) for name in ALSO}


def _accuracies(event: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: event[name] for name in ACCURACIES if event and name in event}

"""Runs in the run store: where a configuration's run is, how far it came, and what it showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fullrank.train.config import Config
from fullrank.train.folder import CHECKPOINT, default_folder
from fullrank.train.record import Record

LAYERS = ("embedding", "backbone")
VITALS = ("spread", "effective_rank", "cev_auc", "participation_ratio", "d", "spectrum")
PROBES = ("knn", "linear")


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
    events = {event.get("event") for event in Record(folder).current()}
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
        [0, 1], empty without labels), the ``environment`` it ran in, and the ``seconds`` it took.
    """
    found = Record(folder).current()
    last: dict[str, Mapping[str, Any]] = {str(event.get("event")): event for event in found}
    probes = {event.get("network"): event for event in found if event.get("event") == "probe"}
    layers, verdict = last["checkup"]["layers"], last["verdict"]
    return {
        "seconds": last["end"]["seconds"],
        "verdict": {layer: verdict[layer]["kind"] for layer in LAYERS},
        **{layer: {name: layers[layer][name] for name in VITALS} for layer in LAYERS},
        "probe": _accuracies(probes.get("run")),
        "random": _accuracies(probes.get("random-init")),
        "environment": last["start"].get("environment", {}),
    }


def why_stopped(folder: Path) -> str:
    """Return the record's words on why a run stopped."""
    stop = Record(folder).last("stop") or {}
    return str(stop.get("text") or "it stopped")


def _accuracies(event: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: event[name] for name in PROBES if event and name in event}

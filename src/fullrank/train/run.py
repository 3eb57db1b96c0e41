"""One training run from configuration to verdict."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fullrank.data.sources import Source, load_source
from fullrank.errors import UserError
from fullrank.train import hardware
from fullrank.train.conclusion import conclude
from fullrank.train.config import Config
from fullrank.train.folder import claim, default_folder
from fullrank.train.lock import LOCKS, locked
from fullrank.train.process import is_first_process
from fullrank.train.record import Record
from fullrank.train.session import Session
from fullrank.train.storage import clear_partial


@dataclass(frozen=True)
class Run:
    """What a call of ``train`` did.

    Attributes:
        folder: the run folder.
        status: ``finished``; ``found``, if an identical run was there already; ``interrupted``,
            by Ctrl-C, with a checkpoint to go on from; or ``stopped``, by a loss that is not
            finite or a batch that was refused.
        verdict: the record's last verdict: backbone, embedding and loss.
    """

    folder: Path
    status: str
    verdict: dict[str, Any] | None


def run(
    config: Config,
    resume: Path | None = None,
    announce: Callable[[str], None] | None = None,
    source: Source | None = None,
) -> Run:
    """Train, measure and judge; everything lands in the run folder.

    Args:
        config: what to train.
        resume: folder of an interrupted run of this configuration.
        announce: is told in one line what begins, when all input is known to be good.
        source: the data that ``config`` names, for callers that have read it for an earlier run.

    Raises:
        UserError: data, device or folder are not as the configuration says, or another process is
            training in the folder.
    """
    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    device = hardware.accelerator(config.run)
    source = source or load_source(config.data)
    config = _with_steps(config, source)
    folder = resume or Path(config.run.out or default_folder(config))
    session = Session(config, source, folder, device)
    with _alone(folder, config):
        return _fitted(session, config, folder, resume is not None, announce)


def _alone(folder: Path, config: Config) -> AbstractContextManager[None]:
    """Keep the folder to this process where others may want it: in a run store."""
    in_store = config.run.out is None or (folder.parent / LOCKS).is_dir()
    return locked(folder, wait=False) if in_store and is_first_process() else nullcontext()


def _fitted(
    session: Session,
    config: Config,
    folder: Path,
    resumed: bool,
    announce: Callable[[str], None] | None,
) -> Run:
    """Train in a folder that is this process's own."""
    first = is_first_process()
    if first and not resumed and claim(folder, config):
        return Run(folder, "found", Record(folder).last("verdict"))
    if first:
        clear_partial(folder)
    if first and announce is not None:
        announce(session.summary())
    fitted = session.fit(resumed)
    if not fitted.finite:
        return Run(folder, "stopped", None)
    if fitted.step < session.steps:
        return Run(folder, "interrupted", None)
    return Run(folder, "finished", conclude(session, fitted) if first else None)


def _with_steps(config: Config, source: Source) -> Config:
    """Turn epochs into steps and check that a batch fits the data."""
    batch, n = config.run.batch_size, len(source.train)
    if batch > n:
        raise UserError(
            f"batch_size: {batch} is more than the {n} training images of {config.data.name}. "
            f"Allowed: at most {n}."
        )
    if config.run.steps is not None:
        return config
    assert config.run.epochs is not None
    steps = max(1, round(config.run.epochs * (n // batch)))
    return replace(config, run=replace(config.run, steps=steps, epochs=None))

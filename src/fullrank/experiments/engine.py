"""Many configurations carried out: each found in the run store, gone on with, or trained."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from fullrank.errors import UserError, unknown_name
from fullrank.experiments.pool import Outcome, check_workers, cores, outcomes
from fullrank.experiments.progress import Clock, Progress
from fullrank.experiments.store import aside_note, check_store, examine
from fullrank.experiments.stored import folder_of, placed
from fullrank.train.config import Config

ENGINES = ("auto", "pool", "ray")
# By name, so that the process that hands out the runs need not import torch.
WORK = "fullrank.experiments.training:train_one"


@dataclass(frozen=True)
class Ended:
    """What became of one configuration.

    Attributes:
        index: its place among the configurations.
        config: placed in the run store.
        status: ``finished``, ``found`` (it was there already) or ``failed``.
        value: what its run showed (``fullrank.experiments.stored.read``) with ``folder``, ``hash``
            and, if a damaged folder was in its place, where that was ``set_aside``; None if failed.
        error: one line on why it failed; None otherwise.
        detail: the traceback, where there is one.
        seconds: that it took here.
    """

    index: int
    config: Config
    status: Literal["finished", "found", "failed"]
    value: dict[str, Any] | None
    error: str | None
    detail: str | None
    seconds: float


def carry_out(
    configs: Sequence[Config],
    *,
    runs: Path,
    workers: int | None = None,
    ray: str | None = None,
    engine: str = "auto",
    gpus: float = 0,
    progress: Callable[[Progress], None] | None = None,
    describe: Callable[[Ended], str] | None = None,
    watch: Callable[[Sequence[int]], None] | None = None,
) -> Generator[Ended, None, None]:
    """Train every configuration in the run store, each in a process of its own kind.

    Finished runs are found, interrupted ones gone on with. Configurations of equal identity are
    run once and yielded for each. A run whose process dies is tried once more, from its last
    checkpoint. Where the caller stops (Ctrl-C, SIGTERM, ``close``), runs end after their step in
    progress, with a checkpoint.

    Args:
        configs: what to train; ``run.out`` is replaced by the folder in the store. Without
            ``run.threads`` each run has its share of the cores.
        runs: the run store.
        workers: runs at a time; by default one a core, or as many as the GPUs are shared by.
        ray: address of a Ray cluster; None is this machine. The store must be on a file system
            that all of its machines share.
        engine: ``ray``, ``pool`` (processes of this machine), or ``auto``: Ray if it is installed.
        gpus: share of a GPU that a run has, for Ray.
        progress: is told where things stand once what is found is known, and after every run,
            when the caller has seen it.
        describe: what to tell of a run that has ended.
        watch: is told about once a second which configurations are being trained.

    Returns:
        What became of each, in the order in which they end; the found ones first.

    Raises:
        UserError: the store cannot be written, Ray is missing or does not answer, or an argument
            is not allowed; before anything is trained.
    """
    chosen = choose_engine(engine, ray, gpus)
    if workers is not None or (chosen == "pool" or not (ray or gpus)):
        workers = check_workers(workers)
    for config in configs:
        if config.run.devices > 1:
            raise UserError(
                f"devices: {config.run.devices} given, but each of many runs is one process. "
                "Allowed: 1; `fullrank train` takes more."
            )
    check_store(runs)
    each = [_with_threads(placed(config, runs), workers, bool(ray)) for config in configs]
    options: dict[str, Any] = {"retries": 1, "watch": None}
    if chosen == "ray":
        options |= {"address": ray, "gpus": gpus}
    return _carried_out(each, chosen, workers, options, progress, describe or _named, watch)


def choose_engine(engine: str, ray: str | None = None, gpus: float = 0) -> Literal["pool", "ray"]:
    """Return the engine that serves.

    Raises:
        UserError: it is not known or not installed, or cannot do what is asked for.
    """
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    if isinstance(gpus, bool) or not gpus >= 0 or (gpus > 1 and gpus != int(gpus)):
        raise UserError(
            f"gpus: {gpus!r} is not allowed. Allowed: a share of a GPU from 0 to 1, or a whole "
            "number of them."
        )
    asked = {"ray": ray, "gpus": gpus}
    for name, value in asked.items():
        if value and engine == "pool":
            raise UserError(f"{name}: {value!r} given with engine 'pool'. Allowed: engine 'ray'.")
    installed = find_spec("ray") is not None
    if installed and engine != "pool":
        return "ray"
    if engine == "ray" or ray or gpus:
        raise UserError(
            "engine: Ray is not installed. Install it with: pip install 'fullrank[sweep]'."
        )
    return "pool"


def words(ended: Ended) -> str:
    """Say in a few words what became of a run."""
    if ended.value is None:
        return f"failed: {ended.error}"
    return f"{ended.value['verdict']['embedding']}{aside_note(ended.value)}"


def _named(ended: Ended) -> str:
    return f"{folder_of(ended.config).name}: {words(ended)}"


def _with_threads(config: Config, workers: int | None, remote: bool) -> Config:
    """Give a run that does not say how many threads it has its share of the cores."""
    if config.run.threads is not None:
        return config
    share = 1 if remote or workers is None else max(1, cores() // workers)
    return replace(config, run=replace(config.run, threads=share))


def _carried_out(
    configs: Sequence[Config],
    engine: str,
    workers: int | None,
    options: dict[str, Any],
    progress: Callable[[Progress], None] | None,
    describe: Callable[[Ended], str],
    watch: Callable[[Sequence[int]], None] | None,
) -> Generator[Ended, None, None]:
    same: dict[Path, list[int]] = {}
    for index, config in enumerate(configs):
        same.setdefault(folder_of(config), []).append(index)
    waiting: list[list[int]] = []
    clock = Clock(len(same), 0)
    for indices in same.values():
        known = _known(configs[indices[0]])
        if known is None:
            waiting.append(indices)
            continue
        clock.found += known.status == "found"
        clock.stopped += known.status == "failed"
        yield from (replace(known, index=i, config=configs[i]) for i in indices)
    if progress is not None:
        progress(clock.now(f"{clock.found} of {clock.total} runs found"))
    if not waiting:
        return
    jobs = [configs[indices[0]] for indices in waiting]
    if watch is not None:
        tell = watch
        options = options | {"watch": lambda now: tell([i for n in now for i in waiting[n]])}
    # Closed at once whatever comes, so that no process goes on behind the caller's back.
    with _stopped_by_sigterm(), closing(_start(engine, jobs, workers, options)) as ended:
        for outcome in ended:
            found = [_ended(outcome, index, configs[index]) for index in waiting[outcome.index]]
            clock.count(failed=outcome.error is not None)
            yield from found
            if progress is not None:
                progress(clock.now(describe(found[0])))


def _start(
    engine: str, jobs: Sequence[Config], workers: int | None, options: dict[str, Any]
) -> Generator[Outcome, None, None]:
    if engine == "ray":
        from fullrank.experiments.ray_engine import ray_outcomes

        jobs = [_absolute(job) for job in jobs]  # other machines are in other folders
        return ray_outcomes(WORK, jobs, workers, **options)
    return outcomes(WORK, jobs, check_workers(workers), **options)


def _absolute(config: Config) -> Config:
    return replace(config, run=replace(config.run, out=str(folder_of(config).absolute())))


def _known(config: Config) -> Ended | None:
    """Return what became of a run that needs no more work; None for all others."""
    folder = folder_of(config)
    there = examine(folder, config)  # what is damaged is set aside by whoever has its lock
    if there.shown is not None:
        value = {"folder": str(folder), "hash": config.identity(), "status": "found"}
        return Ended(0, config, "found", value | there.shown, None, None, 0.0)
    if there.stopped is not None:
        return Ended(0, config, "failed", None, there.stopped, None, 0.0)
    return None


def _ended(outcome: Outcome, index: int, config: Config) -> Ended:
    value = outcome.value and outcome.value | {"folder": str(folder_of(config))}
    status: Literal["finished", "found", "failed"] = value["status"] if value else "failed"
    return Ended(index, config, status, value, outcome.error, outcome.detail, outcome.seconds)


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, where this process may decide so."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

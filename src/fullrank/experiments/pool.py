"""Many jobs, one at a time in each of several processes; no failure of one stops the others."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, Literal

from fullrank.errors import UserError

# How long a process that was asked to stop may take: a training run ends with its step in progress.
PATIENCE = 20.0
# Imported once, in the process that the others are forked from.
PRELOAD = ("fullrank.experiments.preloaded",)


@dataclass(frozen=True)
class Outcome:
    """What became of one job.

    Attributes:
        index: the job's place among the jobs.
        status: ``done``, or ``failed``: it raised, or its process died.
        value: what the work returned; None if it failed.
        error: one line on why it failed; None if it is done.
        detail: the traceback, where there is one.
        seconds: that it took.
    """

    index: int
    status: Literal["done", "failed"]
    value: Any
    error: str | None
    detail: str | None
    seconds: float


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    lifeline: Connection  # ends with this process, whatever ends it
    index: int | None = None
    started: float = field(default_factory=time.perf_counter)


def check_workers(workers: int | None) -> int:
    """Return how many processes to use; by default one a core that this process may use.

    Raises:
        UserError: fewer than one.
    """
    if workers is None:
        return cores()
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise UserError(f"workers: {workers!r} is not allowed. Allowed: a whole number from 1.")
    return workers


def cores() -> int:
    """Return the number of cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def outcomes(
    work: Callable[[Any], Any] | str,
    jobs: Sequence[Any],
    workers: int,
    preload: Sequence[str] = PRELOAD,
    retries: int = 0,
    watch: Callable[[Sequence[int]], None] | None = None,
) -> Generator[Outcome, None, None]:
    """Do every job and yield its outcome as soon as there is one.

    Each process takes the next job when it has finished one, so that what it imported and read is
    still there. Where it dies, another process takes its place; its job has failed, if it has not
    another try. When the caller stops, by Ctrl-C or by not asking on, the processes are told to
    stop (SIGINT) and have ``PATIENCE`` seconds for it; when the caller dies, they are told, too.

    Args:
        work: a function of a module, or its name ``module:function``; called with a job.
        jobs: anything that can be pickled.
        workers: processes, at most one a job.
        preload: modules to import before the processes fork, where they can.
        retries: times that a job whose process died is tried again.
        watch: is told about once a second which jobs are being done.

    Yields:
        One outcome a job, in the order in which they end.

    Raises:
        UserError: fewer than one worker.
    """
    workers = min(check_workers(workers), len(jobs))
    context = _context(preload)
    waiting = deque(range(len(jobs)))
    tries = [retries] * len(jobs)
    busy: list[_Worker] = []
    try:
        for _ in range(workers):
            worker = _start(context, work)
            busy.append(worker)  # before it has work, so that it is stopped whatever comes
            _give(worker, waiting, jobs)
        while busy:
            ready = wait([w.connection for w in busy], timeout=1.0 if watch else None)
            if watch is not None:
                watch([w.index for w in busy if w.index is not None])
            for worker in [w for w in busy if w.connection in ready]:
                assert worker.index is not None
                outcome, alive = _read(worker)
                again = not alive and tries[worker.index] > 0
                if again:
                    tries[worker.index] -= 1
                    waiting.appendleft(worker.index)
                if not alive:
                    busy.remove(worker)
                    _end(worker)
                    if waiting:
                        worker = _start(context, work)
                        busy.append(worker)
                if waiting:
                    _give(worker, waiting, jobs)
                elif alive:
                    busy.remove(worker)
                    _end(worker)
                if not again:
                    yield outcome
    finally:
        _stop(busy)


def start_ahead(preload: Sequence[str] = PRELOAD) -> None:
    """Start the process that workers are forked from, and do not wait for its imports.

    Else it is started with the first worker, which then waits for them.

    Args:
        preload: modules that it imports.
    """
    if _forks():
        from multiprocessing.forkserver import ensure_running

        _context(preload)
        with _deaf():
            ensure_running()


def _forks() -> bool:
    return "forkserver" in multiprocessing.get_all_start_methods()


def _context(preload: Sequence[str]) -> BaseContext:
    """Return how processes start: forked from one that has imported what all need."""
    if not _forks():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context


def name_of(work: Callable[[Any], Any] | str) -> str:
    """Return the name of a function of a module, ``module:function``."""
    return work if isinstance(work, str) else f"{work.__module__}:{work.__qualname__}"


def named(name: str) -> Any:
    """Return what ``name_of`` named."""
    module, _, path = name.partition(":")
    found = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _start(context: BaseContext, work: Callable[[Any], Any] | str) -> _Worker:
    ours, theirs = context.Pipe()
    life, line = context.Pipe()
    process: BaseProcess = context.Process(  # type: ignore[attr-defined]
        target=_serve, args=(theirs, line, name_of(work))
    )  # not a daemon: those may have no processes that read images for them
    with _deaf():
        process.start()
    theirs.close()  # so that the pipe ends with the process
    line.close()
    return _Worker(process, ours, life)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Start processes that do not hear Ctrl-C: it is for this one, which tells them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _give(worker: _Worker, waiting: deque[int], jobs: Sequence[Any]) -> None:
    worker.index, worker.started = waiting.popleft(), time.perf_counter()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # found dead when it is read
        worker.connection.send(jobs[worker.index])


def _read(worker: _Worker) -> tuple[Outcome, bool]:
    """Return the outcome of a worker's job, and whether the worker lives."""
    assert worker.index is not None
    try:
        ok, value, error, detail = worker.connection.recv()
        alive = True
    except (EOFError, ConnectionResetError):
        worker.process.join(PATIENCE)
        code = worker.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        ok, value, error, detail = False, None, f"its process died ({how})", None
        alive = False
    seconds = time.perf_counter() - worker.started
    return Outcome(worker.index, "done" if ok else "failed", value, error, detail, seconds), alive


def _end(worker: _Worker) -> None:
    """Let a worker go that has nothing to do."""
    worker.connection.close()
    worker.process.join(PATIENCE)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
    worker.lifeline.close()  # not before it has ended: it would be interrupted


def _stop(workers: Sequence[_Worker]) -> None:
    """Interrupt workers, and end those that do not stop in time or when interrupted again."""
    for worker in workers:
        if worker.process.is_alive() and worker.process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.process.pid, signal.SIGINT)
    end = time.perf_counter() + PATIENCE
    try:
        for worker in workers:
            worker.connection.close()
            worker.process.join(max(0.0, end - time.perf_counter()))
    finally:
        for worker in workers:
            if worker.process.is_alive():
                worker.process.kill()
            worker.lifeline.close()


def _serve(connection: Connection, lifeline: Connection, name: str) -> None:
    """Do jobs until there are no more: the life of a worker."""
    with contextlib.suppress(OSError):
        os.setsid()  # Ctrl-C goes to the process that gives the jobs, which decides
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_stop_without, args=(lifeline,), daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = "1"
    if torch := sys.modules.get("torch"):  # it read the variable where it was imported
        torch.set_num_threads(1)
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(quiet, stream)  # the terminal is the other's
    with contextlib.suppress(KeyboardInterrupt, EOFError, BrokenPipeError):
        while True:
            connection.send(attempt(partial(_unpacked, name), connection.recv_bytes()))


def _unpacked(name: str, sent: bytes) -> Any:
    """Do a job that has come through a pipe; what cannot be imported for it fails the job alone."""
    work = named(name)
    return work(ForkingPickler.loads(sent))


def _stop_without(lifeline: Connection) -> None:
    """Interrupt this process when the one that gives the jobs is gone."""
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv()
    os.kill(os.getpid(), signal.SIGINT)


def attempt(work: Any, job: Any) -> tuple[bool, Any, str | None, str | None]:
    """Do a job.

    Returns:
        Whether it worked, what it returned, and if it did not, one line on why and the traceback.
    """
    try:
        return True, work(job), None, None
    except Exception as error:
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        return False, None, kind + " ".join(str(error).split()), traceback.format_exc()

"""The same jobs on Ray: this machine's cores, a cluster's, or shares of its GPUs."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from fullrank.experiments.pool import PATIENCE, PRELOAD, Outcome, attempt, name_of, named
from fullrank.experiments.ray_cluster import connect, disconnect, room


@dataclass
class _Busy:
    """An actor with its job."""

    host: Any
    place: Any
    index: int
    started: float


def ray_outcomes(
    work: Callable[[Any], Any] | str,
    jobs: Sequence[Any],
    workers: int | None = None,
    preload: Sequence[str] = PRELOAD,
    *,
    address: str | None = None,
    gpus: float = 0,
    retries: int = 0,
    watch: Callable[[Sequence[int]], None] | None = None,
) -> Generator[Outcome, None, None]:
    """Do every job on Ray and yield its outcome as soon as there is one.

    What ``fullrank.experiments.pool.outcomes`` does in processes, in actors: each lives as long as
    there are jobs, so that what it imported and read is still there. Where one dies, another
    takes its place; its job has failed, if it has not another try. When the caller stops, the
    actors are told to stop (SIGINT) and have ``PATIENCE`` seconds for it.

    Args:
        work: a function of a module, or its name ``module:function``; called with a job.
        jobs: anything that can be pickled.
        workers: actors, at most one a job, each on one core; by default as many as there is room
            for.
        preload: modules that actors of this machine import while Ray starts.
        address: of a cluster, as ``ray.init`` takes it; None is Ray in this process's machine.
        gpus: that each actor has; a share below 1 is given to several.
        retries: times that a job whose actor died is tried again.
        watch: is told about once a second which jobs are being done.

    Yields:
        One outcome a job, in the order in which they end.

    Raises:
        UserError: the cluster does not answer, or has no room for an actor.
    """
    started_here = connect(address, workers, gpus, preload)
    try:
        free = room(gpus)
        workers = min(free if workers is None else min(workers, free), len(jobs))
        yield from _handed_out(name_of(work), jobs, workers, gpus, retries, watch)
    finally:
        if started_here:
            disconnect()


class _Host:
    """An actor: does one job after the other on its main thread."""

    def __init__(self, work: str) -> None:
        with contextlib.suppress(OSError):
            os.setsid()  # Ctrl-C goes to the process that gives the jobs, which decides
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # Ray keeps it from its workers
        self.work = named(work)

    def where(self) -> tuple[str, int]:
        """Return the machine and the process that this is in."""
        import ray

        return ray.get_runtime_context().get_node_id(), os.getpid()

    def do(self, job: Any) -> tuple[float, tuple[bool, Any, str | None, str | None]]:
        """Do a job; return the seconds it took and what came of it."""
        started = time.perf_counter()
        done = attempt(self.work, job)
        return time.perf_counter() - started, done


def _interrupt(pid: int) -> None:
    """Interrupt a process of the machine that this is called on."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)


def _handed_out(
    work: str,
    jobs: Sequence[Any],
    workers: int,
    gpus: float,
    retries: int,
    watch: Callable[[Sequence[int]], None] | None,
) -> Generator[Outcome, None, None]:
    import ray

    kind: Any = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_Host)
    waiting = deque(range(len(jobs)))
    tries = [retries] * len(jobs)
    busy: dict[Any, _Busy] = {}

    def give(host: Any, place: Any) -> None:
        index = waiting.popleft()
        busy[host.do.remote(jobs[index])] = _Busy(host, place, index, time.perf_counter())

    def start() -> None:
        host = kind.remote(work)
        give(host, host.where.remote())

    try:
        for _ in range(workers):
            start()
        while busy:
            ready, _ = ray.wait(list(busy), num_returns=1, timeout=1.0 if watch else None)
            if watch is not None:
                watch([one.index for one in busy.values()])
            for ref in ready:
                one = busy.pop(ref)
                try:
                    seconds, (ok, value, error, detail) = ray.get(ref)
                except ray.exceptions.RayError as death:
                    if tries[one.index] > 0:
                        tries[one.index] -= 1
                        waiting.appendleft(one.index)
                        start()
                        continue
                    ok, value, error, detail = False, None, _words(death), None
                    seconds = time.perf_counter() - one.started
                    if waiting:
                        start()
                else:
                    if waiting:
                        give(one.host, one.place)
                    else:
                        ray.kill(one.host)
                yield Outcome(one.index, "done" if ok else "failed", value, error, detail, seconds)
    finally:
        _stop(busy)


def _words(death: Exception) -> str:
    first = " ".join(str(death).split())
    return f"its process died ({first[:200]})"


def _stop(busy: dict[Any, _Busy]) -> None:
    """Interrupt actors, and end those that do not stop in time or when interrupted again."""
    if not busy:
        return
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    here = ray.get_runtime_context().get_node_id()
    remote = ray.remote(num_cpus=0)(_interrupt)
    told = []
    try:
        for ref, one in busy.items():
            with contextlib.suppress(ray.exceptions.RayError):
                # An actor that does not yet know where it is has nothing to lose.
                node, pid = ray.get(one.place, timeout=0.5)
                if node == here:
                    _interrupt(pid)
                else:
                    remote.options(scheduling_strategy=On(node, soft=False)).remote(pid)
                told.append(ref)
        if told:
            ray.wait(told, num_returns=len(told), timeout=PATIENCE)
    finally:
        for one in busy.values():
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(one.host)

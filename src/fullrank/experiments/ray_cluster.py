"""Ray started on this machine, or a cluster joined, within bounded time and without noise."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fullrank.errors import UserError
from fullrank.experiments.pool import cores

# A cluster that is there answers within a second; a name may take some to be resolved.
ANSWER = 15.0
_PRELOAD = "RAY_preload_python_modules"  # as Ray spells it


def connect(address: str | None, workers: int | None, gpus: float, preload: Sequence[str]) -> bool:
    """Start Ray on this machine, or join a cluster.

    Args:
        address: of the cluster; None starts Ray here.
        workers: actors that it is to have room for.
        gpus: that each of them has.
        preload: modules that its processes import at once, if it is started here.

    Returns:
        Whether it is to be left again: not if this process had joined one already.

    Raises:
        UserError: nothing answers at the address, or Ray does not start.
    """
    if address is not None:
        _knock(address)
    import ray

    if ray.is_initialized():
        _check_joined(address)
        return False
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        # "local": not one that somebody else has started on this machine
        own: dict[str, Any] = {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": 100 << 20,
        }
        own["num_cpus"] = workers or cores()
        if not gpus:
            own["num_gpus"] = 0  # looking for some takes its time
        # Not in a thread: what this starts ends with the thread that started it.
        try:
            with _own_signals(), _inherited(preload):
                ray.init(**quiet, **own)
        except (RuntimeError, OSError, ValueError) as error:
            why = " ".join(str(error).split())[:200]
            raise UserError(
                f"ray: Ray does not start on this machine ({why}). Allowed: engine 'pool'."
            ) from error
        return True
    _join(lambda: ray.init(address=address, **quiet), address)
    return True


def _check_joined(address: str | None) -> None:
    """Refuse an address other than that of the cluster that this process has joined already."""
    import ray

    if address is None or address == "auto" or address.startswith("ray://"):
        return
    joined = ray.get_runtime_context().gcs_address
    host, _, port = address.rpartition(":")
    there = {info[4][0] for info in socket.getaddrinfo(host.strip("[]"), port)}
    if there & {"127.0.0.1", "::1"}:  # of which Ray speaks by another name
        there.add(ray.util.get_node_ip_address())
    if joined not in {f"{one}:{port}" for one in there}:
        raise UserError(
            f"ray: {address} given, but this process has joined {joined}. Allowed: that, or "
            "ray.shutdown() before."
        )


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep Ray from deciding what SIGTERM does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _inherited(preload: Sequence[str]) -> Iterator[None]:
    """Set what the processes that Ray starts are to find in their environment."""
    wanted = {
        _PRELOAD: ",".join(preload),
        "OMP_NUM_THREADS": "1",
        "RAY_worker_niceness": "0",  # as all processes have; Ray's own would be 15
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ |= wanted
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def _join(init: Callable[[], Any], address: str) -> None:
    """Call ``ray.init`` in a thread, where it can be waited for no longer than ``ANSWER``."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            init()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(ANSWER)
    if thread.is_alive():
        token = (
            "" if os.environ.get("RAY_AUTH_MODE") else "; if it wants a token: RAY_AUTH_MODE=token"
        )
        raise _no_answer(address, f"nothing within {ANSWER:.0f} s{token}")
    if failed:
        raise _no_answer(address, " ".join(str(failed[0]).split())[:200]) from failed[0]


def _knock(address: str) -> None:
    """Refuse at once an address where nobody listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        if address == "auto":
            return
        raise UserError(f"ray: {address!r} is not an address. Allowed: HOST:PORT, ray://HOST:PORT.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER / 3).close()
    except (OSError, OverflowError) as error:
        raise _no_answer(address, str(getattr(error, "strerror", None) or error)) from error


def _no_answer(address: str, why: str) -> UserError:
    return UserError(
        f"ray: {address} does not answer ({why}). Allowed: HOST:PORT of a running cluster, or "
        "nothing for this machine."
    )


def disconnect() -> None:
    """Leave Ray, and end it where it was started here."""
    import ray

    with contextlib.suppress(Exception):
        ray.shutdown()


def room(gpus: float) -> int:
    """Return how many actors there is room for, each with a core and its GPUs on one machine.

    Raises:
        UserError: for none.
    """
    import ray

    each = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = [int(node.get("CPU", 0)) for node in each]
    if not any(cpus):
        raise UserError("ray: the cluster has no CPU. Allowed: one with a core for every run.")
    if not gpus:
        return sum(cpus)
    most = max(node.get("GPU", 0.0) for node in each)
    if most < gpus:
        raise UserError(
            f"gpus: {gpus:g} is more than the {most:g} that one machine of Ray's has. "
            f"Allowed: at most {most:g}."
        )
    fitting = sum(
        min(n, int(node.get("GPU", 0.0) / gpus + 1e-9)) for n, node in zip(cpus, each, strict=True)
    )
    if not fitting:
        raise UserError(
            f"gpus: {gpus:g} given, and no machine of Ray's that has them has a CPU, too. "
            "Allowed: one with a core for every run."
        )
    return fitting

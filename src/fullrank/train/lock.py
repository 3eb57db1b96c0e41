"""One process at a time in a run folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from threading import get_ident

from fullrank.errors import UserError
from fullrank.train.storage import writing

LOCKS = ".locks"  # beside the folders, since a new run's has to be empty
_held: set[tuple[int, Path]] = set()


@contextlib.contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[None]:
    """Keep a run folder, or a file, from all other processes and threads.

    The lock is gone when the process that holds it is. Who holds it may take it again.

    Args:
        folder: what to keep; it need not exist.
        wait: while another process has it, instead of refusing.

    Raises:
        UserError: another process has it, or the lock cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = (folder.parent / LOCKS / f"{folder.name}.lock").absolute()
    mine = (get_ident(), lock)
    if mine in _held:
        yield
        return
    with writing(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        one = FileLock(lock)
        try:
            one.acquire(timeout=-1 if wait else 0)
        except Timeout as error:
            raise UserError(
                f"out: {folder} is being trained by another process. Wait for it, or give another "
                "--out."
            ) from error
    _held.add(mine)
    try:
        yield
    finally:
        _held.discard(mine)
        one.release()

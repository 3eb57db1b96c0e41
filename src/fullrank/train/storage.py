"""Files that are whole or not there, and words for a disk that is full."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from fullrank.errors import UserError

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
PARTIAL = ".partial"
_PLACE = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a disk, or a place, that cannot be written into a ``UserError`` that names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in _PLACE:
            raise UserError(
                f"out: {path} cannot be written ({error.strerror}). Allowed: a folder that can."
            ) from error
        if error.errno not in _DISK:
            raise
        raise UserError(
            f"out: {path} cannot be written ({error.strerror}). What was written before is kept; "
            "make room and go on: a run with --resume, many runs with the same command."
        ) from error


def try_writing(folder: Path) -> None:
    """Make a folder, and write to it for a moment as much as the first files of a run.

    An empty file would not do: a full disk may still take it.

    Raises:
        OSError: the disk refuses.
    """
    trial = folder / f"write-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_whole(trial, bytes(1 << 16))
    finally:
        with contextlib.suppress(OSError):
            trial.unlink(missing_ok=True)


def clear_partial(folder: Path) -> None:
    """Remove what processes that were killed had begun to write; for who has the folder alone."""
    for left in folder.rglob(f"*{PARTIAL}"):
        with contextlib.suppress(OSError):
            left.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that at any moment it holds the old content or the new one."""
    with writing(path):
        replace_whole(path, content)


def replace_whole(path: Path, content: bytes) -> None:
    """Do what ``write_whole`` does, for callers with words of their own for what went wrong.

    Raises:
        OSError: the disk refuses.
    """
    # A name of its own: two processes may write the same file at once.
    partial = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise

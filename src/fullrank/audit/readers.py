"""Files of embeddings by their suffix, and folders of such files as one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from fullrank.audit.numpy_files import open_npy, open_npz
from fullrank.audit.parquet_files import open_parquet
from fullrank.audit.stored import Stored, joined
from fullrank.audit.tensor_files import open_pt, open_safetensors
from fullrank.errors import UserError, unknown_name

READERS: dict[str, Callable[[Path, bool], dict[str, Stored]]] = {
    ".npy": open_npy,
    ".npz": open_npz,
    ".pt": open_pt,
    ".pth": open_pt,
    ".safetensors": open_safetensors,
    ".parquet": open_parquet,
}


def open_arrays(path: Path, trust: bool = False) -> dict[str, Stored]:
    """Open the arrays of a file, or of the files of a folder put end to end.

    Shards are taken in the order of their names, numbers in them as numbers: ``part-2`` comes
    before ``part-10``.

    Args:
        path: a file with one of the suffixes of ``READERS``, or a folder of such files.
        trust: whether a pickle that can run code may be loaded.

    Returns:
        The arrays by name; a file that holds one unnamed array gives it the name ``""``.

    Raises:
        UserError: there is nothing there, or it is empty, damaged, truncated, of mixed width, or
            of a kind that is not read.
    """
    if path.is_dir():
        return _open_folder(path, trust)
    if not path.exists():
        raise UserError(f"{path}: does not exist.")
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise unknown_name("suffix", path.name, READERS)
    if path.stat().st_size == 0:
        raise UserError(f"{path}: empty (0 bytes).")
    try:
        return READERS[suffix](path, trust)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from None


def _open_folder(folder: Path, trust: bool) -> dict[str, Stored]:
    files = sorted(
        (f for f in folder.iterdir() if f.suffix.lower() in READERS and f.name[0] != "."),
        key=lambda f: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", f.name)],
    )
    if not files:
        state = "no shard" if any(folder.iterdir()) else "nothing"
        raise UserError(f"{folder}: {state} in it. Allowed: files of {', '.join(READERS)}.")
    opened = [open_arrays(file, trust) for file in files]
    for file, arrays in zip(files[1:], opened[1:], strict=True):
        if arrays.keys() != opened[0].keys():
            raise UserError(
                f"{folder}: {files[0].name} holds {_names(opened[0])} and {file.name} holds "
                f"{_names(arrays)}. Allowed: the same arrays in every shard."
            )
    return {name: joined([a[name] for a in opened], str(folder)) for name in opened[0]}


def _names(arrays: dict[str, Stored]) -> str:
    return ", ".join(name or "one array" for name in arrays)


def choose(arrays: dict[str, Stored], keys: tuple[str, ...], what: str) -> list[Stored]:
    """Choose the arrays that ``keys`` name; without keys, the only one that has rows.

    Args:
        arrays: of a file.
        keys: names; several are views of the same samples.
        what: the file, for errors.

    Raises:
        UserError: a name is unknown, there are several arrays to choose from, or views differ.
    """
    for key in keys:
        if key not in arrays:
            raise unknown_name("key", key, [name for name in arrays if name] or ["(unnamed)"])
    rows = [name for name, array in arrays.items() if len(array.shape) >= 2]
    if not keys and len(rows) > 1:
        listed = ", ".join(f"{name} {arrays[name].shape}" for name in rows[:20])
        more = f" and {len(rows) - 20} more" if len(rows) > 20 else ""
        raise UserError(
            f"key: {what} holds {len(rows)} arrays: {listed}{more}. Allowed: one of them, or "
            "several that are views of the same samples; for a model's weights, give backbone."
        )
    chosen = [arrays[name] for name in (keys or rows or list(arrays)[:1])]
    first = chosen[0]
    for array in chosen:
        if len(array.shape) < 2:
            raise UserError(
                f"{array}: shape {array.shape}, one number a sample. Allowed: (n, d); for d = 1, "
                "(n, 1)."
            )
        if array.shape != first.shape:
            raise UserError(
                f"key: views of the same samples have one shape, and {first.name} has "
                f"{first.shape}, {array.name} {array.shape}."
            )
    if 0 in first.shape:
        nothing = "no rows" if first.shape[0] == 0 else "rows without values"
        raise UserError(f"{first}: shape {first.shape}, {nothing}.")
    return chosen

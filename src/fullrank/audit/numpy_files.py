"""NumPy's files: ``.npy`` mapped into memory a chunk at a time, ``.npz`` read as a stream."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fullrank.audit.stored import Stored, check_dtype, numbers
from fullrank.errors import UserError

_PICKLED = (
    "{where}: its array of Python objects is a pickle, and reading a pickle can run any code. "
    "Allowed: arrays of numbers, or trust, if you know where the file comes from."
)


def _header(stream: Any, where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, whether it is Fortran-ordered, and dtype; the stream is left at the values."""
    read: dict[tuple[int, int], Any] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(stream)
        shape, fortran, dtype = read[version](stream)
    except (ValueError, KeyError, EOFError) as error:
        raise UserError(f"{where}: no NumPy file, or a damaged one ({error}).") from None
    return shape, fortran, dtype


def open_npy(path: Path, trust: bool) -> dict[str, Stored]:
    """Open a ``.npy`` file; its values are mapped into memory when they are asked for.

    Raises:
        UserError: the file is damaged or truncated, or its values are no real numbers.
    """
    with path.open("rb") as file:
        shape, fortran, dtype = _header(file, str(path))
        offset = file.tell()
    if dtype.hasobject:
        if not trust:
            raise UserError(_PICKLED.format(where=path))
        return {"": _unpickled(np.load(path, allow_pickle=True), "", str(path))}
    name = check_dtype(dtype, str(path))
    needs = offset + math.prod(shape) * dtype.itemsize
    if path.stat().st_size < needs:
        raise UserError(
            f"{path}: truncated: {path.stat().st_size} bytes, and {needs} are needed for "
            f"{name} values of shape {shape}."
        )
    width = math.prod(shape[1:]) * dtype.itemsize

    def chunks(samples: int) -> Iterator[Tensor]:
        if fortran:
            whole = np.load(path, mmap_mode="c")
        for start in range(0, shape[0], samples):
            count = min(samples, shape[0] - start)
            if fortran:
                yield numbers(np.ascontiguousarray(whole[start : start + count]))
                continue
            # Each chunk is a mapping of its own, so that pages read before do not stay resident.
            yield numbers(np.memmap(path, dtype, "c", offset + start * width, (count, *shape[1:])))

    return {"": Stored("", str(path), shape, name, chunks)}


def _unpickled(array: np.ndarray, name: str, where: str) -> Stored:
    """Make numbers of an array of objects that was trusted."""
    try:
        values = np.stack([np.asarray(row) for row in array])
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: its objects are no rows of one width ({error}).") from None
    dtype = check_dtype(values.dtype, where)

    def chunks(samples: int) -> Iterator[Tensor]:
        for start in range(0, len(values), samples):
            yield numbers(values[start : start + samples])

    return Stored(name, where, values.shape, dtype, chunks)


def open_npz(path: Path, trust: bool) -> dict[str, Stored]:
    """Open a ``.npz`` archive, compressed or not; its arrays are decompressed as they are read.

    Arrays of text or objects beside those of numbers are passed over unless they are all.

    Raises:
        UserError: the file is damaged or truncated, or has no array of real numbers.
    """
    found: dict[str, Stored] = {}
    refused: UserError | None = None
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path}: truncated or damaged, no .npz archive ({error}).") from None
    for member in members:
        key = member.removesuffix(".npy")
        try:
            found[key] = _member(path, member, key, trust)
        except UserError as error:
            refused = refused or error
    if not found:
        raise refused or UserError(f"{path}: has no array in it.")
    return found


def _member(path: Path, member: str, key: str, trust: bool) -> Stored:
    where = f"{path} ({key})"
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
            shape, fortran, dtype = _header(stream, where)
            if dtype.hasobject:
                if not trust:
                    raise UserError(_PICKLED.format(where=where))
                with np.load(path, allow_pickle=True) as arrays:
                    return _unpickled(arrays[key], key, str(path))
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{where}: truncated or damaged ({error}).") from None
    name = check_dtype(dtype, where)

    def chunks(samples: int) -> Iterator[Tensor]:
        if fortran:  # its samples are spread over the whole member
            with np.load(path) as arrays:
                whole = arrays[key]
            for start in range(0, shape[0], samples):
                yield numbers(np.ascontiguousarray(whole[start : start + samples]))
            return
        width = math.prod(shape[1:]) * dtype.itemsize
        try:
            with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
                _header(stream, where)
                for start in range(0, shape[0], samples):
                    count = min(samples, shape[0] - start)
                    values = bytearray(stream.read(count * width))
                    if len(values) < count * width:
                        raise EOFError(f"it ends in sample {start + len(values) // width}")
                    yield numbers(np.frombuffer(values, dtype).reshape(count, *shape[1:]))
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise UserError(f"{where}: truncated or damaged ({error}).") from None

    return Stored(key, str(path), shape, name, chunks)

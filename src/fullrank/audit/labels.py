"""The class of each sample, from a file beside the embeddings or an array among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from fullrank.audit.readers import open_arrays
from fullrank.audit.stored import Stored
from fullrank.errors import UserError, unknown_name


def read_labels(
    given: str, n: int, arrays: dict[str, Stored] | None = None, trust: bool = False
) -> Int[Tensor, " n"]:
    """Read one label a sample.

    Args:
        given: the name of an array of the embeddings' own file, or the path of a file: ``.npy``,
            ``.pt`` and other files of arrays, or text with one label a line (``.txt``, ``.csv``;
            one line more than samples is a heading).
        n: number of samples.
        arrays: of the embeddings' own file.
        trust: whether a pickle that can run code may be loaded.

    Returns:
        int64. Whole numbers are kept; text is numbered in its sorted order.

    Raises:
        UserError: the number of labels is not ``n``, or they are no classes.
    """
    own = arrays or {}
    path = Path(given)
    if given in own:
        values = _values(own[given])
    elif not path.is_file():
        allowed = [k for k, a in own.items() if len(a.shape) == 1]
        raise unknown_name(
            "labels", given, allowed, "Allowed: a file of labels, or the name of an array."
        )
    elif path.suffix.lower() in (".txt", ".csv", ".tsv"):
        values = _lines(path, n)
    else:
        found = open_arrays(path, trust) if path.suffix != ".npy" else _npy(path, trust)
        if len(found) > 1:
            raise UserError(
                f"labels: {given} holds {', '.join(found)}. Allowed: a file of one array."
            )
        values = _values(next(iter(found.values())))
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise UserError(f"labels: {given} has shape {values.shape}. Allowed: one label a sample.")
    if len(values) != n:
        raise UserError(f"labels: {given} has {len(values)} labels for {n} samples.")
    return _classes(values, given)


def _npy(path: Path, trust: bool) -> dict[str, Stored | np.ndarray]:
    """Read a ``.npy`` file, which may hold text, as the other files of arrays do not."""
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return dict(open_arrays(path, trust))  # which says what is wrong
    return {"": values} if values.dtype.kind in "US" else dict(open_arrays(path, trust))


def _values(array: Stored | np.ndarray) -> np.ndarray:
    if isinstance(array, np.ndarray):
        return array
    parts = [part.numpy() for part in array.chunks(1 << 20)]
    return np.concatenate(parts) if parts else np.empty(0)


def _lines(path: Path, n: int) -> np.ndarray:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"labels: {path} cannot be read as text ({error}).") from None
    lines = [line.strip().strip('"') for line in lines if line.strip()]
    if len(lines) == n + 1:
        lines = lines[1:]
    if lines and all("," in line or "\t" in line for line in lines[:10]):
        raise UserError(f"labels: {path} has several columns. Allowed: one.")
    try:
        return np.array([int(line) for line in lines])
    except ValueError:
        return np.array(lines, dtype=str)


def _classes(values: np.ndarray, given: str) -> Tensor:
    if values.dtype.kind in "US":
        return torch.from_numpy(np.unique(values, return_inverse=True)[1]).long()
    if not np.isfinite(values).all() or (values != np.round(values)).any():
        raise UserError(f"labels: {given} has values that are no whole numbers.")
    return torch.from_numpy(values.astype(np.int64))

"""Arrays that lie in files, read a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError

# Wider integers have values that float32 cannot hold.
_EXACT_IN_FLOAT32 = (torch.int8, torch.uint8, torch.int16, torch.uint16, torch.bool)


@dataclass(frozen=True)
class Stored:
    """One array of a file.

    Attributes:
        name: in its file; empty where the file holds one array.
        where: the file.
        shape: of the whole array, samples first.
        dtype: as stored.
        chunks: makes an iterator over slices of at most so many samples, in order, float32 or
            float64.
    """

    name: str
    where: str
    shape: tuple[int, ...]
    dtype: str
    chunks: Callable[[int], Iterator[Tensor]]

    def __str__(self) -> str:
        return f"{self.where} ({self.name})" if self.name else self.where


def numbers(values: np.ndarray | Tensor) -> Float[Tensor, "*shape"]:
    """Return numbers of any real dtype as float32, or as float64 where they need it.

    float32 and float64 in native byte order are not copied.
    """
    if isinstance(values, np.ndarray):
        if values.dtype.kind == "f" and values.dtype.itemsize > 8:
            values = values.astype(np.float64)
        elif values.dtype.kind == "u" and values.dtype.itemsize > 1:
            values = values.astype(np.float32 if values.dtype.itemsize == 2 else np.float64)
        values = torch.from_numpy(values.astype(values.dtype.newbyteorder("="), copy=False))
    if values.dtype in (torch.float32, torch.float64):
        return values
    if values.is_floating_point() or values.dtype in _EXACT_IN_FLOAT32:
        return values.float()
    return values.double()


def check_dtype(dtype: np.dtype | torch.dtype, where: str) -> str:
    """Return the dtype's name if its values are real numbers.

    Args:
        dtype: of an array in a file.
        where: the file, for the error.

    Raises:
        UserError: it is complex, text, a structure, or unknown.
    """
    name = str(dtype).removeprefix("torch.")
    if isinstance(dtype, np.dtype):
        real = dtype.kind in "fiub" and dtype.fields is None
    else:
        real = not dtype.is_complex and "q" not in name
    if not real:
        raise UserError(
            f"{where}: holds {name} values. Allowed: integers, float16, bfloat16, float32, float64."
        )
    return name


def joined(parts: list[Stored], where: str) -> Stored:
    """Put the arrays of several files end to end.

    Args:
        parts: arrays of the same name, in order.
        where: the folder.

    Raises:
        UserError: they differ in anything but their number of samples.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.shape[1:] != first.shape[1:]:
            raise UserError(
                f"{where}: the shards differ in width: {first} has samples of shape "
                f"{_sample(first)}, {part} of {_sample(part)}. Allowed: one width."
            )

    def chunks(samples: int) -> Iterator[Tensor]:
        for part in parts:
            if part.shape[0]:
                yield from part.chunks(samples)

    shape = (sum(part.shape[0] for part in parts), *first.shape[1:])
    dtypes = sorted({part.dtype for part in parts})
    return Stored(first.name, where, shape, ", ".join(dtypes), chunks)


def _sample(array: Stored) -> str:
    return "x".join(map(str, array.shape[1:])) or "()"

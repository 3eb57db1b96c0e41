"""The idx format of MNIST and Fashion-MNIST, plain or gzipped."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from fullrank.errors import UserError


def read_idx(path: Path) -> UInt8[Tensor, "*shape"]:
    """Read one idx file of unsigned bytes.

    The format (LeCun's MNIST page): two zero bytes, the type (8: unsigned byte), the number of
    dimensions, each dimension as a big-endian 32-bit number, then the values.

    Args:
        path: the file; gzip is recognised by its first bytes, not by the name.

    Raises:
        UserError: the file is not idx, or is truncated or damaged.
    """
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read, it is truncated or damaged ({error}).") from None
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise UserError(f"{path}: not an idx file of unsigned bytes.")
    start = 4 + 4 * raw[3]
    shape = tuple(int(n) for n in np.frombuffer(raw[4:start], ">u4")) if len(raw) >= start else ()
    if len(shape) != raw[3] or len(raw) - start != math.prod(shape):
        raise UserError(
            f"{path}: truncated or damaged: its header announces {shape} values, "
            f"{max(0, len(raw) - start)} bytes follow."
        )
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy())

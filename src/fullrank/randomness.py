"""Random streams that do not depend on each other.

Every use of chance has its own generator, derived from the run's seed and a key that names the
use: ``generator(seed, "views", step)``. Views, data order and initialisation therefore do not
disturb each other, and none of them depends on resuming, on the number of workers or of ranks.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *key: str | int) -> int:
    """Derive a 63-bit seed from ``seed`` and the ``key`` that names a use of chance."""
    text = "\x1f".join([str(seed), *(f"{type(k).__name__}:{k}" for k in key)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def generator(seed: int, *key: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator for one use of chance.

    Args:
        seed: the run's seed.
        *key: what the numbers are for, e.g. ``"views", step``.
        device: where the numbers are drawn.

    Returns:
        A fresh ``torch.Generator``; equal arguments give equal streams.
    """
    import torch

    return torch.Generator(device=device).manual_seed(derive_seed(seed, *key))

"""A seeded sample of rows that does not depend on the order in which the rows come.

What needs pairs or neighbours cannot be computed from moments. It is computed from a sample: the
rows whose index has the smallest hash. Which rows these are depends on the seed and the indices
alone, not on the order, the batches or the number of processes; and each set of rows is equally
likely (bottom-k sampling; Broder 1997, "On the resemblance and containment of documents").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int, Real
from torch import Tensor

from fullrank.errors import UserError
from fullrank.randomness import derive_seed

_LAST = torch.iinfo(torch.int64).max


class RowSample:
    """The ``size`` rows with the smallest hashes among all rows seen, each index once.

    Rows are kept as they come (integers as float32), on the CPU; memory is at most three times
    ``size`` rows.

    Args:
        size: how many rows to keep.
        seed: chooses the hash, and so the sample.

    Raises:
        UserError: a size below 1.

    Example:
        >>> import torch
        >>> sample = RowSample(size=2, seed=0)
        >>> x = torch.arange(8.0)[:, None]
        >>> sample.update(x[4:], torch.arange(4, 8))
        >>> sample.update(x[:4], torch.arange(4))
        >>> other = RowSample(size=2, seed=0)
        >>> other.update(x)
        >>> torch.equal(sample.rows, other.rows)
        True
    """

    def __init__(self, size: int = 4096, seed: int = 0) -> None:
        if size < 1:
            raise UserError(f"size: {size} given; allowed: 1 or more.")
        self.size, self.seed = size, seed
        self.seen = 0
        self._clear()

    def _clear(self) -> None:
        self._hashes: list[Tensor] = []
        self._indices: list[Tensor] = []
        self._rows: list[Tensor] = []
        self._pending = 0
        self._threshold = _LAST

    def update(self, rows: Real[Tensor, "n d"], index: Int[Tensor, " n"] | None = None) -> None:
        """Offer a batch of rows.

        Args:
            rows: shape (n, d).
            index: which row of the whole data each is; by default they count on from the number
                of rows seen so far. An index that is offered twice is kept once.

        Raises:
            UserError: the width differs from that of the rows kept.
        """
        n = len(rows)
        if index is None:
            index = torch.arange(self.seen, self.seen + n)
        if self._rows and self._rows[0].shape[1] != rows.shape[1]:
            raise UserError(
                f"rows: width {rows.shape[1]} given; allowed: {self._rows[0].shape[1]}, as in "
                "those before."
            )
        self.seen += n
        index = index.detach().to("cpu", torch.int64)
        hashes = _hashed(index, self.seed)
        chosen = (hashes <= self._threshold).nonzero()[:, 0]
        if len(chosen) > 2 * self.size:
            # Only the smallest can stay; twice as many, since an index may come twice.
            chosen = chosen[hashes[chosen].argsort()[: 2 * self.size]]
        if len(chosen) == 0:
            return
        kept = rows.detach()[chosen.to(rows.device)].cpu()
        if not kept.is_floating_point():
            kept = kept.to(torch.float32)
        self._add(hashes[chosen], index[chosen], kept)

    def _add(self, hashes: Tensor, index: Tensor, rows: Tensor) -> None:
        self._hashes.append(hashes)
        self._indices.append(index)
        self._rows.append(rows)
        self._pending += len(hashes)
        if self._pending > 2 * self.size:
            self._settle()

    def _settle(self) -> None:
        """Bring what is kept into one piece: sorted by hash, each once, at most ``size``."""
        if len(self._hashes) == 0:
            return
        hashes = torch.cat(self._hashes)
        order = hashes.argsort(stable=True)
        sorted_hashes = hashes[order]
        # The hash is one to one, so that equal hashes are equal indices.
        first = torch.ones_like(order, dtype=torch.bool)
        first[1:] = sorted_hashes[1:] != sorted_hashes[:-1]
        order = order[first][: self.size]
        index, rows = torch.cat(self._indices)[order], torch.cat(self._rows)[order]
        self._hashes, self._indices, self._rows = [hashes[order]], [index], [rows]
        self._pending = len(order)
        if len(order) == self.size:
            self._threshold = int(self._hashes[0][-1])

    @property
    def rows(self) -> Real[Tensor, "m d"]:
        """The rows of the sample, shape (m, d), in random order: a part of it is a sample too."""
        self._settle()
        return self._rows[0] if self._rows else torch.zeros(0, 0)

    @property
    def index(self) -> Int[Tensor, " m"]:
        """Which row of the whole data each row of the sample is, shape (m,)."""
        self._settle()
        return self._indices[0] if self._indices else torch.zeros(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.index)

    def merge(self, other: RowSample) -> None:
        """Add the rows that another sample was offered.

        Raises:
            UserError: the sizes, the seeds or the widths differ.
        """
        if (other.size, other.seed) != (self.size, self.seed):
            raise UserError(
                f"sample: size {other.size} and seed {other.seed} given; allowed: size {self.size} "
                f"and seed {self.seed}, as in the one it is merged into."
            )
        seen = self.seen + other.seen
        if len(other) > 0:
            self.update(other.rows, other.index)
        self.seen = seen

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` needs to go on from here."""
        return {
            "size": self.size,
            "seed": self.seed,
            "seen": self.seen,
            "index": self.index,
            "rows": self.rows,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become the sample whose ``state_dict`` is given."""
        self.size, self.seed = int(state["size"]), int(state["seed"])
        self._clear()
        if len(state["index"]) > 0:
            self.update(state["rows"], state["index"])
        self.seen = int(state["seen"])


def _hashed(index: Tensor, seed: int) -> Tensor:
    """Hash int64 one to one onto int64, so that sorting by it shuffles.

    The output function of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom
    number generators", figure 16), whose arithmetic is that of 64 bits with wrap-around.
    """
    z = index * _signed(0x9E3779B97F4A7C15) + derive_seed(seed, "row sample")
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shifted(z, 31)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Shift right without copying the sign in."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)

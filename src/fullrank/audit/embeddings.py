"""Embeddings in files as a subject: read a block at a time, whatever their number."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from fullrank.audit.labels import read_labels
from fullrank.audit.pooling import check_pool, pooled, tokens_of
from fullrank.audit.readers import choose, open_arrays
from fullrank.audit.stored import Stored
from fullrank.audit.subject import Block, Options, Subject
from fullrank.errors import UserError
from fullrank.randomness import generator

LAYER = "features"
BLOCK_BYTES = 64 << 20
# Beyond this, the square of a sum of squares is no float64.
LONGEST = 1e70
BLOCK_SAMPLES = 1024  # at least, however wide the samples are


class Embeddings(Subject):
    """Rows of a file or of a folder of shards: the layer ``features``.

    Memory is that of one block (64 MiB of numbers, or 1024 samples if that is more).

    Args:
        what: the path, as the user named it.
        options: ``key``, ``pool``, ``level``, ``labels``, ``bad_rows``, ``trust`` and ``limit``
            matter here.

    Raises:
        UserError: the file cannot be read, holds no numbers, or needs a choice (``key``, ``pool``).
    """

    kind = "embeddings"

    def __init__(self, what: str, options: Options) -> None:
        self.what, self.options = what, options
        arrays = open_arrays(Path(what).expanduser(), options.trust)
        keys = options.key
        own = (options.labels,) if options.labels in arrays else ()
        rest = arrays if keys else {k: v for k, v in arrays.items() if k not in own}
        self.arrays = choose(rest, keys, what)
        shape = self.arrays[0].shape
        self.pool = options.pool
        if options.level != "sample":
            if options.pool not in (None, "tokens"):
                raise UserError(
                    f"pool: {options.pool!r} given with level {options.level!r}, at which tokens "
                    "are not pooled. Allowed: none."
                )
            self.pool = "tokens"
        check_pool(shape, self.pool, what)
        if self.pool == "views" and len(self.arrays) > 1 and len(shape) == 3:
            raise UserError("pool: 'views' given with several keys, which are views already.")
        self.n = shape[0]
        self._limit = self._limited()
        self._labels = (
            None
            if options.labels is None
            else read_labels(options.labels, self.n, arrays, options.trust)
        )
        self._good: Tensor | None = None
        self.conventions = self._conventions()

    def _limited(self) -> Bool[Tensor, " n"] | None:
        """Return which samples a limit keeps; a smaller limit keeps a subset of a larger one's."""
        if self.options.limit is None or self.options.limit >= self.n:
            return None
        order = torch.randperm(self.n, generator=generator(self.options.seed, "limit"))
        kept = torch.zeros(self.n, dtype=torch.bool)
        kept[order[: self.options.limit]] = True
        return kept

    def _conventions(self) -> dict[str, Any]:
        shape = self.arrays[0].shape
        level = self.options.level
        if self.pool == "tokens" and level == "sample":
            level = "tokens"
        several = len(shape) == 3 and self.pool == "views"
        found: dict[str, Any] = {
            "dtype": self.arrays[0].dtype,
            "shape": shape,
            "keys": [array.name for array in self.arrays],
            "level": level,
            "pooling": self.pool if len(shape) > 2 else None,
            "views": shape[1] if several else len(self.arrays),
            "view": "as stored",
            "mode": "as stored",
            "bad_rows": self.options.bad_rows,
            "trust": self.options.trust,
            "limit": self.options.limit,
        }
        if self.pool == "tokens":
            found["tokens"] = {LAYER: tokens_of(shape, self.pool)}
        return found

    @property
    def labels(self) -> Int[Tensor, " n"] | None:
        """The class of each sample that ``blocks`` yields, in order."""
        if self._labels is None:
            return None
        if self.options.bad_rows == "exclude" and self._good is None:
            for _ in self.blocks():
                pass
        keep = torch.ones(self.n, dtype=torch.bool) if self._good is None else self._good
        if self._limit is not None:
            keep = keep & self._limit
        return self._labels[keep]

    def blocks(self) -> Iterator[Block]:
        """Yield the rows a block at a time, in the order of the file; the same at every call."""
        good = torch.ones(self.n, dtype=torch.bool)
        left = 0
        for start, parts in self._blocks():
            stop = start + len(parts[0])
            keep = None if self._limit is None else self._limit[start:stop]
            if keep is not None:
                parts = tuple(part[keep] for part in parts)
            fine = finite_samples(parts)
            if fine is not None:
                if self.options.bad_rows == "refuse":
                    raise self._refusal()
                at = torch.arange(start, stop) if keep is None else start + keep.nonzero()[:, 0]
                good[at[~fine]] = False
                parts = tuple(part[fine] for part in parts)
            if not len(parts[0]):
                continue
            left += len(parts[0])
            yield {LAYER: tuple(view for part in parts for view in pooled(part, self.pool))}
        self._good = good
        excluded = int(self.n - good.sum())
        self.conventions["excluded"] = excluded
        if excluded:
            self.conventions["first_excluded"] = int((~good).nonzero()[0, 0])
        if not left:
            raise UserError(
                f"{self.what}: all {excluded} samples have NaN or infinite "
                f"values{_or_large(self.arrays)}; none left."
            )

    def reference(self) -> None:
        """Return None: embeddings have no architecture."""
        return None

    def _blocks(self) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """Yield the first sample's index and the same samples of every array."""
        bytes_a_sample = 4 * math.prod(self.arrays[0].shape[1:])
        samples = max(BLOCK_SAMPLES, BLOCK_BYTES // bytes_a_sample)
        streams = [_exactly(array, samples) for array in self.arrays]
        start = 0
        for parts in zip(*streams, strict=True):
            yield start, parts
            start += len(parts[0])

    def _refusal(self) -> UserError:
        """Count the bad samples and name the first."""
        count, first = 0, -1
        for start, parts in self._blocks():
            fine = finite_samples(parts)
            if fine is None:
                continue
            bad = ~fine
            if self._limit is not None:
                bad &= self._limit[start : start + len(bad)]
            if first < 0 and bad.any():
                first = start + int(bad.nonzero()[0, 0])
            count += int(bad.sum())
        return UserError(
            f"bad_rows: {self.what} has NaN or infinite values{_or_large(self.arrays)} in {count} "
            f"of {self.n} samples, the first at index {first}. Allowed: finite values; 'exclude' "
            "(--bad-rows exclude) leaves these samples out."
        )


def finite_samples(parts: tuple[Shaped[Tensor, "n ..."], ...]) -> Bool[Tensor, " n"] | None:
    """Return which samples are finite, and no longer than ``LONGEST``, in all parts.

    The sum of numbers among which one is NaN or infinite never is finite, so that one sum tells
    the usual case. Only float64 holds rows that are too long.

    Returns:
        None if all samples are.
    """
    if all(map(_all_fine, parts)):
        return None
    fine = torch.ones(len(parts[0]), dtype=torch.bool)
    for part in parts:
        rows = part.flatten(1)
        if rows.dtype == torch.float64:  # of NaN it is NaN, which is not below anything
            fine &= (torch.linalg.vector_norm(rows, dim=1) < LONGEST).cpu()
        else:
            fine &= torch.isfinite(rows).all(1).cpu()
    return None if bool(fine.all()) else fine


def _all_fine(part: Tensor) -> bool:
    if part.dtype == torch.float64:
        return bool(torch.linalg.vector_norm(part) < LONGEST)
    return bool(torch.isfinite(part.sum()))


def _or_large(arrays: list[Stored]) -> str:
    """Name what only float64 can hold, where there is any."""
    wide = any("float64" in array.dtype for array in arrays)
    return f" (or rows longer than {LONGEST:g})" if wide else ""


def _exactly(array: Stored, samples: int) -> Iterator[Tensor]:
    """Yield chunks of exactly ``samples``, the last aside, wherever files and row groups end.

    So the views of a sample, which may lie in row groups of different lengths, meet again.
    """
    held: list[Tensor] = []
    count = 0
    for chunk in array.chunks(samples):
        while count + len(chunk) >= samples:
            cut = samples - count
            held.append(chunk[:cut])
            yield held[0] if len(held) == 1 else torch.cat(held)
            held, count, chunk = [], 0, chunk[cut:]
        if len(chunk):
            held.append(chunk)
            count += len(chunk)
    if held:
        yield held[0] if len(held) == 1 else torch.cat(held)

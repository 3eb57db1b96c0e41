"""From a subject's blocks of rows to the moments and sampled rows of each of its layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fullrank.audit.convergence import convergence
from fullrank.audit.subject import Subject
from fullrank.errors import UserError
from fullrank.measure.shards import Shards
from fullrank.measure.sketch import WIDEST_EXACT
from fullrank.measure.stream import Measured, Precision, RowStream, measure_stream
from fullrank.measure.table import Conventions, Reading, read_table, read_wide_table
from fullrank.measure.vitals import VitalSigns, vital_signs
from fullrank.measure.wide import WideRows, wide_vital_signs

SHARDS = 8
# Multiplications that all pairs of sampled rows may take: 4,096 rows of width 512, 2,048 of 2,048.
SAMPLE_PRODUCTS = 4096**2 * 512
# Bytes that the sampled rows and the shards of a layer may hold.
SAMPLE_BYTES = 256 << 20
SHARD_BYTES = 6 << 30


@dataclass(frozen=True)
class Layer:
    """What was read of one layer.

    Attributes:
        moments: its moments in shards, or wide rows and their sketch.
        rows: rows drawn at random from the first view, (m, d); None if none were asked for.
        index: which rows they are.
        precision: of the products that the moments were made of.
    """

    moments: Shards | WideRows
    rows: Tensor | None
    index: Tensor | None
    precision: str

    def vitals(self) -> VitalSigns:
        """Return its vital signs."""
        if isinstance(self.moments, WideRows):
            return wide_vital_signs(self.moments)
        return vital_signs(self.moments.total)

    def table(self, conventions: Conventions, seed: int) -> dict[str, Reading]:
        """Return every metric with its error bar."""
        if isinstance(self.moments, WideRows):
            return read_wide_table(self.moments, conventions=conventions, seed=seed)
        return read_table(self.moments, self.rows, conventions=conventions, seed=seed)

    def convergence(self, conventions: Conventions) -> dict[str, list[tuple[int, float]]]:
        """Return every metric of the moments on growing shares of the images."""
        if isinstance(self.moments, WideRows):
            return {}
        return convergence(self.moments, conventions)


def measure_subject(
    subject: Subject, sample: int, precision: Precision = "auto", seed: int = 0
) -> dict[str, Layer]:
    """Read all blocks of a subject once (a file twice if float32 turns out not to do).

    Args:
        subject: what to read.
        sample: rows to draw of each layer; 0 for none.
        precision: of a file's products: ``auto``, ``float32`` or ``float64``. A model's are
            float64: they cost little beside the model.
        seed: of the draw.

    Returns:
        The layers by name, the main one first.

    Raises:
        UserError: there are no rows, or a block is not as its subject must give it.
    """
    if subject.kind == "embeddings":
        first = next(iter(subject.blocks()), None)
        if first is None:
            raise UserError(f"what: {subject.what} has no rows.")
        views = first["features"]
        if views[0].shape[1] <= WIDEST_EXACT:
            return {"features": _of_file(subject, views, sample, precision, seed)}
    streams: dict[str, RowStream | WideRows] = {}
    for block in subject.blocks():
        for name, views in block.items():
            if name not in streams:
                streams[name] = _stream(views, sample, seed)
            streams[name].add(views)
    if not streams:
        raise UserError(f"what: {subject.what} gave no rows at all.")
    return {name: _layer(stream, sample > 0) for name, stream in streams.items()}


def _stream(views: Sequence[Tensor], sample: int, seed: int) -> RowStream | WideRows:
    dim = views[0].shape[1]
    drawn = sample_for(sample, dim)
    if dim > WIDEST_EXACT:
        return WideRows(dim, len(views), sample=drawn, seed=seed)
    return RowStream(shards_for(dim, len(views)), drawn, seed)


def _of_file(
    subject: Subject, views: Sequence[Tensor], sample: int, precision: Precision, seed: int
) -> Layer:
    dim = views[0].shape[1]
    measured = measure_stream(
        lambda: (block["features"] for block in subject.blocks()),
        shards=shards_for(dim, len(views)),
        sample=sample_for(sample, dim),
        seed=seed,
        precision=precision,
    )
    return _layer(measured, sample > 0)


def _layer(read: RowStream | WideRows | Measured, sampled: bool) -> Layer:
    measured = read.measured() if isinstance(read, RowStream) else read
    rows, index = (measured.sample.rows, measured.sample.index) if sampled else (None, None)
    if isinstance(measured, WideRows):
        return Layer(measured, rows, index, "float64")
    return Layer(measured.shards, rows, index, measured.precision)


def sample_for(sample: int, dim: int) -> int:
    """Return how many rows of this width to draw when ``sample`` are asked for at most."""
    return max(1, min(sample, math.isqrt(SAMPLE_PRODUCTS // dim), SAMPLE_BYTES // (4 * dim)))


def shards_for(dim: int, views: int) -> int:
    """Return how many shards of moments of this width fit in memory: 8, or 1."""
    matrices = {1: 1, 2: 3}.get(views, 2)
    return SHARDS if SHARDS * matrices * 8 * dim**2 <= SHARD_BYTES else 1

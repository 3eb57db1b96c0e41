"""From a subject's blocks of rows to the moments and sampled rows of each of its layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from fullrank.audit.convergence import convergence
from fullrank.audit.subject import Subject
from fullrank.audit.token_signs import TokenSigns
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
        tokens: signs in the tokens of each image; None where a row is an image.
    """

    moments: Shards | WideRows
    rows: Tensor | None
    index: Tensor | None
    precision: str
    tokens: TokenSigns | None = None

    @property
    def image(self) -> Tensor | None:
        """Which image each of the drawn rows belongs to, (m,)."""
        if self.index is None or self.tokens is None:
            return self.index
        return self.index // self.tokens.tokens

    def vitals(self) -> VitalSigns:
        """Return its vital signs."""
        if isinstance(self.moments, WideRows):
            return wide_vital_signs(self.moments)
        return vital_signs(self.moments.total)

    def table(self, conventions: Conventions, seed: int) -> dict[str, Reading]:
        """Return every metric with its error bar."""
        if isinstance(self.moments, WideRows):
            found = read_wide_table(self.moments, conventions=conventions, seed=seed)
        else:
            found = read_table(self.moments, self.rows, conventions=conventions, seed=seed)
        return found if self.tokens is None else found | self.tokens.readings()

    def convergence(self, conventions: Conventions) -> dict[str, list[tuple[int, float]]]:
        """Return every metric of the moments on growing shares of the images."""
        if isinstance(self.moments, WideRows):
            return {}
        return convergence(self.moments, conventions)


def measure_subject(
    subject: Subject, sample: int, precision: Precision = "auto", seed: int = 0
) -> dict[str, Layer]:
    """Read all blocks of a subject once.

    A file is read twice if float32 turns out not to do, and once more for the tokens of each image.

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
    signs: dict[str, TokenSigns | None] = {}
    for block in subject.blocks():
        for name, views in block.items():
            if name not in streams:
                streams[name] = _stream(views, sample, seed)
                signs[name] = _signs(subject, name, views, sample, seed)
            streams[name].add(views)
            _add(signs[name], views)
    if not streams:
        raise UserError(f"what: {subject.what} gave no rows at all.")
    return {
        name: replace(_layer(stream, sample > 0), tokens=signs[name])
        for name, stream in streams.items()
    }


def _signs(
    subject: Subject, layer: str, views: Sequence[Tensor], sample: int, seed: int
) -> TokenSigns | None:
    """Return what gathers the signs of tokens, if rows are tokens and a sample is drawn."""
    tokens = subject.conventions.get("tokens", {}).get(layer)
    if tokens is None or sample == 0:
        return None
    return TokenSigns(tokens, views[0].shape[1], sample, seed)


def _add(signs: TokenSigns | None, views: Sequence[Tensor]) -> None:
    if signs is not None:
        signs.add(views[0])


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
    signs = _signs(subject, "features", views, sample, seed)
    if signs is not None:
        for block in subject.blocks():
            signs.add(block["features"][0])
    return replace(_layer(measured, sample > 0), tokens=signs)


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

"""Columns of vectors in Parquet files, read a few pages at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fullrank.audit.stored import Stored, check_dtype, numbers
from fullrank.errors import UserError


def open_parquet(path: Path, trust: bool) -> dict[str, Stored]:
    """Open the columns of numbers of a Parquet file: scalars, and lists of one length.

    Lists of lists are features of rank 3. Lists that may vary in length are taken if those of
    all rows are equally long, which is checked as they are read.

    Raises:
        UserError: pyarrow is missing, the file is damaged or truncated, or it has no such column.
    """
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError:
        raise UserError(
            f"{path}: reading Parquet needs pyarrow: pip install 'fullrank[parquet]'."
        ) from None
    try:
        with pq.ParquetFile(path) as file:
            rows, schema = file.metadata.num_rows, file.schema_arrow
            found = {}
            for field in schema:
                shape, dtype = _described(field.type)
                if shape is None:
                    continue
                if -1 in shape and rows:
                    first = next(file.iter_batches(1, columns=[field.name])).column(0)
                    shape = _values(first, field.name, path).shape[1:]
                name = check_dtype(np.dtype(dtype), f"{path} ({field.name})")
                chunks = _reader(path, field.name, shape)
                found[field.name] = Stored(field.name, str(path), (rows, *shape), name, chunks)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: truncated or damaged, no Parquet file ({error}).") from None
    if not found:
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise UserError(
            f"{path}: no column of numbers among {columns or 'none'}. Allowed: a column of "
            "fixed-size lists of numbers."
        )
    return found


def _described(kind: Any) -> tuple[tuple[int, ...] | None, str]:
    """Return the shape of one value of a column, -1 where it may vary, and the numbers' dtype."""
    import pyarrow as pa

    shape: tuple[int, ...] = ()
    if isinstance(kind, pa.FixedShapeTensorType):
        return tuple(kind.shape), str(kind.value_type.to_pandas_dtype().__name__)
    while pa.types.is_nested(kind):
        if pa.types.is_fixed_size_list(kind):
            shape += (kind.list_size,)
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            shape += (-1,)
        else:
            return None, ""
        kind = kind.value_type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return None, ""
    return shape, kind.to_pandas_dtype().__name__


def _values(column: Any, name: str, path: Path) -> np.ndarray:
    """Return a batch of a column as an array, ``(b, ...)``."""
    import pyarrow as pa

    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    rows = len(column)
    there = None
    if pa.types.is_fixed_size_list(column.type) and column.null_count:
        # A null row becomes a row of NaN, a bad row like any other.
        there = column.is_valid().to_numpy(zero_copy_only=False)
        column = column.drop_null()
    shape = [len(column)]
    while pa.types.is_nested(column.type):
        if column.null_count:
            raise UserError(
                f"{path} ({name}): {column.null_count} of {rows} rows are null. Allowed: rows of "
                "one width; nulls in a fixed-size list, which --bad-rows can exclude."
            )
        inner = column.flatten()
        if pa.types.is_fixed_size_list(column.type):
            length = column.type.list_size
        else:
            length = len(inner) // max(1, len(column))
            lengths = column.value_lengths().to_numpy(zero_copy_only=False)
            if (lengths != length).any():
                raise UserError(
                    f"{path} ({name}): its rows differ in width: {lengths.min()} to "
                    f"{lengths.max()} values. Allowed: one width."
                )
        shape.append(length)
        column = inner
    if column.null_count and not pa.types.is_floating(column.type):
        raise UserError(
            f"{path} ({name}): {column.null_count} values are null. Allowed: nulls among floats, "
            "which --bad-rows can exclude."
        )
    # A null among floats becomes NaN, a bad row like any other.
    values = column.to_numpy(zero_copy_only=False)
    if there is not None:
        kind = values.dtype if values.dtype.kind == "f" else np.float64
        filled = np.full((rows, *shape[1:]), np.nan, dtype=kind)
        filled[there] = values.reshape(shape)
        return filled
    return values.reshape(shape) if values.flags.writeable else values.reshape(shape).copy()


def _reader(path: Path, name: str, shape: tuple[int, ...]) -> Any:
    def chunks(samples: int) -> Iterator[Tensor]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        start = 0
        try:
            # The reader's defaults hold the whole file in the end, these a few pages of it.
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
                for batch in file.iter_batches(samples, columns=[name], use_threads=False):
                    values = _values(batch.column(0), name, path)
                    if values.shape[1:] != tuple(shape):
                        raise UserError(
                            f"{path} ({name}): its rows differ in width: "
                            f"{'x'.join(map(str, shape))} values in the first, "
                            f"{'x'.join(map(str, values.shape[1:]))} from row {start} on. "
                            "Allowed: one width."
                        )
                    start += len(values)
                    yield numbers(values)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path}: truncated or damaged ({error}).") from None

    return chunks

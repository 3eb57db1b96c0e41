"""The results of a sweep as rows, and as one Parquet file."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fullrank.experiments.engine import Ended
from fullrank.experiments.grid import Point
from fullrank.experiments.stored import ACCURACIES, ALSO, LAYERS, VITALS, folder_of
from fullrank.train.storage import write_whole

RESULTS = "results.parquet"
# Of every layer; a spectrum is a list of singular values, descending.
COLUMNS = tuple(name for name in (*VITALS, *ALSO) if name != "d")


def row_of(point: Point, ended: Ended) -> dict[str, Any]:
    """Return a run's row.

    Args:
        point: its place in the grid.
        ended: what became of it.

    Returns:
        ``axes`` (the point's labels), ``seed``, ``hash``, ``folder``, ``status``, ``error``,
        ``set_aside`` (a damaged folder that was in its place, and why), ``seconds`` of training,
        ``verdict_LAYER`` and the vital signs ``LAYER_NAME`` of backbone and embedding at the end,
        ``knn``, ``linear``, ``factors_r2`` (mean R² of the continuous factors, where a data set
        knows them) and the same of the random-init network with ``_random``, ``loss`` (the last),
        ``config`` (JSON). What a run does not have is None.
    """
    shown: Mapping[str, Any] = ended.value or {}
    aside = shown.get("set_aside")
    row: dict[str, Any] = {
        "axes": dict(point.labels),
        "seed": point.seed,
        "hash": ended.config.identity(),
        "folder": str(folder_of(ended.config)),
        "status": ended.status,
        "error": ended.error,
        "set_aside": f"{aside['folder']}: {aside['why']}" if aside else None,
        "seconds": shown.get("seconds"),
    }
    for layer in LAYERS:
        vitals = shown.get(layer, {})
        row[f"verdict_{layer}"] = shown.get("verdict", {}).get(layer)
        row |= {f"{layer}_{name}": vitals.get(name) for name in COLUMNS}
    for probe in ACCURACIES:
        row[probe] = shown.get("probe", {}).get(probe)
        row[f"{probe}_random"] = shown.get("random", {}).get(probe)
    config = json.dumps(ended.config.to_dict(), sort_keys=True)
    return row | {"loss": shown.get("loss"), "config": config}


def has_parquet() -> bool:
    """Say whether Parquet can be written here."""
    return find_spec("pyarrow") is not None


def results_in(folder: Path) -> Path | None:
    """Return the Parquet file of a sweep, if there is one."""
    path = folder / RESULTS
    return path if path.exists() else None


def write_results(rows: Sequence[Mapping[str, Any]], axes: Sequence[str], folder: Path) -> Path:
    """Write the rows as a Parquet file: at any moment the old one is there, or the new one.

    Each axis is a column of numbers if all of its values are, else of text.

    Args:
        rows: as ``row_of`` makes them.
        axes: of the grid, in order.
        folder: of the sweep.

    Raises:
        UserError: the disk is full or cannot be written.
    """
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    columns: dict[str, Any] = {}
    for axis in axes:
        name = axis if axis not in (rows[0] if rows else ()) else f"axis:{axis}"
        columns[name] = _column([row["axes"].get(axis) for row in rows])
    text = ("hash", "folder", "status", "error", "set_aside", "config")
    for name in (name for name in (rows[0] if rows else ()) if name != "axes"):
        values = [row[name] for row in rows]
        if name in text or name.startswith("verdict_"):
            kind = pa.string()
        elif name == "seed":
            kind = pa.int64()
        else:
            kind = pa.list_(pa.float64()) if name.endswith("_spectrum") else pa.float64()
        columns[name] = pa.array(values, kind)
    content = io.BytesIO()
    pq.write_table(pa.table(columns), content, compression="zstd")
    write_whole(folder / RESULTS, content.getvalue())
    return folder / RESULTS


def _column(values: Sequence[Any]) -> Any:
    import pyarrow as pa

    given = [value for value in values if value is not None]
    for kinds, kind in ((bool, pa.bool_()), (int, pa.int64()), (int | float, pa.float64())):
        if given and all(
            isinstance(v, kinds) and (kinds is bool or not isinstance(v, bool)) for v in given
        ):
            return pa.array(values, kind)
    return pa.array([None if v is None else str(v) for v in values], pa.string())

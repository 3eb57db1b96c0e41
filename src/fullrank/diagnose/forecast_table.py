"""The table that the forecaster is fitted on: a row a run, written as CSV and read again."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fullrank.errors import UserError

# Columns of a row that are mappings: each entry is a column NAME.KEY of the file.
_MAPPINGS = ("features", "metrics", "accuracy", "random")


@dataclass(frozen=True)
class RunRow:
    """One finished run: what it was, what was measured without labels, how well it probes.

    Attributes:
        run: name of its folder.
        hash: of its configuration.
        kind: hash of its configuration but for the seed: runs of one kind are near-duplicates.
        recipe: base name, without variants and ablations.
        form: variants and ablations of its name, and the fields that differ from that recipe's.
        backbone: its name.
        width: of the backbone's first stage; 0 where it has no such number.
        data: what :func:`fullrank.measure.forecast.data_key` calls the data set.
        train_images: images that it learned from.
        stream: the order of its data.
        seed: of the run.
        steps: that it took.
        d: dimensions of the backbone's features.
        n: held-out images that they were measured on.
        labelled: images that the probes were fitted on.
        tested: images that the probes were scored on.
        classes: number of classes; 0 where that is not known. It takes labels: context only.
        features: of the forecaster (:mod:`fullrank.measure.forecast_features`), of the backbone.
        metrics: label-free metrics by name, of the backbone unless the name says of what.
        accuracy: of the backbone by probe, 0 to 1.
        random: the same of the random-init network. It takes labels: context only.
    """

    run: str
    hash: str
    kind: str
    recipe: str
    form: str
    backbone: str
    width: int
    data: str
    train_images: int
    stream: str
    seed: int
    steps: int
    d: int
    n: int
    labelled: int
    tested: int
    classes: int
    features: dict[str, float]
    metrics: dict[str, float]
    accuracy: dict[str, float]
    random: dict[str, float]


def write_table(rows: Sequence[RunRow], path: Path) -> None:
    """Write rows as CSV: numbers with seven digits, nothing where a run has no such number."""
    keys = {
        name: list(dict.fromkeys(key for row in rows for key in getattr(row, name)))
        for name in _MAPPINGS
    }
    plain = [f.name for f in fields(RunRow) if f.name not in _MAPPINGS]
    header = plain + [f"{name}.{key}" for name in _MAPPINGS for key in keys[name]]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for row in rows:
            cells = [str(getattr(row, name)) for name in plain]
            for name in _MAPPINGS:
                held = getattr(row, name)
                cells += [_text(held.get(key)) for key in keys[name]]
            writer.writerow(cells)


def read_table(path: Path) -> list[RunRow]:
    """Read the rows of a table again.

    Raises:
        UserError: the file is not there, or is no such table.
    """
    if not path.is_file():
        raise UserError(f"table: {path} does not exist.")
    kinds = {f.name: f.type for f in fields(RunRow)}
    with path.open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    rows = []
    for line, cells in enumerate(read, 2):
        values: dict[str, Any] = {name: {} for name in _MAPPINGS}
        try:
            for column, cell in cells.items():
                name, _, key = column.partition(".")
                if key:
                    if cell:
                        values[name][key] = float(cell)
                else:
                    values[name] = int(cell) if kinds[name] == "int" else cell
            rows.append(RunRow(**values))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"table: line {line} of {path} cannot be read ({error}).") from None
    return rows


def rounded(values: dict[str, float]) -> dict[str, float]:
    """Return finite numbers as the file holds them; others are left out."""
    return {k: float(_text(v)) for k, v in values.items() if math.isfinite(v)}


def _text(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.7g}"

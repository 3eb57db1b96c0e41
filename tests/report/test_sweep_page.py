"""The page of a sweep says of every run what became of it."""

from __future__ import annotations

import pytest

from fullrank.report.sweep_page import context


def row(status, verdict=None):
    return {
        "axes": {},
        "seed": 0,
        "folder": "runs/one",
        "status": status,
        "verdict_embedding": verdict,
    }


@pytest.mark.parametrize(
    ("rows", "tally"),
    [
        ([], "8 runs, 8 still to be made."),
        ([row("failed")] * 6, "8 runs, 2 still to be made, 6 failed."),
        ([row("failed")] * 8, "8 runs, 8 failed."),
        (
            [row("failed"), *[row("finished", "healthy")] * 7],
            "8 runs, 1 failed. Verdicts on the embedding: 7 healthy.",
        ),
    ],
)
def test_runs_are_counted_by_how_they_ended(rows, tally):
    assert context({"name": "grid", "axes": {}, "total": 8, "runs": rows})["tally"] == tally

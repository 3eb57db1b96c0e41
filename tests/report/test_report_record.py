"""A run folder is read as it stands after crashes, resumes and cut-off writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from run_folders import CHECKUPS, STEPS, checkup, probe, start, verdict, write_run

from fullrank.errors import UserError
from fullrank.report import RunRecord


def step(number: int, loss: float | None = -0.5) -> dict[str, Any]:
    return {"event": "step", "step": number, "loss": loss}


def test_a_whole_run(tmp_path: Path) -> None:
    record = RunRecord.read(write_run(tmp_path / "run"))
    assert [c.step for c in record.checkups] == list(CHECKUPS)
    assert [event["step"] for event in record.steps] == list(range(1, STEPS + 1))
    assert record.status == "finished"
    assert record.reference is not None
    assert record.reference.mode == "eval, batch norm calibrated"
    assert record.reference.value("embedding", "spread") == 0.46
    assert (record.probe["knn"], record.reference_probe["knn"]) == (0.76, 0.68)
    assert record.layers == ["backbone", "embedding"]
    assert record.config["recipe"]["target"] == "stop-gradient"
    assert record.encoder == {"backbone": "conv4", "d": 64}
    assert record.views is not None
    assert record.last is not None
    assert len(record.last.spectrum("embedding")) == 128


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    record = RunRecord.read(write_run(tmp_path / "run", [start()]))
    assert (record.status, record.last, record.reference, record.last_step) == (
        "unfinished",
        None,
        None,
        0,
    )


@pytest.mark.parametrize("cut", [1, 20, 400])
def test_a_cut_off_last_line_is_ignored(tmp_path: Path, cut: int) -> None:
    folder = write_run(tmp_path / "run", [start(), checkup(0), checkup(1)])
    path = folder / "record.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    record = RunRecord.read(folder)
    kept = [0, 1] if cut == 1 else [0]  # with the newline alone gone the line is whole
    assert [c.step for c in record.checkups] == kept
    assert record.unreadable == 0


def test_a_last_line_cut_inside_a_character_is_ignored(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [start()])
    with (folder / "record.jsonl").open("ab") as file:
        file.write('{"event": "warning", "text": "…'.encode()[:-1])
    assert RunRecord.read(folder).warnings == []


def test_lines_that_are_no_events_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [start()])
    with (folder / "record.jsonl").open("a") as file:
        file.write('{"event": "step", "st\n[1, 2]\n{"step": 3}\n\n')
        file.write('{"event": "comet"}\n' + json.dumps(step(4)) + "\n")
    record = RunRecord.read(folder)
    assert record.unreadable == 3
    assert [event["step"] for event in record.steps] == [4]


def test_what_a_resume_supersedes_is_dropped(tmp_path: Path) -> None:
    lines = [
        start(),
        checkup(0, network="random-init"),
        probe("random-init", 0, 0.68, 0.61),
        checkup(0),
        *[step(n, -0.1) for n in range(1, 8)],
        checkup(4),
        checkup(7),
        probe("run", 7, 0.1, 0.1),
        verdict("complete"),
        {"event": "interrupt", "step": 7},
        {"event": "warning", "text": "kept"},
        {"event": "resume", "step": 5},
        *[step(n, -0.2) for n in range(6, 9)],
        checkup(8),
    ]
    record = RunRecord.read(write_run(tmp_path / "run", lines))
    assert [(e["step"], e["loss"]) for e in record.steps] == [
        *((n, -0.1) for n in range(1, 6)),
        *((n, -0.2) for n in range(6, 9)),
    ]
    assert [c.step for c in record.checkups] == [0, 4, 8]
    assert (record.status, record.verdict, record.probe) == ("unfinished", {}, {})
    assert record.reference_probe["knn"] == 0.68
    assert record.warnings == ["kept"]


def test_a_step_written_twice_counts_once(tmp_path: Path) -> None:
    lines = [start(), step(1, -0.1), step(2, -0.2), step(2, -0.3), checkup(1), checkup(1)]
    record = RunRecord.read(write_run(tmp_path / "run", lines))
    assert [(e["step"], e["loss"]) for e in record.steps] == [(1, -0.1), (2, -0.3)]
    assert len(record.checkups) == 1


def test_what_is_not_finite_is_absent(tmp_path: Path) -> None:
    measured = checkup(1)
    measured["layers"]["embedding"] |= {
        "spread": None,
        "alignment": float("nan"),  # Python's json writes NaN, and reads it
        "effective_rank": "many",
        "cev_auc": True,
        "spectrum": [3.0, None, 1.0, float("inf")],
    }
    record = RunRecord.read(write_run(tmp_path / "run", [start(), measured]))
    (found,) = record.checkups
    for vital in ("spread", "alignment", "effective_rank", "cev_auc", "never measured"):
        assert found.value("embedding", vital) is None
    assert found.value("no such layer", "spread") is None
    assert found.spectrum("embedding") == [3.0, 1.0]


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ({"event": "end", "step": 3}, "finished"),
        ({"event": "interrupt", "step": 3}, "interrupted"),
        ({"event": "stop", "step": 3, "text": "loss became NaN"}, "stopped"),
    ],
)
def test_how_a_run_ended(tmp_path: Path, ending: dict[str, Any], status: str) -> None:
    lines = [start(), step(3), ending]
    assert RunRecord.read(write_run(tmp_path / "run", lines)).status == status


def test_probes_of_checkups_serve_when_there_is_no_final_one(tmp_path: Path) -> None:
    measured = checkup(4) | {"probe": {"knn": 0.7, "linear": None}}
    record = RunRecord.read(write_run(tmp_path / "run", [start(), measured, checkup(8)]))
    assert record.probe == {"step": 4, "knn": 0.7}


def test_damage_beside_the_record_does_not_stop_the_report(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "config.yaml").write_text("a: [1\nb: }", encoding="utf-8")
    (folder / "encoder.json").write_text("{", encoding="utf-8")
    (folder / "views.png").write_bytes(b"not a picture")
    record = RunRecord.read(folder)
    assert record.config_text.startswith("a: [1")
    assert (record.config, record.encoder, record.views) == ({}, {}, None)


def test_a_folder_that_is_no_run_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=r"empty.*record\.jsonl and config\.yaml missing"):
        RunRecord.read(empty)
    (empty / "record.jsonl").write_text("")
    with pytest.raises(UserError, match=r"not a run folder: config\.yaml missing"):
        RunRecord.read(empty)
    (empty / "config.yaml").write_text("")
    with pytest.raises(UserError, match="no 'start' line"):
        RunRecord.read(empty)
    with pytest.raises(UserError, match=r"absent.*does not exist"):
        RunRecord.read(tmp_path / "absent")
    with pytest.raises(UserError, match="is a file"):
        RunRecord.read(empty / "config.yaml")


def test_importing_the_room_costs_nothing() -> None:
    heavy = "{'torch', 'plotly', 'jinja2', 'numpy', 'yaml'}"
    code = f"import sys, fullrank.report; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""What cannot be done of an audit is said, and loses nothing of what can."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fullrank
from fullrank.audit.unfinished import INTERRUPTED, AuditError, AuditInterrupted
from fullrank.cli import main

FACTORIES = """
import torch
from torch import nn
class Interrupting(nn.Module):
    def forward(self, x): raise KeyboardInterrupt
def interrupting(): return Interrupting(), [torch.randn(50, 4)]
def broken(): return nn.Linear(4, 4), failing
def failing():
    yield torch.randn(50, 4)
    raise RuntimeError("no more")
"""


@pytest.fixture
def what(tmp_path: Path) -> dict[str, str]:
    """Files of three subjects, one with a NaN, and factories that go wrong."""
    rng = np.random.default_rng(0)
    found = {}
    for name in ("a", "b", "nan", "fewer"):
        rows = rng.normal(size=(60 if name == "fewer" else 90, 6))
        rows[7, 2] = np.nan if name == "nan" else rows[7, 2]
        found[name] = str(tmp_path / f"{name}.npy")
        np.save(found[name], rows)
    (tmp_path / "made.py").write_text(FACTORIES)
    for name in ("interrupting", "broken"):
        found[name] = f"{tmp_path / 'made.py'}:{name}"
    return found


def found_in(capsys: pytest.CaptureFixture[str], code: int, *argv: str) -> tuple[Any, str]:
    assert main(["audit", *argv, "--json"]) == code
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


def alone(what: str) -> Any:
    return fullrank.audit(what).to_dict()


def test_the_others_of_one_that_fails_are_as_alone_and_it_keeps_its_place(
    what: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    found, error = found_in(capsys, 2, what["a"], what["nan"], "nowhere.npy", what["b"])
    assert [one["what"] for one in found] == [what["a"], what["nan"], "nowhere.npy", what["b"]]
    assert found[1].keys() == found[2].keys() == {"what", "error"}
    assert "1 of 90 samples, the first at index 7" in found[1]["error"]
    assert "does not exist" in found[2]["error"]
    for one in (found[0], found[3]):
        assert one.pop("rank")["rank"] in (1, 2)
        assert one == alone(one["what"])
    assert "2 things could not be done" in error and "Traceback" not in error
    assert all(each["error"] in error for each in found[1:3])


def test_the_text_and_the_page_show_the_others(
    what: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert main(["audit", what["a"], what["nan"], what["b"], "--out", str(page)]) == 2
    captured = capsys.readouterr()
    assert captured.out.count("effective_rank") == 2 and "ranking by" in captured.out
    (line,) = [x for x in captured.err.splitlines() if x.startswith("fullrank: error")]
    assert what["nan"] in line and "index 7" in line
    assert str(page) in captured.out
    assert "Asked for, and not done" in page.read_text() and "index 7" in page.read_text()


def test_the_function_raises_with_what_was_found(what: dict[str, str]) -> None:
    with pytest.raises(fullrank.UserError, match="index 7") as raised:
        fullrank.audit(what["a"], what["nan"])
    assert isinstance(raised.value, AuditError) and raised.value.unexpected is None
    assert [audit.what for audit in raised.value.audits.audits] == [what["a"]]
    assert [failure.what for failure in raised.value.audits.failures] == [what["nan"]]


def test_where_all_fail_each_error_is_said(
    what: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    found, error = found_in(capsys, 2, what["nan"], "nowhere.npy", "--out", str(page))
    assert [one.keys() for one in found] == [{"what", "error"}] * 2
    assert "index 7" in error and "nowhere.npy" in error and not page.exists()


def test_a_single_one_that_fails_is_its_error_alone(
    what: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", what["nan"], "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "index 7" in captured.err


def test_a_ranking_that_cannot_be_made_loses_no_numbers(
    what: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    found, error = found_in(capsys, 2, what["a"], what["b"], "--rank-by", "lidar")
    for one in found:
        assert "lidar given, which none of these has" in one.pop("not_done")[0]
        assert one == alone(one["what"])
    assert "rank_by" in error


def test_a_drift_that_cannot_be_computed_loses_no_numbers(
    what: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    found, _ = found_in(capsys, 2, what["a"], what["fewer"], what["b"], "--drift")
    assert "same images" in found[1]["not_done"][0] and "drift" not in found[1]
    assert found[2]["drift"][0]["from"] == what["a"] and "not_done" not in found[2]
    found, _ = found_in(capsys, 2, what["nan"], what["b"], "--drift")
    assert "error" in found[0] and "could not be measured" in found[1]["not_done"][0]


def test_an_interrupt_keeps_what_was_found(
    what: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = what["a"], what["interrupting"], what["b"]
    page = tmp_path / "page.html"
    found, error = found_in(capsys, 130, *given, "--out", str(page))
    assert found[0] == alone(what["a"])
    assert [one["error"] for one in found[1:]] == [INTERRUPTED] * 2
    assert error.endswith("fullrank: interrupted\n")
    assert INTERRUPTED in page.read_text()
    with pytest.raises(AuditInterrupted) as raised:
        fullrank.audit(*given)
    assert [audit.what for audit in raised.value.audits.audits] == [what["a"]]
    with pytest.raises(KeyboardInterrupt) as plain:  # nothing is there to be kept
        fullrank.audit(*given[1:])
    assert not isinstance(plain.value, AuditInterrupted)


@pytest.mark.slow
def test_a_signal_from_the_terminal_keeps_what_was_found(
    what: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(
        "import time, torch\n"
        "from torch import nn\n"
        "def batches():\n"
        "    time.sleep(60)\n"
        "    yield torch.randn(50, 4)\n"
        "def slow(): return nn.Linear(4, 4), batches\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "fullrank.cli", "audit", what["a"], f"{tmp_path}/slow.py:slow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("measuring") and "slow.py" in line:
            break
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert what["a"] in out and "effective_rank" in out


def test_an_error_that_is_nobodys_mistake_is_raised_after_what_was_found(
    what: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError, match="no more"):
        main(["audit", what["a"], what["broken"], what["b"], "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found[1] == {"what": what["broken"], "error": "RuntimeError: no more"}
    assert "metrics" in found[0] and "metrics" in found[2]
    with pytest.raises(RuntimeError, match="no more"):
        fullrank.audit(what["broken"])


def test_a_page_that_cannot_be_written_loses_no_numbers(
    what: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pages" / "audit.html" / "in the way").mkdir(parents=True)
    found, error = found_in(capsys, 2, what["a"], "--out", str(tmp_path / "pages"))
    assert found == alone(what["a"]) and "out: cannot write" in error
    with pytest.raises(AuditError, match="out: cannot write") as raised:
        fullrank.audit(what["a"], out=tmp_path / "pages")
    assert raised.value.audits.audits[0].what == what["a"]

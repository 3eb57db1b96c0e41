"""The Python functions are the commands under the same names."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from dataclasses import replace

import pytest

import fullrank
from fullrank.models.settings.predictor import NoPredictor
from fullrank.recipes.registry import recipe
from fullrank.train.folder import config_of

TINY = {
    "preset": "small",
    "data": "digits",
    "backbone": {"name": "conv4", "width": 2},
    "batch_size": 64,
    "steps": 4,
    "threads": 1,
    "device": "cpu",
    "checkup": {"size": 50},
    "probe": {"train": 100, "test": 100},
    "logger": "none",
}


def test_the_verbs_are_functions_beside_rooms_of_the_same_name():
    assert callable(fullrank.train)
    assert callable(fullrank.report)
    from fullrank.report.page import report
    from fullrank.train.run import run

    assert callable(run)
    assert callable(report)


def test_train_makes_a_run_with_a_report(tmp_path):
    done = fullrank.train("byol", **TINY, out=str(tmp_path / "run"))
    assert done.status == "finished"
    assert (done.folder / "report.html").exists()
    page = fullrank.report(done.folder, out=tmp_path / "page.html")
    text = page.read_text()
    for kind in {done.verdict[layer]["kind"] for layer in ("backbone", "embedding")}:
        assert kind in text.lower()
    assert "BYOL" in text
    assert done.verdict["embedding"]["evidence"][0].split(";")[0].split(".")[0] in text


def test_a_recipe_object_and_a_mapping_are_the_same(tmp_path):
    ablated = replace(recipe("simsiam").preset("small"), predictor=NoPredictor())
    without = {k: v for k, v in TINY.items() if k != "preset"}
    a = fullrank.train(ablated, **without, out=tmp_path / "a")
    with pytest.raises(fullrank.UserError, match="which has its own"):
        fullrank.train(ablated, **TINY)
    b = fullrank.train({"name": "simsiam", "predictor": "none"}, **TINY, out=str(tmp_path / "b"))
    assert config_of(a.folder).identity() == config_of(b.folder).identity()


def test_an_unknown_keyword_is_named_with_the_nearest():
    with pytest.raises(fullrank.UserError, match="Did you mean '--steps'"):
        fullrank.train("simsiam", stpes=3)


def test_progress_is_drawn_in_a_terminal_and_nowhere_else(tmp_path, capfd):
    options = {**TINY, "steps": 30, "log_every": 1}
    fullrank.train("simsiam", **options, out=tmp_path / "quiet")
    assert capfd.readouterr().err == ""
    code = (
        f"import fullrank\nfullrank.train('simsiam', **{options!r}, "
        f"out={str(tmp_path / 'shown')!r})"
    )
    environment = os.environ | {"COLUMNS": "100", "TERM": "xterm"}
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    assert process.wait(timeout=60) == 0
    text = shown.decode()
    for sign in ("SimSiam", "30/30", "loss", "spread", "rank", "img/s"):
        assert sign in text

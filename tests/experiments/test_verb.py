"""The verb: theory without training, pages, and what is refused before anything is trained."""

from __future__ import annotations

import json

import pytest

import fullrank
from fullrank.cli import main
from fullrank.errors import UserError
from fullrank.experiments.command import print_cells
from fullrank.experiments.scale import data_settings
from fullrank.experiments.verb import default_folder


def test_theory_alone_trains_nothing_and_is_a_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    done = fullrank.explain("simclr", theory=True, show_theory=said.extend)
    assert done.folder == default_folder("simclr", "cpu", theory=True)
    assert done.folder != default_folder("simclr", "cpu")
    assert not (tmp_path / "runs").exists()
    found = json.loads((done.folder / "explanation.json").read_text())
    assert found == done.found and found["cells"] == []
    assert [s["title"] for s in said] == [
        s["title"] for s in [*found["theory"]["statements"], *found["theory"]["ablations"]]
    ]
    first = done.page.read_text()
    assert fullrank.report(done.folder) == done.page
    assert done.page.read_text() == first


def test_phase_diagrams_are_drawn_over_the_parameters_asked_for(tmp_path):
    done = fullrank.explain("simclr", theory=True, phases=[("noise", "tau")], out=tmp_path / "a")
    (phase,) = done.found["theory"]["phases"]
    assert (phase["x"]["name"], phase["y"]["name"]) == ("noise", "tau")
    assert len(phase["outcome"]) == len(phase["y"]["values"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "simsam"}, "Did you mean 'simsiam'"),
        ({"scale": "gpu"}, "scale: 'gpu' is not known"),
        ({"data": "fashion-minst"}, "Did you mean 'fashion-mnist'"),
        ({"workers": 0}, "workers: 0"),
        ({"seeds": 0}, "seeds: 0"),
        ({"phases": [("noise", "nosie")]}, "Did you mean 'noise'"),
        ({"phases": [("p", "p")]}, "p: given twice"),
    ],
)
def test_what_cannot_be_explained_is_refused_before_any_run(options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        fullrank.explain(**{"recipe": "simsiam", "out": tmp_path / "out", **options})
    assert not (tmp_path / "runs").exists()


def test_explanations_on_other_data_have_folders_of_their_own():
    others = [
        "digits",
        {"name": "digits", "limit": 500},
        {"name": "digits", "limit": 600},
        {"name": "fashion-mnist", "stream": {"kind": "fraction", "share": 0.1}},
        "folder:a/photos",
        "folder:b/photos",
    ]
    usual = default_folder("simsiam", "cpu")
    folders = [default_folder("simsiam", "cpu", data=data_settings(data)) for data in others]
    assert len({usual, *folders}) == len(others) + 1
    assert all(folder.parent == usual.parent for folder in folders)
    assert default_folder("simsiam", "cpu", data=data_settings("fashion-mnist")) == usual
    # Where the files are decides nothing.
    elsewhere = data_settings({"name": "fashion-mnist", "root": "/data", "workers": 5})
    assert default_folder("simsiam", "cpu", data=elsewhere) == usual


@pytest.mark.parametrize("content", [b"{", b"\xff"])
def test_a_damaged_explanation_is_named_and_not_replaced(tmp_path, content):
    (tmp_path / "explanation.json").write_bytes(content)
    with pytest.raises(UserError, match=r"explanation\.json is damaged"):
        fullrank.explain("simclr", theory=True, out=tmp_path)
    assert (tmp_path / "explanation.json").read_bytes() == content


def test_theory_alone_does_not_replace_an_explanation_with_runs(tmp_path):
    kept = json.dumps({"recipe": "simclr", "cells": [{"id": "simclr"}]})
    (tmp_path / "explanation.json").write_text(kept)
    with pytest.raises(UserError, match="holds an explanation with runs"):
        fullrank.explain("simclr", theory=True, out=tmp_path)
    assert (tmp_path / "explanation.json").read_text() == kept


def test_the_command_says_the_same(tmp_path, capsys):
    out = str(tmp_path / "e")
    assert main(["explain", "vicreg", "--theory", "--out", out]) == 0
    printed = capsys.readouterr().out
    assert "dual" in printed and printed.rstrip().endswith("explanation.html")
    assert main(["explain", "vicreg", "--theory", "--out", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"] == "vicreg"
    assert main(["explain", "simsiam", "--quik"]) == 2
    assert "Did you mean '--quick'" in capsys.readouterr().err
    assert main(["report", out, out]) == 2
    assert "one explanation" in capsys.readouterr().err


def test_a_line_is_printed_for_every_cell(capsys):
    cells = [{"label": f"cell {i}", "agreement": "not run"} for i in range(5)]
    print_cells(cells)
    printed = capsys.readouterr().out
    assert all(f"cell {i}" in printed for i in range(5))

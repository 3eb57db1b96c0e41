"""`fullrank reproduce`, on a paper of the test's own with runs of a few steps."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fullrank
from fullrank.cli import main
from fullrank.errors import UserError
from fullrank.experiments.reproduction import find_run, planned
from fullrank.train.folder import config_of
from fullrank.train.record import Record
from fullrank.train.resolve import read_yaml, resolve

SECOND_MACHINE = Path(__file__).parents[2] / "benchmarks/second_machine.py"
PAPER = '''
"""Claims about runs of a few steps."""

from fullrank.experiments.claims.claim import (
    Claim, Figure, Finding, Number, Paper, Series,
)
from fullrank.experiments.claims.statistics import by_seed, decide, paired
from fullrank.train.resolve import resolve

STEPS, DATA = {steps}, {data!r}


def config(seed, **changes):
    return resolve({{
        "recipe": "simsiam", "preset": "small", "data": DATA, "backbone": "conv4",
        "backbone.width": 2, "batch_size": 16, "steps": STEPS, "seed": seed, "device": "cpu",
        "precision": "32", "threads": 1, "logger": "none", "checkup.size": 50,
        "checkup.budget": 0.0, "checkup.count": 2, "probe.train": 100, "probe.test": 100,
    }} | changes)


def arms(scale, seeds):
    return {{
        "whole": [config(seed) for seed in seeds],
        "without predictor": [config(seed, **{{"recipe.predictor": "none"}}) for seed in seeds],
    }}


def spread(arms):
    values = [by_seed(arms[a], lambda r: r.shown["embedding"]["spread"]) for a in arms]
    number = paired(*values, "difference in spread")
    figure = Figure("Spread", "seed", "spread", [
        Series("a", [0, 1], list(values[0].values()), kind="points"),
        Series("b", ["x", "y"], [1.0, 2.0], [0.5, 1.5], [1.5, 2.5], kind="bars"),
        Series("c", [0, 1], [1.0, 2.0], [0.5, 1.5], [1.5, 2.5]),
    ])
    steps = len(arms["whole"][0].of("step"))
    return Finding(decide(number), f"<b>{{steps}}</b> steps | read", [number], [figure])


def broken(arms):
    raise RuntimeError("this judge is broken")


def exact(arms):
    return Finding("held", "Two is two.", [Number("two", 2.0)])


def missing(scale, seeds):
    return {{
        "fine": [config(seed) for seed in seeds],
        "stops": [config(seed, **{{"optimizer.lr": 1e30}}) for seed in seeds],
    }}


def claim(name, judge, **more):
    protocol = {{"cpu": "a few steps", "paper": "the same"}}
    return Claim("tiny/" + name, f"claim {{name}}", "Eq. 1", protocol, "{criterion}", judge, **more)


PAPER = Paper("tiny", "A tiny paper", "Nobody 2026", [
    claim("exact", exact),
    claim("spread", spread, arms=arms, seeds=2, needs_labels=True),
    claim("broken", broken),
    claim("missing", lambda arms: exact(arms), arms=missing, seeds=1),
    claim("other", exact),
])
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the paper's file, in which the command line works."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    return tmp_path


def write(folder, steps=3, data="digits", criterion="it is so"):
    text = PAPER.format(steps=steps, data=data, criterion=criterion)
    (folder / "tiny.py").write_text(text)


def reproduce(*claims, **options):
    settings = {"workers": 1, "engine": "pool"}
    return fullrank.reproduce("tiny.py", claims=claims or None, **(settings | options))


def claims_of(done):
    return {claim["name"].removeprefix("tiny/"): claim for claim in done.found["tiny"]["claims"]}


def test_claims_are_judged_and_found_again(folder):
    told, judged = [], []
    done = reproduce(
        "exact", "spread", progress=told.append, judged=lambda p, c: judged.append(c["name"])
    )
    assert judged == ["tiny/exact", "tiny/spread"]
    assert (told[-1].done, told[-1].total) == (4, 4)
    found = claims_of(done)
    assert found["exact"]["verdict"] == "held"
    assert found["exact"]["arms"] == found["exact"]["seeds"] == []
    assert found["spread"]["seeds"] == [0, 1]
    assert found["broken"]["verdict"] is None
    spread = found["spread"]
    values = {
        arm["name"]: [run["embedding"]["spread"] for run in arm["runs"]] for arm in spread["arms"]
    }
    mean = sum(a - b for a, b in zip(*values.values(), strict=True)) / 2
    assert spread["numbers"][0]["value"] == pytest.approx(mean, rel=1e-5)
    assert spread["numbers"][0]["n"] == 2
    rows = [run for arm in spread["arms"] for run in arm["runs"]]
    assert {run["status"] for run in rows} == {"finished"}
    assert [run["seed"] for run in rows] == [0, 1, 0, 1]
    for run in rows:
        there = resolve(read_yaml(Path(run["folder"]) / "config.yaml"))
        assert there.identity() == run["hash"]
        assert run["probe"].keys() == {"knn", "linear"}
    assert done.found["tiny"]["environment"]["threads"] == 1
    assert json.loads((done.folder / "tiny.json").read_text()) == done.found["tiny"]

    page = (done.folder / "tiny.html").read_text()
    assert "&lt;b&gt;" in page  # what a judge says is no markup
    assert all(run["hash"] in page for run in rows)

    before = {p: p.read_bytes() for p in folder.glob("runs/*/record.jsonl")}
    again = reproduce("spread")
    rows = [run for arm in claims_of(again)["spread"]["arms"] for run in arm["runs"]]
    assert {run["status"] for run in rows} == {"found"}
    assert before == {p: p.read_bytes() for p in folder.glob("runs/*/record.jsonl")}
    # What was judged before and is not asked for now stays.
    assert claims_of(again)["exact"] == found["exact"]

    # A claim without runs leaves the conditions of the others' runs as they were.
    last = reproduce("other").found["tiny"]
    kept = again.found["tiny"]
    assert (last["environment"], last["seconds"]) == (kept["environment"], kept["seconds"])
    assert f"<td>{kept['environment']['torch']}</td>" in (done.folder / "tiny.html").read_text()

    # What is asked for and was judged before stays until it is judged again.
    def interrupt(paper, claim):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduce("exact", "spread", judged=interrupt)
    there = json.loads((done.folder / "tiny.json").read_text())
    assert there["claims"][1] == claims_of(again)["spread"]


def test_reproductions_at_the_same_time_keep_each_others_verdicts(folder):
    def another(paper, claim):
        if claim["name"] == "tiny/exact":
            reproduce("other")

    done = reproduce("exact", "broken", judged=another)
    assert {name: claim["verdict"] for name, claim in claims_of(done).items()} == {
        "exact": "held",
        "spread": None,
        "broken": "inconclusive",
        "missing": None,
        "other": "held",
    }
    assert json.loads((done.folder / "tiny.json").read_text()) == done.found["tiny"]


def test_what_fails_is_inconclusive_and_the_rest_goes_on(folder):
    done = reproduce("broken", "exact", "missing")
    found = claims_of(done)
    assert {n: c["verdict"] for n, c in found.items()} == {
        "exact": "held",
        "spread": None,
        "broken": "inconclusive",
        "missing": "inconclusive",
        "other": None,
    }
    assert "this judge is broken" in found["broken"]["reason"]
    assert "RuntimeError" in found["broken"]["detail"]
    # The judge saw what there was; the failed run leaves the verdict open, and is told.
    assert found["missing"]["text"] == "Two is two."
    assert "stops, seed 0: the loss became NaN" in found["missing"]["reason"]
    assert done.failed == ["tiny/broken", "tiny/missing"]
    assert not reproduce("exact").failed  # what failed before is no part of this
    assert len(list(folder.glob("runs/simsiam-*"))) == 2

    page = (done.folder / "tiny.html").read_text()
    assert "this judge is broken" in page and "A tiny paper" in page
    for run in (run for c in found.values() for arm in c["arms"] for run in arm["runs"]):
        assert run["hash"] in page


def test_the_command_line(folder, capsys):
    options = ["--engine", "pool", "--workers", "1"]
    assert main(["reproduce", "tiny.py", "--claims", "exact", "other", *options]) == 0
    printed = capsys.readouterr().out
    assert "tiny/exact" in printed and "held" in printed and "tiny.html" in printed
    assert main(["reproduce", "tiny.py", "--claims", "broken", "--json", *options]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["tiny"]["claims"][2]["verdict"] == "inconclusive"
    assert main(["reproduce", "tiny.py", "--list"]) == 0
    assert "tiny/missing" in capsys.readouterr().out
    assert main(["reproduce", "--list", "--json", "tiny.py"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["claims"][0]["name"] == "tiny/exact"
    assert main(["reproduce", "--help"]) == 0


def test_results_that_have_no_place_are_refused_before_the_runs(folder):
    Path("file").touch()
    with pytest.raises(UserError, match=r"out: file.*cannot be written"):
        reproduce("spread", out="file/results")
    assert not (folder / "runs").exists()


def test_one_run_can_be_made_again_by_its_hash(folder, capsys):
    plans = planned(["tiny.py"])
    hash_ = plans.configs[0].identity()
    assert main(["reproduce", "tiny.py", "--run", hash_, "--print_config"]) == 0
    printed = capsys.readouterr().out
    (folder / "one.yaml").write_text(printed)
    assert resolve(read_yaml(folder / "one.yaml")).identity() == hash_
    config, uses = find_run(plans, hash_[:8])
    assert config.identity() == hash_
    assert uses == ["tiny/spread: whole, seed 0", "tiny/missing: fine, seed 0"]

    assert main(["reproduce", "tiny.py", "--run", hash_]) == 0
    out = capsys.readouterr()
    assert "tiny/spread: whole, seed 0" in out.err
    (run,) = folder.glob(f"runs/*{hash_}")  # where the claims find it
    assert Record(run).last("end") is not None
    assert main(["reproduce", "tiny.py", "--run", hash_]) == 0
    assert "identical run" in capsys.readouterr().out


def test_an_interrupted_reproduction_goes_on(folder):
    def stop(progress):
        if progress.done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduce("exact", "spread", progress=stop)
    half = json.loads((folder / "reproductions/tiny.json").read_text())
    assert [claim["verdict"] for claim in half["claims"]] == ["held", *[None] * 4]
    whole = claims_of(reproduce("exact", "spread"))
    statuses = [run["status"] for arm in whole["spread"]["arms"] for run in arm["runs"]]
    assert sorted(statuses) == ["finished", "finished", "finished", "found"]


@pytest.mark.slow
def test_ctrl_c_ends_a_reproduction_and_it_goes_on(folder):
    write(folder, steps=4000)
    command = [sys.executable, "-m", "fullrank.cli", "reproduce", "tiny.py"]
    command += ["--claims", "spread", "--engine", "pool", "--workers", "1"]
    process = subprocess.Popen(
        command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob("runs/*/record.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error.decode()
    (run,) = folder.glob("runs/simsiam-*")
    assert config_of(run)  # there is a checkpoint to go on from


def test_a_changed_criterion_has_another_fingerprint(folder):
    first = claims_of(reproduce("exact", evidence=folder / "evidence"))["exact"]
    write(folder, criterion="it is roughly so")
    second = claims_of(reproduce("other", evidence=folder / "evidence"))
    # What was judged by another criterion does not stand any more.
    assert second["exact"]["verdict"] is None
    assert second["exact"]["criterion_hash"] != first["criterion_hash"]
    kept = json.loads((folder / "evidence/claims.json").read_text())["tiny"]["claims"][0]
    assert kept["earlier"][0]["criterion_hash"] == first["criterion_hash"]
    assert kept["earlier"][0]["verdict"] == "held"
    assert "By earlier words of these" in (folder / "evidence/tiny.md").read_text()


def test_labels_are_missed_before_anything_is_trained(folder):
    from PIL import Image

    (folder / "photos").mkdir()
    for i in range(40):
        Image.new("RGB", (32, 32), (i, 2 * i, 3 * i)).save(folder / f"photos/{i}.png")
    write(folder, data="folder:photos")
    with pytest.raises(UserError, match="claim: tiny/spread rests on probes, and folder:photos"):
        reproduce()
    assert not (folder / "runs").exists()
    assert claims_of(reproduce("exact"))["exact"]["verdict"] == "held"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["reproduce"], "none given"),
        (["reproduce", "tian2012"], "Did you mean 'tian2021'"),
        (["reproduce", "nothing.py"], "there is no file"),
        (["reproduce", "empty.py"], "has no PAPER"),
        (["reproduce", "fails.py"], "ZeroDivisionError"),
        (["reproduce", "tiny.py", "--claims", "exakt"], "claim: 'exakt' is not known"),
        (["reproduce", "tiny.py", "--scale", "big"], "scale: 'big' is not known"),
        (["reproduce", "tiny.py", "--seeds", "1", "1"], "seeds: "),
        (["reproduce", "tiny.py", "--seeds", "-1"], "seeds: "),
        (["reproduce", "tiny.py", "--workers", "0"], "workers: 0"),
        (["reproduce", "tiny.py", "--engine", "horse"], "engine: 'horse' is not known"),
        (["reproduce", "tiny.py", "--run", "0123"], "run: '0123' is not known"),
        (["reproduce", "tiny.py", "--print_config"], "needs --run"),
        (["reproduce", "tiny.py", "--table", "README.md"], "needs --evidence"),
        (["reproduce", "tiny.py", "--evidence", "e", "--table", "no.md"], "cannot be read"),
        (["reproduce", "tiny.py", "--evidence", "e", "--table", "tiny.py"], "no markers"),
        (["reproduce", "tiny.py", "--evidence", "damaged"], "claims.json is damaged"),
        (["reproduce", "tiny.py", "--claims", "exact", "--out", "tiny.py"], "tiny.py"),
        (["reproduce", "tiny.py", "--sead", "1"], "--sead"),
    ],
)
def test_bad_input_is_refused_in_words(folder, capsys, argv, message):
    (folder / "empty.py").write_text("x = 1\n")
    (folder / "fails.py").write_text("1 / 0\n")
    (folder / "damaged").mkdir()
    (folder / "damaged/claims.json").write_text("{")
    assert main(argv) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "runs").exists()  # before anything is trained
    shutil.rmtree(folder / "reproductions", ignore_errors=True)


def test_a_second_machine_is_compared_claim_by_claim_and_run_by_run(folder):
    pytest.importorskip("matplotlib")
    spec = importlib.util.spec_from_file_location("second_machine", SECOND_MACHINE)
    second = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(second)
    reproduce("exact", "spread", evidence="evidence")
    papers, evidence = second.read_papers(Path("reproductions")), Path("evidence")
    same = " ".join(second.page(papers, evidence).split())
    assert "5 of 5 are the same, of those that rest on trained networks 1 of 1." in same
    assert "4 of 4 came to the same verdict" in same
    assert "| linear probe | 0 (0 to 0) points | 0 points | 0 points | 4 |" in same

    first = papers["tiny"]["claims"][1]
    first["verdict"] = "did not hold" if first["verdict"] == "held" else "held"
    for arm in first["arms"]:
        for run in arm["runs"]:
            run["verdict"]["embedding"], run["probe"]["linear"] = "strange", 2.0
    other = " ".join(second.page(papers, evidence).split())
    assert "4 of 5 are the same, of those that rest on trained networks 0 of 1." in other
    assert "**[tiny/spread](tiny.md#spread)**" in other and "strange on" in other
    assert "0 of 4 came to the same verdict" in other

    first["arms"][0]["runs"][0]["hash"] = "0123456789ab"
    with pytest.raises(UserError, match=r"runs: 2 are not those of evidence"):
        second.page(papers, evidence)

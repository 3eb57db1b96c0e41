import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import fullrank
from fullrank.errors import UserError
from fullrank.experiments.cells import cells
from fullrank.experiments.explanation import EXPLANATION, explain_runs
from fullrank.experiments.scale import Scale, data_settings
from fullrank.experiments.stored import folder_of, placed, state
from fullrank.experiments.training import train_one
from fullrank.models.settings.backbone import Conv4
from fullrank.train.config import CheckupSettings, ProbeSettings
from fullrank.train.record import Record

TWO = ("mlp.stop-gradient.decay-both.norm", "mlp.online.decay-both.norm")


def tiny(steps=3):
    return Scale(
        backbone=Conv4(width=2),
        steps=steps,
        batch_size=16,
        checkup=CheckupSettings(size=64, budget=0.0, count=2),
        followed=None,
        probe=ProbeSettings(train=100, test=100),
    )


def explain(folder, **options):
    settings = {"data": "digits", "scale": tiny(), "seeds": 1, "workers": 1, "only": TWO}
    return explain_runs("simsiam", out=folder / "out", runs=folder / "runs", **(settings | options))


def config(folder, cell=TWO[0], seed=0, steps=3):
    scale = tiny(steps)
    found = next(c for c in cells("simsiam", scale=scale) if c.id == cell)
    return placed(found.config(scale, data_settings("digits"), seed), folder / "runs")


def written(folder):
    return json.loads((folder / "out" / EXPLANATION).read_text())


def test_what_is_interrupted_goes_on_where_it_stopped(tmp_path):
    def stop(progress):
        if progress.done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain(tmp_path, progress=stop)
    half = written(tmp_path)
    assert [len(cell["runs"]) for cell in half["cells"]] == [1, 0]
    assert [cell["agreement"] == "not run" for cell in half["cells"]] == [False, True]
    record = Path(half["cells"][0]["runs"][0]["folder"]) / "record.jsonl"
    before = record.read_bytes()

    told = []
    whole = explain(tmp_path, progress=told.append)
    assert whole == written(tmp_path)
    assert [cell["runs"][0]["status"] for cell in whole["cells"]] == ["found", "finished"]
    assert record.read_bytes() == before
    assert [p.done for p in told] == [1, 2]
    assert (told[0].found, told[-1].remaining) == (1, 0.0)

    run = whole["cells"][0]["runs"][0]
    assert run["error"] is None and run["seconds"] > 0
    assert run["verdict"].keys() == {"embedding", "backbone"}
    assert len(run["embedding"]["spectrum"]) == run["embedding"]["d"] == 128
    assert run["probe"].keys() == run["random"].keys() == {"knn", "linear"}
    assert whole["environment"]["threads"] == 1
    assert whole["settings"]["weight_decay_e_folds"] == pytest.approx(1.0, rel=0.05)
    assert whole["cells"][0]["published"] and whole["cells"][1]["ablation"]
    # A run of an explanation is a run like any other.
    assert fullrank.report(run["folder"]).exists()


def test_a_run_that_was_interrupted_is_resumed(tmp_path):
    there = config(tmp_path, steps=150)
    folder = folder_of(there)

    def interrupt():
        while Record(folder).last("step") is None:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(UserError, match="interrupted"):
        train_one(there)
    thread.join()
    assert state(folder) == "unfinished"
    done = train_one(there)
    assert done["status"] == "finished" and state(folder) == "finished"
    assert "resume" in (folder / "record.jsonl").read_text()
    assert train_one(there) | {"status": "finished"} == done


def test_a_run_that_stopped_is_a_result_and_not_repeated(tmp_path):
    folder = folder_of(config(tmp_path))
    folder.mkdir(parents=True)
    Record(folder).write("stop", step=2, text="the loss became NaN or infinite at step 2")
    before = (folder / "record.jsonl").read_bytes()
    with pytest.raises(UserError, match="NaN"):
        train_one(config(tmp_path))
    whole = explain(tmp_path, only=TWO[:1])
    run = whole["cells"][0]["runs"][0]
    assert run["status"] == "failed" and "NaN" in run["error"]
    assert whole["cells"][0]["measured"] is None
    assert whole["cells"][0]["agreement"] == "not run"
    assert (folder / "record.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": 0}, "seeds: 0"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"workers": 0}, "workers: 0"),
        ({"data": "digit"}, "digits"),
        ({"data": {"name": "digits", "sise": 3}}, "sise"),
        ({"only": ["mlp.online.decay-both.nrom"]}, "mlp.online.decay-both.norm"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        explain(tmp_path, **options)
    assert not (tmp_path / "runs").exists()


def test_an_unknown_recipe_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match="barlow-twins"):
        explain_runs("barlow-twin", out=tmp_path)


SCRIPT = """
import sys
from pathlib import Path
from test_explanation import explain, tiny

if __name__ == "__main__":
    told = lambda p: print(p.done, p.failed, flush=True)
    explain(Path(sys.argv[1]), scale=tiny(150), progress=told, workers=2, seeds=2)
"""


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_leaves_nothing_running_and_loses_nothing(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, str(script), str(tmp_path)]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("1 "):
            pass
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) != 0
    with pytest.raises(ProcessLookupError):  # the process that others fork from leaves last
        for _ in range(300):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    done = [run for cell in written(tmp_path)["cells"] for run in cell["runs"]]
    assert 1 <= len(done) < 4 and all(run["error"] is None for run in done)
    whole = explain(tmp_path, scale=tiny(150), workers=2, seeds=2)
    status = [run["status"] for cell in whole["cells"] for run in cell["runs"]]
    assert status.count("found") >= len(done) and len(status) == 4
    assert all(run["error"] is None for cell in whole["cells"] for run in cell["runs"])


def test_a_run_that_fails_is_reported_and_the_rest_goes_on(tmp_path):
    bad = folder_of(config(tmp_path))
    bad.parent.mkdir(parents=True)
    bad.write_text("a file where the folder of the first run belongs")
    whole = explain(tmp_path)
    first, second = (cell["runs"][0] for cell in whole["cells"])
    assert first["status"] == "failed" and "is a file" in first["error"]
    assert whole["cells"][0]["agreement"] == "not run"
    assert second["status"] == "finished"

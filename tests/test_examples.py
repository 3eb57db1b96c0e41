"""Every example runs, at a size that takes seconds, and shows what it says it shows."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def _in_a_new_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def example(name: str):
    """Import an example as a module, without running it."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_train_simsiam_prints_both_verdicts_and_the_report(tmp_path, capsys):
    run = example("train_simsiam").main(steps=6, width=2, out=str(tmp_path / "run"))
    printed = capsys.readouterr().out
    assert run.status == "finished"
    assert "embedding: " in printed and "backbone: " in printed
    assert printed.splitlines()[-1] == f"report: {run.folder / 'report.html'}"
    assert (run.folder / "report.html").exists()


def test_replace_a_field_collapses_one_of_two_runs_and_draws_both(tmp_path, capsys):
    page = example("replace_a_field").main(tmp_path / "two", steps=60, width=4)
    blocks = capsys.readouterr().out.split("no-stop-gradient:")
    assert "prevented by the fields: complete, dimensional" in blocks[0]
    assert "embedding: complete collapse" not in blocks[0]
    assert "prevented by the fields: no collapse" in blocks[1]
    assert "embedding: complete collapse" in blocks[1]
    text = page.read_text()
    assert "no-stop-gradient" in text


def test_measure_embeddings_tells_made_up_collapses_apart(capsys):
    found = example("measure_embeddings").main(n=2000, d=32)
    printed = capsys.readouterr().out
    assert "two directions, compared with isotropic: dimensional collapse" in printed
    assert "one point, compared with isotropic: complete collapse" in printed
    assert found["isotropic"]["effective_rank"] > 31
    assert found["two directions"]["participation_ratio"] == pytest.approx(2, abs=0.1)


def test_measure_embeddings_reads_files_and_chunks_change_nothing(tmp_path, capsys):
    module = example("measure_embeddings")
    rows = np.random.default_rng(0).standard_normal((900, 16))
    rows[:, 3] = 0
    for name, values in (("some", rows.astype(np.float32)), ("reference", rows)):
        np.save(tmp_path / f"{name}.npy", values)
    found = module.main(tmp_path / "some.npy", tmp_path / "reference.npy")
    assert "healthy" in capsys.readouterr().out
    signs = found[str(tmp_path / "some.npy")]
    assert (signs["n"], signs["d"], signs["dead_units"], signs["hard_rank"]) == (900, 16, 1, 15)
    whole, parts = (module.measure(rows, chunk=chunk) for chunk in (900, 7))
    assert whole["spectrum"] == pytest.approx(parts["spectrum"], rel=1e-9, abs=1e-5)


def test_a_monitor_in_a_plain_loop_tells_the_collapse(capsys):
    example("monitor_pytorch").main(steps=120)
    assert "complete collapse" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")  # Lightning's own, about torch and about workers
def test_a_monitor_in_lightning_stops_the_run(capsys):
    trainer = example("monitor_lightning").main(budget=1)  # whatever else runs
    assert trainer.global_step < trainer.estimated_stepping_batches
    assert "embedding: complete collapse" in capsys.readouterr().out


def test_a_monitor_in_the_loop_of_lightly(capsys):
    pytest.importorskip("lightly")
    example("monitor_lightly").main(steps=20)
    assert "healthy" in capsys.readouterr().out


def test_a_monitor_in_the_trainer_of_hugging_face(capsys):
    pytest.importorskip("transformers")
    example("monitor_hugging_face").main(steps=10)
    assert "healthy" in capsys.readouterr().out

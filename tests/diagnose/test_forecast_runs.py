"""Rows of runs hold what their records say; train, audit and Monitor forecast alike."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

import fullrank
from fullrank.data.settings import DataSettings
from fullrank.diagnose.forecast_runs import MEASURED, measure_run, read_run, run_folders
from fullrank.errors import UserError
from fullrank.measure.forecast import data_key, forecast
from fullrank.measure.forecast_features import forecast_features
from fullrank.monitor.monitor import Monitor
from fullrank.report.record import RunRecord
from fullrank.train.printed import print_verdict
from fullrank.train.record import Record
from fullrank.train.run import Run

IMAGES = 240


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "run"
    fullrank.train(
        "simsiam/without-predictor",
        preset="small",
        data="digits",
        backbone={"name": "conv4", "width": 4},
        steps=60,
        batch_size=64,
        seed=3,
        device="cpu",
        precision="32",
        threads=1,
        logger="none",
        checkup={"size": IMAGES, "budget": 0.0, "count": 2},
        probe={"train": 200, "test": 100},
        out=str(folder),
    )
    return folder


def copied(folder, to):
    shutil.copytree(folder, to)
    return to


def last(folder, event):
    return Record(folder).last(event)


def test_what_an_audit_measures_is_what_the_check_up_measured(trained):
    measured = measure_run(trained)
    signs = last(trained, "checkup")["layers"]
    assert measured["classes"] == 10
    for name in ("effective_rank", "spread", "cev_auc", "alignment", "participation_ratio"):
        assert measured["metrics"][name] == pytest.approx(signs["backbone"][name], rel=1e-4)
    for name in ("cev_auc", "alignment"):
        ours = measured["metrics"][f"embedding_{name}"]
        assert ours == pytest.approx(signs["embedding"][name], rel=1e-4)


def test_what_was_measured_is_kept_beside_the_run(trained, tmp_path):
    folder = copied(trained, tmp_path / "run")
    found = measure_run(folder)
    shutil.rmtree(folder / "checkpoints")
    (folder / "encoder.safetensors").unlink()
    assert measure_run(folder) == found
    (folder / MEASURED).write_text(json.dumps({"version": -1}))
    with pytest.raises(UserError, match="no weights"):
        measure_run(folder)


@pytest.mark.parametrize(
    "damaged", [b'{"version": 1, "ha', b"\xff\xfe", b"", b"[1]", b'{"version": 1, "hash": "HASH"}']
)
def test_a_damaged_measurement_is_taken_again(trained, tmp_path, damaged):
    folder = copied(trained, tmp_path / "run")
    found = measure_run(folder)
    damaged = damaged.replace(b"HASH", found["hash"].encode())
    (folder / MEASURED).write_bytes(damaged)
    assert measure_run(folder) == found
    assert json.loads((folder / MEASURED).read_text(encoding="utf-8")) == found


def test_a_row_says_what_the_run_was_and_how_it_probes(trained):
    row, probe = read_run(trained), last(trained, "probe")
    assert (row.recipe, row.width, row.d, row.n, row.labelled) == ("simsiam", 4, 32, IMAGES, 200)
    assert (row.data, row.stream, row.seed, row.classes) == ("digits", "iid", 3, 10)
    assert row.form.startswith("without-predictor")
    assert row.accuracy == {name: probe[name] for name in ("knn", "linear")}
    expected = forecast_features(last(trained, "checkup")["layers"]["backbone"])
    assert row.features == pytest.approx(expected, rel=1e-5)
    assert {"rankme", "lidar", "clid", "twonn", "uniformity", "final_loss"} <= row.metrics.keys()


def test_seeds_are_of_one_kind_and_other_settings_of_another(trained, tmp_path):
    kind = read_run(trained).kind
    for name, old, new, same in (
        ("seed", "seed: 3", "seed: 4", True),
        ("width", "  width: 4", "  width: 8", False),
        ("old", "  stream:\n    kind: iid\n", "", True),  # of before there were other orders
        ("once", "    kind: iid\n", "    kind: once\n", False),
    ):
        folder = copied(trained, tmp_path / name)
        measure_run(folder)
        config = folder / "config.yaml"
        assert old in config.read_text()
        config.write_text(config.read_text().replace(old, new))
        assert (read_run(folder).kind == kind) == same


def test_runs_that_cannot_be_read_are_named(trained, tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        run_folders(tmp_path / "none")
    with pytest.raises(UserError, match="holds no run folders"):
        run_folders(tmp_path)
    for name, events in (("unlabelled", ("probe",)), ("unfinished", ("end",))):
        folder = copied(trained, tmp_path / name)
        kept = [e for e in Record(folder).events() if e["event"] not in events]
        (folder / "record.jsonl").write_text("".join(json.dumps(e) + "\n" for e in kept))
        why = "labels" if name == "unlabelled" else "not finished"
        with pytest.raises(UserError, match=f"{name}: .*{why}"):
            read_run(folder)
    assert [folder.name for folder in run_folders(tmp_path)] == ["unfinished", "unlabelled"]


def test_train_audit_and_monitor_forecast_alike(trained):
    told = {k: v for k, v in last(trained, "forecast").items() if k in ("standing", "novelty")}
    audited = fullrank.audit(trained, limit=IMAGES, seed=3, device="cpu").audits[0]
    network, views = _network_and_views(trained)
    monitor = Monitor(taps={"backbone": ""}, probe=[tuple(views)], data="digits")
    monitor.check_up(network, step=60)
    watched = monitor.forecast("backbone")
    for found in (audited.forecast, watched):
        assert found.standing == pytest.approx(told["standing"], abs=0.02)
        assert found.novelty == pytest.approx(told["novelty"], rel=1e-3)
        assert found.data == last(trained, "forecast")["data"]
    readings = monitor.readings()
    if watched.standing is not None:
        assert readings["fullrank/backbone/forecast/standing"] == watched.standing
    for probe, accuracy in watched.expected.items():
        assert readings[f"fullrank/backbone/forecast/{probe}/low"] == accuracy.low
    assert audited.to_dict()["forecast"] == audited.forecast.to_dict()


def _network_and_views(folder):
    """The encoder of a run, and the views of its check-ups, from the parts that train uses."""
    from fullrank.data.augment import Augment
    from fullrank.data.sources import load_source
    from fullrank.monitor.checkup import HeldOut
    from fullrank.randomness import generator
    from fullrank.train.resolve import read_yaml, resolve

    config = resolve(read_yaml(folder / "config.yaml"))
    source = load_source(DataSettings("digits"))
    chosen = torch.randperm(len(source.test), generator=generator(3, "held-out"))[:IMAGES]
    views = config.augmentation(source.channels, source.size)
    images = source.test.read(chosen, source.size)
    held_out = HeldOut(images, Augment(views, source.channels), 3, torch.device("cpu"))
    shown = [torch.cat(parts) for parts in zip(*held_out.views(), strict=True)]
    return torch.nn.Sequential(fullrank.load_encoder(folder).backbone, torch.nn.Flatten(1)), shown


def test_a_monitor_forecasts_only_what_it_has_measured():
    monitor = Monitor(taps={"backbone": ""}, probe=[torch.eye(4)])
    with pytest.raises(UserError, match="no check-up"):
        monitor.forecast("backbone")
    monitor.check_up(torch.nn.Linear(4, 3))
    with pytest.raises(UserError, match="layer"):
        monitor.forecast("head")
    assert not any("forecast" in key for key in monitor.readings())  # too few rows: it abstains


def test_the_forecast_is_printed_and_drawn_and_may_be_missing(trained, tmp_path, capsys):
    verdict = last(trained, "verdict")
    print_verdict(Run(trained, "finished", verdict))
    assert "forecast without labels" in capsys.readouterr().out
    assert "Forecast without labels" in (trained / "report.html").read_text()
    old = copied(trained, tmp_path / "old")
    kept = [e for e in Record(old).events() if e["event"] != "forecast"]
    (old / "record.jsonl").write_text("".join(json.dumps(e) + "\n" for e in kept))
    print_verdict(Run(old, "finished", verdict))
    assert "forecast" not in capsys.readouterr().out
    assert RunRecord.read(old).forecast == {}
    assert "Forecast without labels" not in fullrank.report(old).read_text()


def test_files_of_embeddings_have_a_standing_at_most(tmp_path):
    import numpy as np

    random = np.random.default_rng(0)
    path = tmp_path / "features.npy"
    np.save(path, random.normal(size=(600, 32)) * np.exp(-0.1 * np.arange(32)) + 0.2)
    found = fullrank.audit(path, sample=0).audits[0]
    assert found.forecast.expected == {} and found.forecast.reason
    vitals = found.main.vitals
    assert found.forecast == forecast(vitals)
    assert data_key("digits") in str(found.forecast.reason) or "unlike" in found.forecast.reason

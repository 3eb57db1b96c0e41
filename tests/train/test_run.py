"""Laws of a run: exact resume, no trace of measuring, folders that are safe."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from batches import batch_size
from fullrank.data.shapes import CONTINUOUS, DISCRETE, factor_names
from fullrank.errors import UserError
from fullrank.recipes.registry import recipes
from fullrank.train.callbacks import Interrupt
from fullrank.train.folder import claim, config_in, config_of
from fullrank.train.module import JointEmbeddingModule
from fullrank.train.record import Record
from fullrank.train.resolve import resolve
from fullrank.train.run import run

TINY = {
    "preset": "small",
    "data": "digits",
    "backbone": {"name": "conv4", "width": 2},
    "batch_size": 64,
    "steps": 12,
    "threads": 1,
    "device": "cpu",
    "log_every": 1,
    "checkup": {"size": 100},
    "probe": {"train": 200, "test": 100},
}


def configure(out: Path, recipe="simsiam", **changes):
    return resolve({"recipe": recipe, **TINY, "out": str(out), **changes})


def state(folder: Path):
    """All tensors of the last checkpoint, flattened under their names."""
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False)
    found = dict(saved["state_dict"])
    for key, value in saved["optimizer_states"][0]["state"].items():
        found |= {f"optimizer.{key}.{k}": v for k, v in value.items() if torch.is_tensor(v)}
    return found


def assert_equal_states(a: Path, b: Path):
    first, second = state(a), state(b)
    assert first.keys() == second.keys()
    different = [k for k in first if not torch.equal(first[k], second[k])]
    assert not different


def interrupt_after(folder: Path, lines: int, number: int = signal.SIGINT):
    """Send a signal to this process once the record has so many step lines."""

    def watch():
        while True:
            if sum(e["event"] == "step" for e in Record(folder).events()) >= lines:
                os.kill(os.getpid(), number)
                return
            time.sleep(0.002)

    threading.Thread(target=watch, daemon=True).start()


def events(folder: Path, kind: str):
    return [e for e in Record(folder).events() if e["event"] == kind]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    return run(configure(folder))


def test_a_run_folder_holds_all_that_is_promised(finished):
    assert finished.status == "finished"
    present = {p.name for p in finished.folder.iterdir()}
    assert present >= {
        "config.yaml",
        "record.jsonl",
        "checkpoints",
        "encoder.safetensors",
        "encoder.json",
        "views.png",
    }
    kinds = {e["event"] for e in Record(finished.folder).events()}
    assert kinds >= {"start", "checkup", "step", "probe", "verdict", "end"}
    assert set(finished.verdict) == {"backbone", "embedding", "loss"}
    networks = [e["network"] for e in events(finished.folder, "probe")]
    assert networks == ["random-init", "run"]
    steps = [e["step"] for e in events(finished.folder, "step")]
    assert steps == list(range(1, 13))
    checkups = events(finished.folder, "checkup")
    assert (checkups[0]["step"], checkups[0]["network"]) == (0, "random-init")
    assert checkups[-1]["step"] == 12


def test_the_tracker_is_told_what_the_record_is_told(finished):
    import csv

    with (finished.folder / "logs" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines = events(finished.folder, "step")
    assert [int(row["step"]) for row in rows] == [line["step"] for line in lines]
    assert [float(row["loss"]) for row in rows] == pytest.approx([line["loss"] for line in lines])


def test_the_encoder_gives_the_features_of_the_trained_backbone(finished):
    from fullrank.data.augment import prepare
    from fullrank.train.encoder import load_encoder

    encoder = load_encoder(finished.folder)
    pixels = torch.randint(0, 256, (5, 1, 20, 20), dtype=torch.uint8)
    prefix = "network.backbone."
    trained = state(finished.folder)
    weights = {k.removeprefix(prefix): v for k, v in trained.items() if k.startswith(prefix)}
    network, _ = config_of(finished.folder).backbone.build(1, 8)
    network.load_state_dict(weights)
    with torch.no_grad():
        expected = network.eval()(prepare(pixels, 8, encoder.mean, encoder.std))
    torch.testing.assert_close(encoder(pixels), expected)
    assert expected.shape == (5, encoder.dim)
    with pytest.raises(UserError, match="3 channels given"):
        encoder(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_a_folder_without_encoder_is_named(tmp_path):
    from fullrank.train.encoder import load_encoder

    with pytest.raises(UserError, match="has no encoder"):
        load_encoder(tmp_path)


def test_the_configuration_in_the_folder_runs_again_to_the_same_weights(finished, tmp_path):
    from dataclasses import replace

    config = config_of(finished.folder)
    again = replace(config, run=replace(config.run, out=str(tmp_path / "again")))
    assert again.identity() == config.identity()
    run(again)
    assert_equal_states(finished.folder, tmp_path / "again")


def test_an_identical_run_is_found(finished):
    before = (finished.folder / "record.jsonl").read_bytes()
    found = run(configure(finished.folder))
    assert found.status == "found"
    assert found.verdict["embedding"] == finished.verdict["embedding"]
    assert (finished.folder / "record.jsonl").read_bytes() == before


def test_another_seed_gives_other_weights(finished, tmp_path):
    run(configure(tmp_path / "other", seed=1))
    first, second = state(finished.folder), state(tmp_path / "other")
    assert any(not torch.equal(first[k], second[k]) for k in first)


def test_measuring_leaves_no_trace_in_the_weights(finished, tmp_path):
    often = configure(tmp_path / "often", checkup={"size": 100, "budget": 100.0, "count": 20})
    never = configure(tmp_path / "never", checkup={"size": 100, "budget": 0.0, "count": 2})
    run(often)
    run(never)
    assert len(events(tmp_path / "often", "checkup")) > len(events(tmp_path / "never", "checkup"))
    assert_equal_states(tmp_path / "often", tmp_path / "never")


# One recipe for each thing that is kept between steps; the others are run by `make slow`.
SOON = ("simsiam", "directpred", "mocov2", "deepcluster", "dino")
every_recipe = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in SOON else pytest.mark.slow) for n in recipes()]
)


@every_recipe
def test_an_interrupted_run_resumes_bit_for_bit(name, tmp_path):
    # Enough steps that the interrupt, sent after the fifth, cannot miss the run.
    steps = {"steps": 40, "logger": "none", "checkup": {"size": 100, "count": 3}}
    steps["batch_size"] = max(64, batch_size(recipes()[name]))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(configure(whole, name, **steps))
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    interrupt_after(broken, lines=5)
    stopped = run(configure(broken, name, **steps))
    assert [signal.getsignal(number) for number in numbers] == before
    assert stopped.status == "interrupted"
    step = events(broken, "interrupt")[-1]["step"]
    assert 5 <= step < 40
    assert f"--resume {broken}" in events(broken, "interrupt")[-1]["text"]
    done = run(config_of(broken), resume=broken)
    assert done.status == "finished"
    assert_equal_states(whole, broken)
    losses = [{e["step"]: e["loss"] for e in events(folder, "step")} for folder in (whole, broken)]
    assert losses[0] == losses[1]


def test_sigterm_ends_a_run_as_ctrl_c_does(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    steps = {"steps": 40, "logger": "none", "batch_size": 64}
    run(configure(whole, **steps))
    before = signal.getsignal(signal.SIGTERM)
    interrupt_after(broken, lines=5, number=signal.SIGTERM)
    assert run(configure(broken, **steps)).status == "interrupted"
    assert signal.getsignal(signal.SIGTERM) == before
    assert events(broken, "interrupt")[-1]["step"] < 40
    assert run(config_of(broken), resume=broken).status == "finished"
    assert_equal_states(whole, broken)


def test_a_resumed_run_keeps_its_time_and_its_log(tmp_path):
    folder = tmp_path / "run"
    interrupt_after(folder, lines=5)
    run(configure(folder, steps=40, logger="csv", batch_size=64))
    kept = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False)
    (spent,) = (s["seconds"] for s in kept["callbacks"].values() if "seconds" in s)
    step = kept["global_step"]
    (folder / "checkpoints" / "last.ckpt.77-abcd.partial").touch()  # as a kill leaves it
    before = (folder / "logs/metrics.csv").read_text()
    run(config_of(folder), resume=folder)
    assert not list(folder.rglob("*.partial"))
    (end,) = events(folder, "end")
    assert end["seconds"] > spent > 0
    assert end["images_per_second"] == pytest.approx(40 * 64 / end["seconds"], rel=1e-3)
    assert (folder / "logs/metrics.csv").read_text() == before
    assert (folder / f"logs/from-step-{step}/metrics.csv").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_run_at_once(number, tmp_path, monkeypatch):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

    def twice(module, batch, place):
        signal.raise_signal(number)
        signal.raise_signal(number)

    monkeypatch.setattr(JointEmbeddingModule, "training_step", twice)
    with pytest.raises(KeyboardInterrupt):
        run(configure(tmp_path / "run", logger="none"))
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_sigterm_before_the_first_step_is_heard(tmp_path, monkeypatch):
    begin = Interrupt.on_train_start

    def early(self, *args):
        signal.raise_signal(signal.SIGTERM)  # while the trainer's own handler is there
        begin(self, *args)

    monkeypatch.setattr(Interrupt, "on_train_start", early)
    assert run(configure(tmp_path / "run", logger="none")).status == "interrupted"
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("kind", ["single-pass", "cumulative", "hybrid"])
def test_a_run_in_chunks_resumes_bit_for_bit_and_records_its_chunks(kind, tmp_path):
    order = {"data": {"name": "digits", "stream": {"kind": kind, "chunks": 4}}}
    run(configure(tmp_path / "whole", **order))
    interrupt_after(tmp_path / "cut", lines=5)
    assert run(configure(tmp_path / "cut", **order)).status == "interrupted"
    run(config_of(tmp_path / "cut"), resume=tmp_path / "cut")
    assert_equal_states(tmp_path / "whole", tmp_path / "cut")
    (said,) = events(tmp_path / "whole", "stream")
    chunk = {phase["first"]: phase["chunk"] for phase in said["phases"]}
    for line in events(tmp_path / "whole", "step"):
        due = chunk[max(first for first in chunk if first <= line["step"])]
        assert line.get("chunk") == due


def test_a_hybrid_is_a_single_pass_resumed_with_all_images(tmp_path):
    chunks = {"name": "digits", "stream": {"kind": "single-pass", "chunks": 4}}
    both = {"name": "digits", "stream": {"kind": "hybrid", "chunks": 4, "switch": 0.9}}
    run(configure(tmp_path / "hybrid", data=both))  # switches after 11 of 12 steps
    interrupt_after(tmp_path / "single", lines=2)
    assert run(configure(tmp_path / "single", data=chunks)).status == "interrupted"
    (tmp_path / "single" / "config.yaml").write_text((tmp_path / "hybrid/config.yaml").read_text())
    run(config_of(tmp_path / "single"), resume=tmp_path / "single")
    assert_equal_states(tmp_path / "hybrid", tmp_path / "single")


def test_an_unfinished_run_is_not_overwritten(tmp_path):
    folder = tmp_path / "run"
    interrupt_after(folder, lines=2)
    run(configure(folder, steps=60, logger="none"))
    with pytest.raises(UserError, match=r"unfinished\. Go on with --resume"):
        run(configure(folder, steps=60, logger="none"))


def test_a_loss_that_is_not_a_number_stops_the_run_and_names_causes(tmp_path):
    folder = tmp_path / "run"
    config = configure(
        folder,
        "vicreg",
        steps=50,
        optimizer={"lr": 1e20, "warmup": 0.0},
        checkpoint_minutes=1e-9,
        precision="32",
    )
    done = run(config)
    assert done.status == "stopped"
    stop = events(folder, "stop")[-1]
    assert "NaN or infinite" in stop["text"]
    assert any("learning rate" in cause for cause in stop["causes"])
    kept = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False)
    assert kept["global_step"] < stop["step"]
    with pytest.raises(UserError, match="holds this run, which stopped: the loss became NaN"):
        run(config)


def test_a_batch_that_cannot_be_whitened_ends_the_run_and_says_what_it_usually_is(tmp_path):
    folder = tmp_path / "run"
    # 16 features cannot span the 64 dimensions of a linear projector.
    projector = {"recipe.projector.depth": 1, "recipe.projector.out": 64}
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    done = run(configure(folder, "wmse", batch_size=256, precision="32", **projector))
    assert done.status == "stopped"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    stop = events(folder, "stop")[-1]
    assert "has rank 16" in stop["text"]
    assert "collapsed to fewer dimensions" in stop["text"]
    assert (folder / "checkpoints" / "last.ckpt").exists()


DATA = {
    "shapes": {"data": "shapes", "data.limit": 512, "data.size": 16},
    "digits": {"data": "digits"},
}


@every_recipe
@pytest.mark.parametrize("data", list(DATA))
def test_every_recipe_trains_with_finite_losses(name, data, tmp_path):
    batch = max(64, batch_size(recipes()[name]))
    run(configure(tmp_path, name, **{"steps": 50, "batch_size": batch, **DATA[data]}))
    losses = [e["loss"] for e in events(tmp_path, "step")]
    assert all(math.isfinite(loss) for loss in losses)
    first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
    if first + 0.1 * abs(first) < last:
        # What an objective remembers (a queue that fills, a covariance) may make it a harder one
        # as it grows. Even then nothing ends as high as a constant embedding does.
        config = config_of(tmp_path)
        network = config.recipe.build(config.backbone, 1, 16, images=batch)
        assert list(network.objective.buffers())
        assert last < config.recipe.collapsed_loss(network.feature_dim, batch)


def test_a_folder_that_is_something_else_is_refused(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and not a run"):
        run(configure(tmp_path))
    with pytest.raises(UserError, match="is a file"):
        run(configure(tmp_path / "precious.txt"))


def test_another_configuration_does_not_share_a_folder(finished):
    with pytest.raises(UserError, match="another configuration"):
        run(configure(finished.folder, seed=9))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 5000}, "batch_size: 5000 is more than the 1297 training images"),
        ({"batch_size": 1}, "no batch statistics"),
        ({"device": "cuda"}, "device: 'cuda' is not on this machine"),
        ({"device": "tpu"}, "device: 'tpu' is not on this machine"),
        ({"data": "folder:/nowhere"}, "/nowhere"),
    ],
)
def test_bad_input_leaves_no_folder_behind(changes, message, tmp_path):
    if changes.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(UserError) as caught:
        run(configure(tmp_path / "run", **changes))
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_what_is_not_a_run_cannot_be_resumed(tmp_path, finished):
    with pytest.raises(UserError, match=r"has no config\.yaml"):
        config_of(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        config_of(tmp_path / "nowhere")
    with pytest.raises(UserError, match="nothing left to do"):
        run(config_of(finished.folder), resume=finished.folder)
    with pytest.raises(UserError, match="--seed cannot change"):
        config_of(finished.folder, ["--seed", "3"])


def test_a_record_goes_on_after_a_line_that_was_cut_off(tmp_path):
    record = Record(tmp_path)
    record.write("step", step=1, loss=float("nan"))
    with record.path.open("a") as file:
        file.write('{"event": "st')
    record.write("resume", step=1)
    assert [e["event"] for e in record.events()] == ["step", "resume"]
    assert next(record.events())["loss"] is None


def test_a_run_cut_off_after_its_last_step_is_concluded_by_resuming(finished, tmp_path):
    """Killed while it probed: all steps are done, the verdict is missing."""
    import shutil

    folder = tmp_path / "cut"
    shutil.copytree(finished.folder, folder)
    late = ("probe", "verdict", "end")
    kept = [
        line
        for line in (folder / "record.jsonl").read_text().splitlines(keepends=True)
        if not any(f'"event": "{kind}"' in line for kind in late)
    ]
    (folder / "record.jsonl").write_text("".join(kept))
    done = run(config_of(folder), resume=folder)
    assert done.status == "finished"
    assert done.verdict == finished.verdict
    assert_equal_states(folder, finished.folder)
    assert [e["knn"] for e in events(folder, "probe")] == [
        e["knn"] for e in events(finished.folder, "probe")
    ]


def test_steps_that_a_resume_takes_back_are_not_current(tmp_path):
    record = Record(tmp_path)
    for step in (1, 2, 3):
        record.write("step", step=step, loss=float(step))
    record.write("resume", step=1)
    record.write("step", step=2, loss=9.0)
    assert [(e["event"], e["step"]) for e in record.current()] == [
        ("step", 1),
        ("resume", 1),
        ("step", 2),
    ]


@pytest.mark.parametrize("line", [b"3", b"[]", b'{"step": 1}', b"\xff\xfe"])
def test_a_record_that_cannot_be_read_is_named(line, finished, tmp_path):
    import shutil

    folder = tmp_path / "damaged"
    shutil.copytree(finished.folder, folder)
    with (folder / "record.jsonl").open("ab") as record:
        record.write(line + b"\n")
    with pytest.raises(UserError, match=r"out: .*damaged has a record that cannot be read"):
        claim(folder, config_in(folder))
    with pytest.raises(UserError, match=r"resume: .*damaged has a record that cannot be read"):
        config_of(folder)


def test_a_damaged_checkpoint_is_named(finished, tmp_path):
    import shutil

    folder = tmp_path / "damaged"
    shutil.copytree(finished.folder, folder)
    record = folder / "record.jsonl"
    record.write_text("".join(record.read_text().splitlines(keepends=True)[:-1]))
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"PK broken")
    with pytest.raises(UserError, match=r"last\.ckpt is damaged"):
        run(config_of(folder), resume=folder)


def test_a_run_on_shapes_reads_every_factor(tmp_path):
    data = {"name": "shapes", "size": 8, "limit": 300}
    done = run(configure(tmp_path / "shapes", data=data))
    for line in events(done.folder, "probe"):
        assert set(line["factors"]) == set(factor_names()) - {"rotation"}
        assert all(0 <= line["factors"][name] <= 1 for name in DISCRETE)
        r2 = [line["factors"][name] for name in CONTINUOUS if name != "rotation"]
        assert all(value <= 1 for value in r2)
        assert line["factors_r2"] == pytest.approx(sum(r2) / len(r2), rel=1e-6)
        assert line["linear"] == pytest.approx(line["factors"]["shape"])  # the label

"""The command line: quick without torch, honest exit codes, messages instead of tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from fullrank.cli import main
from fullrank.train.record import Record

TINY = (
    "--preset small --data digits --backbone conv4 --backbone.width 2 --batch_size 64 --steps 6 "
    "--threads 1 --device cpu --log_every 1 --checkup.size 50 --probe.train 100 --probe.test 100"
).split()


def fullrank(*arguments, **options):
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "fullrank.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        **options,
    )


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "--version",
        "recipes",
        "recipes --json",
        "recipes simsiam",
        "recipes simsiam byol",
        "data",
        "train --help",
        "train vicreg --help",
        "report --help",
        "explain --help",
        "sweep --help",
        "train simsiam --data digits --steps 3 --print_config",
    ],
)
def test_lists_and_help_import_neither_torch_nor_lightning(line):
    code = (
        "import sys; from fullrank.cli import main\n"
        f"try: code = main({line.split()!r})\n"
        "except SystemExit as stop: code = stop.code or 0\n"
        "heavy = {'torch', 'lightning', 'torchvision', 'timm', 'sklearn', 'plotly'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"
    assert done.stdout


def test_recipes_as_json_name_every_field(capsys):
    assert main(["recipes", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {r["name"] for r in listed} >= {"simsiam", "byol", "simclr", "vicreg", "barlow-twins"}
    fields = {"views", "projector", "predictor", "target", "objective"}
    assert all(set(r["fields"]) == fields for r in listed)


def test_help_shows_the_defaults_of_the_chosen_recipe(capsys):
    main(["train", "byol", "--recipe.predictor", "linear", "--help"])
    text = capsys.readouterr().out
    assert "--recipe.predictor.bias" in text
    assert "--recipe.target.tau" in text
    assert "default: 4096" in text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian simsiam", "command: 'trian' is not known. Did you mean 'train'"),
        ("train simsam", "Did you mean 'simsiam'"),
        ("train simsiam --data fashion", "Did you mean 'fashion-mnist'"),
        ("train simsiam --backbone resnet8", "Did you mean 'resnet18'"),
        ("train simsiam --recipe.predictor.hiden 3", "Did you mean '--recipe.predictor.hidden'"),
        ("train simsiam --device cuda:7", "device: 'cuda:7' is not on this machine"),
        ("train --resume nowhere", "resume: nowhere is not a run folder"),
        ("train", "recipe: none given"),
        ("report nowhere", "nowhere"),
        ("recipes simsiam byol vicreg", "3 names given"),
        ("recipes simsam", "Did you mean 'simsiam'"),
        ("data stray", "'stray' is not expected here"),
    ],
)
def test_bad_input_exits_with_2_and_one_line(line, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("fullrank: error: ")
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_python_runs_the_package_as_the_command():
    line = [sys.executable, "-m", "fullrank"]
    done = subprocess.run([*line, "--version"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("fullrank ")
    assert subprocess.run([*line, "trian"], capture_output=True, timeout=60).returncode == 2


def test_train_prints_the_verdict_and_ends_with_the_report(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "simsiam", *TINY, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("embedding: ") for line in lines)
    assert any(line.startswith("knn probe: ") for line in lines)
    assert lines[-1] == f"report: {out / 'report.html'}"
    assert (out / "report.html").stat().st_size > 1e6
    assert main(["train", "simsiam", *TINY, "--out", str(out)]) == 0
    assert "an identical run is there already" in capsys.readouterr().out
    assert main(["report", str(out), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").exists()


def test_a_loss_that_is_not_finite_exits_with_1_and_names_causes(tmp_path, capsys):
    line = ["--optimizer.lr", "1e20", "--optimizer.warmup", "0", "--precision", "32"]
    assert main(["train", "vicreg", *TINY, *line, "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "NaN or infinite" in error
    assert "learning rate" in error


def test_labels_that_are_missing_are_no_obstacle_unless_asked_for(tmp_path, capsys):
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(40):
        Image.new("RGB", (12, 10), (6 * i, 255 - 6 * i, 99)).save(folder / f"{i}.png")
    data = ["--data", f"folder:{folder}", "--recipe.views.size", "8", "--batch_size", "8"]
    line = [*TINY, *data, "--data.workers", "0"]
    assert main(["train", "simsiam", *line, "--out", str(tmp_path / "run")]) == 0
    assert not any(e["event"] == "probe" for e in Record(tmp_path / "run").events())
    line += ["--checkup.probe", "true", "--out", str(tmp_path / "probed")]
    assert main(["train", "simsiam", *line]) == 2
    assert "has no labels to probe with" in capsys.readouterr().err


def test_corrupt_images_are_named_and_skipped(tmp_path, capsys):
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(40):
        Image.new("RGB", (12, 10), (6 * i, 99, 99)).save(folder / f"{i}.png")
    (folder / "7.png").write_bytes(b"not a picture")
    data = ["--data", f"folder:{folder}", "--recipe.views.size", "8", "--batch_size", "16"]
    line = [*TINY, *data, "--data.workers", "0", "--out", str(tmp_path / "run")]
    assert main(["train", "simsiam", *line]) == 0
    warned = [e["text"] for e in Record(tmp_path / "run").events() if e["event"] == "warning"]
    assert any("7.png" in text for text in warned)
    assert "1 unreadable image(s)" in capsys.readouterr().out


def test_an_empty_folder_and_one_image_are_refused(tmp_path, capsys):
    from PIL import Image

    assert main(["train", "simsiam", "--data", f"folder:{tmp_path}"]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    Image.new("RGB", (8, 8)).save(tmp_path / "only.png")
    assert main(["train", "simsiam", "--data", f"folder:{tmp_path}"]) == 2
    assert "only one image" in capsys.readouterr().err


def test_a_full_disk_is_said_in_words_and_keeps_what_was_written(tmp_path):
    """A limit on file size stands in for a full disk: writes fail with the system's own error."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
        "from fullrank.cli import main\n"
        f"sys.exit(main(['train', 'simsiam', *{TINY!r}, '--out', {str(tmp_path / 'run')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert any(e["event"] == "step" for e in Record(tmp_path / "run").events())


@pytest.mark.slow
def test_two_devices_train_as_one(tmp_path):
    """The same global batch through one process and through two gives the same losses."""
    losses, spreads = {}, {}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for devices in (1, 2):
        out = tmp_path / str(devices)
        line = [*TINY, "--precision", "32", "--devices", str(devices), "--out", str(out)]
        done = fullrank("train", "byol", *line, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("report: ") == 1
        events = list(Record(out).events())
        losses[devices] = [e["loss"] for e in events if e["event"] == "step"]
        assert [e["event"] for e in events].count("start") == 1
        spreads[devices] = [e["spread"] for e in events if e["event"] == "step"]
    assert losses[2] == pytest.approx(losses[1], rel=1e-4)
    assert spreads[2] == pytest.approx(spreads[1], rel=1e-3)


@pytest.mark.slow
def test_ctrl_c_says_how_to_resume_and_resuming_finishes(tmp_path):
    import signal
    import time

    out = tmp_path / "run"
    line = [sys.executable, "-m", "fullrank.cli", "train", "simsiam", *TINY]
    line[line.index("--steps") + 1] = "3000"
    line += ["--out", str(out), "--logger", "none"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not any(e["event"] == "step" for e in Record(out).events()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"fullrank train --resume {out}" in error
    assert (out / "checkpoints" / "last.ckpt").exists()

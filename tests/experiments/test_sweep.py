import io
import json
import shutil
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from scipy import stats

import fullrank
from fullrank.cli import main
from fullrank.errors import UserError
from fullrank.experiments.engine import choose_engine
from fullrank.experiments.grid import read_grid
from fullrank.experiments.stored import folder_of, placed, read
from fullrank.experiments.sweep import last_step, read_sweep
from fullrank.experiments.sweep_command import live_table
from fullrank.experiments.training import train_one
from fullrank.report.sweep_axes import over_seeds
from fullrank.train.record import Record
from tiny_runs import TINY, needs_ray

GRID = {
    "base": TINY,
    "grid": {"recipe.predictor": ["mlp", "none"]},
    "seeds": 2,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A store with all runs of the grid."""
    runs = tmp_path_factory.mktemp("sweep") / "runs"
    for point in read_grid(GRID).points:
        train_one(placed(point.config, runs))
    return runs


@pytest.fixture
def place(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "runs")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(GRID))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def folders(place):
    return [folder_of(placed(p.config, place / "runs")) for p in read_grid(GRID).points]


@pytest.mark.parametrize("engine", ["pool", pytest.param("ray", marks=needs_ray)])
def test_the_results_are_what_the_records_say(engine, place):
    told = []
    done = fullrank.sweep("small.yaml", engine=engine, progress=told.append)
    assert done.folder == Path("sweeps/small") and done.failed == 0
    assert (told[-1].done, told[-1].found) == (4, 4)
    rows = pq.read_table(done.results).to_pylist()
    assert [(r["recipe.predictor"], r["seed"]) for r in rows] == [
        ("mlp", 0), ("none", 0), ("mlp", 1), ("none", 1)
    ]  # fmt: skip
    for row, folder in zip(rows, folders(place), strict=True):
        shown = read(folder)
        assert (row["status"], row["error"], row["set_aside"]) == ("found", None, None)
        assert Path(row["folder"]).name == folder.name and folder.name.endswith(row["hash"])
        for layer in ("embedding", "backbone"):
            assert row[f"verdict_{layer}"] == shown["verdict"][layer]
            assert row[f"{layer}_spectrum"] == shown[layer]["spectrum"]
            assert row[f"{layer}_alignment"] == shown[layer]["alignment"]
        assert (row["knn"], row["knn_random"]) == (shown["probe"]["knn"], shown["random"]["knn"])
        assert row["loss"] == Record(folder).last("step")["loss"]
        assert json.loads(row["config"])["steps"] == 3
    assert read_sweep(done.folder) == done.found
    assert len(done.found["runs"]) == done.found["total"] == 4


def test_the_page_is_drawn_again_from_the_folder(place):
    done = fullrank.sweep(GRID, engine="pool", out="out")
    first = done.page.read_text()
    assert fullrank.report("out") == done.page == Path("out/sweep.html")
    assert done.page.read_text() == first
    for row in done.found["runs"]:
        assert row["folder"] in first and row["verdict_embedding"] in first
    assert "axis-0-0" in first and "recipe.predictor" in first
    with pytest.raises(UserError, match="one sweep"):
        fullrank.report("out", "runs")


def test_an_interval_is_students_over_seeds():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 2, 3))  # seed, value of the axis, another axis
    rows = [
        {"axes": {"a": a, "b": b}, "seed": s, "v": values[s, a, b]}
        for s in range(5) for a in range(2) for b in range(3)
    ]  # fmt: skip
    for a in range(2):
        means = values[:, a].mean(axis=1)
        low, high = stats.t.interval(0.95, 4, means.mean(), stats.sem(means))
        found = over_seeds(rows, "a", a, "v")
        assert [found[k] for k in ("mean", "low", "high")] == pytest.approx(
            [means.mean(), low, high]
        )
    assert over_seeds(rows, "a", 7, "v") is None
    one = over_seeds(rows[:1], "a", 0, "v")
    assert one["mean"] == values[0, 0, 0] and one["low"] is None


def test_a_run_that_failed_is_named_and_the_exit_code_says_so(place, capsys):
    stopped = folders(place)[1]
    lines = (stopped / "record.jsonl").read_text().splitlines(keepends=True)
    (stopped / "record.jsonl").write_text("".join(lines[:2]))
    Record(stopped).write("stop", step=2, text="the loss became NaN or infinite at step 2")
    assert main(["sweep", "small.yaml", "--engine", "pool"]) == 1
    printed = capsys.readouterr()
    assert f"failed: runs/{stopped.name}: the loss became NaN" in printed.out
    assert printed.out.rstrip().endswith("sweeps/small/sweep.html")
    table = pq.read_table("sweeps/small/results.parquet").to_pylist()
    assert [row["status"] for row in table] == ["found", "failed", "found", "found"]
    assert table[1]["embedding_spread"] is None and table[1]["verdict_embedding"] is None
    assert "NaN" in Path("sweeps/small/sweep.html").read_text()
    assert main(["sweep", "small.yaml", "--engine", "pool", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == read_sweep("sweeps/small") | {
        "seconds": pytest.approx(read_sweep("sweeps/small")["seconds"])
    }


def test_the_live_table_shows_every_state(place):
    from rich.console import Console

    boards = []
    fullrank.sweep(GRID, engine="pool", watch=lambda board: boards.append(list(board)))
    board = boards[-1]
    board[0].state, board[0].row = "running", None
    board[1].state, board[1].row = "waiting", None
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(live_table(board, None, room=10))
    text = console.export_text()
    assert "step 3/3" in text and "1 waiting" in text and "2 found" in text
    assert "recipe.predictor none" in text


def test_the_last_step_of_a_record_is_read_from_its_end(tmp_path):
    record = Record(tmp_path)
    assert last_step(record.path) is None
    for step in range(500):
        record.write("step", step=step, loss=0.1)
    with record.path.open("a") as file:
        file.write('{"event": "step", "st')
    assert last_step(record.path) == 499


def closed_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["no.yaml"], "no.yaml cannot be read"),
        (["empty.yaml"], "empty.yaml is empty"),
        (["unknown.yaml"], "Did you mean '--optimizer.lr'"),
        (["small.yaml", "--workers", "0"], "workers: 0"),
        (["small.yaml", "--engine", "rai"], "Did you mean 'ray'"),
        (["small.yaml", "--gpus", "-1"], "gpus: -1"),
        (["small.yaml", "--gpus", "1.5"], "gpus: 1.5"),
        (["small.yaml", "--engine", "pool", "--gpus", "0.5"], "engine 'pool'"),
        (["small.yaml", "--engine", "pool", "--ray", "a:1"], "engine 'pool'"),
        (["small.yaml", "--runs", "small.yaml"], "runs: small.yaml cannot be written"),
        (["small.yaml", "--out", "small.yaml"], "small.yaml"),
        (["small.yaml", "--worker", "2"], "Did you mean '--workers'"),
        pytest.param(
            ["new.yaml", "--ray", f"127.0.0.1:{closed_port()}"], "does not answer", marks=needs_ray
        ),
        pytest.param(["new.yaml", "--ray", "nonsense"], "is not an address", marks=needs_ray),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_trained(place, capsys, line, message):
    Path("empty.yaml").touch()
    Path("unknown.yaml").write_text("grid: {optimizer.lrr: [1]}")
    Path("new.yaml").write_text(yaml.safe_dump(GRID | {"seeds": [7]}))
    before = {path.name for path in (place / "runs").iterdir()} | {".locks"}
    assert main(["sweep", *line]) == 2
    printed = capsys.readouterr()
    error = printed.err.strip().splitlines()[-1]
    assert error.startswith("fullrank: error: ") and message in error
    assert {path.name for path in (place / "runs").iterdir()} | {".locks"} == before


def test_an_engine_is_chosen_by_what_is_asked_for():
    assert choose_engine("pool") == "pool"
    if find_spec("ray") is None:
        assert choose_engine("auto") == "pool"
        for asked in ({"engine": "ray"}, {"engine": "auto", "ray": "a:1"}):
            with pytest.raises(UserError, match="pip install"):
                choose_engine(**asked)
    else:
        assert choose_engine("ray") == choose_engine("auto") == "ray"
    with pytest.raises(UserError, match="engine: 'dask' is not known"):
        choose_engine("dask")


@needs_ray
@pytest.mark.slow
def test_what_listens_but_is_no_cluster_is_refused_in_bounded_time(tmp_path):
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(GRID))
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(16)
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        code = "import sys; from fullrank.cli import main; sys.exit(main())"
        line = [sys.executable, "-c", code, "sweep", "grid.yaml", "--ray", address]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert f"ray: {address} does not answer" in done.stderr and "Traceback" not in done.stderr


JOINED = """
import socket
import ray
from fullrank.errors import UserError
from fullrank.experiments.ray_cluster import connect, room

def refused(call):
    try:
        call()
    except UserError as error:
        return str(error)
    raise AssertionError("not refused")

ray.init(address="local", num_cpus=1, num_gpus=0, include_dashboard=False, log_to_driver=False)
joined = ray.get_runtime_context().gcs_address
port = joined.rpartition(":")[2]
for same in (None, "auto", joined, f"127.0.0.1:{port}"):
    assert connect(same, None, 0, ()) is False, same
with socket.create_server(("127.0.0.1", 0)) as other:
    elsewhere = f"127.0.0.1:{other.getsockname()[1]}"
    assert f"has joined {joined}" in refused(lambda: connect(elsewhere, None, 0, ()))
assert room(0) == 1
assert "gpus: 0.5 is more than the 0" in refused(lambda: room(0.5))
ray.shutdown()
ray.init(address="local", num_cpus=0, num_gpus=2, include_dashboard=False, log_to_driver=False)
assert "no CPU" in refused(lambda: room(0))
ray.shutdown()
ray.init(address="local", num_cpus=3, num_gpus=2, include_dashboard=False, log_to_driver=False)
assert (room(0), room(0.5), room(1), room(2)) == (3, 3, 2, 1)
assert "more than the 2" in refused(lambda: room(3))
"""


@needs_ray
@pytest.mark.slow
def test_a_cluster_that_was_joined_is_kept_and_what_it_has_no_room_for_is_refused(tmp_path):
    line = [sys.executable, "-c", JOINED]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr

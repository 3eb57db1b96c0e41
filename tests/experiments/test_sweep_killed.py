"""Sweeps whose driver, worker or machine is killed: what they lose, and how they go on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import yaml

import fullrank
from fullrank.experiments.grid import read_grid
from fullrank.experiments.stored import folder_of, placed, state
from fullrank.train.record import Record
from tiny_runs import TINY, needs_ray

pytestmark = pytest.mark.slow
later = pytest.mark.thorough  # the other engine's turn

GRID = {
    "base": TINY | {"steps": 400, "log_every": 1, "checkpoint_minutes": 0.001},
    "grid": {"optimizer.lr": [0.02, 0.05]},
}


class Driver:
    """``fullrank sweep`` in a process of its own, and all processes that come from it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.mark = folder, uuid.uuid4().hex
        (folder / "grid.yaml").write_text(yaml.safe_dump(GRID))
        code = "import sys; from fullrank.cli import main; sys.exit(main())"
        line = [sys.executable, "-c", code, "sweep", "grid.yaml", *options]
        environment = os.environ | {"FULLRANK_TEST_MARK": self.mark, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(line, cwd=folder, env=environment, start_new_session=True)
        found = read_grid(folder / "grid.yaml").points
        self.runs = [folder_of(placed(p.config, folder / "runs")) for p in found]

    def wait_for(self, condition, seconds=400) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not come"
            time.sleep(0.02)

    def wait_for_steps(self, step=20) -> None:
        """Wait until all runs came so far, and have a checkpoint."""

        def there() -> bool:
            assert self.process.poll() is None
            return all(
                (last_step(run) or 0) >= step and state(run) == "unfinished" for run in self.runs
            )

        self.wait_for(there)

    def all(self) -> set[int]:
        """Return the processes that the driver started, it included."""
        found = set(self.workers())
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.mark.encode() in (place / "environ").read_bytes():
                    found.add(int(place.name))
        return found

    def workers(self) -> list[int]:
        """Return the processes that write a run, by the lock that they hold.

        Ray's write their titles over what they inherited.
        """
        locks, found = str(self.folder / "runs" / ".locks"), []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if any(str(fd.readlink()).startswith(locks) for fd in (place / "fd").iterdir()):
                    found.append(int(place.name))
        return found

    def kill_all(self) -> None:
        """Kill them all at once, as when the machine loses its power."""
        while found := self.all():
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.poll()


@pytest.fixture
def start(tmp_path):
    drivers = []

    def begin(*options):
        drivers.append(Driver(tmp_path, *options))
        return drivers[-1]

    yield begin
    for driver in drivers:
        driver.kill_all()
        driver.process.wait()


def last_step(folder):
    last = Record(folder).last("step")
    return last and last["step"]


def steps_before_and_at_resume(folder):
    """Return the last step on disk when a run was cut off, and the step that it went on from."""
    events = list(Record(folder).events())
    at = next(i for i, event in enumerate(events) if event["event"] == "resume")
    before = max(event["step"] for event in events[:at] if event["event"] == "step")
    return before, events[at]["step"]


def finish(driver):
    """Call the same sweep again, and return its rows."""
    done = fullrank.sweep(
        driver.folder / "grid.yaml",
        runs=driver.folder / "runs",
        out=driver.folder / "sweeps" / "grid",
        engine="pool",
    )
    assert done.failed == 0 and done.page.exists()
    import pyarrow.parquet as pq

    table = pq.read_table(done.results).to_pylist()
    assert [row["optimizer.lr"] for row in table] == [0.02, 0.05]
    assert [row["hash"] for row in table] == [row["hash"] for row in done.found["runs"]]
    return done.found["runs"]


@pytest.mark.parametrize("engine", ["pool", pytest.param("ray", marks=[needs_ray, later])])
def test_a_machine_without_power_loses_what_came_after_the_last_checkpoints(start, engine):
    driver = start("--engine", engine, "--workers", "2")
    driver.wait_for_steps()
    driver.kill_all()
    assert [state(run) for run in driver.runs] == ["unfinished"] * 2
    rows = finish(driver)
    assert [row["status"] for row in rows] == ["finished"] * 2
    for run in driver.runs:
        before, resumed = steps_before_and_at_resume(run)
        assert 0 < resumed <= before
        assert last_step(run) == 400
        steps = [event["step"] for event in Record(run).current() if event["event"] == "step"]
        assert steps == list(range(1, 401))  # nothing is missing, nothing twice


@pytest.mark.parametrize(
    "engine", [pytest.param("pool", marks=later), pytest.param("ray", marks=needs_ray)]
)
def test_a_run_whose_process_is_killed_goes_on_from_its_last_checkpoint(start, engine):
    driver = start("--engine", engine, "--workers", "1", "--json")
    driver.wait_for(lambda: (last_step(driver.runs[0]) or 0) >= 20)
    (worker,) = driver.workers()
    os.kill(worker, signal.SIGKILL)
    assert driver.process.wait(400) == 0
    _, resumed = steps_before_and_at_resume(driver.runs[0])
    assert resumed > 0
    found = json.loads((driver.folder / "sweeps" / "grid" / "sweep.json").read_text())
    assert [row["status"] for row in found["runs"]] == ["finished"] * 2


@pytest.mark.parametrize(
    ("engine", "number"),
    [
        pytest.param("pool", signal.SIGTERM, id="sigterm-pool"),
        pytest.param("ray", signal.SIGINT, id="ctrl-c-ray", marks=needs_ray),
        pytest.param("pool", signal.SIGINT, id="ctrl-c-pool", marks=later),
        pytest.param("ray", signal.SIGTERM, id="sigterm-ray", marks=[needs_ray, later]),
    ],
)
def test_runs_end_with_a_checkpoint_when_the_driver_is_told_to_stop(start, engine, number):
    driver = start("--engine", engine, "--workers", "2")
    driver.wait_for_steps()
    if number == signal.SIGINT:
        os.killpg(driver.process.pid, number)  # as a terminal does
    else:
        os.kill(driver.process.pid, number)
    assert driver.process.wait(60) == 130
    for run in driver.runs:
        stopped = Record(run).last("interrupt")
        assert stopped is not None and stopped["step"] >= 20
        assert state(run) == "unfinished"
    driver.wait_for(lambda: not driver.all(), 60)


def test_runs_end_with_a_checkpoint_when_the_driver_is_killed(start):
    driver = start("--engine", "pool", "--workers", "2")
    driver.wait_for_steps()
    driver.process.kill()
    driver.process.wait()
    driver.wait_for(lambda: not driver.all(), 60)
    assert all(Record(run).last("interrupt") is not None for run in driver.runs)


def test_two_sweeps_at_once_share_the_runs(start):
    drivers = [start("--engine", "pool", "--workers", "2", "--out", out) for out in ("a", "b")]
    assert [driver.process.wait(400) for driver in drivers] == [0, 0]
    both = [
        json.loads((d.folder / out / "sweep.json").read_text())["runs"]
        for d, out in zip(drivers, "ab", strict=True)
    ]
    for one, other in zip(*both, strict=True):
        assert sorted([one["status"], other["status"]]) == ["finished", "found"]
        assert one["embedding_spread"] == other["embedding_spread"]
    for run in drivers[0].runs:
        events = [event["event"] for event in Record(run).events()]
        assert events.count("start") == events.count("end") == 1 and "resume" not in events

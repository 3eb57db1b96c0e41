import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from fullrank.errors import UserError
from fullrank.experiments.pool import check_workers, outcomes


def square_or_end(job):
    if job == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "leave":
        os._exit(3)
    if job == "raise":
        raise RuntimeError("of no use")
    if job == "refuse":
        raise UserError("job: 'refuse' is not allowed. Allowed: others.")
    return job * job


def who(job):
    time.sleep(0.05)
    return os.getpid()


def sleep_and_tell(folder):
    try:
        (folder / f"{os.getpid()}.started").touch()
        time.sleep(60)
    except KeyboardInterrupt:
        (folder / f"{os.getpid()}.stopped").touch()
        raise


def by_index(work, jobs, workers):
    return {o.index: o for o in outcomes(work, jobs, workers, preload=())}


def test_every_job_has_one_outcome_whatever_happens_to_the_others():
    jobs = [2, "die", 3, "raise", 4, "leave", "refuse", 5]
    found = by_index(square_or_end, jobs, 2)
    assert sorted(found) == list(range(len(jobs)))
    done = {jobs[i]: o.value for i, o in found.items() if o.status == "done"}
    assert done == {2: 4, 3: 9, 4: 16, 5: 25}
    errors = {jobs[i]: o.error for i, o in found.items() if o.status == "failed"}
    assert errors == {
        "die": "its process died (signal 9)",
        "leave": "its process died (exit code 3)",
        "raise": "RuntimeError: of no use",
        "refuse": "job: 'refuse' is not allowed. Allowed: others.",
    }
    raised = next(o for i, o in found.items() if jobs[i] == "raise")
    assert "square_or_end" in raised.detail and raised.seconds > 0


def test_a_job_that_the_process_cannot_read_fails_alone(monkeypatch):
    ghost = types.ModuleType("ghost")  # known to this process alone
    exec("class Job:\n    pass", ghost.__dict__)
    monkeypatch.setitem(sys.modules, "ghost", ghost)
    found = by_index(square_or_end, [2, ghost.Job(), 3], 1)
    assert found[1].error == "ModuleNotFoundError: No module named 'ghost'"
    assert (found[0].value, found[2].value) == (4, 9)
    (gone,) = outcomes("no_such_module:work", [1], 1, preload=())
    assert gone.error == "ModuleNotFoundError: No module named 'no_such_module'"


def test_a_process_is_kept_from_job_to_job():
    found = {o.value for o in by_index(who, range(8), 2).values()}
    assert len(found) == 2 and os.getpid() not in found


def test_there_are_no_more_processes_than_jobs():
    assert len({o.value for o in by_index(who, range(1), 5).values()}) == 1
    assert list(outcomes(who, [], 2, preload=())) == []


def test_who_stops_asking_interrupts_what_runs(tmp_path):
    def give_up_when_both_run():
        while len(list(tmp_path.glob("*.started"))) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=give_up_when_both_run)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        list(outcomes(sleep_and_tell, [tmp_path] * 3, 2, preload=()))
    thread.join()
    started = {path.stem for path in tmp_path.glob("*.started")}
    assert {path.stem for path in tmp_path.glob("*.stopped")} == started
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


@pytest.mark.parametrize("workers", [0, -1, True])
def test_workers_below_one_are_refused(workers):
    with pytest.raises(UserError, match="workers"):
        check_workers(workers)


def test_by_default_there_is_a_process_for_every_core():
    assert check_workers(None) == len(os.sched_getaffinity(0))


def die_once(path):
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def test_a_job_whose_process_died_has_another_try(tmp_path):
    jobs = [tmp_path / "a", tmp_path / "b"]
    found = list(outcomes(die_once, jobs, 2, preload=(), retries=1))
    assert sorted(o.index for o in found) == [0, 1]
    assert [o.value for o in found] == ["alive", "alive"]
    (tried,) = outcomes(square_or_end, ["die"], 1, preload=(), retries=1)
    assert tried.status == "failed" and "signal 9" in tried.error


def test_who_watches_is_told_what_is_being_done():
    seen = []
    found = list(outcomes(who, range(4), 2, preload=(), watch=seen.append))
    assert len(found) == 4
    assert {index for now in seen for index in now} == {0, 1, 2, 3}
    assert all(1 <= len(now) <= 2 for now in seen)


OWNER = """
import sys
from pathlib import Path
from fullrank.experiments.pool import outcomes
from test_pool import sleep_and_tell

if __name__ == "__main__":
    list(outcomes(sleep_and_tell, [Path(sys.argv[1])], 1, preload=()))
"""


def test_processes_stop_when_the_one_that_gives_the_jobs_is_killed(tmp_path):
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=environment) as owner:
        while not (started := list(tmp_path.glob("*.started"))):
            assert owner.poll() is None
            time.sleep(0.01)
        owner.kill()
    stopped = started[0].with_suffix(".stopped")
    for _ in range(3000):
        if stopped.exists():
            break
        time.sleep(0.01)
    assert stopped.exists()


AHEAD = """
import os
import sys
import time
from pathlib import Path
from fullrank.experiments.pool import outcomes, start_ahead

def parent_and_modules(job):
    return os.getppid(), "slow_to_import" in sys.modules

if __name__ == "__main__":
    imported = Path(sys.argv[1])
    start_ahead(["slow_to_import"])
    assert not imported.exists()  # nobody waits for it
    while not imported.exists():  # though there is no worker yet
        time.sleep(0.01)
    start_ahead(["slow_to_import"])
    (found,) = outcomes(parent_and_modules, [1], 1, preload=["slow_to_import"])
    assert found.value == (int(imported.read_text()), True), found
"""
SLOW = """
import os
import time
from pathlib import Path

time.sleep(1)
part = Path({path!r} + ".part")
part.write_text(str(os.getpid()))
part.rename({path!r})
"""


def test_imports_begin_before_there_is_a_worker(tmp_path):
    imported, script = tmp_path / "imported", tmp_path / "ahead.py"
    script.write_text(AHEAD)
    (tmp_path / "slow_to_import.py").write_text(SLOW.format(path=str(imported)))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    line = [sys.executable, str(script), str(imported)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


THREADS = """
import torch
from fullrank.experiments.pool import outcomes

def threads(job):
    return torch.get_num_threads()

if __name__ == "__main__":
    assert torch.get_num_threads() == 2
    (found,) = outcomes(threads, [1], 1, preload=["torch"])
    assert found.value == 1, found
"""


def test_every_process_has_one_thread(tmp_path):
    script = tmp_path / "threads.py"
    script.write_text(THREADS)
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    line = [sys.executable, str(script)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

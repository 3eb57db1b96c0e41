import json
import os
import resource
import shutil
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fullrank.errors import UserError
from fullrank.experiments.engine import carry_out
from fullrank.experiments.store import check_store, examine, set_aside
from fullrank.experiments.stored import folder_of, list_store, placed, read, state
from fullrank.experiments.training import train_one
from fullrank.train.lock import locked
from fullrank.train.resolve import resolve
from fullrank.train.run import run
from tiny_runs import TINY


def tiny(seed=0, **options):
    return resolve(TINY | {"seed": seed} | options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A store with one finished run."""
    runs = tmp_path_factory.mktemp("store")
    train_one(placed(tiny(), runs))
    return runs


@pytest.fixture
def store(finished, tmp_path):
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "runs"))


def unfinished(folder):
    """Cut the record of a finished run off after its first check-up, as a killed one leaves it."""
    lines = (folder / "record.jsonl").read_text().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if json.loads(line)["event"] == "checkup")
    (folder / "record.jsonl").write_text("".join(lines[: first + 1]))
    assert state(folder) == "unfinished"


def rubbish_config(folder):
    (folder / "config.yaml").write_bytes(b"\x00\xff not yaml: [")


def another_config(folder):
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("seed: 0", "seed: 1"))


def unknown_setting(folder):
    with (folder / "config.yaml").open("a") as file:
        file.write("a_setting_of_tomorrow: 1\n")


def rubbish_record(folder):
    (folder / "record.jsonl").write_bytes(b"\xff\xfe\x00\x01" * 100)


def record_of_something_else(folder):
    (folder / "record.jsonl").write_text('[1, 2]\n"text"\n')


def record_without_its_middle(folder):
    lines = (folder / "record.jsonl").read_text().splitlines(keepends=True)
    (folder / "record.jsonl").write_text(lines[0] + lines[-1])


def no_beginning(folder):
    unfinished(folder)
    (folder / "record.jsonl").write_text("{}garbage\n")


def short_checkpoint(folder):
    unfinished(folder)
    path = folder / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped_checkpoint(folder):
    unfinished(folder)
    path = folder / "checkpoints" / "last.ckpt"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(b ^ 0xFF for b in content[middle : middle + 64])
    path.write_bytes(content)


def no_config(folder):
    unfinished(folder)
    (folder / "config.yaml").unlink()


DAMAGES = {
    rubbish_config: "config.yaml cannot be read",
    another_config: "config.yaml is of another run",
    unknown_setting: "config.yaml",
    rubbish_record: "record cannot be read",
    record_of_something_else: "record cannot be read",
    record_without_its_middle: "record cannot be read",
    no_beginning: "does not say how it began",
    short_checkpoint: "checkpoint is damaged",
    flipped_checkpoint: "checkpoint is damaged",
    no_config: "has no config.yaml",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_every_damage_is_seen(store, damage):
    config = placed(tiny(), store)
    before = examine(folder_of(config), config)
    assert before.damage is None and before.shown == read(folder_of(config))
    damage(folder_of(config))
    after = examine(folder_of(config), config)
    assert DAMAGES[damage] in after.damage
    assert after.shown is None and after.stopped is None


def test_where_there_is_nothing_nothing_is_damaged(tmp_path):
    config = placed(tiny(), tmp_path)
    assert examine(folder_of(config), config) == examine(tmp_path, config)
    assert examine(folder_of(config), config).state == "new"


def test_a_folder_that_another_sweep_sets_aside_meanwhile_stops_nothing(store):
    config = placed(tiny(), store)
    folder, done = folder_of(config), threading.Event()

    def move():
        while not done.is_set():
            folder.rename(store / "aside")
            (store / "aside").rename(folder)

    thread = threading.Thread(target=move)
    thread.start()
    try:
        states = {examine(folder, config).state for _ in range(1000)}
    finally:
        done.set()
        thread.join()
    assert states <= {"new", "unfinished", "finished"}


def test_a_place_that_cannot_be_looked_at_is_damaged(tmp_path):
    folder = tmp_path / ("x" * 300)  # longer than a name may be
    assert "record cannot be read" in examine(folder, tiny()).damage


def test_the_same_run_under_other_machine_settings_or_in_epochs_is_the_same(store):
    there = folder_of(placed(tiny(), store))
    other = tiny(threads=2, logger="csv", checkpoint_minutes=1.0, device="auto")
    assert examine(there, other).damage is None
    # 1,437 images make 89 batches of 16: three steps are less than 1/29 of an epoch.
    assert examine(there, tiny(steps=None, epochs=3 / 89)).damage is None


def test_a_damaged_folder_is_set_aside_named_and_made_anew(store):
    config = placed(tiny(), store)
    folder = folder_of(config)
    before = read(folder)
    for n, damage in enumerate((rubbish_config, short_checkpoint), start=1):
        damage(folder)
        done = train_one(config)
        aside = Path(done["set_aside"]["folder"])
        assert aside == store / f"{folder.name}.damaged-{n}" and aside.is_dir()
        assert DAMAGES[damage] in done["set_aside"]["why"]
        assert done["status"] == "finished" and examine(folder, config).damage is None
        assert read(folder)["embedding"] == before["embedding"]
    assert "set_aside" not in train_one(config)


def test_what_was_set_aside_is_named_though_the_new_run_fails(tmp_path):
    config = placed(tiny(optimizer={"lr": 1e20, "warmup": 0.0}, recipe="vicreg"), tmp_path)
    folder = folder_of(config)
    folder.mkdir(parents=True)
    (folder / "record.jsonl").write_text("[1]\n")
    with pytest.raises(UserError, match=r"NaN.* \(what was there is .*damaged-1: its record"):
        train_one(config)


def test_a_run_that_never_came_to_a_checkpoint_is_made_anew(store):
    """So it is left by a disk that was full, or a kill, while the first was being written."""
    config = placed(tiny(), store)
    folder = folder_of(config)
    before = read(folder)
    unfinished(folder)
    (folder / "checkpoints" / "last.ckpt").rename(folder / "checkpoints" / ".last.ckpt.part")
    done = train_one(config)
    assert done["status"] == "finished" and "set_aside" not in done
    assert read(folder)["embedding"] == before["embedding"]


def test_what_was_set_aside_is_not_overwritten(tmp_path):
    for content in "abc":
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / content).touch()
        set_aside(tmp_path / "run")
    left = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("[abc]"))
    assert left == ["run.damaged-1/a", "run.damaged-2/b", "run.damaged-3/c"]


def test_a_store_is_listed_and_what_cannot_be_read_is_named(store):
    config = placed(tiny(), store)
    names = ("rubbish", "tomorrow", "other")
    for name in names:
        shutil.copytree(folder_of(config), store / name)
    rubbish_config(store / "rubbish")
    unknown_setting(store / "tomorrow")
    rubbish_record(store / "other")
    shutil.copytree(folder_of(config), store / "run.damaged-1")
    rows, problems = list_store(store)
    assert [row.folder for row in rows] == [folder_of(config)]
    assert rows[0].config.identity() == config.identity()
    assert rows[0].shown == read(folder_of(config)) and rows[0].state == "finished"
    assert len(problems) == 3
    assert all(any(str(store / name) in text for text in problems) for name in names)
    assert any("a_setting_of_tomorrow" in text for text in problems)


def test_a_store_that_is_not_there_has_no_runs(tmp_path):
    assert list_store(tmp_path / "none") == ([], [])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"runs: .*file cannot be read"):
        list_store(tmp_path / "file")


def test_a_full_disk_is_refused_before_anything_is_trained(tmp_path):
    """A limit on file size stands in for a full disk: writes fail with the system's own error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"runs: .*cannot be written"):
            carry_out([tiny()], runs=tmp_path / "runs", engine="pool")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"runs: .*file/runs cannot be written"):
        check_store(tmp_path / "file" / "runs")


def read_only_place(tmp_path):
    """Return a folder that this process may not write, if there is one."""
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        return tmp_path
    for line in Path("/proc/mounts").read_text().splitlines():
        place = Path(line.split()[1])
        if place.is_dir() and os.statvfs(place).f_flag & os.ST_RDONLY:
            return place
    pytest.skip("the superuser may write everything here")


def test_a_read_only_disk_is_refused(tmp_path):
    place = read_only_place(tmp_path)
    with pytest.raises(UserError, match=r"runs: .*cannot be written"):
        check_store(place / "fullrank-runs")


def test_one_has_a_run_folder_and_the_other_waits(tmp_path):
    entered = threading.Event()

    def enter():
        with locked(tmp_path / "runs" / "run"):
            entered.set()

    thread = threading.Thread(target=enter)
    with locked(tmp_path / "runs" / "run"):
        thread.start()
        assert not entered.wait(0.3)
        with locked(tmp_path / "runs" / "another"):
            pass
    assert entered.wait(10)
    thread.join()
    assert not (tmp_path / "runs" / "run").exists()


def test_who_has_a_folder_may_take_it_again_and_others_are_told(tmp_path):
    folder = tmp_path / "runs" / "run"
    with locked(folder), locked(folder, wait=False):
        pass
    refused = []

    def refuse():
        try:
            with locked(folder, wait=False):
                pass
        except UserError as error:
            refused.append(str(error))

    with locked(folder):
        thread = threading.Thread(target=refuse)
        thread.start()
        thread.join()
    assert "is being trained by another process" in refused[0]


def test_a_single_training_leaves_alone_what_a_sweep_trains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, refused = tiny(), []

    def train():
        try:
            run(config)
        except UserError as error:
            refused.append(str(error))

    with locked(folder_of(config)):
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
    assert "is being trained by another process" in refused[0]
    assert not folder_of(config).exists()
    assert run(config).status == "finished"
    # Elsewhere there is no store, and nothing is left beside the folder.
    assert run(replace(config, run=replace(config.run, out="mine/one"))).status == "finished"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["one"]


def test_runs_of_many_processes_are_refused(tmp_path):
    with pytest.raises(UserError, match="devices: 2 given"):
        carry_out([tiny(batch_size=16, devices=2)], runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_runs_that_stopped_count_as_failed(store):
    folder = folder_of(placed(tiny(), store))
    lines = (folder / "record.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["event"] not in ("end", "verdict")]
    stop = json.dumps({"event": "stop", "step": 2, "text": "the loss became NaN"})
    (folder / "record.jsonl").write_text("".join([*kept, stop, "\n"]))
    told = []
    (ended,) = carry_out([tiny()], runs=store, engine="pool", progress=told.append)
    assert (ended.status, ended.error) == ("failed", "the loss became NaN")
    assert [(p.done, p.found, p.failed, p.remaining) for p in told] == [(1, 0, 1, 0.0)]


def test_what_is_found_needs_no_process_and_equal_configurations_are_one_run(store):
    told, ended = [], []
    configs = [tiny(), replace(tiny(), run=replace(tiny().run, log_every=7)), tiny()]
    for each in carry_out(configs, runs=store, engine="pool", progress=told.append):
        ended.append(each)
    assert [(e.index, e.status) for e in ended] == [(0, "found"), (1, "found"), (2, "found")]
    assert all(e.value == ended[0].value and e.error is None for e in ended)
    assert ended[0].value["hash"] == tiny().identity()
    assert [(p.done, p.total, p.found, p.remaining) for p in told] == [(1, 1, 1, 0.0)]

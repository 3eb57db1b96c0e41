"""What the engines of a sweep cost: 64 runs of two seconds on two cores, against 64 seconds.

Two kinds of work, each in a fresh process, timed from its start to its end: interpreter, Ray or
processes, imports of torch and Lightning, hand-out and results included.

* *waiting*: jobs that wait two seconds in a worker that has imported what training needs. What the
  engine adds to them is all there is, so that a busy machine disturbs little.
* *training*: runs of SimSiam on digits by ``fullrank.sweep``, of about two seconds, the grid read
  and the page drawn; ideal is the sum of what each took in its worker, over the cores.

python benchmarks/sweep.py [--runs 64] [--seconds 2] [--engines ray pool] [--kinds waiting training]
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fullrank.experiments.engine import Ended

CORES = 2
STEPS_A_SECOND = 72  # of the small network below, on one quiet core; only roughly


def wait(seconds: float) -> float:
    """Import what training needs, as any first run in a process does, and wait."""
    import fullrank.train.run  # noqa: F401

    time.sleep(seconds)
    return seconds


def waiting(engine: str, runs: int, seconds: float) -> float:
    """Do jobs of a known length; return the seconds that they take without any overhead."""
    jobs = [seconds] * runs
    if engine == "ray":
        from fullrank.experiments.ray_engine import ray_outcomes

        done = list(ray_outcomes("sweep:wait", jobs, CORES))
    else:
        from fullrank.experiments.pool import outcomes

        done = list(outcomes("sweep:wait", jobs, CORES))
    assert all(outcome.status == "done" for outcome in done), done
    return runs * seconds / CORES


def training(engine: str, runs: int, seconds: float) -> float:
    """Run a sweep of real runs; return the sum of their seconds over the cores."""
    import fullrank
    from fullrank.experiments import sweep

    grid = {
        "base": {
            "recipe": "simsiam",
            "preset": "small",
            "data": "digits",
            "backbone": {"name": "conv4", "width": 4},
            "steps": max(1, round(STEPS_A_SECOND * seconds)),
            "batch_size": 64,
            "checkup": {"size": 128, "budget": 0.0, "count": 2},
            "probe": {"train": 300, "test": 300},
            "device": "cpu",
            "precision": "32",
            "logger": "none",
        },
        "seeds": runs,
    }
    took = []
    carry_out = sweep.carry_out

    def timed(*given: Any, **options: Any) -> Iterator[Ended]:
        for ended in carry_out(*given, **options):
            assert ended.status == "finished", ended.error
            took.append(ended.seconds)
            yield ended

    sweep.carry_out = timed  # type: ignore[assignment]  # no table has what a worker was busy for
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fullrank.sweep(grid, runs=folder / "runs", out=folder / "out", workers=CORES, engine=engine)
    first = sorted(took)[: runs - CORES]  # the first bring the imports
    return sum(first) / len(first) * runs / CORES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--engines", nargs="+", default=["ray", "pool"])
    parser.add_argument("--kinds", nargs="+", default=["waiting", "training"])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # what the fresh process does
    given = parser.parse_args()
    if given.runs <= CORES:
        parser.error(
            f"--runs: {given.runs} given. Allowed: {CORES + 1} or more; the first {CORES} bring "
            "the imports and do not count towards the ideal."
        )
    if given.one:
        kind, engine = given.one
        measure = {"waiting": waiting, "training": training}[kind]
        print(json.dumps(measure(engine, given.runs, given.seconds)))
        return
    print(f"Python {platform.python_version()}, {platform.processor() or platform.machine()}")
    print(f"{given.runs} runs of {given.seconds:g} s, {CORES} at a time\n")
    print("| work | engine | ideal, s | took, s | ratio |\n|---|---|---|---|---|")
    size = ["--runs", str(given.runs), "--seconds", str(given.seconds)]
    for kind in given.kinds:
        for engine in given.engines:
            started = time.perf_counter()
            line = [sys.executable, __file__, "--one", kind, engine, *size]
            done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
            took = time.perf_counter() - started
            ideal = float(json.loads(done.stdout.splitlines()[-1]))
            print(f"| {kind} | {engine} | {ideal:.1f} | {took:.1f} | {took / ideal:.2f} |")


if __name__ == "__main__":
    main()

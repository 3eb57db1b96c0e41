"""Three claims about SimSiam on Fashion-MNIST, checked on three seeds; writes docs/evidence.

Run by ``make evidence``: nine runs of under a minute on one thread each, one run a core. The
protocol and the criteria below were fixed before the runs.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import fullrank

SEEDS = (0, 1, 2)
STEPS = 200
SETTINGS = {
    "preset": "small",
    "data": "fashion-mnist",
    "backbone": {"name": "conv4", "width": 8},
    "threads": 1,
    "device": "cpu",
    "logger": "none",
    "checkup": {"size": 2000, "budget": 0.1},
}
ARMS: dict[str, dict[str, Any]] = {
    "SimSiam": {"name": "simsiam"},
    "without stop-gradient, without output batch norm": {
        "name": "simsiam",
        "target": "online",
        "projector": {"last_norm": "none"},
    },
    "without predictor, with output batch norm": {"name": "simsiam", "predictor": "none"},
}


@dataclass(frozen=True)
class Claim:
    """A statement, the criterion it must meet, and the arm whose runs decide."""

    arm: str
    statement: str
    criterion: str
    holds: Callable[[list[dict[str, Any]]], bool]


def gain(result: dict[str, Any], probe: str) -> float:
    """Points of a probe above the random-init network (batch norm calibrated)."""
    return 100 * (result["probe"][probe] - result["random"][probe])


CLAIMS = (
    Claim(
        "SimSiam",
        "SimSiam learns.",
        "kNN and linear probe above the calibrated random-init network in every seed, by at least "
        "4 and 8 points on average; verdict on the embedding: healthy.",
        lambda rs: (
            all(gain(r, "knn") > 0 and gain(r, "linear") > 0 for r in rs)
            and statistics.mean(gain(r, "knn") for r in rs) >= 4
            and statistics.mean(gain(r, "linear") for r in rs) >= 8
            and all(r["verdict"] == "healthy" for r in rs)
        ),
    ),
    Claim(
        "without stop-gradient, without output batch norm",
        "Without stop-gradient it collapses completely.",
        "spread of the embedding below 0.01 and the verdict complete collapse, in every seed.",
        lambda rs: all(
            r["last"]["spread"] < 0.01 and r["verdict"] == "complete collapse" for r in rs
        ),
    ),
    Claim(
        "without predictor, with output batch norm",
        "Without predictor, an output batch norm hides the collapse from the standard deviation: "
        "the rank is gone.",
        "standard deviation of the unit embedding times √d above 0.9 and the verdict dimensional "
        "collapse, in every seed.",
        lambda rs: all(
            r["last"]["std"] > 0.9 and r["verdict"] == "dimensional collapse" for r in rs
        ),
    ),
)


def one_run(job: tuple[str, dict[str, Any], int, int]) -> dict[str, Any]:
    """Train one arm with one seed and read its record; an identical run is found instead."""
    arm, recipe, seed, steps = job
    run = fullrank.train(recipe, **SETTINGS, steps=steps, seed=seed)
    events = [json.loads(line) for line in (run.folder / "record.jsonl").read_text().splitlines()]
    checkups = [e["layers"]["embedding"] for e in events if e["event"] == "checkup"]
    probes = {e["network"]: e for e in events if e["event"] == "probe"}
    assert run.verdict is not None
    return {
        "arm": arm,
        "seed": seed,
        "verdict": run.verdict["embedding"]["kind"],
        "seconds": next(e["seconds"] for e in events if e["event"] == "end"),
        "first": checkups[0],
        "last": checkups[-1],
        "probe": probes["run"],
        "random": probes["random-init"],
        "environment": events[0]["environment"],
    }


def run_all(
    arms: dict[str, dict[str, Any]], seeds: tuple[int, ...], steps: int, workers: int
) -> list[dict[str, Any]]:
    """Run every arm on every seed, one run a process, and say how each went."""
    jobs = [(arm, recipe, seed, steps) for seed in seeds for arm, recipe in arms.items()]
    results = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for result in pool.map(one_run, jobs):
            last = result["last"]
            print(
                f"seed {result['seed']}  {result['arm']:<50} {result['verdict']:<20} "
                f"spread {last['spread']:.4f}  rank {last['effective_rank']:.1f}  "
                f"kNN {gain(result, 'knn'):+.1f}  linear {gain(result, 'linear'):+.1f}",
                flush=True,
            )
            results.append(result)
    return results


def interval(values: list[float]) -> str:
    """Mean and 95 % interval over seeds (Student's t)."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.3g}"
    from scipy.stats import t

    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.3g} ± {half:.2g}"


def page(results: list[dict[str, Any]], steps: int) -> Iterator[str]:
    """Yield the lines of the evidence page."""
    machine = results[0]["environment"]
    yield "# SimSiam on Fashion-MNIST: what learns and what collapses\n"
    yield (
        f"Regenerated by `make evidence`. Backbone `conv4` of width 8, preset `small`, {steps} "
        f"steps of 256 images, seeds {', '.join(map(str, sorted({r['seed'] for r in results})))}; "
        "vital signs of the 128-dimensional embedding of 2,000 held-out images, two views each, in "
        "eval mode; probes of the backbone on 10,000 training and 10,000 test images, against the "
        "random-init network with calibrated batch norm. Means with 95 % intervals over seeds.\n"
    )
    yield (
        f"Machine: {machine['processor']}, {machine['threads']} thread a run, torch "
        f"{machine['torch']}, {machine['precision']}.\n"
    )
    yield "| arm | verdict | spread | std·√d | effective rank | PR | kNN | linear | s |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for arm in ARMS:
        rows = [r for r in results if r["arm"] == arm]
        verdicts = " / ".join(sorted({r["verdict"] for r in rows}))
        cells = [
            interval([r["last"][k] for r in rows])
            for k in ("spread", "std", "effective_rank", "participation_ratio")
        ]
        for probe in ("knn", "linear"):
            accuracy = interval([100 * r["probe"][probe] for r in rows])
            gained = ", ".join(f"{gain(r, probe):+.1f}" for r in rows)
            cells.append(f"{accuracy} % ({gained})")
        seconds = f"{max(r['seconds'] for r in rows):.0f}"
        yield f"| {arm} | {verdicts} | {' | '.join(cells)} | {seconds} |"
    yield "\nIn brackets: points above the random-init network, one a seed. s: the longest run.\n"
    yield "| claim | criterion, fixed before the runs | outcome |"
    yield "|---|---|---|"
    for claim in CLAIMS:
        held = claim.holds([r for r in results if r["arm"] == claim.arm])
        outcome = "held" if held else "did not hold"
        yield f"| {claim.statement} | {claim.criterion} | **{outcome}** |"


def main(
    out: Path = Path("docs/evidence/fashion-mnist.md"),
    seeds: tuple[int, ...] = SEEDS,
    steps: int = STEPS,
    workers: int = 2,
) -> None:
    """Run every arm on every seed and write the page."""
    results = run_all(ARMS, seeds, steps, workers)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(page(results, steps)) + "\n")
    print(f"written: {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/fashion-mnist.md"))
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    main(given.out, workers=given.workers)

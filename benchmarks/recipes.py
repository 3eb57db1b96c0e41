"""Every recipe on Fashion-MNIST at its small defaults, beside random init and supervision.

    python benchmarks/recipes.py [--out docs/evidence/recipes.md] [--workers 2] [NAME ...]

Three seeds each, one thread a run, one run a core; then time and memory of a step
(`recipe_steps.py`). Runs that exist under `runs/` are found, not repeated, so that an interrupted
evening goes on where it stopped. The small defaults were chosen on seeds 0 and 1; the seeds here
are others. The criteria below were fixed before the runs.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import fullrank
from fullrank.experiments.measured import interval
from fullrank.recipes.registry import recipe, recipes
from fullrank.train.record import Record
from recipe_steps import Cost, costs

SEEDS = (10, 11, 12)
SUPERVISED = "benchmarks/supervised_recipe.py:supervised"
# Forms beside the main ones that a claim needs.
FORMS = ("simsiam/linear", "byol/linear")
SETTINGS: dict[str, Any] = {
    "preset": "small",
    "data": "fashion-mnist",
    "threads": 1,
    "device": "cpu",
    "logger": "none",
    "checkup": {"size": 2000, "budget": 0.05},
}
LONGEST = 60.0
DEAREST = 1.3


def one_run(job: tuple[str, int]) -> dict[str, Any]:
    """Train one recipe with one seed and read its record; an identical run is found instead."""
    name, seed = job
    run = fullrank.train(name, **SETTINGS, seed=seed)
    events = Record(run.folder).current()
    checkups = [e["layers"] for e in events if e["event"] == "checkup"]
    probes = {e["network"]: e for e in events if e["event"] == "probe"}
    assert run.verdict is not None
    return {
        "name": name,
        "seed": seed,
        "verdict": run.verdict["embedding"]["kind"],
        "seconds": next(e["seconds"] for e in events if e["event"] == "end"),
        "embedding": checkups[-1]["embedding"],
        "backbone": checkups[-1]["backbone"],
        "probe": probes["run"],
        "random": probes["random-init"],
        "environment": events[0]["environment"],
    }


def run_all(names: Sequence[str], seeds: Sequence[int], workers: int) -> list[dict[str, Any]]:
    """Run every recipe on every seed, one run a process, and say how each went."""
    jobs = [(name, seed) for seed in seeds for name in names]
    results = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done, result in enumerate(pool.map(one_run, jobs), 1):
            print(
                f"{done:>3}/{len(jobs)}  seed {result['seed']}  {shown(result['name']):<18} "
                f"{result['verdict']:<22} kNN {gain(result, 'knn'):+5.1f}  "
                f"linear {gain(result, 'linear'):+5.1f}  {result['seconds']:4.0f} s",
                flush=True,
            )
            results.append(result)
    return results


def shown(name: str) -> str:
    """Return the name of a recipe as the page has it."""
    return "supervised" if name == SUPERVISED else name


def gain(result: dict[str, Any], probe: str) -> float:
    """Points of a probe above the random-init network (batch norm calibrated)."""
    return float(100 * (result["probe"][probe] - result["random"][probe]))


def with_half(values: Sequence[float], digits: int = 1) -> str:
    """Return mean and half of the 95 % interval over seeds, where there are several."""
    mean, high = statistics.fmean(values), interval(values)["high"]
    if high is None:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {high - mean:.{digits}f}"


def row(name: str, rows: list[dict[str, Any]], cost: Cost | None) -> str:
    """Return the line of one recipe."""
    counts = {r["verdict"]: sum(s["verdict"] == r["verdict"] for s in rows) for r in rows}
    cells = [
        f"`{name}`",
        ", ".join(kind if n == len(rows) else f"{n} {kind}" for kind, n in counts.items()),
        with_half([100 * r["probe"]["knn"] for r in rows]),
        ", ".join(f"{gain(r, 'knn'):+.1f}" for r in rows),
        with_half([100 * r["probe"]["linear"] for r in rows]),
        ", ".join(f"{gain(r, 'linear'):+.1f}" for r in rows),
        with_half([r["embedding"]["spread"] for r in rows], 2),
        with_half([r["embedding"]["effective_rank"] for r in rows])
        + f" of {rows[0]['embedding']['d']}",
        with_half([r["backbone"]["effective_rank"] for r in rows]),
        f"{max(r['seconds'] for r in rows):.0f}",
    ]
    if cost is None:
        cells += ["–"] * 3
    else:
        cells += [
            f"{256 / cost.seconds:,.0f}",
            f"{cost.ratio:.2f}",
            f"{cost.mebibytes:.0f}",
        ]
    return "| " + " | ".join(cells) + " |"


def page(results: list[dict[str, Any]], measured: dict[str, Cost]) -> Iterator[str]:
    """Yield the lines of the evidence page."""
    machine = results[0]["environment"]
    by_name = {n: [r for r in results if r["name"] == n] for n in {r["name"] for r in results}}
    seeds = ", ".join(map(str, sorted({r["seed"] for r in results})))
    yield "# Every recipe on Fashion-MNIST\n"
    yield (
        f"Written by `python benchmarks/recipes.py`. `conv4` of width 16, preset `small`, one "
        f"epoch of 60,000 images, seeds {seeds} (the small defaults were chosen on seeds 0 and "
        "1). kNN and linear probe of the backbone on 10,000 training and 10,000 test images, in "
        "percent, mean ± half of the 95 % interval over seeds; beside each the points above the "
        "random-init network with calibrated batch norm, one a seed. Spread and effective rank "
        "(of the embedding, and of the backbone's 128 dimensions) of 2,000 held-out images, in "
        "eval mode. s: the longest run. The last three columns are of one training step, all "
        "recipes taking turns in one process: images a second, time over SimSiam's, and by how "
        "much memory of a process grows (MiB).\n"
    )
    yield (
        f"Machine: {machine['processor']}, {machine['threads']} thread a run, torch "
        f"{machine['torch']}, {machine['precision']}.\n"
    )
    yield (
        "| recipe | verdict | kNN | gain | linear | gain | spread | rank | rank, backbone | s | "
        "images/s | x SimSiam | MiB |"
    )
    yield "|---" * 13 + "|"
    known = {shown(n): n for n in by_name}
    family = {s: recipe(n).family if n != SUPERVISED else "~" for s, n in known.items()}
    for name in sorted(known, key=lambda s: (family[s], s)):
        yield row(name, by_name[known[name]], measured.get(name))
    knn, linear = (
        with_half([100 * r["random"][probe] for r in by_name[next(iter(by_name))]])
        for probe in ("knn", "linear")
    )
    yield f"| random init | – | {knn} | – | {linear} | {' | '.join(['–'] * 8)} |"
    yield ""
    yield from outcomes(by_name, measured)
    yield ""
    yield (
        "DINO's step costs more because multi-crop passes a third, smaller view. "
        "Barlow Twins was measured twice on these seeds. With its first small defaults (SGD at "
        "rate 0.2, λ = 0.0051) it was below the random-init network in seed 11 (-1.4 points on "
        "kNN); the present ones were then chosen on seeds 0 to 2."
    )


def outcomes(by_name: dict[str, list[dict[str, Any]]], measured: dict[str, Cost]) -> Iterator[str]:
    """Yield what was asked of the runs beforehand, and what came out."""
    main = {n: rows for n, rows in by_name.items() if n in recipes()}
    below = sorted(n for n, rows in main.items() if not all(gain(r, "knn") > 0 for r in rows))
    sick = sorted(n for n, rows in main.items() if any(r["verdict"] != "healthy" for r in rows))
    slow = sorted(n for n, rows in main.items() if max(r["seconds"] for r in rows) > LONGEST)
    dear = sorted(n for n in main if n in measured and measured[n].ratio > DEAREST)
    yield "| asked, before the runs | outcome |"
    yield "|---|---|"
    checks = (
        ("Every recipe is above the random-init network on kNN in every seed.", below),
        ("Every recipe is healthy in every seed.", sick),
        (f"Every run takes less than {LONGEST:.0f} s on one thread.", slow),
        (f"No step takes more than {DEAREST} times SimSiam's.", dear),
    )
    for text, failing in checks:
        yield f"| {text} | {'held' if not failing else 'not: ' + ', '.join(failing)} |"
    pair = [by_name.get(n) for n in ("directpred", "byol/linear")]
    if all(pair):
        ours, theirs = ({r["seed"]: 100 * r["probe"]["knn"] for r in rows or []} for rows in pair)
        apart = [ours[seed] - theirs[seed] for seed in ours]
        held = "held" if min(apart) > 0 else "did not hold"
        yield (
            "| DirectPred is above BYOL with a linear predictor trained by gradient, on kNN in "
            f"every seed. | {held}: {', '.join(f'{a:+.1f}' for a in apart)} |"
        )


def main() -> None:
    """Run every recipe on every seed and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all recipes by default")
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/recipes.md"))
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    names = given.names or [*recipes(), *FORMS, SUPERVISED]
    results = run_all(names, SEEDS, given.workers)
    measured = costs([n for n in names if n != SUPERVISED])
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(page(results, measured)) + "\n")
    print(f"written: {given.out}")


if __name__ == "__main__":
    main()

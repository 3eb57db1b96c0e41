"""Fit the forecaster on a run store, score it on runs it has not seen, and write what ships.

    python benchmarks/forecast.py [--runs runs-forecast] [--out FILE.md] [--workers 2]
    python benchmarks/forecast.py --table TABLE.csv      # from a table that was written before

The store is that of `fullrank sweep benchmarks/forecast.yaml --runs runs-forecast`, of its own so
that nothing else that was trained decides what is fitted. Written are the evidence page, and
`forecast.json` with its table `forecast.csv`, which ship inside the package.

Protocol, fixed before the runs of the store. A row is a finished run with labels; its measurements
are of held-out images, its targets the kNN and the linear probe of its backbone. Features are
`fullrank.measure.forecast_features`, functions of the vital signs. All models have a constant for
each data set and know the number of labelled images of the probe, and nothing else but their
measurements. Baselines are a line on one published metric each (Li et al. 2022), fitted to
accuracy. Candidates and the rule that chooses among them are `CANDIDATES` and `choose`; the choice
is made anew in every fold, on the rows that the model is fitted on. Left out in turn: a
configuration with all its seeds, within its recipe; a recipe with all its forms; a width; a data
set. Scores: mean absolute error in points, and rank correlation within data sets; 95 % intervals
resample configurations.

Asked: (1) is the chosen model's error with one recipe left out below that of the best single
metric, the best being picked with hindsight, by the interval of their difference; (2) do the 90 %
intervals hold the accuracy of at least 90 % of the runs of left-out recipes, averaged over recipes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from fullrank.diagnose.forecast_baselines import BASELINES
from fullrank.diagnose.forecast_fit import LEVEL, Coverage, coverage, fit_forecaster
from fullrank.diagnose.forecast_models import CANDIDATES, Array, Training
from fullrank.diagnose.forecast_runs import measure_run, read_run, run_folders
from fullrank.diagnose.forecast_scores import (
    PROTOCOLS,
    By,
    Interval,
    Score,
    choose,
    error_difference,
    nested,
    order_difference,
    out_of_fold,
    score,
)
from fullrank.diagnose.forecast_table import RunRow, read_table, write_table
from fullrank.errors import UserError
from fullrank.experiments.pool import outcomes
from fullrank.measure.forecast_words import PROBES

PACKAGE = Path("src/fullrank/measure/fitted")
CHOSEN = "**chosen by the rule**"


def rows_of(store: Path, workers: int) -> tuple[list[RunRow], list[str]]:
    """Measure what was not measured yet, and read every run; name those that cannot be."""
    folders = run_folders(store)
    jobs = [str(folder) for folder in folders]
    done = outcomes(measure_run, jobs, workers, preload=("fullrank.diagnose.forecast_runs",))
    for count, outcome in enumerate(done, 1):
        if count % 50 == 0 or count == len(jobs):
            print(f"measured {count}/{len(jobs)}, last {outcome.seconds:.1f} s", flush=True)
    rows, left_out = [], []
    for folder in folders:
        try:
            rows.append(read_run(folder))
        except (UserError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
            named = isinstance(error, UserError) and folder.name in str(error)
            left_out.append(str(error) if named else f"{folder.name}: {error!r}")
    return rows, left_out


def forecasts(training: Training, by: By, found: Coverage | None) -> dict[str, Array]:
    """Return each model's accuracies out of fold, the chosen one's last.

    ``found`` has those of the chosen model where recipes were left out.
    """
    models = {b.title: b.fit for b in BASELINES}
    models |= {f"({c.name})": c.fit for c in CANDIDATES}
    said = {name: out_of_fold(training, fit, by) for name, fit in models.items()}
    if by == "recipe" and found is not None:
        return said | {CHOSEN: found.expected}
    return said | {CHOSEN: out_of_fold(training, nested(), by)}


def shown(interval: Interval, digits: int) -> str:
    """Return a number with its interval."""
    if not np.isfinite(interval.value):
        return "–"
    value, low, high = (f"{x:.{digits}f}" for x in (interval.value, interval.low, interval.high))
    return f"{value} ({low} to {high})"


def cells(found: Score | None, name: str) -> str:
    """Return the cells of a score; the order that a constant makes is none."""
    if found is None:
        return "– | –"
    order = "–" if name == "mean" else shown(found.spearman, 2)
    return f"{shown(found.error, 1)} | {order}"


def scored(training: Training, probe: str, coverage: Coverage | None) -> Iterator[str]:
    """Yield the table of one probe's scores and what was asked of it."""
    expected: dict[By, dict[str, Array]] = {}
    for by in PROTOCOLS:
        try:
            expected[by] = forecasts(training, by, coverage)
        except UserError as error:
            print(f"{probe}, {PROTOCOLS[by]}: not scored ({error})", flush=True)
    found = {
        by: {name: score(training, said, by) for name, said in models.items()}
        for by, models in expected.items()
        if any(np.isfinite(said).any() for said in models.values())
    }
    yield f"\n## {PROBES[probe]} accuracy\n"
    counts = "; ".join(
        f"{PROTOCOLS[by]}: {some.runs} runs, {some.groups} groups"
        for by, models in found.items()
        for some in (models[CHOSEN],)
    )
    yield f"Error in points | rank correlation, each with one group left out. {counts}.\n"
    yield "| model | " + " | ".join(f"{PROTOCOLS[by]}: error | order" for by in PROTOCOLS) + " |"
    yield "|---" * (1 + 2 * len(PROTOCOLS)) + "|"
    for name in next(iter(expected.values())):
        parts = [cells(found[by][name] if by in found else None, name) for by in PROTOCOLS]
        yield f"| {name} | {' | '.join(parts)} |"
    if "recipe" not in found:
        return
    titles = [b.title for b in BASELINES if b.title != "mean"]
    best = min(titles, key=lambda title: found["recipe"][title].error.value)
    pair = expected["recipe"][CHOSEN], expected["recipe"][best]
    apart, recipes = (error_difference(training, *pair, by=by) for by in (None, "recipe"))
    below = max(apart.high, recipes.high) < 0
    verdict = "yes" if below else "no" if min(apart.low, recipes.low) > 0 else "cannot be told"
    yield (
        f"\nBelow the best single metric, {best}, with one recipe left out? **{verdict}**: "
        f"{shown(apart, 2)} points over configurations; over the {found['recipe'][CHOSEN].groups} "
        f"recipes {recipes.low:.2f} to {recipes.high:.2f}."
    )
    if "data" in found:
        yield from transferred(training, expected["data"], found["data"], titles)


def transferred(
    training: Training,
    expected: Mapping[str, Array],
    found: Mapping[str, Score],
    titles: Sequence[str],
) -> Iterator[str]:
    """Yield what is to be said of a data set that was not among the training runs."""
    ordered = {title: found[title].spearman.value for title in titles}
    best = max(ordered, key=lambda title: ordered[title])
    chosen, metric = found[CHOSEN], found[best]
    apart = order_difference(training, expected[CHOSEN], expected[best], "data")
    how = "worse" if apart.high < 0 else "better" if apart.low > 0 else "neither better nor worse"
    yield (
        f"\nOn a data set never seen it orders runs {how}, as far as can be told, than the best "
        f"metric of all tried there: rank correlation {shown(chosen.spearman, 2)}, {best} "
        f"{shown(metric.spearman, 2)}, difference {shown(apart, 2)}. As an accuracy it would "
        f"be {shown(chosen.error, 1)} points off, the mean of the other data sets "
        f"{shown(found['mean'].error, 1)}; **none is given there**."
    )


def covered(found: Coverage, probe: str) -> Iterator[str]:
    """Yield the lines on the intervals."""
    told = ~found.abstained
    recipes = [str(name) for name in np.unique(found.recipe)]
    share = {name: found.inside[(found.recipe == name) & told] for name in recipes}
    means = {name: float(inside.mean()) for name, inside in share.items() if len(inside)}
    mean = float(np.mean(list(means.values())))
    worst = sorted(means, key=lambda name: means[name])[:3]
    yield (
        f"| {PROBES[probe]} | {mean:.0%} | {found.inside[told].mean():.0%} | "
        f"{np.median(found.width[told]):.1f} | {found.abstained.mean():.1%} | "
        + ", ".join(f"{name} {means[name]:.0%}" for name in worst)
        + f" | {'yes' if mean >= LEVEL else 'no'} |"
    )


def page(rows: Sequence[RunRow], left_out: Sequence[str], version: str) -> Iterator[str]:
    """Yield the lines of the evidence page."""
    yield "# Probe accuracy forecast without labels\n"
    yield (
        "Written by `python benchmarks/forecast.py`, whose docstring is the protocol. How it is "
        f"used: [forecast](../forecast.md). Forecaster {version}, fitted on the table "
        "`src/fullrank/measure/fitted/forecast.csv`.\n"
    )
    yield "| data | runs | configurations | kNN | linear probe | random init: kNN | linear probe |"
    yield "|---" * 7 + "|"
    for data, count in Counter(row.data for row in rows).items():
        own = [row for row in rows if row.data == data]
        parts = [f"{data} | {count} | {len({row.kind for row in own})}"]
        for held in ("accuracy", "random"):
            for probe in PROBES:
                values = [getattr(r, held)[probe] for r in own if probe in getattr(r, held)]
                parts.append(f"{100 * min(values):.0f} to {100 * max(values):.0f}")
        yield f"| {' | '.join(parts)} |"
    groups = {
        "recipes": Counter(row.recipe for row in rows),
        "backbones": Counter(f"{row.backbone} of width {row.width}" for row in rows),
        "training images": Counter(f"{row.train_images:,}" for row in rows),
        "streams": Counter(row.stream for row in rows),
    }
    for name, counts in groups.items():
        listed = ", ".join(f"{what} {n}" for what, n in sorted(counts.items()))
        yield f"\n{name.capitalize()} and their runs: {listed}."
    changed = sum(bool(row.form) for row in rows)
    yield f"\n{changed} runs are of variants and ablations. Left out: {len(left_out)} runs."
    intervals = []
    for probe in PROBES:
        training = Training.of(rows, probe)
        print(f"{probe}: scoring", flush=True)
        left_out_recipes: Coverage | None = None
        try:
            left_out_recipes = coverage(training)
            intervals += list(covered(left_out_recipes, probe))
        except UserError as error:
            intervals.append(f"| {PROBES[probe]} | not scored: {error} | | | | | |")
        yield from scored(training, probe, left_out_recipes)
    yield "\n## Intervals\n"
    yield (
        f"{LEVEL:.0%} intervals for runs of a recipe that was left out of choice, fit and "
        "interval. Width: median, in points. Abstained: too unlike the others.\n"
    )
    yield "| probe | inside, mean of recipes | of runs | width | abstained | least covered | held |"
    yield "|---" * 7 + "|"
    yield from intervals
    yield "\n## What ships\n"
    for probe in PROBES:
        training = Training.of(rows, probe)
        chosen, _, errors = choose(training)
        tried = ", ".join(f"{name} {100 * error:.2f}" for name, error in errors.items())
        yield f"\n{PROBES[probe]}: {chosen.name}. Error with one recipe left out, points: {tried}."
        model = chosen.fit(training).model
        if model["kind"] == "ridge":
            squares = model["square_weights"] or [None] * len(model["weights"])
            yield "\n| feature, standardised | log-odds for one deviation | for its square |"
            yield "|---|---|---|"
            names = [*training.names, "log2 of labelled images"]
            for name, weight, square in zip(names, model["weights"], squares, strict=True):
                yield f"| {name} | {weight:+.3f} | {'' if square is None else f'{square:+.3f}'} |"


def main() -> None:
    """Read, fit, score, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs-forecast"), help="the run store")
    parser.add_argument("--table", type=Path, help="a table in place of a store")
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/forecast.md"))
    parser.add_argument("--fitted", type=Path, default=PACKAGE, help="folder of what ships")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    left_out: list[str] = []
    if given.table is not None:
        rows = read_table(given.table)
    else:
        rows, left_out = rows_of(given.runs, given.workers)
        for line in left_out:
            print(f"left out: {line}")
    fitted = fit_forecaster(rows, "")  # before anything that ships is replaced
    table = given.fitted / "forecast.csv"
    write_table(rows, table)
    version = fitted["version"] = f"1-{hashlib.sha256(table.read_bytes()).hexdigest()[:8]}"
    (given.fitted / "forecast.json").write_text(json.dumps(fitted, separators=(",", ":")) + "\n")
    print(f"written: {table}, {given.fitted / 'forecast.json'}", flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(page(rows, left_out, version)) + "\n")
    print(f"written: {given.out}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None

"""How often the 95 % intervals of the table hold the truth, on Gaussian data of known spectra.

    python benchmarks/interval_coverage.py [--seed 3000000] [--repetitions 200] [--jobs 1]
                                           [--no-write]

Each repetition draws a data set anew and reads its whole table as `fullrank audit` does. The truth
of what moments give is the metric of the population: of its exact covariance where the spectrum
decides, of 200,000 rows where unit rows do. The truth of uniformity and SelfCluster is that of
400,000 independent pairs. TwoNN, CLID and the nearest ratio depend on how many rows there are by
definition; their intervals are for the sampling of so many rows, and are held against their mean.

The rules of `fullrank.measure.scale` were chosen on other seeds than the page is written from.
It prints every cell, and writes docs/evidence/coverage.md.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from scipy.stats import binomtest
from torch import Tensor

from fullrank.measure.moments import Moments, MomentState, moments_of, unit_rows
from fullrank.measure.reading import UNSETTLED, Reading
from fullrank.measure.shards import Shards
from fullrank.measure.table import read_table, read_values
from fullrank.measure.uniformity import uniform_value
from fullrank.randomness import generator

PAGE = Path(__file__).parents[1] / "docs" / "evidence" / "coverage.md"
SPECTRA = ("flat", "j^-0.25", "j^-0.5", "j^-1", "step")
ONE_VIEW = ((16, 10), (32, 5), (32, 20))
TWO_VIEWS = ((16, 20),)
PAIRS = ((8, 50),)
OF_PAIRS = ("uniformity", "uniformity_gap", "self_cluster", "twonn", "clid", "nearest_ratio")
# Whole numbers, which do not vary here.
LEFT_OUT = ("hard_rank", "dead_units")
MOST_ROWS = 200_000
# Fewer readings than these say little about a coverage.
ENOUGH = 100


@dataclass(frozen=True)
class Cell:
    """A population, how many images of it are drawn, and what is measured of them.

    The rows have mean 0.5 in every coordinate, in units of the root mean square of `sigma`. A
    second view differs by isotropic noise of the same size, as the first does.

    Attributes:
        kind: name of the spectrum.
        d: width.
        ratio: images a dimension.
        views: 1 or 2; 0 for what needs pairs of rows.
    """

    kind: str
    d: int
    ratio: int
    views: int

    @property
    def sigma(self) -> Tensor:
        j = torch.arange(1, self.d + 1, dtype=torch.float64)
        if self.kind == "step":
            return torch.where(j <= self.d // 4, 1.0, 0.2).double()
        return torch.ones_like(j) if self.kind == "flat" else j ** float(self.kind[2:])

    @property
    def size(self) -> float:
        return 0.5 * float(self.sigma.square().mean().sqrt())

    def sample(self, n: int, seed: int, *key: str | int) -> list[Tensor]:
        """Draw `n` images: one tensor a view."""
        g = generator(seed, *key, self.kind, self.d, self.ratio, self.views)
        rows = torch.randn(n, self.d, generator=g, dtype=torch.float64) * self.sigma + self.size
        if self.views < 2:
            return [rows]
        noise = torch.randn(2, n, self.d, generator=g, dtype=torch.float64)
        return [rows + self.size * part for part in noise]

    def truth(self, seed: int) -> dict[str, float]:
        """Return metrics of the population."""
        if self.views == 0:
            return self._truth_of_pairs(seed)
        moments = Moments()
        for chunk in range(10):
            moments.update(*self.sample(MOST_ROWS // 10, seed, "truth", chunk))
        large, q, n = moments.compute(), self.views, 10**9
        noise = torch.full((self.d,), self.size**2).double() if q == 2 else torch.zeros(self.d)
        covariance = (self.sigma.square() + noise).diag()
        exact = MomentState(
            count=n,
            mean=torch.full((q, self.d), self.size, dtype=torch.float64),
            scatter=n * q * covariance,
            residual=n * noise.diag() if q == 2 else None,
            contrast=torch.zeros_like(covariance) if q == 2 else None,
            unit_mean=large.unit_mean,
            unit_scatter=large.unit_scatter * (n / large.count),
            zero_rows=0,
            pair_distance=large.pair_distance * (n / large.count),
        )
        return read_values(exact)

    def _truth_of_pairs(self, seed: int) -> dict[str, float]:
        kernel, cosine, parts = 0.0, 0.0, 4
        for part in range(parts):
            a, b = (
                unit_rows(self.sample(MOST_ROWS // 2, seed, "pairs", part, side)[0])[0]
                for side in "ab"
            )
            kernel += float((-2 * (a - b).square().sum(1)).exp().mean()) / parts
            cosine += float((a * b).sum(1).square().mean()) / parts
        value = float(torch.tensor(kernel, dtype=torch.float64).log())
        return {
            "uniformity": value,
            "uniformity_gap": value - uniform_value(self.d, 2.0),
            "self_cluster": (cosine - 1 / self.d) / (1 - 1 / self.d),
        }

    def read(self, seed: int) -> dict[str, Reading]:
        """Draw a data set and read its table."""
        views = self.sample(self.d * self.ratio, seed)
        if self.views == 0:
            table = read_table(Shards((moments_of(*views),)), views[0], seed=seed)
            return {name: table[name] for name in OF_PAIRS}
        shards = Shards(tuple(moments_of(*[v[k::8] for v in views]) for k in range(8)))
        return read_table(shards, seed=seed)


@dataclass(frozen=True)
class Count:
    """How many of `n` intervals (or bounds) held the truth."""

    held: int
    n: int

    @property
    def share(self) -> float:
        return self.held / self.n

    def text(self) -> str:
        """Write the share in percent with its 95 % binomial interval."""
        if self.n == 0:
            return "–"
        low, high = binomtest(self.held, self.n).proportion_ci(method="wilson")
        return f"{100 * self.share:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def measure(cell: Cell, seed: int, repetitions: int) -> dict[str, tuple[Count, Count, int]]:
    """Count, for each metric, the intervals and the bounds that hold the truth, and what has none.

    Args:
        cell: what is drawn.
        seed: the first repetition's; the truth has one of its own.
        repetitions: data sets.

    Returns:
        By metric: intervals, bounds, and the number of readings with neither.
    """
    torch.set_num_threads(1)
    tables = [cell.read(seed + k) for k in range(repetitions)]
    truth = cell.truth(seed)
    found: dict[str, tuple[Count, Count, int]] = {}
    for name in dict.fromkeys(name for table in tables for name in table):
        if name in LEFT_OUT:
            continue
        readings = [table[name] for table in tables if name in table]
        values = [r.value for r in readings if r.value is not None]
        true = truth.get(name, sum(values) / len(values) if cell.views == 0 else None)
        if true is None:
            continue
        slack, counts = 1e-9 * abs(true), {False: [0, 0], True: [0, 0]}
        for r in readings:
            if r.low is not None and r.high is not None:
                count = counts[UNSETTLED in r.flags]
                count[0] += r.low - slack <= true <= r.high + slack
                count[1] += 1
        interval, bounds = (Count(*counts[flagged]) for flagged in (False, True))
        found[name] = (interval, bounds, len(readings) - interval.n - bounds.n)
    return found


def page(results: Mapping[Cell, dict[str, tuple[Count, Count, int]]], seed: int, reps: int) -> str:
    """Write the page: a row a metric."""
    rows: dict[str, list[tuple[Cell, Count, Count]]] = defaultdict(list)
    for cell, found in results.items():
        for name, (interval, bounds, _) in found.items():
            rows[name].append((cell, interval, bounds))
    lines = []
    for name, cells in rows.items():
        varied = [i for c, i, _ in cells if c.kind != "flat" and i.n >= ENOUGH]
        flat = [i for c, i, _ in cells if c.kind == "flat" and i.n >= ENOUGH]
        bounds = [b for _, _, b in cells if b.n >= ENOUGH]
        share = sum(b.n for *_, b in cells) / sum(i.n + b.n for _, i, b in cells)
        pooled = Count(sum(i.held for i in varied), sum(i.n for i in varied))
        lines.append(
            f"| `{name}` | {pooled.text()} | {_range(varied)} | {_range(flat)} "
            f"| {share:.0%} | {_range(bounds)} |"
        )
    cells = "; ".join(
        f"{what}: " + ", ".join(f"{d} × {r}" for d, r in sizes)
        for what, sizes in (("one view", ONE_VIEW), ("two", TWO_VIEWS), ("pairs", PAIRS))
    )
    return TEXT.format(seed=seed, reps=reps, cells=cells, table="\n".join(lines))


def _range(counts: list[Count]) -> str:
    if not counts:
        return "–"
    low, high = (f(counts, key=lambda c: c.share) for f in (min, max))
    return f"{100 * low.share:.1f}–{100 * high.share:.1f}"


TEXT = """# Coverage of the intervals

Written by `python benchmarks/interval_coverage.py --seed {seed}`: {reps} data sets a cell,
Gaussian, of five spectra: flat, σ_j ∝ j^-¼, j^-½, j^-1, and a step (a quarter of the directions
at 1, the others at 0.2). Cells are width × images a dimension ({cells}).
The truth is that of the population; the docstring of the program says how it is found. Percent.

*Intervals* are those without a flag that says otherwise; *lowest to highest* is over the cells
with {enough} of them or more, each with a standard error of 1 to 2. Where sampling alone spreads
the eigenvalues as far as they lie, what depends on their order has *bounds* and a flag in place of
an interval. The first two columns are of spectra that vary, *flat* is of the flat one.

| metric | intervals (95 % binomial) | lowest to highest cell | flat | with bounds | these cover |
|---|---|---|---|---|---|
{table}

- **Flat spectra** have the largest value that ranks and entropy can have. No correction goes
  beyond it, and to first order they do not change there: errors are one-sided, and coverage may
  exceed 99 %.
- **Bounds** reach from the value to the strongest correction that can be right, for spectra from
  flat to steep. Which holds cannot be told from such a sample, so that they cover more than 95 %
  of the time: they are no 95 % interval, and say so. The flag goes by the sample, so that a few
  samples escape it by chance (one in a hundred on the step); their intervals cover less.
- **`twonn`, `clid`, `nearest_ratio`** depend on the number of rows. Their intervals are for the
  sampling of rows, about the mean of so many; the bias of TwoNN in many dimensions is not in them.
- **`coherence`** is a maximum over rows. It has no error bar: no jackknife of a maximum covers.
""".replace("{enough}", str(ENOUGH))


def main() -> None:
    """Simulate, print every cell, write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=3_000_000)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 0])
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    sizes = {1: ONE_VIEW, 2: TWO_VIEWS, 0: PAIRS}
    cells = [
        Cell(kind, d, ratio, views)
        for views in options.views
        for (d, ratio), kind in product(sizes[views], SPECTRA)
    ]
    results = {}
    with ProcessPoolExecutor(options.jobs) as pool:
        work = partial(measure, seed=options.seed, repetitions=options.repetitions)
        for cell, found in zip(cells, pool.map(work, cells), strict=True):
            results[cell] = found
            print(f"{cell.kind}, {cell.d} x {cell.ratio}, views {cell.views}")
            for name, (interval, bounds, none) in found.items():
                print(f"  {name:28s} {interval.text():22s} n {interval.n:4d}", end="")
                print(f"  bounds {bounds.text():22s} n {bounds.n:4d}  none {none}", flush=True)
    if not options.no_write:
        PAGE.write_text(page(results, options.seed, options.repetitions), encoding="utf-8")
        print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()

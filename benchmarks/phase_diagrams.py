"""A phase diagram as one batch against one SciPy solve_ivp a cell, side by side in one run.

    python benchmarks/phase_diagrams.py [--cells 200] [--sample 100] [--repeats 3]

Both follow the same modes for the same time at the same tolerances. SciPy (RK45, one cell a call)
runs on cells drawn at random from the grid, and its time for the whole grid is extrapolated from
their mean. Contenders take turns, so that a busy machine slows both alike; the ratio is of medians.
`--threads 1` compares on one core each. Neither looks for the analytic boundary.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import numpy as np
import scipy
import torch
from scipy.integrate import solve_ivp

from fullrank.randomness import generator
from fullrank.theory.phase import PhaseDiagram, phase_diagram

RTOL, ATOL = 1e-5, 1e-8


def one_cell(values: dict[str, float], until: float) -> float:
    noise, decay = values["noise"], values["weight_decay"]
    tau, rate = values["tau"], values["predictor_rate"]

    def flow(t: float, state: np.ndarray) -> tuple[float, float]:
        p, s = state
        pull = tau - (1 + noise) * p
        return rate * s * pull - decay * p, 2 * s * (p * pull - decay)

    start = [values["p"], values["s"]]
    return float(solve_ivp(flow, (0, until), start, rtol=RTOL, atol=ATOL).y[0, -1])


def sampled(diagram: PhaseDiagram, picks: list[int]) -> tuple[float, float]:
    """Return mean seconds a cell, and the largest difference of outcomes from the batch's."""
    nx, largest = len(diagram.x), 0.0
    start = time.perf_counter()
    ends = []
    for pick in picks:
        x, y = float(diagram.x[pick % nx]), float(diagram.y[pick // nx])
        cell = diagram.fixed | {diagram.x_name: x, diagram.y_name: y}
        ends.append(one_cell(cell, diagram.until))
    spent = (time.perf_counter() - start) / len(picks)
    for pick, end in zip(picks, ends, strict=True):
        largest = max(largest, abs(end - float(diagram.outcome[pick // nx, pick % nx])))
    return spent, largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--x", default="weight_decay")
    parser.add_argument("--y", default="predictor_rate")
    parser.add_argument("--cells", type=int, default=200, help="along each axis")
    parser.add_argument("--sample", type=int, default=100, help="cells that SciPy follows")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    total = options.cells**2
    print(
        f"{options.x} x {options.y}, {options.cells} x {options.cells} cells, {options.threads} "
        f"threads, torch {torch.__version__}, scipy {scipy.__version__}, "
        f"{platform.processor() or platform.machine()}"
    )
    batch, single, largest = [], [], 0.0
    for repeat in range(options.repeats):
        start = time.perf_counter()
        diagram = phase_diagram(
            options.x, options.y, cells=(options.cells, options.cells), rtol=RTOL, analytic=False
        )
        batch.append(time.perf_counter() - start)
        drawn = torch.randint(total, (options.sample,), generator=generator(repeat, "cells"))
        spent, difference = sampled(diagram, drawn.tolist())
        single.append(spent * total)
        largest = max(largest, difference)
    ours, theirs = statistics.median(batch), statistics.median(single)
    print(f"one batch           median {ours:8.2f} s (measured)")
    print(
        f"solve_ivp a cell    median {theirs:8.2f} s (extrapolated from {options.sample} of "
        f"{total} cells)"
    )
    print(f"ratio {theirs / ours:.0f}; largest difference of outcomes {largest:.1e}")


if __name__ == "__main__":
    main()

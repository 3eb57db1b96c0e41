"""Moments against the singular values of the whole matrix, side by side in one run.

    python benchmarks/moments.py [--rows 50000] [--dim 512] [--repeats 7] [--threads N]

The rows are held in memory as float32 for all contenders. `moments` reads them once, in batches,
in float64, and ends with the spectrum; `svdvals` is what a library without moments does, in
float32; `gemm` is the bare float64 product, the least that an exact scatter costs without using
its symmetry. Contenders take turns, so that a busy machine slows all alike; ratios are of medians.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch

from fullrank.measure.moments import Moments
from fullrank.randomness import generator

BATCH = 8192


def spectrum_from_moments(x: torch.Tensor) -> torch.Tensor:
    metric = Moments()
    for batch in x.split(BATCH):
        metric.update(batch)
    return metric.compute().singular_values


def spectrum_from_svd(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.svdvals(x - x.mean(0))


def bare_product(x: torch.Tensor) -> torch.Tensor:
    total = x.new_zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    for batch in x.split(BATCH):
        rows = batch.double()
        total.addmm_(rows.T, rows)
    return total


def seconds(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> float:
    start = time.perf_counter()
    function(x)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    g = generator(0, "benchmark")
    x = torch.randn(options.rows, options.dim, generator=g)
    x *= torch.arange(1, options.dim + 1) ** -1.0

    contenders = {
        "moments (float64)": spectrum_from_moments,
        "svdvals (float32)": spectrum_from_svd,
        "gemm alone (float64)": bare_product,
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(options.repeats + 1):
        for name, function in contenders.items():
            spent = seconds(function, x)
            if repeat:  # the first round warms up
                times[name].append(spent)

    exact = torch.linalg.svdvals(x.double() - x.double().mean(0))
    print(
        f"{options.rows} x {options.dim}, {options.threads} threads, {options.repeats} repeats, "
        f"torch {torch.__version__}, {platform.processor() or platform.machine()}"
    )
    median = {name: statistics.median(spent) for name, spent in times.items()}
    for name, function in contenders.items():
        line = (
            f"{name:22} {median[name]:8.3f} s   x {median[name] / median['svdvals (float32)']:.2f}"
        )
        if function is not bare_product:
            error = (function(x) / exact - 1).abs().max()
            line += f"   worst relative error of a singular value {float(error):.1e}"
        print(line)


if __name__ == "__main__":
    main()

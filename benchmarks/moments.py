"""Moments against the bare float32 product and an SVD, side by side in one run.

    python benchmarks/moments.py [--rows 1000000] [--dim 512] [--alpha 0.3] [--repeats 5]
    python benchmarks/moments.py --linear

The rows lie in a memory-mapped .npy file. `float32` and `float64` are `measure_stream` with that
precision, `auto` chooses; each reads the file once in blocks, with shards and a sample. `gemm` is
one product of the same blocks in float32 and nothing else. Rates count 2 N d² operations for all,
though a symmetric product needs half. Contenders take turns, so that a busy machine slows all
alike; ratios are of medians. `--linear` measures rows generated on the fly, of growing number.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from fullrank.measure.spectra import EXACT_WIDTH
from fullrank.measure.stream import measure_stream
from fullrank.randomness import generator

BLOCK = 8192


def blocks_of(x: np.ndarray) -> Callable[[], Iterator[tuple[torch.Tensor]]]:
    def blocks() -> Iterator[tuple[torch.Tensor]]:
        for start in range(0, len(x), BLOCK):
            yield (torch.from_numpy(x[start : start + BLOCK]),)

    return blocks


def generated(rows: int, dim: int, alpha: float) -> Callable[[], Iterator[tuple[torch.Tensor]]]:
    sigma = torch.arange(1, dim + 1) ** -alpha
    base = torch.randn(BLOCK, dim, generator=generator(0, "base"))

    def blocks() -> Iterator[tuple[torch.Tensor]]:
        for start in range(0, rows, BLOCK):
            shift = start % dim
            block = base.roll(shift, 1) * sigma  # other rows at the cost of a copy
            yield (block[: rows - start],)

    return blocks


def bare_product(x: np.ndarray) -> None:
    total = torch.zeros(x.shape[1], x.shape[1])
    for (block,) in blocks_of(x)():
        total.addmm_(block.T, block)


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def shards_for(dim: int) -> int:
    return 8 if dim <= EXACT_WIDTH else 1


def from_file(options: argparse.Namespace, path: Path) -> None:
    n, d = options.rows, options.dim
    x = np.lib.format.open_memmap(path, "w+", np.float32, (n, d))
    g = generator(0, "benchmark")
    sigma = torch.arange(1, d + 1) ** -options.alpha
    for start in range(0, n, BLOCK):
        rows = torch.randn(min(BLOCK, n - start), d, generator=g) * sigma
        x[start : start + BLOCK] = rows.numpy()
    x.flush()
    mapped = np.load(path, mmap_mode="c")
    contenders: dict[str, Callable[[], object]] = {"gemm": lambda: bare_product(mapped)}
    for precision in ("float32", "float64", "auto"):
        contenders[precision] = lambda p=precision: measure_stream(
            blocks_of(mapped), shards=shards_for(d), precision=p
        )
    contenders["float32, 1 shard"] = lambda: measure_stream(
        blocks_of(mapped), shards=1, precision="float32"
    )
    if options.svd:
        contenders["svdvals"] = lambda: torch.linalg.svdvals(torch.from_numpy(np.array(mapped)))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(options.repeats + 1):
        for name, function in contenders.items():
            spent = seconds(function)
            if repeat:  # the first round warms up
                times[name].append(spent)
    gemm = statistics.median(times["gemm"])
    for name, spent in times.items():
        median = statistics.median(spent)
        rate = 2 * n * d * d / median / 1e9
        print(f"{name:18} {median:8.3f} s   {rate:7.1f} GFLOP/s   {gemm / median:6.1%} of gemm")


def linear(options: argparse.Namespace) -> None:
    for rows in (10_000, 100_000, 1_000_000, 4_000_000):
        blocks = generated(rows, options.dim, options.alpha)
        spent = seconds(lambda b=blocks: measure_stream(b, shards=shards_for(options.dim)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{rows:9} rows {spent:8.2f} s   {spent / rows * 1e6:6.2f} µs a row   {peak:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--alpha", type=float, default=0.3, help="exponent of the spectrum")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--svd", action="store_true", help="also time svdvals of the matrix")
    parser.add_argument("--linear", action="store_true", help="time against the number of rows")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"dim {options.dim}, alpha {options.alpha}, {options.threads} threads, torch "
        f"{torch.__version__}, {platform.processor() or platform.machine()}"
    )
    if options.linear:
        linear(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        from_file(options, Path(folder) / "rows.npy")


if __name__ == "__main__":
    main()

"""The whole audit table of a file, against the singular values of its matrix and reptrix's RankMe.

    python benchmarks/audit.py [--sizes 1000000x512 50000x2048] [--repeats 3] [--threads N]

The file is a float32 ``.npy`` of Gaussian rows with ``σ_j ∝ j^-0.5``, turned at random; it lies in
the page cache for all. ``audit`` is ``fullrank.audit(FILE)``: reading, every metric with its error
bar, and the verdict. ``svdvals`` is ``torch.linalg.svdvals`` of the loaded matrix, not centred and
nothing else; ``reptrix`` is its ``get_rankme``, one number. Their reading is not timed, which
favours them.

Contenders take turns, each run in a process of its own: seconds are medians, without imports and a
first call on a small file; memory is the peak of that process (``ru_maxrss``), also above what it
held before the run. A peer that is not installed is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Nothing heavy is imported here: a child's peak starts at the size of the process that forks it.

BLOCK = 65_536


def write(file: Path, rows: int, dim: int) -> None:
    """Write the embeddings, a block at a time."""
    import numpy as np
    import torch

    from fullrank.randomness import generator

    g = generator(0, "benchmark", "audit")
    basis = torch.linalg.qr(torch.randn(dim, dim, generator=g)).Q
    basis *= (torch.arange(1, dim + 1) ** -0.5)[:, None]
    out = np.lib.format.open_memmap(file, "w+", np.float32, (rows, dim))
    for start in range(0, rows, BLOCK):
        stop = min(start + BLOCK, rows)
        out[start:stop] = (torch.randn(stop - start, dim, generator=g) @ basis).numpy()
    out.flush()


def audit(file: Path) -> Callable[[], Any]:
    from fullrank import audit

    return lambda: audit(file)


def svdvals(file: Path) -> Callable[[], Any]:
    import numpy as np
    import torch

    matrix = torch.from_numpy(np.load(file))
    return lambda: torch.linalg.svdvals(matrix)


def reptrix(file: Path) -> Callable[[], Any]:
    import numpy as np
    import torch
    from reptrix.rankme import get_rankme

    matrix = torch.from_numpy(np.load(file))
    return lambda: get_rankme(matrix)


CONTENDERS: dict[str, Callable[[Path], Callable[[], Any]]] = {
    "audit": audit,
    "svdvals": svdvals,
    "reptrix": reptrix,
}


def measure(contender: str, file: Path, threads: int) -> dict[str, float]:
    """Run one contender in this process; say how long it took and what it held at most, in MiB."""
    import torch

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.npy"
        write(small, 512, 64)
        CONTENDERS[contender](small)()
    before = _resident()
    run = CONTENDERS[contender](file)
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak": _peak(), "above": _peak() - before}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def alone(*arguments: object) -> str:
    """Run this file in a process of its own; return what it prints last."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return (done.stdout.splitlines() or [""])[-1]


def compare(size: str, options: argparse.Namespace) -> None:
    rows, dim = map(int, size.split("x"))
    names = [n for n in CONTENDERS if n in options.only and (n != "reptrix" or _has_reptrix())]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        file = Path(folder) / "embeddings.npy"
        alone("--write", file, "--sizes", size)
        for _ in range(options.repeats):
            for name in names:
                found = alone("--measure", name, "--file", file, "--threads", options.threads)
                runs[name].append(json.loads(found))
                print(f"  {size} {name}: {found}", file=sys.stderr, flush=True)
    print(f"\n{rows} x {dim} ({rows * dim * 4 / 2**20:.0f} MiB), medians of {options.repeats}")
    median = {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]}
        for name, found in runs.items()
    }
    ours = median.get("audit", median[names[0]])
    for name, found in median.items():
        seconds = [run["seconds"] for run in runs[name]]
        print(
            f"{name:8} {found['seconds']:8.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
            f"   {found['seconds'] / ours['seconds']:5.2f} times as long as the audit"
            f"   peak {found['peak']:6.0f} MiB, {found['above']:6.0f} above what it held before"
            f"   {found['above'] / max(ours['above'], 1):5.1f} times the audit's"
        )


def _has_reptrix() -> bool:
    return importlib.util.find_spec("reptrix") is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["1000000x512", "50000x2048"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--folder", help="where the file is written; by default a temporary one")
    for inner in ("--measure", "--file", "--write"):
        parser.add_argument(inner, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write(Path(options.write), *map(int, options.sizes[0].split("x")))
    elif options.measure:
        found = measure(options.measure, Path(options.file), options.threads)
        print(json.dumps(found))
    else:
        print(
            f"{options.threads} threads, torch {version('torch')}, load {os.getloadavg()[0]:.1f}, "
            f"{platform.processor() or platform.machine()}"
        )
        for size in options.sizes:
            compare(size, options)


if __name__ == "__main__":
    main()

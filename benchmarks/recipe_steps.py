"""Time and memory of one training step of every recipe, beside SimSiam's.

    python benchmarks/recipe_steps.py [--rounds 9] [NAME ...]

Every recipe at its small defaults, with `conv4` of width 16 on Fashion-MNIST, one thread: views,
forward, loss, backward, optimiser and what acts between steps. The recipes take turns, one step
each a round, so that a busy machine slows all alike; a ratio is the median over rounds of a
recipe's time over SimSiam's in the same round. Memory is what the resident set of a process of its
own grows by at most in five steps, the data aside.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from fullrank.data.augment import Augment
from fullrank.data.loader import ViewStream
from fullrank.data.sources import Source, load_source
from fullrank.recipes.registry import recipe, recipes
from fullrank.train.optimizer import build_optimizer, set_rates
from fullrank.train.resolve import resolve

REFERENCE = "simsiam"
ROUNDS = 9
UNTIMED = 2


@dataclass(frozen=True)
class Cost:
    """What a step costs: its median time, its ratio to the reference's, and memory."""

    seconds: float
    ratio: float
    mebibytes: float


def training(name: str, source: Source) -> Iterator[None]:
    """Train a recipe, a step at each ``next``."""
    torch.manual_seed(0)
    config = resolve({"recipe": name, "preset": "small", "data": "fashion-mnist", "steps": 100})
    views = config.augmentation(source.channels, source.size)
    images = len(source.train)
    network = config.recipe.build(config.backbone, source.channels, views[0].size, images)
    network.to(memory_format=torch.channels_last)
    batch_size = config.run.batch_size
    stream = ViewStream(source.train, Augment(views, source.channels), batch_size, seed=0)
    optimizer = build_optimizer(network, config.optimizer, batch_size)
    dim = config.recipe.embedding_dim(network.feature_dim)
    # Random embeddings do for what starts from the data: that is once an epoch, and no step.
    gen = torch.Generator().manual_seed(0)
    z = torch.randn(images, dim, generator=gen)
    network.before_epoch(0, lambda: [(torch.arange(images), [z] * config.recipe.views.targets)])
    for step, batch in enumerate(stream.batches()):
        set_rates(optimizer, config.optimizer, step, 100)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = network(batch.views, batch.indices)
        network.loss(outputs).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        network.after_step(step + 1, 100)
        yield


def resident() -> float:
    """Return the resident set of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _grown(name: str, source: Source) -> float:
    before = resident()
    for _ in zip(range(5), training(name, source), strict=False):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before


def memory(names: Sequence[str], source: Source) -> dict[str, float]:
    """Return by how many MiB a process of its own grows for each recipe."""
    found = {}
    for name in names:
        # Forked before any other work, so that nothing needs to be imported or read again.
        with get_context("fork").Pool(1) as pool:
            found[name] = pool.apply(_grown, (name, source))
    return found


def costs(names: Sequence[str], rounds: int = ROUNDS) -> dict[str, Cost]:
    """Measure some recipes; the reference is measured in any case."""
    torch.set_num_threads(1)
    source = load_source(resolve({"data": "fashion-mnist", "steps": 1}).data)
    every = list(dict.fromkeys([REFERENCE, *names]))
    grown = memory(every, source)
    running = {name: training(name, source) for name in every}
    times: dict[str, list[float]] = {name: [] for name in every}
    for turn in range(UNTIMED + rounds):
        for name, steps in running.items():
            start = time.perf_counter()
            next(steps)
            if turn >= UNTIMED:
                times[name].append(time.perf_counter() - start)
    return {
        name: Cost(
            statistics.median(times[name]),
            statistics.median(t / r for t, r in zip(times[name], times[REFERENCE], strict=True)),
            grown[name],
        )
        for name in every
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    print(f"{'':28}{'ms a step':>10}{'x simsiam':>10}{'MiB':>8}")
    measured = costs([recipe(n).name for n in given.names] or list(recipes()), given.rounds)
    for name, cost in measured.items():
        print(f"{name:28}{1000 * cost.seconds:10.1f}{cost.ratio:10.2f}{cost.mebibytes:8.0f}")

"""What a monitor costs: one update, and the training of a ResNet-18 with and without it.

    python benchmarks/monitor.py [--rounds 3] [--steps 12] [--batch 64] [--threads 2]

`update` is timed on one float32 batch of 256 x 2048. The training is a plain SimSiam-like loop of a
ResNet-18 (first convolution 3 x 3, no pooling after it) on made-up 32 x 32 images. Two copies of it
take turns, block by block, in one process: one bare, one with a monitor of default budget attached
to its backbone and called after every step. The first block warms up. Shown are the median step of
each side, the ratio of the medians, and the share of the training time that check-ups took; the
reference check-up before the first step is outside of the budget and shown by itself.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time

import torch
from torch import nn
from torch.nn.functional import cosine_similarity
from torchvision.models import resnet18

from fullrank.monitor.monitor import Monitor
from fullrank.randomness import generator


def update_milliseconds(repeats: int = 300) -> dict[str, tuple[float, float]]:
    """Return median and least time of an update: one view, two, four times as many rows."""
    x = torch.randn(1024, 2048, generator=generator(0, "benchmark"))
    cases = {
        "256 x 2048": (x[:256],),
        "256 x 2048, two views": (x[:256], x[256:512]),
        "1024 x 2048": (x,),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    monitors = {name: Monitor() for name in cases}
    for _ in range(repeats):
        for name, views in cases.items():
            start = time.perf_counter()
            monitors[name].update(*views)
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: (statistics.median(s[10:]), min(s[10:])) for name, s in times.items()}


class Loop:
    """A training loop, with a monitor or without.

    Args:
        batch: images a step.
        monitor: what watches it.
    """

    def __init__(self, batch: int, monitor: Monitor | None = None) -> None:
        torch.manual_seed(0)
        backbone = resnet18(num_classes=512)
        backbone.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        backbone.maxpool = nn.Identity()
        self.model = nn.Sequential(backbone, nn.Linear(512, 512))
        self.optimiser = torch.optim.SGD(self.model.parameters(), 0.05, 0.9)
        self.images = torch.randn(2 * batch, 3, 32, 32, generator=generator(1, "benchmark"))
        self.monitor = monitor
        if monitor is not None:
            monitor.attach(self.model)

    def block(self, steps: int) -> list[float]:
        """Train some steps and return the seconds of each, the monitor's part included."""
        seconds = []
        for _ in range(steps):
            start = time.perf_counter()
            z0, z1 = self.model(self.images).chunk(2)
            loss = -cosine_similarity(z0, z1.detach()).mean()
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            if self.monitor is not None:
                self.monitor.step()
            seconds.append(time.perf_counter() - start)
        return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12, help="of a block")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--probe", type=int, default=256, help="images of the probe set")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{options.threads} threads, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}, "
        f"{platform.processor() or platform.machine()}"
    )
    for name, (median_ms, least) in update_milliseconds().items():
        print(f"update {name}: median {median_ms:.3f} ms, least {least:.3f} ms")

    images = torch.randn(options.probe, 3, 32, 32, generator=generator(2, "benchmark"))
    monitor = Monitor(taps={"backbone": "0", "embedding": "1"}, probe=images.split(64))
    sides = {"bare": Loop(options.batch), "monitored": Loop(options.batch, monitor)}
    monitor.check_up()
    reference = monitor.pace.budget.last
    times: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(options.rounds + 1):
        for name, loop in sides.items():
            spent = loop.block(options.steps if round_ else 2)
            times[name] += spent if round_ else []
    median = {name: statistics.median(spent) for name, spent in times.items()}
    mean = {name: statistics.mean(spent) for name, spent in times.items()}
    for name in sides:
        print(
            f"{name:10} median step {1000 * median[name]:.1f} ms, mean {1000 * mean[name]:.1f} ms"
        )
    total = sum(times["monitored"])
    print(
        f"ratio of medians {median['monitored'] / median['bare']:.4f}, of means "
        f"{mean['monitored'] / mean['bare']:.4f}; {len(monitor.history) - 1} check-ups took "
        f"{monitor.pace.budget.spent / total:.2%} of the training time; the reference before it "
        f"{reference:.1f} s"
    )
    equal = all(
        torch.equal(a, b)
        for a, b in zip(
            sides["bare"].model.state_dict().values(),
            sides["monitored"].model.state_dict().values(),
            strict=True,
        )
    )
    print(f"weights of both sides equal, bit for bit: {equal}")


if __name__ == "__main__":
    main()

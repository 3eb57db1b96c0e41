"""Time of one SimSiam training step: ``fullrank train`` against lightly's documented loop.

Run ``python benchmarks/training_step.py`` with the extra ``bench`` installed (about five minutes on
two cores; on a machine that does other work the ratios mean little, see the load it prints). Both
sides train the same backbone with heads of the same sizes (projector 512-512-512, predictor 128) on
Fashion-MNIST, batch 256, with the same number of threads, in float32 (by default our side would
take bf16 on a processor with units for it). They take turns, block by block, in one process; the
first steps of every block are not counted. The table shows the median step over all blocks, and the
ratio of the medians with its least and greatest value over the rounds.

lightly's side is the loop of its documentation (docs.lightly.ai/examples/simsiam.html): its SimSiam
transform on PIL images in a DataLoader with 2 workers, its heads and loss, ``torch.optim.SGD``
(without momentum, ours has it). The images are grey and stay so (PIL mode L): the transform's
saturation, hue and greyscale are called but change nothing, and the normalisation is given one
channel. The backbone modules are ours on both sides, laid out as PyTorch does by default on the
peer's.

Our side is ``fullrank.train.run.run``, all of it: Lightning, callbacks, record and logger; its step
times are read from the run's own record. Check-ups, which a run holds under 2 % of its training
time, fall outside the timed steps. One row draws views from the same list of operations as the peer
(the ``mocov2`` preset, with blur), one from the library's own preset for Fashion-MNIST.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead
from lightly.transforms import SimSiamTransform
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fullrank.data.settings import DataSettings, resolve_augmentation
from fullrank.data.sources import load_source
from fullrank.models.settings.backbone import MLP, BackboneSettings, Conv4, ResNet
from fullrank.train import hardware
from fullrank.train.record import Record
from fullrank.train.resolve import resolve
from fullrank.train.run import run

DATA = "fashion-mnist"
BATCH = 256
WORKERS = 2
PRECISION = "32"  # the peer's
HIDDEN, OUT, PREDICTOR = 512, 512, 128
# What is trained, and how many times as fast as the peer it is meant to be.
CASES: dict[str, tuple[BackboneSettings, float]] = {
    "conv4": (Conv4(width=32, stem_stride=1), 2.5),
    "resnet18": (ResNet(width=16), 2.5),
    "mlp": (MLP(width=1024, depth=3, out=512), 4.0),
}
PEER = "lightly, 2 workers"
OURS = {"fullrank, same operations": "mocov2", "fullrank, own preset": "auto"}


class PILViews(Dataset[Any]):
    """Views of grey images by a transform of one PIL image, and the labels."""

    def __init__(self, images: Tensor, labels: Tensor, transform: SimSiamTransform) -> None:
        self.images = images[:, 0].numpy()
        self.labels = labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class PeerNetwork(nn.Module):
    """A backbone with lightly's heads."""

    def __init__(self, backbone: nn.Module, dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = SimSiamProjectionHead(dim, HIDDEN, OUT)
        self.prediction_head = SimSiamPredictionHead(OUT, PREDICTOR, OUT)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding as a constant, and the prediction."""
        z = self.projection_head(self.backbone(x).flatten(start_dim=1))
        return z.detach(), self.prediction_head(z)


class Peer:
    """lightly's documented loop.

    Args:
        backbone: what to train.
        images: uint8 ``(n, 1, h, w)``.
        labels: int64 ``(n,)``.
        mean: of the pixels.
        std: of the pixels.
    """

    def __init__(
        self,
        backbone: BackboneSettings,
        images: Tensor,
        labels: Tensor,
        mean: Iterable[float],
        std: Iterable[float],
    ) -> None:
        size = images.shape[-1]
        transform = SimSiamTransform(
            input_size=size, normalize={"mean": list(mean), "std": list(std)}
        )
        self.loader = DataLoader(
            PILViews(images, labels, transform),
            batch_size=BATCH,
            shuffle=True,
            drop_last=True,
            num_workers=WORKERS,
        )
        self.network = PeerNetwork(*backbone.build(1, size))
        self.loss = NegativeCosineSimilarity()
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.06)

    def block(self, warmup: int, steps: int) -> list[float]:
        """Train some steps and return the seconds of each after the first ``warmup``.

        The workers start with the block and end with it, so that they take nothing from the other
        side's; in the steps not counted they come to be as far ahead as in a long run.
        """
        seconds = []
        total = torch.zeros(())
        since = time.perf_counter()
        for step, ((x0, x1), _) in enumerate(self.loader, 1):
            z0, p0 = self.network(x0)
            z1, p1 = self.network(x1)
            loss = 0.5 * (self.loss(z0, p1) + self.loss(z1, p0))
            total += loss.detach()
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            now = time.perf_counter()
            seconds.append(now - since)
            since = now
            if step == warmup + steps:
                break
        return seconds[warmup:]


def our_block(backbone: BackboneSettings, preset: str, warmup: int, steps: int) -> list[float]:
    """Train a run of our own and return the seconds of each step after the first ``warmup``."""
    with tempfile.TemporaryDirectory() as folder:
        config = resolve(
            {
                "recipe": {
                    "name": "simsiam",
                    "views": {"augment": preset},
                    "projector": {"hidden": HIDDEN, "out": OUT},
                    "predictor": {"hidden": PREDICTOR},
                },
                "data": DATA,
                "backbone": backbone.to_dict(),
                "batch_size": BATCH,
                "steps": warmup + steps,
                "out": str(Path(folder) / "run"),
                "device": "cpu",
                "precision": PRECISION,
                "log_every": 1,
                # What happens before the first step and after the last is kept short.
                "checkup": {"size": 256},
                "probe": {"train": 256, "test": 256, "linear": "none"},
            }
        )
        done = run(config)
        lines = [e for e in Record(done.folder).events() if e["event"] == "step"]
    return [BATCH / line["images_per_second"] for line in lines[warmup:]]


@dataclass
class Row:
    """Step times of one side, in milliseconds, a list a round."""

    name: str
    rounds: list[list[float]] = field(default_factory=list)

    def add(self, seconds: list[float]) -> None:
        """Add the block of a round."""
        self.rounds.append([1000 * s for s in seconds])

    def median(self) -> float:
        """Return the median over all steps."""
        return statistics.median(ms for block in self.rounds for ms in block)

    def quartiles(self) -> tuple[float, float]:
        """Return the first and the third quartile over all steps."""
        low, _, high = statistics.quantiles([ms for block in self.rounds for ms in block])
        return low, high

    def ratio_to(self, peer: Row) -> tuple[float, float, float]:
        """Return how many times as fast as ``peer``: by all medians, least and most by round."""
        medians = [statistics.median(block) for block in self.rounds]
        peers = [statistics.median(block) for block in peer.rounds]
        by_round = [theirs / ours for theirs, ours in zip(peers, medians, strict=True)]
        return peer.median() / self.median(), min(by_round), max(by_round)


def measure(backbone: BackboneSettings, rounds: int, warmup: int, steps: int) -> list[Row]:
    """Time both sides in turn; the first row is the peer's."""
    source = load_source(DataSettings(DATA))
    images, labels = source.train.images, source.train.labels
    assert images is not None and labels is not None
    view = resolve_augmentation("auto", DATA, source.size, source.channels)[0]
    peer = Peer(backbone, images, labels, view.mean, view.std)
    rows = [Row(PEER), *(Row(name) for name in OURS)]
    for _ in range(rounds):
        rows[0].add(peer.block(warmup, steps))
        for row in rows[1:]:
            row.add(our_block(backbone, OURS[row.name], warmup, steps))
    return rows


def show(name: str, goal: float, rows: list[Row]) -> dict[str, Any]:
    """Print the table of one backbone and return its numbers."""
    print(f"\n{name} (goal: {goal} times lightly)", flush=True)
    print(f"  {'':28}{'ms a step':>10}  {'quartiles':>13}{'img/s':>8}   times lightly (by round)")
    numbers: dict[str, Any] = {}
    for row in rows:
        median, (low, high) = row.median(), row.quartiles()
        line = f"  {row.name:28}{median:10.1f}  {f'{low:.0f} to {high:.0f}':>13}"
        line += f"{1000 * BATCH / median:8,.0f}"
        ratio, least, most = row.ratio_to(rows[0])
        if row is not rows[0]:
            line += f"{ratio:8.2f} ({least:.2f} to {most:.2f})"
        print(line, flush=True)
        numbers[row.name] = {
            "step_ms": median,
            "quartiles_ms": [low, high],
            "images_per_second": 1000 * BATCH / median,
            "ratio": ratio,
            "ratio_by_round": [least, most],
            "rounds_ms": row.rounds,
        }
    return {"goal": goal, "rows": numbers}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--backbones", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3, help="blocks of each side")
    parser.add_argument("--steps", type=int, default=12, help="timed steps of a block")
    parser.add_argument("--warmup", type=int, default=4, help="steps before them, not counted")
    parser.add_argument("--threads", type=int, help="of both sides; by default PyTorch's choice")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    args = parser.parse_args()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    conditions = hardware.environment("cpu", PRECISION)
    conditions |= {name: version(name) for name in ("lightly", "torchvision", "pillow")}
    conditions |= {"cores": os.cpu_count(), "load": os.getloadavg()[0], "batch_size": BATCH}
    conditions |= {"rounds": args.rounds, "steps": args.steps, "warmup": args.warmup}
    print(
        f"One SimSiam step on {DATA}, batch {BATCH}, two views; medians of {args.rounds} x "
        f"{args.steps} steps.\n"
        + "; ".join(f"{k} {v:.1f}" if k == "load" else f"{k} {v}" for k, v in conditions.items()),
        flush=True,
    )
    results = {}
    for name in args.backbones:
        backbone, goal = CASES[name]
        rows = measure(backbone, args.rounds, args.warmup, args.steps)
        results[name] = {"backbone": asdict(backbone), **show(name, goal, rows)}
    if args.json:
        args.json.write_text(json.dumps({"conditions": conditions, "results": results}, indent=1))


if __name__ == "__main__":
    main()

"""Figures of docs/mechanisms that small trained networks show.

Run by ``python examples/mechanisms.py``: fifteen runs of some seconds each, on Fashion-MNIST, one
thread a run and one run a core. Finished runs are found under ``runs/``.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import torch

import fullrank
from fullrank.data.augment import Augment
from fullrank.data.sources import load_source
from fullrank.measure.clusters import prototypes_used, teacher_entropy
from fullrank.report.record import RunRecord
from fullrank.train.folder import CHECKPOINT, config_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fullrank.models.joint_embedding import JointEmbedding
    from fullrank.train.run import Run

SETTINGS: dict[str, Any] = {
    "preset": "small",
    "data": "fashion-mnist",
    "backbone": {"name": "conv4", "width": 8},
    "steps": 150,
    "threads": 1,
    "device": "cpu",
    "logger": "none",
    "probe": {"train": 2000, "test": 2000},
}
UNNORMED = {"projector": {"last_norm": "none"}}
BATCH_NORM = {
    "SimSiam": {"name": "simsiam"},
    "without predictor": {"name": "simsiam", "predictor": "none"},
    "SimSiam, no output batch norm": {"name": "simsiam", **UNNORMED},
    "without predictor, no output batch norm": {"name": "simsiam", "predictor": "none", **UNNORMED},
}
DECORRELATION = {
    "VICReg": {"name": "vicreg"},
    "without covariance": {"name": "vicreg/without-covariance"},
    "without variance": {"name": "vicreg/without-variance"},
    "Barlow Twins without off-diagonal": {"name": "barlow-twins/without-off-diagonal"},
}
SHARPENING = {
    "DINO": {"name": "dino"},
    "without centring": {"name": "dino/without-centring"},
    "without sharpening": {"name": "dino/without-sharpening"},
}
EQUIPARTITION = {
    "SwAV": {"name": "swav"},
    "fixed prototypes": {"name": "swav/fixed-prototypes"},
    "without equipartition": {"name": "swav/without-equipartition"},
}
ARMS = (BATCH_NORM, DECORRELATION, SHARPENING, EQUIPARTITION)


def _train(recipe: dict[str, Any]) -> Run:
    return fullrank.train(recipe, **SETTINGS)


def train_all(workers: int) -> list[dict[str, Run]]:
    """Train every arm once; return the runs by name, one mapping a figure."""
    recipes = [recipe for arms in ARMS for recipe in arms.values()]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        runs = iter(list(pool.map(_train, recipes)))
    return [{name: next(runs) for name in arms} for arms in ARMS]


def spectra(axes: Axes, runs: dict[str, Run]) -> None:
    """Draw the embedding's spectrum at the end of each run."""
    for name, run in runs.items():
        last = RunRecord.read(run.folder).last
        assert last is not None
        sigma = torch.tensor(last.spectrum("embedding"))
        spread = float(last.layers["embedding"]["spread"])
        axes.plot(range(1, len(sigma) + 1), sigma / sigma[0], label=f"{name} (spread {spread:.2f})")
    axes.set(yscale="log", ylim=(1e-4, 1.3), xlabel="component j", ylabel="σ_j / σ_1")
    axes.legend()


def network_of(run: Run) -> tuple[JointEmbedding, list[torch.Tensor]]:
    """Return a run's network, and two views of held-out images."""
    config = config_of(run.folder)
    source = load_source(config.data)
    images = source.test.images[:2000]
    network = config.recipe.build(
        config.backbone, source.channels, source.size, images=len(source.train)
    )
    saved = torch.load(run.folder / CHECKPOINT, weights_only=False)["state_dict"]
    network.load_state_dict({k.removeprefix("network."): v for k, v in saved.items()})
    views = config.augmentation(source.channels, source.size, augment=None, count=2)
    return network.eval(), Augment(views[:2], source.channels)(images, 0, 0)


@torch.no_grad()
def teachers(axes: Axes, runs: dict[str, Run]) -> None:
    """Draw the mean teacher distribution over the prototypes, and its entropy."""
    for name, run in runs.items():
        network, views = network_of(run)
        objective = network.objective
        logits = network(views).targets[0]
        shares = ((logits - objective.centre) / objective.teacher_temperature()).softmax(1)
        entropy = teacher_entropy(shares, normalised=True)
        order = shares.mean(0).sort(descending=True).values
        axes.plot(order, label=f"{name} (entropy of an image {entropy:.2f} log K)")
    axes.set(yscale="log", xlabel="prototype, most used first", ylabel="mean teacher probability")
    axes.legend()


@torch.no_grad()
def assignments(axes: Axes, runs: dict[str, Run]) -> None:
    """Draw the share of images that each prototype is nearest to."""
    for name, run in runs.items():
        network, views = network_of(run)
        z = torch.nn.functional.normalize(network(views).embeddings[0], dim=1)
        nearest = (z @ network.objective.prototypes.T).argmax(1)
        k = len(network.objective.prototypes)
        used = prototypes_used(nearest, k)
        shares = torch.bincount(nearest, minlength=k).sort(descending=True).values / len(z)
        axes.plot(shares, label=f"{name} ({used:.0f} of {k} used)")
    axes.set(xlabel="prototype, most used first", ylabel="share of the images")
    axes.legend()


def draw(save: Any, workers: int, only: Sequence[str] = ()) -> None:
    """Draw the four figures; ``save(name)`` gives axes and writes them when left."""
    batch_norm, decorrelation, sharpening, equipartition = train_all(workers)
    for name, picture, runs in (
        ("batch-norm", spectra, batch_norm),
        ("decorrelation", spectra, decorrelation),
        ("centring-and-sharpening", teachers, sharpening),
        ("equipartition", assignments, equipartition),
    ):
        if not only or name in only:
            with save(name) as axes:
                picture(axes, runs)

"""The figures of docs/mechanisms: from theory in seconds, and from small trained networks.

    python examples/mechanisms.py [--only NAME ...] [--out docs/mechanisms] [--workers 2]

Needs matplotlib (``pip install "fullrank[bench]"``).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

import mechanisms_trained
from fullrank.diagnose.portraits import mode_portraits
from fullrank.measure.spectrum import effective_rank
from fullrank.recipes.registry import recipe
from fullrank.theory.contrastive import mode_rates, product_of
from fullrank.theory.eigenmodes import (
    ModeParameters,
    critical_weight_decay,
    eigenmode_rates,
    ema_rates,
    fixed_points,
)
from fullrank.theory.flow import integrate
from fullrank.theory.predictor_flow import (
    NetworkParameters,
    matrix_rates,
    no_predictor_rates,
    no_stop_gradient_rates,
)

COLOURS = {"survives": "#00725a", "collapses": "#b3261e"}
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "fullrank",  # the same picture is the same file
    "svg.fonttype": "none",
}


def predictor(axes: Axes) -> None:
    """Modes in the plane of the predictor's and the representation's eigenvalue."""
    portrait = mode_portraits(recipe("simsiam"))[0]
    for path in portrait["paths"]:
        axes.plot(path["x"], path["y"], color=COLOURS[path["fate"]], lw=0.8)
        axes.plot(path["x"][0], path["y"][0], ".", color=COLOURS[path["fate"]], ms=4)
    edge = portrait["boundary"]
    axes.plot(edge["x"], edge["y"], "k--", lw=1.5, label="boundary of the basin of collapse")
    for point in portrait["fixed"]:
        face = "black" if point["stable"] else "white"
        axes.plot(point["x"], point["y"], "o", mfc=face, mec="black", ms=7, zorder=3)
    axes.set(xlabel="p, eigenvalue of the predictor", ylabel="s, eigenvalue of F", ylim=(-0.03, 1))
    axes.set_title(portrait["note"])
    axes.legend(loc="upper left")


def stop_gradient(axes: Axes) -> None:
    """Singular values of a linear encoder with and without stop-gradient and predictor."""
    chance = torch.Generator().manual_seed(0)
    w = 0.5 * torch.randn(1, 6, 6, generator=chance, dtype=torch.float64)
    w_p = 0.2 * torch.randn(1, 6, 6, generator=chance, dtype=torch.float64)
    one = torch.eye(6, dtype=torch.float64)
    parameters = NetworkParameters(data=one, augmentation=0.2 * one, weight_decay=0.01)
    times = torch.linspace(0, 60, 200, dtype=torch.float64)
    for label, rates, start, colour in (
        ("stop-gradient and predictor", matrix_rates(parameters), (w, w_p), "#00725a"),
        ("no stop-gradient", no_stop_gradient_rates(parameters), (w, w_p), "#b3261e"),
        ("no predictor", no_predictor_rates(parameters), (w,), "#935800"),
    ):
        sigma = torch.linalg.svdvals(integrate(rates, start, times).states[0][:, 0])
        for j in range(6):
            axes.plot(times, sigma[:, j], color=colour, lw=1, label="" if j else label)
    axes.set(
        yscale="log", ylim=(1e-4, 3), xlabel="time (learning rate x steps)",
        ylabel="singular values of W",
    )  # fmt: skip
    axes.legend(loc="lower left")


def negatives(axes: Axes) -> None:
    """Singular values under a contrastive loss: depth, and augmentation noise."""
    directions = 16
    variance = torch.linspace(1.0, 0.3, directions, dtype=torch.float64)
    quiet = torch.zeros_like(variance)
    noisy = torch.where(torch.arange(directions) < directions // 2, 0.0, 2.0).double()
    component = range(1, directions + 1)
    times = torch.tensor([0.0, 8.0], dtype=torch.float64)
    for label, depth, noise, colour in (
        ("1 layer", 1, quiet, "#0072b2"),
        ("2 layers", 2, quiet, "#d55e00"),
        ("3 layers", 3, quiet, "#8a6d00"),
        ("1 layer, noise on half of the directions", 1, noisy, "#b3261e"),
    ):
        start = [torch.full_like(variance, 0.05 ** (1 / depth)) for _ in range(depth)]
        sigma = product_of(integrate(mode_rates(variance, noise), start, times).end)
        rank = effective_rank(sigma)
        axes.plot(
            component, sigma / sigma.max(), "o-", ms=3, color=colour,
            label=f"{label}: effective rank {float(rank):.1f} of {directions}",
        )  # fmt: skip
    axes.set(yscale="log", ylim=(1e-4, 1.3), xlabel="direction j", ylabel="σ_j / σ_1")
    axes.legend(loc="lower left")


def momentum(axes: Axes) -> None:
    """A mode with the online network as target, and with moving averages of it."""
    parameters = ModeParameters(noise=0.3, weight_decay=0.02)
    start = torch.tensor([0.1], dtype=torch.float64)
    times = torch.linspace(0, 120, 300, dtype=torch.float64)
    alone = integrate(eigenmode_rates(parameters), (start, start**2), times)
    axes.plot(times, alone.states[1][:, 0], color="black", label="no momentum (τ = 1)")
    for beta, colour in ((0.3, "#0072b2"), (0.1, "#d55e00"), (0.03, "#8a6d00")):
        flow = integrate(ema_rates(parameters, beta), (start, start**2, start / start), times)
        axes.plot(times, flow.states[1][:, 0], color=colour, label=f"β = {beta}: s")
        axes.plot(times, flow.states[2][:, 0], color=colour, ls=":", label=f"β = {beta}: τ")
    axes.set(xlabel="time (learning rate x steps)", ylabel="s, τ")
    axes.legend(ncols=2)


def weight_decay(axes: Axes) -> None:
    """Fixed points over weight decay, up to where they meet."""
    eta = torch.linspace(1e-4, 0.25, 400, dtype=torch.float64)
    for noise, colour in ((0.0, "#0072b2"), (0.3, "#d55e00"), (1.0, "#00845f")):
        points = fixed_points(ModeParameters(noise=noise, weight_decay=eta))
        axes.plot(eta, points.upper, color=colour, label=f"σ² = {noise:g}: healthy state")
        axes.plot(eta, points.lower, color=colour, ls="--", label=f"σ² = {noise:g}: threshold")
        axes.axvline(float(critical_weight_decay(noise)), color=colour, lw=0.6)
    axes.set(xlabel="weight decay η", ylabel="p at rest", ylim=(0, 1.02))
    axes.legend(loc="upper right")


@contextmanager
def saved(out: Path, name: str) -> Iterator[Axes]:
    """Give axes; write them as ``name.svg`` when left."""
    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    yield axes
    figure.savefig(out / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
    print(f"written: {out / name}.svg", flush=True)


THEORY = {
    "predictor": predictor,
    "stop-gradient": stop_gradient,
    "momentum": momentum,
    "weight-decay": weight_decay,
    "negatives": negatives,
}


def main() -> None:
    """Draw the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("docs/mechanisms"))
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    matplotlib.use("svg")
    plt.rcParams.update(STYLE)
    for name, picture in THEORY.items():
        if not given.only or name in given.only:
            with saved(given.out, name) as axes:
                picture(axes)
    if not given.only or set(given.only) - set(THEORY):
        mechanisms_trained.draw(lambda name: saved(given.out, name), given.workers, given.only)


if __name__ == "__main__":
    main()

"""Watch a plain PyTorch loop: SimSiam without a predictor collapses, and the monitor says when.

The loop is not of this library. Three lines of it are the monitor's: one before, two inside.
"""

from __future__ import annotations

import argparse

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from fullrank.monitor.monitor import Monitor


def views(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return two noisy views of flat images."""
    first, second = (images + 0.3 * torch.randn_like(images) for _ in range(2))
    return first, second


def heads(dim: int) -> tuple[nn.Module, nn.Module]:
    """Return an encoder of 8 x 8 images and a predictor."""
    encoder = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, dim))
    predictor = nn.Sequential(nn.Linear(dim, 16), nn.ReLU(), nn.Linear(16, dim))
    return encoder, predictor


def main(steps: int = 300, predict: bool = False, dim: int = 64) -> Monitor:
    """Train, print what the monitor sees, and return it.

    Args:
        steps: optimiser steps.
        predict: whether there is a predictor, which keeps SimSiam from collapse.
        dim: of the embedding.
    """
    torch.manual_seed(0)
    images = torch.from_numpy(load_digits().data).float() / 16
    train, held_out = images[:1500], images[1500:]
    encoder, predictor = heads(dim)
    if not predict:
        predictor = nn.Identity()
    optimiser = torch.optim.SGD([*encoder.parameters(), *predictor.parameters()], 0.2, 0.9)

    probe = [views(batch) for batch in held_out.split(100)]
    monitor = Monitor(probe=probe, total_steps=steps, budget=0.1).attach(encoder)
    monitor.check_up()
    for _ in range(steps):
        x0, x1 = views(train[torch.randint(len(train), (128,))])
        z0, z1 = encoder(x0), encoder(x1)
        similar = cosine_similarity(predictor(z0), z1.detach())
        similar = similar + cosine_similarity(predictor(z1), z0.detach())
        loss = -similar.mean() / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        readings = monitor.step()
        if readings is not None:
            spread, rank = (
                readings[f"fullrank/embedding/{name}"] for name in ("spread", "effective_rank")
            )
            fall = readings["fullrank/embedding/spread/drawdown"]
            print(
                f"step {monitor.steps}: loss {float(loss.detach()):.3f}  spread {spread:.3g} "
                f"({fall:.0%} below its peak)  effective rank {rank:.1f}"
            )
    verdict = monitor.verdict()["embedding"]
    print(f"embedding: {verdict.kind}")
    for sentence in verdict.evidence:
        print(f"  {sentence}")
    return monitor


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--predict", action="store_true", help="with a predictor")
    given = parser.parse_args()
    main(given.steps, given.predict)

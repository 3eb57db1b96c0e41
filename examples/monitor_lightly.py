"""Watch lightly's SimSiam modules in lightly's own loop: with its predictor, and without.

The extra ``bench`` has lightly. Backbone and projector are watched side by side, because they fail
separately: without a predictor the projector's rank falls below a quarter of where it began, while
the backbone keeps its own.
"""

from __future__ import annotations

import argparse

import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fullrank.monitor.monitor import Monitor


class SimSiam(nn.Module):
    """lightly's heads on a small convolutional backbone, put together as in its documentation.

    Args:
        predict: whether there is a predictor.
    """

    def __init__(self, predict: bool = True) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
        )
        self.projection_head = SimSiamProjectionHead(32, 64, 64)
        self.prediction_head = SimSiamPredictionHead(64, 16, 64) if predict else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding as a constant, and the prediction."""
        z = self.projection_head(self.backbone(x).flatten(start_dim=1))
        return z.detach(), self.prediction_head(z)


def views(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return two noisy views of images."""
    first, second = (images + 0.3 * torch.randn_like(images) for _ in range(2))
    return first, second


def main(steps: int = 200, predict: bool = True) -> Monitor:
    """Train, print what the monitor sees, and return it.

    Args:
        steps: optimiser steps.
        predict: whether there is a predictor.
    """
    torch.manual_seed(0)
    images = torch.from_numpy(load_digits().images).float()[:, None] / 16
    train, held_out = images[:1400], images[1400:]
    model = SimSiam(predict)
    criterion = NegativeCosineSimilarity()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    monitor = Monitor(
        taps=["backbone", "projection_head"],
        probe=[views(batch) for batch in held_out.split(100)],
        total_steps=steps,
        budget=0.1,
    ).attach(model)
    monitor.check_up()
    for _ in range(steps):
        x0, x1 = views(train[torch.randint(len(train), (128,))])
        z0, p0 = model(x0)
        z1, p1 = model(x1)
        loss = 0.5 * (criterion(z0, p1) + criterion(z1, p0))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        readings = monitor.step()
        if readings is not None:
            for layer in ("backbone", "projection_head"):
                spread, ratio = (
                    readings[f"fullrank/{layer}/{name}"]
                    for name in ("spread", "participation_ratio")
                )
                print(
                    f"step {monitor.steps}, {layer}: spread {spread:.3f}  "
                    f"participation ratio {ratio:.1f}"
                )
    for layer, verdict in monitor.verdict().items():
        print(f"{layer}: {verdict.kind}")
        print("\n".join(f"  {sentence}" for sentence in verdict.evidence))
    return monitor


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--no-predictor", action="store_true", help="without its predictor")
    given = parser.parse_args()
    main(given.steps, not given.no_predictor)

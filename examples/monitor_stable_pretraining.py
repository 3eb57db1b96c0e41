"""Watch stable-pretraining's SimSiam, trained by its own Lightning module.

Needs ``pip install stable-pretraining``, which is large; nothing else here does. Its modules are
LightningModules of the ``lightning`` namespace, so that the callback is the same as for your own.
"""

from __future__ import annotations

import argparse

import torch
from lightning.pytorch import Trainer
from sklearn.datasets import load_digits
from stable_pretraining.methods.simsiam import SimSiam
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fullrank.monitor.lightning_callback import MonitorCallback
from fullrank.monitor.monitor import Monitor


def views(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return two noisy views of images."""
    first, second = (images + 0.3 * torch.randn_like(images) for _ in range(2))
    return first, second


class Digits(SimSiam):
    """Their method, with a loop over two views of grey images."""

    def training_step(self, batch: list[Tensor], batch_index: int) -> Tensor:
        """Return the loss of one batch; their loop for several optimisers is not needed here."""
        return self(*views(batch[0])).loss

    def on_train_start(self) -> None:
        """Skip their set-up of several optimisers."""
        self.automatic_optimization = True

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser."""
        return torch.optim.SGD(self.parameters(), 0.1, 0.9)


def main(epochs: int = 8) -> Monitor:
    """Train, print the verdicts, and return the monitor.

    Args:
        epochs: of 10 steps.
    """
    torch.manual_seed(0)
    images = torch.from_numpy(load_digits().images).float()[:, None].expand(-1, 3, -1, -1) / 16
    backbone = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    model = Digits(backbone, projector_dim=64, predictor_hidden_dim=16)
    model.automatic_optimization = True
    watch = MonitorCallback(
        taps={"backbone": "backbone", "embedding": "projector"},
        probe=[views(batch) for batch in images[1400:].split(100)],
        forward=lambda model, view: model.projector(model.backbone(view)),
        budget=0.2,
    )
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(TensorDataset(images[:1400]), 128, shuffle=True, drop_last=True))
    for layer, verdict in watch.monitor.verdict().items():
        print(f"{layer}: {verdict.kind}")
        print("\n".join(f"  {sentence}" for sentence in verdict.evidence))
    return watch.monitor


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    main(parser.parse_args().epochs)

"""Watch a LightningModule of your own: keep the checkpoint of highest rank, stop when it falls.

The module knows nothing of the monitor; the callback's keys are ordinary metrics of the trainer.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from torch.utils.data import DataLoader, TensorDataset

from fullrank.monitor.lightning_callback import MonitorCallback


def views(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return two noisy views of flat images."""
    first, second = (images + 0.3 * torch.randn_like(images) for _ in range(2))
    return first, second


class SimSiam(LightningModule):
    """SimSiam on flat images; without its predictor it collapses.

    Args:
        predict: whether there is a predictor.
    """

    def __init__(self, predict: bool = False) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64)
        )
        predictor = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 64))
        self.predictor = predictor if predict else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the embedding."""
        return self.encoder(x)

    def training_step(self, batch: list[Tensor], batch_index: int) -> Tensor:
        """Return the loss of one batch."""
        z0, z1 = map(self.encoder, views(batch[0]))
        similar = cosine_similarity(self.predictor(z0), z1.detach())
        similar = similar + cosine_similarity(self.predictor(z1), z0.detach())
        return -similar.mean() / 2

    def configure_optimizers(self) -> Any:
        """Return the optimiser."""
        return torch.optim.SGD(self.parameters(), 0.2, 0.9)


def main(epochs: int = 15, predict: bool = False, budget: float = 0.2) -> Trainer:
    """Train, print where it stopped and the verdict, and return the trainer.

    Args:
        epochs: of 12 steps.
        predict: whether there is a predictor.
        budget: share of the training time that check-ups may take.
    """
    torch.manual_seed(0)
    images = torch.from_numpy(load_digits().data).float() / 16
    loader = DataLoader(TensorDataset(images[:1500]), 128, shuffle=True, drop_last=True)
    watch = MonitorCallback(
        taps={"embedding": "encoder"},
        probe=[views(batch) for batch in images[1500:].split(100)],
        budget=budget,
    )
    fall = "fullrank/embedding/spread/drawdown"
    with tempfile.TemporaryDirectory() as folder:
        best = ModelCheckpoint(folder, monitor="fullrank/embedding/effective_rank", mode="max")
        stop = EarlyStopping(
            fall,
            mode="min",
            patience=epochs,
            divergence_threshold=0.75,
            check_on_train_epoch_end=True,
        )
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            callbacks=[stop, watch, best],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(SimSiam(predict), loader)
        print(f"highest effective rank of a kept checkpoint: {float(best.best_model_score):.1f}")
    print(
        f"stopped after step {trainer.global_step} of {trainer.estimated_stepping_batches}; "
        f"spread {float(trainer.callback_metrics[fall]):.0%} below its peak"
    )
    watch.monitor.check_up(step=trainer.global_step)
    print(f"embedding: {watch.monitor.verdict()['embedding'].kind}")
    return trainer


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--predict", action="store_true", help="with a predictor")
    given = parser.parse_args()
    main(given.epochs, given.predict)

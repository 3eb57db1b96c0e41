"""The Lightning module that trains any joint-embedding network; it knows no method by name."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from fullrank.data.loader import Batch, ViewStream
from fullrank.measure.moments import unit_rows
from fullrank.measure.pairs import batch_spread
from fullrank.models.joint_embedding import JointEmbedding
from fullrank.recipes.training import Optimizer
from fullrank.train.optimizer import build_optimizer, clip_gradients, set_rates


class _FromStep(Iterable[Batch]):
    """Yields the batches from the trainer's own step on, so that a resumed run goes on exactly."""

    def __init__(self, stream: ViewStream, module: LightningModule) -> None:
        self.stream, self.module = stream, module

    def __iter__(self) -> Iterator[Batch]:
        return self.stream.batches(self.module.global_step)


class JointEmbeddingModule(LightningModule):
    """Trains a network on a stream of views.

    Args:
        network: what to train.
        stream_options: arguments of ``ViewStream``, device and ranks aside.
        optimizer: its settings.
        total_steps: optimiser steps of the run.
    """

    def __init__(
        self,
        network: JointEmbedding,
        stream_options: dict[str, Any],
        optimizer: Optimizer,
        total_steps: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.stream_options = stream_options
        self.optimizer_settings = optimizer
        self.total_steps = total_steps
        self.stream: ViewStream | None = None
        self.lr = 0.0
        self.latest: dict[str, Tensor] = {}
        """Loss and its terms at the last step, detached, of this process."""
        self.embedding = torch.empty(0, 0)
        """First view's embedding at the last step, detached."""

    def train_dataloader(self) -> _FromStep:
        """Make the stream for this process."""
        self.stream = ViewStream(
            **self.stream_options,
            device=self.device,
            rank=self.global_rank,
            world=self.trainer.world_size,
        )
        return _FromStep(self.stream, self)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build the optimiser."""
        return build_optimizer(
            self.network, self.optimizer_settings, self.stream_options["batch_size"]
        )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rates of this step; let parts that start from the data do so."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        step = self.global_step
        self.lr = set_rates(optimizer, self.optimizer_settings, step, self.total_steps)
        assert self.stream is not None
        epoch, place = divmod(step, self.stream.steps_per_epoch)
        if place == 0:
            self.network.before_epoch(epoch, lambda: self._embeddings(epoch))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        outputs = self.network(self._laid_out(batch.views), batch.indices)
        loss = self.network.loss(outputs)
        self.latest = {
            "loss": loss.total.detach(),
            **{f"terms.{name}": term.detach() for name, term in loss.terms.items()},
        }
        self.embedding = outputs.embeddings[0].detach()
        return loss.total

    def _laid_out(self, views: list[Tensor]) -> list[Tensor]:
        if self.device.type == "mps":
            return views
        return [
            v.contiguous(memory_format=torch.channels_last) if v.dim() == 4 else v for v in views
        ]

    @torch.no_grad()
    def _embeddings(self, epoch: int) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Yield this process's images of an epoch and the embeddings of their target views."""
        assert self.stream is not None
        first = epoch * self.stream.steps_per_epoch
        batches = self.stream.batches(first)
        for batch in itertools.islice(batches, self.stream.steps_per_epoch):
            views = self._laid_out(batch.views[: self.network.target_views])
            yield batch.indices, [self.network.encode(view).embedding for view in views]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip gradients, where the recipe does."""
        clip_gradients(self.network, self.optimizer_settings.clip_gradient)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step the optimiser, then let the network's parts act between steps.

        Both in one place, so that a checkpoint never falls between them.
        """
        step = self.global_step + 1
        super().optimizer_step(*args, **kwargs)
        self.network.after_step(step, self.total_steps)

    def latest_values(self) -> dict[str, float]:
        """Return what the last step showed of the global batch (a collective call).

        Beside loss and terms, ``spread`` is the spread of the embeddings (see
        :func:`fullrank.measure.pairs.spread`) of the global batch, the first view's.
        """
        unit, _ = unit_rows(self.embedding.float())
        mean = unit.mean(0)
        # Spread within the processes, plus that of their means about the common mean.
        between = (mean - self._mean_over_processes(mean)).square().sum()
        values = {**self.latest, "spread": batch_spread(self.embedding) + between}
        reduced = self._mean_over_processes(torch.stack(list(values.values())))
        return dict(zip(values, reduced.tolist(), strict=True))

    def _mean_over_processes(self, local: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return local
        # A copy, because the reduction works in place.
        return self.trainer.strategy.reduce(local.clone(), reduce_op="mean")

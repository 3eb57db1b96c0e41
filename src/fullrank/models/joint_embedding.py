"""The one module that executes any recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fullrank.models.objectives.objective import Loss, Objective, Outputs
from fullrank.models.targets import Target

Embed = Callable[[], Iterable[tuple[Tensor, list[Tensor]]]]
"""Passes once over the images: which they are, ``(n,)``, and their embeddings, one a view."""


@dataclass
class Encoded:
    """Representation h and embedding z of one view."""

    feature: Tensor
    embedding: Tensor


class JointEmbedding(nn.Module):
    """views → backbone → projector → predictor → objective(prediction, target).

    A part may have, beside ``forward``:

    * ``observe(embeddings, targets)``, a predictor that is made from what it predicts from: called
      with the embeddings of all views, and with the targets, before it predicts in training mode;
    * ``after_step(step, total_steps)``: called after every optimiser step;
    * ``before_epoch(epoch, embed)``: called before the first step of every epoch.

    Args:
        backbone: view → representation h, ``(n, d_h)``.
        projector: h → embedding z, ``(n, d)``.
        predictor: z → prediction p, ``(n, d)``.
        target: what predictions are compared with, and where gradients flow.
        objective: the loss.
        feature_dim: dimension of h.
        target_views: how many views, the first ones, have targets; None for all.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        target: Target,
        objective: Objective,
        feature_dim: int,
        target_views: int | None = None,
    ) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.target_views = target_views
        self.backbone = backbone
        self.projector = projector
        self.predictor = predictor
        self.target = target
        self.objective = objective

    def encode(self, view: Tensor) -> Encoded:
        """Return representation and embedding of one view, ``(n, ...)``."""
        feature = self.backbone(view)
        return Encoded(feature, self.projector(feature))

    def forward(self, views: list[Tensor], indices: Tensor | None = None) -> Outputs:
        """Return features, embeddings and predictions, one of each a view, and targets.

        Each view passes the network by itself, so that batch norm sees one view at a time.

        Args:
            views: tensors ``(n, ...)``, of one size or of several.
            indices: which images they show, ``(n,)``, for objectives that remember each image.
        """
        encoded = [self.encode(view) for view in views]
        embeddings = [e.embedding for e in encoded]
        k = self.target_views
        targets = self.target(views[:k], embeddings[:k])
        observe = getattr(self.predictor, "observe", None)
        if self.training and callable(observe):
            observe(embeddings, targets)
        return Outputs(
            features=[e.feature for e in encoded],
            embeddings=embeddings,
            predictions=[self.predictor(z) for z in embeddings],
            targets=targets,
            indices=indices,
        )

    def loss(self, outputs: Outputs) -> Loss:
        """Return the objective of ``outputs``, computed in float32 at least."""
        device = outputs.embeddings[0].device.type
        with torch.autocast(device, enabled=False):
            return self.objective(outputs.full_precision())

    def after_step(self, step: int, total_steps: int) -> None:
        """Let the parts that act between steps do so; ``step`` counts the steps done."""
        self._call("after_step", step, total_steps)

    def before_epoch(self, epoch: int, embed: Embed) -> None:
        """Let the parts that start from the data do so.

        Args:
            epoch: counted from 0.
            embed: passes over this process's images of the epoch, without gradients.
        """
        self._call("before_epoch", epoch, embed)

    def _call(self, name: str, *arguments: object) -> None:
        for part in (self.projector, self.predictor, self.target, self.objective):
            act = getattr(part, name, None)
            if callable(act):
                act(*arguments)

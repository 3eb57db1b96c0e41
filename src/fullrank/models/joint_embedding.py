"""The one module that executes any recipe."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fullrank.models.objectives.objective import Loss, Objective, Outputs
from fullrank.models.targets import Target


@dataclass
class Encoded:
    """Representation h and embedding z of one view."""

    feature: Tensor
    embedding: Tensor


class JointEmbedding(nn.Module):
    """views → backbone → projector → predictor → objective(prediction, target).

    Args:
        backbone: view → representation h, ``(n, d_h)``.
        projector: h → embedding z, ``(n, d)``.
        predictor: z → prediction p, ``(n, d)``.
        target: what predictions are compared with, and where gradients flow.
        objective: the loss.
        feature_dim: dimension of h.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        target: Target,
        objective: Objective,
        feature_dim: int,
    ) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.backbone = backbone
        self.projector = projector
        self.predictor = predictor
        self.target = target
        self.objective = objective

    def encode(self, view: Tensor) -> Encoded:
        """Return representation and embedding of one view, ``(n, ...)``."""
        feature = self.backbone(view)
        return Encoded(feature, self.projector(feature))

    def forward(self, views: list[Tensor]) -> Outputs:
        """Return features, embeddings, predictions and targets, one of each a view.

        Each view passes the network by itself, so that batch norm sees one view at a time.
        """
        encoded = [self.encode(view) for view in views]
        embeddings = [e.embedding for e in encoded]
        return Outputs(
            features=[e.feature for e in encoded],
            embeddings=embeddings,
            predictions=[self.predictor(z) for z in embeddings],
            targets=self.target(views, embeddings),
        )

    def loss(self, outputs: Outputs) -> Loss:
        """Return the objective of ``outputs``, computed in float32 at least."""
        device = outputs.embeddings[0].device.type
        with torch.autocast(device, enabled=False):
            return self.objective(outputs.full_precision())

    def after_step(self, step: int, total_steps: int) -> None:
        """Let the parts that act between steps do so; ``step`` counts the steps done."""
        for part in (self.predictor, self.target, self.objective):
            act = getattr(part, "after_step", None)
            if callable(act):
                act(step, total_steps)

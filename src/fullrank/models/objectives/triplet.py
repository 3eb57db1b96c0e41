"""A positive and a negative for each anchor."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fullrank.models.objectives.global_batch import in_index_order, unit_batch, without_diagonal
from fullrank.models.objectives.objective import Loss, Objective, Outputs
from fullrank.models.settings.objectives.contrastive import Triplet


class TripletObjective(Objective):
    """``cos(a, n) - cos(a, p)``: the anchor is nearer to its positive than to a negative.

    The anchor a is a prediction of view i, the positive p the target of the same image in view
    j, the negative n the target of another image in view j. ``negatives="all"`` takes the mean
    over all other images of the global batch, which is the expectation over one drawn at random;
    ``"next"`` takes one, the image with the next larger index in the batch (of the one with the
    largest: the smallest). Without a margin every triplet pulls (Zhang et al. 2022); with one it
    is ``max(0, cos(a, n) - cos(a, p) + margin)`` (Schroff et al. 2015). The mean over anchors and
    ordered pairs of views.
    """

    def __init__(self, settings: Triplet) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, outputs: Outputs) -> Loss:
        predictions, targets = unit_batch(outputs)
        order = in_index_order(outputs.indices, predictions[0])
        losses = [
            self._pair(p @ t.T, order)
            for i, p in enumerate(predictions)
            for j, t in enumerate(targets)
            if i != j
        ]
        return Loss.of(triplet=torch.stack(losses).mean())

    def _pair(self, cosines: Float[Tensor, "n n"], order: Int[Tensor, " n"]) -> Tensor:
        n = len(cosines)
        difference = cosines - cosines.diagonal()[:, None]
        if self.settings.negatives == "next":
            difference = difference[order, order.roll(-1)]
        if self.settings.margin is not None:
            difference = torch.relu(difference + self.settings.margin)
        if self.settings.negatives == "next":
            return difference.mean()
        return without_diagonal(difference, 0.0).sum() / (n * (n - 1))

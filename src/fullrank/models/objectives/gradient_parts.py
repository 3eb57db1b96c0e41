"""Objectives whose extra gradient is kept in parts: centre, residual, both or neither.

Zhang et al. 2022 ("How Does SimSiam Avoid Collapse Without Negative Samples?", 2203.16262) write
minus the gradient at a direction P_a as a pull to the other view, which alone collapses, and an
extra ``G_e = o_e + r_e``: its mean over the batch, and the rest of each image. What is kept stands
in the loss as a constant, so that the gradient at P_a (along the sphere) is that, and no more.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fullrank.models.collectives import all_reduce, world_size
from fullrank.models.objectives.global_batch import in_index_order, unit_batch
from fullrank.models.objectives.objective import Loss, Objective, Outputs
from fullrank.models.settings.objectives.gradient_parts import Keep


def kept_part(
    extra: Float[Tensor, "n d"], centre: Float[Tensor, " d"], keep: Keep
) -> Float[Tensor, "n d"]:
    """Return the part of ``extra`` that is kept, its mean over the global batch being given."""
    return {
        "none": torch.zeros_like(extra),
        "centre": centre.expand_as(extra),
        "residual": extra - centre,
        "both": extra,
    }[keep]


class PredictorGradientObjective(Objective):
    """``-P_a·sg(P_b + kept part of G_e)``, ``G_e = Z_b - P_b``, all of length 1 (Zhang et al.).

    P are predictions, Z_b is the target of the other view; the mean over images and ordered pairs
    of views. What a predictor adds to two predictions that are compared with each other is G_e:
    with both parts it is SimSiam's negative cosine.
    """

    def __init__(self, keep: Keep) -> None:
        super().__init__()
        self.keep = keep

    def forward(self, outputs: Outputs) -> Loss:
        predictions = [normalize(p, dim=1) for p in outputs.predictions]
        pulls = [
            self._pull(predictions[j].detach(), normalize(target, dim=1).detach())
            for j, target in enumerate(outputs.targets)
        ]
        cosines = [
            (p * pull).sum(1).mean()
            for i, p in enumerate(predictions)
            for j, pull in enumerate(pulls)
            if i != j
        ]
        return Loss.of(predictor_gradient=-torch.stack(cosines).mean())

    def _pull(self, p: Float[Tensor, "n d"], z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        extra = z - p
        return p + kept_part(extra, all_reduce(extra.mean(0)) / world_size(), self.keep)


class NegativeGradientObjective(Objective):
    """``-P_a·sg(Z_b + kept part of G_e)``, ``G_e = -Z_n``, all of length 1 (Zhang et al. 2022).

    A triplet without a margin: the anchor P_a is a prediction, the positive Z_b the target of its
    other view, the negative Z_n in that view the image with the next larger index in the global
    batch (for the one with the largest: the smallest). The mean over anchors and ordered pairs of
    views.
    """

    def __init__(self, keep: Keep) -> None:
        super().__init__()
        self.keep = keep

    def forward(self, outputs: Outputs) -> Loss:
        predictions, targets = unit_batch(outputs)
        order = in_index_order(outputs.indices, predictions[0])
        pulls = [self._pull(target.detach(), order) for target in targets]
        losses = [
            -(p * pull).sum(1).mean()
            for i, p in enumerate(predictions)
            for j, pull in enumerate(pulls)
            if i != j
        ]
        return Loss.of(negative_gradient=torch.stack(losses).mean())

    def _pull(self, z: Float[Tensor, "n d"], order: Tensor) -> Float[Tensor, "n d"]:
        extra = torch.empty_like(z)
        extra[order] = -z[order.roll(-1)]
        return z + kept_part(extra, extra.mean(0), self.keep)

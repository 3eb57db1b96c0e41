"""Alignment of positives and uniformity on the sphere."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fullrank.models.collectives import gather
from fullrank.models.objectives.global_batch import without_diagonal
from fullrank.models.objectives.objective import Loss, Objective, Outputs
from fullrank.models.settings.objectives.contrastive import AlignUniform


class AlignUniformObjective(Objective):
    """``a mean ||p - t||^alpha + u log mean exp(-t ||z_k - z_l||^2)`` (Wang and Isola 2020).

    Everything has length 1. Alignment is the mean over images and ordered pairs of views,
    uniformity over all pairs of images of the global batch, the mean over views (secs. 4.1, 4.2).
    """

    def __init__(self, settings: AlignUniform) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, outputs: Outputs) -> Loss:
        distances = [self._distance(p, t) for p, t in outputs.ordered_pairs()]
        potentials = [self._potential(gather(normalize(z, dim=1))) for z in outputs.embeddings]
        return Loss.of(
            alignment=self.settings.alignment * torch.stack(distances).mean(),
            uniformity=self.settings.uniformity * torch.stack(potentials).mean(),
        )

    def _distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        squared = (normalize(prediction, dim=1) - normalize(target, dim=1)).square().sum(dim=1)
        if self.settings.alpha == 2:
            return squared.mean()
        # The root has no derivative at 0, where equal views lie.
        smallest = torch.finfo(squared.dtype).tiny
        return squared.clamp_min(smallest).pow(self.settings.alpha / 2).mean()

    def _potential(self, z: Float[Tensor, "n d"]) -> Tensor:
        """Return the logarithm of the mean Gaussian potential of all pairs of rows."""
        n = len(z)
        logits = -2 * self.settings.t * (1 - z @ z.T)  # ||a - b||^2 = 2 - 2 a·b
        pairs = without_diagonal(logits, -torch.inf).flatten()
        return pairs.logsumexp(dim=0) - math.log(n * (n - 1))

"""Alignment, and a centre that is held at the origin."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from fullrank.models.collectives import all_reduce, world_size
from fullrank.models.objectives.objective import Loss, Objective, Outputs


class CentrePenaltyObjective(Objective):
    """``-mean cos(p_i, t_j) + penalty ||mean z / |z| ||^2`` (Jha et al. 2024).

    The first term is the mean over images and ordered pairs of views; the centre of the second
    is that of all views of the global batch. Only the first moment is held: two antipodal points
    satisfy it, so that it prevents complete collapse, not dimensional collapse.
    """

    def __init__(self, penalty: float) -> None:
        super().__init__()
        self.penalty = penalty

    def forward(self, outputs: Outputs) -> Loss:
        cosines = [cosine_similarity(p, t, dim=1).mean() for p, t in outputs.ordered_pairs()]
        return Loss.of(
            alignment=-torch.stack(cosines).mean(),
            centre=self.penalty * self._centre(outputs.embeddings).square().sum(),
        )

    def _centre(self, embeddings: list[Tensor]) -> Tensor:
        """Return the mean unit vector of the global batch, ``(d,)``."""
        means = [normalize(z, dim=1).mean(dim=0) for z in embeddings]
        return all_reduce(torch.stack(means).mean(dim=0)) / world_size()

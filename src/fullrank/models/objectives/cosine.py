"""Objectives that compare directions: SimSiam's and BYOL's."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from fullrank.models.objectives.objective import Loss, Objective, Outputs


def _cosines(outputs: Outputs) -> Float[Tensor, " pairs"]:
    """Return the mean cosine of every ordered pair of views."""
    return torch.stack([cosine_similarity(p, t, dim=1).mean() for p, t in outputs.ordered_pairs()])


class CosineObjective(Objective):
    """``-cos(p_i, t_j)``, mean over images and ordered pairs (Chen and He 2021, Eqs. 1-4)."""

    def forward(self, outputs: Outputs) -> Loss:
        return Loss.of(cosine=-_cosines(outputs).mean())


class NormalisedMSEObjective(Objective):
    """``2 - 2 cos(p_i, t_j)``, mean over images, sum over pairs (Grill et al. 2020, Eq. 2)."""

    def forward(self, outputs: Outputs) -> Loss:
        return Loss.of(distance=(2 - 2 * _cosines(outputs)).sum())

"""SymSimSiam's objective."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fullrank.models.collectives import all_reduce, world_size
from fullrank.models.objectives.objective import Loss, Objective, Outputs


class CentredCosineObjective(Objective):
    """``-(u_i - mean u)·(v_j - mean v)``, mean over images and ordered pairs of views.

    u and v are predictions and targets of length 1 (Zhuo et al. 2023, sec. 3). Without a predictor
    and with the same views on both sides it is ``|mean u|² - mean u_i·u_j``: alignment with a
    penalty on the centre. The centre's gradient flows, and gives what a constant centre gives.
    """

    def forward(self, outputs: Outputs) -> Loss:
        unit = Outputs(
            features=outputs.features,
            embeddings=outputs.embeddings,
            predictions=_centred(outputs.predictions),
            targets=_centred(outputs.targets),
        )
        products = [(u * v).sum(1).mean() for u, v in unit.ordered_pairs()]
        return Loss.of(centred_cosine=-torch.stack(products).mean())


def _centred(views: list[Tensor]) -> list[Float[Tensor, "n d"]]:
    """Return directions minus their mean over all views of the global batch."""
    directions = [normalize(z, dim=1) for z in views]
    local = torch.stack([u.mean(0) for u in directions]).mean(0)
    centre = all_reduce(local) / world_size()
    return [u - centre for u in directions]

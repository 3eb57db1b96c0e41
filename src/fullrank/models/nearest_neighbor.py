"""A target that is another image: the nearest one remembered."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fullrank.models.collectives import gather
from fullrank.models.queue import Queue
from fullrank.models.targets import Target


class NearestNeighborTarget(Target):
    """The row of a support set with the largest cosine (Dwibedi et al. 2021, Eq. 4).

    The support set holds the latest embeddings of the first view, without gradient; it is
    searched before those of the batch enter. Its rows have length 1.

    Args:
        support: how many embeddings it holds.
        dim: of the embedding.
    """

    def __init__(self, support: int, dim: int) -> None:
        super().__init__()
        self.support = Queue(support, dim)

    @torch.no_grad()
    def forward(
        self, views: list[Tensor], embeddings: list[Float[Tensor, "n d"]]
    ) -> list[Float[Tensor, "n d"]]:
        rows = self.support.rows
        # Which row is nearest shall not depend on the precision that the network runs in.
        with torch.autocast(rows.device.type, enabled=False):
            unit = [normalize(z.to(rows.dtype), dim=1) for z in embeddings]
            nearest = [rows[(z @ rows.T).argmax(dim=1)] for z in unit]
            if self.training:
                self.support.will_remember(gather(unit[0]))
        return nearest

    def after_step(self, step: int, total_steps: int) -> None:
        """Let the embeddings of the batch into the support set."""
        self.support.commit()

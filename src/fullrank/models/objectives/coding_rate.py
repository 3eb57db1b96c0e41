"""SimDINO's objective."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fullrank.models.collectives import gather
from fullrank.models.objectives.objective import Loss, Objective, Outputs
from fullrank.models.settings.objectives.volume import CodingRate


class CodingRateObjective(Objective):
    """``||u_i - v_j||²/2 - gamma R(U_i)`` (Wu et al. 2025).

    u and v are the L2-normalised predictions and targets, the distance a mean over images and
    ordered pairs of views; ``R(U) = log det(I + d/(n epsilon) U'U)/2`` is the coding rate of the
    n embeddings of a view of the global batch in d dimensions, the mean over the views that have
    targets, and ``gamma = (d + n)/(d n)`` keeps it between 0 and about 1 whatever n and d are.
    """

    def __init__(self, settings: CodingRate) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, outputs: Outputs) -> Loss:
        distances = [
            (normalize(p, dim=1) - normalize(t, dim=1)).square().sum(dim=1).mean() / 2
            for p, t in outputs.ordered_pairs()
        ]
        # Small crops have no targets, and none of their rates counts.
        features = [normalize(z, dim=1) for z in outputs.embeddings[: len(outputs.targets)]]
        if self.settings.features == "mean":
            targets = [normalize(t, dim=1) for t in outputs.targets]
            features = [(u + v) / 2 for u, v in zip(features, targets, strict=True)]
        gathered = [gather(u) for u in features]
        n, d = gathered[0].shape
        gamma = self.settings.rate * (d + n) / (d * n)
        rates = [coding_rate(u, self.settings.epsilon) for u in gathered]
        return Loss.of(
            distance=torch.stack(distances).mean(), coding_rate=-gamma * torch.stack(rates).mean()
        )


def coding_rate(rows: Float[Tensor, "n d"], epsilon: float) -> Float[Tensor, ""]:
    """Return ``log det(I + d/(n epsilon) rows' rows)/2``, by the smaller Gram matrix."""
    n, d = rows.shape
    gram = rows.T @ rows if d <= n else rows @ rows.T
    identity = torch.eye(len(gram), dtype=rows.dtype, device=rows.device)
    # The factor of a positive definite matrix always exists; its diagonal holds half the log.
    factor, _ = torch.linalg.cholesky_ex(identity + d / (n * epsilon) * gram)
    return factor.diagonal().log().sum()

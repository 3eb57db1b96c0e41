"""IsoLoss: distances whose gradient the predictor does not scale."""

from __future__ import annotations

import torch
from torch import Tensor

from fullrank.models.objectives.objective import Loss, Objective, Outputs


class IsotropicEuclidean(Objective):
    """``||z_i - sg(z_i - p_i) - t_j||²``, mean over images, sum over both orders of a pair.

    Its value is ``||p_i - t_j||²``; its gradient is that of the distance without the leading W_p
    (Halvagal et al. 2023). With more than two views, twice the mean over ordered pairs.
    """

    def forward(self, outputs: Outputs) -> Loss:
        distances = []
        for z, p, t in _triples(outputs):
            moved = z - (z - p).detach()  # p in value, z in gradient
            distances.append((moved - t).square().sum(1).mean())
        return Loss.of(distance=2 * torch.stack(distances).mean())


class IsotropicCosine(Objective):
    """``-2 z_i·t_j / sg(|p_i||t_j|) + sg(p_i·t_j / (|p_i|³|t_j|)) z_i·p_i``, summed likewise.

    ``z·p = |W_p^(1/2) z|²`` for a symmetric W_p, whose gradient is ``2 W_p z``: together the
    gradient of ``2 - 2 cos(p_i, t_j)`` without the leading W_p (Halvagal et al. 2023).
    """

    def forward(self, outputs: Outputs) -> Loss:
        losses = []
        for z, p, t in _triples(outputs):
            length = p.norm(dim=1).clamp(min=torch.finfo(p.dtype).tiny).detach()
            other = t.norm(dim=1).clamp(min=torch.finfo(t.dtype).tiny).detach()
            cosine = ((p * t).sum(1) / (length * other)).detach()
            pull = (z * t).sum(1) / (length * other)
            losses.append((cosine / length.square() * (z * p).sum(1) - 2 * pull).mean())
        return Loss.of(distance=2 * torch.stack(losses).mean())


def _triples(outputs: Outputs) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return embedding and prediction of view i and target of view j for all i ≠ j."""
    return [
        (z, p, t)
        for i, (z, p) in enumerate(zip(outputs.embeddings, outputs.predictions, strict=True))
        for j, t in enumerate(outputs.targets)
        if i != j
    ]

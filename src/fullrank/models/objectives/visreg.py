"""VISReg's objective."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.models.collectives import gather
from fullrank.models.objectives.multiview import distance_from_centre
from fullrank.models.objectives.objective import Loss, Outputs
from fullrank.models.objectives.stepped import Stepped
from fullrank.models.settings.objectives.distribution import VISReg


class VISRegObjective(Stepped):
    """``(1 - lambda) distance + lambda (scale + shape + centre)`` (Wu et al. 2026).

    With mean m and standard deviation s of each dimension over the global batch: scale is the mean
    of ``(1 - s)²`` (Eq. 1), centre that of ``m²`` (Eq. 6). Shape is the mean squared difference of
    the sorted ``(z - m)/s`` along a direction, s a constant (Eq. 2), and the normal quantiles
    ``Phi^-1(i/(n + 1))``, the mean over directions drawn anew at every step (Eq. 5). All are means
    over views. Sorting makes it n log n in the batch.
    """

    def __init__(self, settings: VISReg) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, outputs: Outputs) -> Loss:
        settings, share = self.settings, self.settings.weight
        directions = self.random_directions(settings.directions, outputs.embeddings[0])
        found = [self._terms(gather(z), directions) for z in outputs.embeddings]
        scale, shape, centre = (torch.stack(term).mean() for term in zip(*found, strict=True))
        return Loss.of(
            distance=(1 - share) * distance_from_centre(outputs),
            scale=share * settings.scale * scale,
            shape=share * settings.shape * shape,
            centre=share * settings.centre * centre,
        )

    @staticmethod
    def _terms(
        z: Float[Tensor, "n d"], directions: Float[Tensor, "d k"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return scale, shape and centre of one view."""
        n = z.shape[0]
        mean = z.mean(dim=0)
        centred = z - mean
        std = torch.linalg.vector_norm(centred, dim=0) / n**0.5
        shapes = centred / std.detach().clamp_min(1e-6)
        places = torch.arange(1, n + 1, dtype=z.dtype, device=z.device) / (n + 1)
        ordered = (shapes @ directions).sort(dim=0).values
        shape = (ordered - torch.special.ndtri(places).unsqueeze(1)).square().mean()
        return (1 - std).square().mean(), shape, mean.square().mean()

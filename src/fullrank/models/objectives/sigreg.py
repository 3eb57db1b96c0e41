"""LeJEPA's objective."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.models.collectives import all_reduce, world_size
from fullrank.models.objectives.multiview import distance_from_centre
from fullrank.models.objectives.objective import Loss, Outputs
from fullrank.models.objectives.stepped import Stepped
from fullrank.models.settings.objectives.distribution import SIGReg


class SIGRegObjective(Stepped):
    """``(1 - lambda) distance + lambda T`` (Balestriero and LeCun 2025).

    T is the Epps-Pulley statistic ``n ∫ |phi(t) - exp(-t²/2)|² exp(-t²/2) dt``, where phi is the
    characteristic function of the n embeddings of the global batch along one direction; the mean
    over directions, drawn anew at every step, and over views. Linear in n, d and the directions.

    The gradient of T vanishes at a collapse to one point (at 0 exactly, by symmetry), and T cannot
    tell one direction of the embedding from another beyond the directions it draws.
    """

    knots: Float[Tensor, " t"]
    widths: Float[Tensor, " t"]

    def __init__(self, settings: SIGReg) -> None:
        super().__init__()
        self.settings = settings
        knots, widths = settings.quadrature()
        self.register_buffer("knots", torch.tensor(knots), persistent=False)
        self.register_buffer("widths", torch.tensor(widths), persistent=False)

    def forward(self, outputs: Outputs) -> Loss:
        share = self.settings.weight
        directions = self.random_directions(self.settings.directions, outputs.embeddings[0])
        statistics = [self.statistic(z @ directions) for z in outputs.embeddings]
        return Loss.of(
            distance=(1 - share) * distance_from_centre(outputs),
            sigreg=share * torch.stack(statistics).mean(),
        )

    def statistic(self, projected: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
        """Return the mean over directions of the statistic of the global batch.

        Args:
            projected: this process's embeddings along each direction.
        """
        n = projected.shape[0] * world_size()
        knots = self.knots.to(projected.dtype)
        normal = torch.exp(-knots.square() / 2)
        angles = projected.unsqueeze(-1) * knots
        sums = torch.stack([angles.cos().sum(dim=0), angles.sin().sum(dim=0)])
        real, imaginary = all_reduce(sums) / n
        error = (real - normal).square() + imaginary.square()
        return n * (error @ (self.widths.to(projected.dtype) * normal)).mean()

"""TiCo's objective."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fullrank.models.collectives import all_reduce, world_size
from fullrank.models.objectives.objective import Loss, Objective, Outputs


class CovarianceContrastObjective(Objective):
    """``1 - cos(p_i, t_j) + rho mean_k u_k' C u_k`` (Zhu et al. 2022).

    u are the L2-normalised embeddings, ``C <- beta C + (1 - beta) mean_k u_k u_k'`` an average of
    their second moment over the steps, the present batch included; a constant for the gradient. C
    starts at 0. The means are over images of the global batch and over (ordered pairs of) views.
    """

    second_moment: Float[Tensor, "d d"]

    def __init__(self, rho: float, beta: float, dim: int) -> None:
        super().__init__()
        self.rho, self.beta = rho, beta
        self.register_buffer("second_moment", torch.zeros(dim, dim))
        self._next: Tensor | None = None

    def forward(self, outputs: Outputs) -> Loss:
        units = torch.cat([normalize(z, dim=1) for z in outputs.embeddings])
        moment = self._with(units.detach())
        if self.training:
            self._next = moment
        cosines = [
            (normalize(p, dim=1) * normalize(t, dim=1)).sum(dim=1).mean()
            for p, t in outputs.ordered_pairs()
        ]
        return Loss.of(
            invariance=1 - torch.stack(cosines).mean(),
            covariance=self.rho * ((units @ moment) * units).sum(dim=1).mean(),
        )

    def _with(self, units: Float[Tensor, "m d"]) -> Float[Tensor, "d d"]:
        """Return the average with the batch, of which ``units`` are this process's rows."""
        batch = all_reduce(units.T @ units) / (units.shape[0] * world_size())
        return self.beta * self.second_moment.to(units.dtype) + (1 - self.beta) * batch

    @torch.no_grad()
    def after_step(self, step: int, total_steps: int) -> None:
        """Take the batch of the step into the average."""
        if self._next is not None:
            self.second_moment.copy_(self._next)
            self._next = None

"""VICReg's objective."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

from fullrank.models.collectives import gather
from fullrank.models.objectives.objective import Loss, Objective, Outputs
from fullrank.models.settings.objectives.redundancy import VarianceCovariance


class VarianceCovarianceObjective(Objective):
    """``invariance s + variance v + covariance c`` (Bardes et al. 2022, Eqs. 1-6).

    s is the mean squared difference of prediction and target over ordered pairs of views; v the
    mean over dimensions and views of ``relu(gamma - sqrt(var + epsilon))``; c the sum over views
    of the squared off-diagonal covariances over d. Variance and covariance are those of the
    embeddings of the global batch, unbiased.
    """

    def __init__(self, settings: VarianceCovariance) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, outputs: Outputs) -> Loss:
        settings = self.settings
        distances = [mse_loss(p, t) for p, t in outputs.ordered_pairs()]
        moments = [self._spread(gather(z)) for z in outputs.embeddings]
        return Loss.of(
            invariance=settings.invariance * torch.stack(distances).mean(),
            variance=settings.variance * torch.stack([v for v, _ in moments]).mean(),
            covariance=settings.covariance * torch.stack([c for _, c in moments]).sum(),
        )

    def _spread(self, z: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor]:
        """Return the variance hinge and the covariance penalty of one view."""
        n, d = z.shape
        centred = z - z.mean(dim=0)
        covariance = centred.T @ centred / (n - 1)
        variances = covariance.diagonal()
        hinge = torch.relu(self.settings.gamma - (variances + self.settings.epsilon).sqrt()).mean()
        off_diagonal = covariance.square().sum() - variances.square().sum()
        return hinge, off_diagonal / d

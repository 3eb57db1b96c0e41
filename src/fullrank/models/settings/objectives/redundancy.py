"""Objectives that spread the dimensions of an embedding and decorrelate them."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fullrank.models.settings.objective import ObjectivePart

if TYPE_CHECKING:
    from fullrank.models.objectives.objective import Objective


@dataclass(frozen=True)
class VarianceCovariance(ObjectivePart):
    """Invariance, variance hinge and covariance penalty (Bardes et al. 2022, Eqs. 1-6).

    Args:
        invariance: weight of the squared distance.
        variance: weight of the hinge on each dimension's standard deviation.
        covariance: weight of the squared off-diagonal covariances.
        gamma: standard deviation that the hinge asks for.
        epsilon: added to the variance under the root.
    """

    kind: ClassVar[str] = "variance-covariance"
    couples: ClassVar[bool] = True

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    gamma: float = 1.0
    epsilon: float = 1e-4

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.variance_covariance import VarianceCovarianceObjective

        return VarianceCovarianceObjective(self)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return self.variance * max(0.0, self.gamma - math.sqrt(self.epsilon))

    def describe(self) -> str:
        return f"VICReg {self.invariance:g}/{self.variance:g}/{self.covariance:g}"


@dataclass(frozen=True)
class CrossCorrelation(ObjectivePart):
    """Distance of the views' cross-correlation matrix from the identity (Zbontar et al. 2021).

    Args:
        off_diagonal: weight lambda of the redundancy-reduction term (Eq. 1).
    """

    kind: ClassVar[str] = "cross-correlation"
    couples: ClassVar[bool] = True

    off_diagonal: float = 0.0051

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.cross_correlation import CrossCorrelationObjective

        return CrossCorrelationObjective(self.off_diagonal)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return float(dim)

    def describe(self) -> str:
        return f"cross-correlation, λ = {self.off_diagonal:g}"


PARTS: tuple[type[ObjectivePart], ...] = (VarianceCovariance, CrossCorrelation)

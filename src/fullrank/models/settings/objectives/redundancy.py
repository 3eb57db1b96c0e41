"""Objectives that spread the dimensions of an embedding and decorrelate them."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fullrank.models.settings.objective import ObjectivePart
from fullrank.models.settings.part import require

if TYPE_CHECKING:
    from fullrank.models.objectives.objective import Objective


@dataclass(frozen=True)
class VarianceCovariance(ObjectivePart):
    """Invariance, variance hinge and covariance penalty (Bardes et al. 2022, Eqs. 1-6).

    A weight of 0 takes its term out.

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

    def __post_init__(self) -> None:
        for name in ("invariance", "variance", "covariance"):
            weight = getattr(self, name)
            require(weight >= 0, f"recipe.objective.{name}", weight, "a weight of 0 or more")
        require(self.gamma > 0, "recipe.objective.gamma", self.gamma, "above 0")
        require(self.epsilon > 0, "recipe.objective.epsilon", self.epsilon, "above 0")

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

    def __post_init__(self) -> None:
        require(
            self.off_diagonal >= 0,
            "recipe.objective.off_diagonal",
            self.off_diagonal,
            "a weight of 0 or more",
        )

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.cross_correlation import CrossCorrelationObjective

        return CrossCorrelationObjective(self.off_diagonal)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return float(dim)

    def describe(self) -> str:
        return f"cross-correlation, λ = {self.off_diagonal:g}"


@dataclass(frozen=True)
class CovarianceContrast(ObjectivePart):
    """Cosine of the views, and the second moment along each embedding (TiCo, Zhu et al. 2022).

    Args:
        rho: weight of the covariance contrast.
        beta: share of the old second moment that each step keeps.
    """

    kind: ClassVar[str] = "covariance-contrast"
    couples: ClassVar[bool] = True

    rho: float = 8.0
    beta: float = 0.9

    def __post_init__(self) -> None:
        require(self.rho >= 0, "recipe.objective.rho", self.rho, "a weight of 0 or more")
        require(0 <= self.beta < 1, "recipe.objective.beta", self.beta, "a share in [0, 1)")

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.covariance_contrast import CovarianceContrastObjective

        return CovarianceContrastObjective(self.rho, self.beta, dim)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return self.rho

    def describe(self) -> str:
        return f"covariance contrast, ρ = {self.rho:g}, β = {self.beta:g}"


@dataclass(frozen=True)
class FrobeniusEntropy(ObjectivePart):
    """Distance of the views, and the Frobenius norm of each view's correlation (Skean et al. 2024).

    Args:
        frobenius: weight of the logarithm of the squared Frobenius norm.
        invariance: weight lambda of the squared distance.
    """

    kind: ClassVar[str] = "frobenius"
    couples: ClassVar[bool] = True

    frobenius: float = 1.0
    invariance: float = 1.0

    def __post_init__(self) -> None:
        for name in ("frobenius", "invariance"):
            weight = getattr(self, name)
            require(weight >= 0, f"recipe.objective.{name}", weight, "a weight of 0 or more")

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.frobenius import FrobeniusObjective

        return FrobeniusObjective(self.frobenius, self.invariance)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return 0.0

    def describe(self) -> str:
        return f"log Frobenius norm, λ = {self.invariance:g}"


PARTS: tuple[type[ObjectivePart], ...] = (
    VarianceCovariance,
    CrossCorrelation,
    CovarianceContrast,
    FrobeniusEntropy,
)

"""How predictions and targets are compared, and what spreads them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fullrank.models.settings.part import Part, require

if TYPE_CHECKING:  # quoted below: whoever reads the settings' types need not import torch
    from fullrank.models.objectives.objective import Objective


@dataclass(frozen=True)
class ObjectivePart(Part, ABC):
    """Settings of an objective; ``couples`` says whether it compares the images of a batch."""

    couples: ClassVar[bool] = False

    @abstractmethod
    def build(self) -> "Objective":
        """Return the module that computes the loss."""

    @abstractmethod
    def collapsed_loss(self, dim: int, batch_size: int) -> float:
        """Return the loss of a constant non-zero embedding.

        Args:
            dim: dimension d of the embedding.
            batch_size: images in the global batch.
        """


@dataclass(frozen=True)
class Cosine(ObjectivePart):
    """Negative cosine of prediction and target, averaged over ordered pairs of views.

    Chen and He 2021, Eqs. 1-4: L = D(p1, z2)/2 + D(p2, z1)/2 with D = -cos.
    """

    kind: ClassVar[str] = "cosine"

    def build(self) -> "Objective":
        from fullrank.models.objectives.cosine import CosineObjective

        return CosineObjective()

    def collapsed_loss(self, dim: int, batch_size: int) -> float:
        return -1.0


@dataclass(frozen=True)
class NormalisedMSE(ObjectivePart):
    """Squared distance of L2-normalised prediction and target, summed over ordered pairs.

    Grill et al. 2020, Eq. 2: ``2 - 2 cos``, symmetrised by the sum of both orders.
    """

    kind: ClassVar[str] = "normalised-mse"

    def build(self) -> "Objective":
        from fullrank.models.objectives.cosine import NormalisedMSEObjective

        return NormalisedMSEObjective()

    def collapsed_loss(self, dim: int, batch_size: int) -> float:
        return 0.0


@dataclass(frozen=True)
class NTXent(ObjectivePart):
    """Normalised-temperature cross-entropy over the global batch (Chen et al. 2020, Eq. 1).

    Args:
        temperature: divides the cosines.
    """

    kind: ClassVar[str] = "nt-xent"
    couples: ClassVar[bool] = True

    temperature: float = 0.1

    def __post_init__(self) -> None:
        require(self.temperature > 0, "recipe.objective.temperature", self.temperature, "above 0")

    def build(self) -> "Objective":
        from fullrank.models.objectives.nt_xent import NTXentObjective

        return NTXentObjective(self.temperature)

    def collapsed_loss(self, dim: int, batch_size: int) -> float:
        return math.log(2 * batch_size - 1)

    def describe(self) -> str:
        return f"NT-Xent, temperature {self.temperature:g}"


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

    def build(self) -> "Objective":
        from fullrank.models.objectives.variance_covariance import VarianceCovarianceObjective

        return VarianceCovarianceObjective(self)

    def collapsed_loss(self, dim: int, batch_size: int) -> float:
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

    def build(self) -> "Objective":
        from fullrank.models.objectives.cross_correlation import CrossCorrelationObjective

        return CrossCorrelationObjective(self.off_diagonal)

    def collapsed_loss(self, dim: int, batch_size: int) -> float:
        return float(dim)

    def describe(self) -> str:
        return f"cross-correlation, λ = {self.off_diagonal:g}"


OBJECTIVES: Mapping[str, type[ObjectivePart]] = {
    part.kind: part
    for part in (Cosine, NormalisedMSE, NTXent, VarianceCovariance, CrossCorrelation)
}

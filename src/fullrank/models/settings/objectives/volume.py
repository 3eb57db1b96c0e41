"""Objectives that make the embeddings of a batch fill as large a volume as they can."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fullrank.models.settings.objective import ObjectivePart
from fullrank.models.settings.part import require

if TYPE_CHECKING:
    from fullrank.models.objectives.objective import Objective


@dataclass(frozen=True)
class NuclearNorm(ObjectivePart):
    """Nuclear norm of the images' centroids (MMCR, Yerxa et al. 2023).

    The term ``lambda / n sum_i ||Z_i||_*`` over the views of each image, whose weight is 0 in all
    published runs, is left out.
    """

    kind: ClassVar[str] = "nuclear-norm"
    couples: ClassVar[bool] = True

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.nuclear_norm import NuclearNormObjective

        return NuclearNormObjective()

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return -math.sqrt(batch_size)  # n equal unit rows have one singular value, of √n

    def describe(self) -> str:
        return "nuclear norm of centroids"


@dataclass(frozen=True)
class CodingRate(ObjectivePart):
    """Cosine of the views, and the coding rate of each view (SimDINO, Wu et al. 2025).

    Args:
        rate: factor on the weight gamma of the coding rate, which is (d + n)/(d n) for n images
            in d dimensions.
        epsilon: precision to which the rate counts.
        features: whose rate: the ``online`` embeddings', or those of the ``mean`` of online
            embedding and target.
    """

    kind: ClassVar[str] = "coding-rate"
    couples: ClassVar[bool] = True

    rate: float = 1.0
    epsilon: float = 0.5
    features: Literal["online", "mean"] = "online"

    def __post_init__(self) -> None:
        require(self.rate >= 0, "recipe.objective.rate", self.rate, "a factor of 0 or more")
        require(self.epsilon > 0, "recipe.objective.epsilon", self.epsilon, "above 0")

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.coding_rate import CodingRateObjective

        return CodingRateObjective(self)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        gamma = self.rate * (dim + batch_size) / (dim * batch_size)
        return -gamma * math.log1p(dim / self.epsilon) / 2  # one eigenvalue, of n

    def describe(self) -> str:
        return f"coding rate, ε = {self.epsilon:g}"


PARTS: tuple[type[ObjectivePart], ...] = (NuclearNorm, CodingRate)

"""Objectives that hold the centre of the embedding still."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fullrank.models.settings.objective import ObjectivePart
from fullrank.models.settings.part import require

if TYPE_CHECKING:
    from fullrank.models.objectives.objective import Objective


@dataclass(frozen=True)
class CentrePenalty(ObjectivePart):
    """Alignment of views and a penalty on the embedding's centre (Jha et al. 2024).

    Args:
        penalty: weight lambda of the squared length of the mean unit vector.
    """

    kind: ClassVar[str] = "centre-penalty"
    couples: ClassVar[bool] = True

    penalty: float = 1.0

    def __post_init__(self) -> None:
        require(self.penalty >= 0, "recipe.objective.penalty", self.penalty, "0 or more")

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.centre_penalty import CentrePenaltyObjective

        return CentrePenaltyObjective(self.penalty)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return self.penalty - 1.0

    def describe(self) -> str:
        return f"alignment and centre penalty, λ = {self.penalty:g}"


PARTS: tuple[type[ObjectivePart], ...] = (CentrePenalty,)

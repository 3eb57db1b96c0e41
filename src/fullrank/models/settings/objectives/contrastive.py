"""Objectives that tell an image from other images."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fullrank.models.settings.objective import ObjectivePart
from fullrank.models.settings.part import require

if TYPE_CHECKING:
    from fullrank.models.objectives.objective import Objective


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

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.nt_xent import NTXentObjective

        return NTXentObjective(self.temperature)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return math.log(2 * batch_size - 1)

    def describe(self) -> str:
        return f"NT-Xent, temperature {self.temperature:g}"


PARTS: tuple[type[ObjectivePart], ...] = (NTXent,)

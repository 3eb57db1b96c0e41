"""Objectives that compare directions."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fullrank.models.settings.objective import ObjectivePart

if TYPE_CHECKING:
    from fullrank.models.objectives.objective import Objective


@dataclass(frozen=True)
class Cosine(ObjectivePart):
    """Negative cosine of prediction and target, averaged over ordered pairs of views.

    Chen and He 2021, Eqs. 1-4: L = D(p1, z2)/2 + D(p2, z1)/2 with D = -cos.
    """

    kind: ClassVar[str] = "cosine"

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.cosine import CosineObjective

        return CosineObjective()

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return -1.0


@dataclass(frozen=True)
class NormalisedMSE(ObjectivePart):
    """Squared distance of L2-normalised prediction and target, summed over ordered pairs.

    Grill et al. 2020, Eq. 2: ``2 - 2 cos``, symmetrised by the sum of both orders.
    """

    kind: ClassVar[str] = "normalised-mse"

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.cosine import NormalisedMSEObjective

        return NormalisedMSEObjective()

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return 0.0


PARTS: tuple[type[ObjectivePart], ...] = (Cosine, NormalisedMSE)

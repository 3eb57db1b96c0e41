"""Objectives that compare directions."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

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


@dataclass(frozen=True)
class Isotropic(ObjectivePart):
    """Distance of prediction and target that the predictor does not scale the gradient of.

    IsoLoss (Halvagal et al. 2023): as ``distance``, but the gradient with respect to z lacks the
    factor W_p of a symmetric linear predictor, so that all its eigenmodes learn at one rate.
    ``cosine`` is for :class:`NormalisedMSE`, ``euclidean`` for the squared distance.
    """

    kind: ClassVar[str] = "isotropic"

    distance: Literal["cosine", "euclidean"] = "cosine"

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.isotropic import IsotropicCosine, IsotropicEuclidean

        return IsotropicCosine() if self.distance == "cosine" else IsotropicEuclidean()

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        # The cosine's holds for p = z, which a predictor of largest eigenvalue 1 comes to.
        return -2.0 if self.distance == "cosine" else 0.0

    def describe(self) -> str:
        return f"isotropic {self.distance}"


@dataclass(frozen=True)
class CentredCosine(ObjectivePart):
    """Negative inner product of centred directions: SymSimSiam (Zhuo et al. 2023, sec. 3).

    ``-(u_i - mean u)'(v_j - mean v)`` over ordered pairs of views, u and v predictions and targets
    of length 1, means over all views of the global batch.
    """

    kind: ClassVar[str] = "centred-cosine"
    couples: ClassVar[bool] = True

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.centred_cosine import CentredCosineObjective

        return CentredCosineObjective()

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return 0.0


PARTS: tuple[type[ObjectivePart], ...] = (Cosine, NormalisedMSE, Isotropic, CentredCosine)

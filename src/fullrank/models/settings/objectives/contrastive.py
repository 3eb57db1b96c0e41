"""Objectives that tell an image from other images."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fullrank.models.settings.objective import ObjectivePart
from fullrank.models.settings.part import require

if TYPE_CHECKING:
    from fullrank.models.objectives.objective import Objective


def _require_temperature(temperature: float) -> None:
    require(temperature > 0, "recipe.objective.temperature", temperature, "above 0")


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
        _require_temperature(self.temperature)

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.nt_xent import NTXentObjective

        return NTXentObjective(self.temperature)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return math.log(2 * batch_size - 1)

    def describe(self) -> str:
        return f"NT-Xent, temperature {self.temperature:g}"


@dataclass(frozen=True)
class DecoupledNTXent(ObjectivePart):
    """NT-Xent without the positive in its denominator (Yeh et al. 2022, L_DC and L_DCW).

    Args:
        temperature: divides the cosines.
        sigma: of the von Mises-Fisher weights of the positives; None weighs all alike.
    """

    kind: ClassVar[str] = "decoupled-nt-xent"
    couples: ClassVar[bool] = True

    temperature: float = 0.1
    sigma: float | None = None

    def __post_init__(self) -> None:
        _require_temperature(self.temperature)
        allowed = "above 0, or None for equal weights"
        require(self.sigma is None or self.sigma > 0, "recipe.objective.sigma", self.sigma, allowed)

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.nt_xent import DecoupledNTXentObjective

        return DecoupledNTXentObjective(self.temperature, self.sigma)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return math.log(2 * (batch_size - 1))

    def describe(self) -> str:
        weights = "" if self.sigma is None else f", weights of σ = {self.sigma:g}"
        return f"decoupled NT-Xent, temperature {self.temperature:g}{weights}"


@dataclass(frozen=True)
class InfoNCE(ObjectivePart):
    """Cross-entropy over the other view of the global batch (van den Oord et al. 2018).

    Args:
        temperature: divides the cosines.
        anchor: which side is told from which: each ``prediction`` from the targets of the batch,
            or each ``target`` from the predictions (NNCLR).
        rescaled: whether to multiply by 4T (MoCo v3: 2T times the sum over both orders), so that
            the gradient does not grow as the temperature falls.
    """

    kind: ClassVar[str] = "info-nce"
    couples: ClassVar[bool] = True

    temperature: float = 0.1
    anchor: Literal["prediction", "target"] = "prediction"
    rescaled: bool = False

    def __post_init__(self) -> None:
        _require_temperature(self.temperature)

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.info_nce import InfoNCEObjective

        return InfoNCEObjective(self)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return (4 * self.temperature if self.rescaled else 1.0) * math.log(batch_size)

    def describe(self) -> str:
        return f"InfoNCE, temperature {self.temperature:g}"


@dataclass(frozen=True)
class QueueInfoNCE(ObjectivePart):
    """Cross-entropy over a queue of the targets of earlier batches (He et al. 2020, Eq. 1).

    Args:
        temperature: divides the cosines.
        queue: how many earlier targets are the negatives.
        symmetric: whether every view asks, or the first one only, as published.
    """

    kind: ClassVar[str] = "queue-info-nce"

    temperature: float = 0.2
    queue: int = 65536
    symmetric: bool = False

    def __post_init__(self) -> None:
        _require_temperature(self.temperature)
        require(self.queue >= 1, "recipe.objective.queue", self.queue, "1 or more")

    def check(self, batch_size: int, dim: int | None) -> None:
        require(
            self.queue >= batch_size,
            "recipe.objective.queue",
            self.queue,
            f"the {batch_size} images of a batch, or more",
        )

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.info_nce import QueueInfoNCEObjective

        return QueueInfoNCEObjective(self, dim)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return math.log(1 + self.queue)

    def describe(self) -> str:
        return f"InfoNCE with a queue of {self.queue}, temperature {self.temperature:g}"


@dataclass(frozen=True)
class Triplet(ObjectivePart):
    """An anchor, a positive and a negative, compared by cosines (Schroff et al. 2015).

    Args:
        margin: by how much the positive is to be nearer before the loss is zero; None never
            stops pulling.
        negatives: ``all`` averages over all other images of the batch, ``next`` takes one, the
            image with the next larger index.
    """

    kind: ClassVar[str] = "triplet"
    couples: ClassVar[bool] = True

    margin: float | None = None
    negatives: Literal["all", "next"] = "all"

    def __post_init__(self) -> None:
        allowed = "0 or more, or None for no margin"
        require(
            self.margin is None or self.margin >= 0, "recipe.objective.margin", self.margin, allowed
        )

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.triplet import TripletObjective

        return TripletObjective(self)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return self.margin or 0.0

    def describe(self) -> str:
        margin = "no margin" if self.margin is None else f"margin {self.margin:g}"
        return f"triplets, {margin}, {self.negatives} negative{'s' * (self.negatives == 'all')}"


@dataclass(frozen=True)
class AlignUniform(ObjectivePart):
    """Alignment and uniformity on the sphere (Wang and Isola 2020, secs. 4.1 and 4.2).

    Args:
        alignment: weight of the distance of positives.
        uniformity: weight of the logarithm of the mean Gaussian potential.
        alpha: power of the distance.
        t: sharpness of the potential ``exp(-t d^2)``.
    """

    kind: ClassVar[str] = "align-uniform"
    couples: ClassVar[bool] = True

    alignment: float = 1.0
    uniformity: float = 1.0
    alpha: float = 2.0
    t: float = 2.0

    def __post_init__(self) -> None:
        for name in ("alignment", "uniformity"):
            require(
                getattr(self, name) >= 0,
                f"recipe.objective.{name}",
                getattr(self, name),
                "0 or more",
            )
        for name in ("alpha", "t"):
            require(
                getattr(self, name) > 0, f"recipe.objective.{name}", getattr(self, name), "above 0"
            )

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.align_uniform import AlignUniformObjective

        return AlignUniformObjective(self)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return 0.0

    def describe(self) -> str:
        return f"{self.alignment:g} alignment + {self.uniformity:g} uniformity"


PARTS: tuple[type[ObjectivePart], ...] = (
    NTXent,
    DecoupledNTXent,
    InfoNCE,
    QueueInfoNCE,
    Triplet,
    AlignUniform,
)

"""Objectives whose extra gradient, beyond pulling the views together, is kept in parts."""

from abc import ABC
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fullrank.models.settings.objective import ObjectivePart

if TYPE_CHECKING:
    from fullrank.models.objectives.objective import Objective

Keep = Literal["none", "centre", "residual", "both"]


@dataclass(frozen=True)
class GradientPartsSettings(ObjectivePart, ABC):
    """What is kept of the extra gradient ``G_e = o_e + r_e`` (Zhang et al. 2022).

    Args:
        keep: ``centre`` o_e, the mean of G_e over the global batch; ``residual`` r_e, the rest;
            ``both``; or ``none``, so that the views are only pulled together.
    """

    couples: ClassVar[bool] = True

    keep: Keep = "both"


@dataclass(frozen=True)
class PredictorGradient(GradientPartsSettings):
    """Negative cosine to a constant target: its part of the prediction, and more (Zhang et al.).

    The target is Z_b = P_b + G_e for the prediction P_a of the other view, all of length 1:
    ``both`` is the negative cosine behind a stop-gradient, ``none`` compares two predictions.

    Args:
        keep: which part of G_e = Z_b - P_b = o_e + r_e stays.
    """

    kind: ClassVar[str] = "predictor-gradient"

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.gradient_parts import PredictorGradientObjective

        return PredictorGradientObjective(self.keep)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return -1.0  # with P = Z, where nothing is left of G_e

    def describe(self) -> str:
        return f"negative cosine, of the predictor's gradient: {self.keep}"


@dataclass(frozen=True)
class NegativeGradient(GradientPartsSettings):
    """A triplet whose positive and negative are constants, without a margin (Zhang et al. 2022).

    The anchor is pulled to Z_b + G_e with G_e = -Z_n, Z_n the image with the next larger index in
    the batch, all of length 1.

    Args:
        keep: which part of G_e = -Z_n = o_e + r_e stays.
    """

    kind: ClassVar[str] = "negative-gradient"

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.gradient_parts import NegativeGradientObjective

        return NegativeGradientObjective(self.keep)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        # A constant has no residual, and its centre is all of it.
        return 0.0 if self.keep in ("centre", "both") else -1.0

    def describe(self) -> str:
        return f"triplets without a margin, of the negative's gradient: {self.keep}"


PARTS: tuple[type[ObjectivePart], ...] = (PredictorGradient, NegativeGradient)

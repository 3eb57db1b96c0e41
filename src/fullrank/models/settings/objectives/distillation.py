"""Objectives by which a student learns from its own average."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fullrank.models.settings.objective import ObjectivePart
from fullrank.models.settings.part import require

if TYPE_CHECKING:
    from fullrank.models.objectives.objective import Objective


@dataclass(frozen=True)
class SelfDistillation(ObjectivePart):
    """Cross-entropy of the prediction with a centred and sharpened target (DINO).

    Caron et al. 2021, Eqs. 1 to 4.

    Args:
        student_temperature: divides predictions.
        teacher_temperature: divides targets; below the student's it sharpens them.
        first_teacher_temperature: at the first step, from which it rises linearly.
        teacher_warmup: share of the run's steps in which it rises.
        centring: whether the targets' running mean is subtracted from them.
        centre_momentum: share of the old mean kept at each step.
    """

    kind: ClassVar[str] = "self-distillation"
    collapsed_at: ClassVar[Literal["any", "zero"]] = "zero"

    student_temperature: float = 0.1
    teacher_temperature: float = 0.07
    first_teacher_temperature: float = 0.04
    teacher_warmup: float = 0.1
    centring: bool = True
    centre_momentum: float = 0.9

    def __post_init__(self) -> None:
        for name in ("student_temperature", "teacher_temperature", "first_teacher_temperature"):
            value = getattr(self, name)
            require(value > 0, f"recipe.objective.{name}", value, "a number above 0")
        for name in ("teacher_warmup", "centre_momentum"):
            value = getattr(self, name)
            require(0 <= value < 1, f"recipe.objective.{name}", value, "a number in [0, 1)")

    @property
    def sharpening(self) -> bool:
        """Whether targets are sharper than predictions."""
        return self.teacher_temperature < self.student_temperature

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.self_distillation import SelfDistillationObjective

        return SelfDistillationObjective(self, dim)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        # Centred, a constant target is uniform; otherwise one output can take everything.
        return math.log(dim) if self.centring else 0.0

    def describe(self) -> str:
        centred = "" if self.centring else ", not centred"
        return (
            f"self-distillation, temperatures {self.teacher_temperature:g} and "
            f"{self.student_temperature:g}{centred}"
        )


PARTS: tuple[type[ObjectivePart], ...] = (SelfDistillation,)

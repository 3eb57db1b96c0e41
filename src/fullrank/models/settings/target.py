"""What the other side is, and where gradients flow."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fullrank.errors import UserError
from fullrank.models.settings.part import Part, require

if TYPE_CHECKING:  # quoted below: whoever reads the settings' types need not import torch
    from torch import nn

    from fullrank.models.targets import Target


@dataclass(frozen=True)
class TargetPart(Part, ABC):
    """Settings of a target."""

    @abstractmethod
    def build(self, backbone: "nn.Module", projector: "nn.Module", dim: int) -> "Target":
        """Return the module that gives targets.

        Args:
            backbone: of the online network.
            projector: of the online network.
            dim: dimension of the embedding, for those that hold a queue.
        """


@dataclass(frozen=True)
class Online(TargetPart):
    """The other view's embedding; gradients flow through both sides."""

    kind: ClassVar[str] = "online"

    def build(self, backbone: "nn.Module", projector: "nn.Module", dim: int) -> "Target":
        from fullrank.models.targets import OnlineTarget

        return OnlineTarget()


@dataclass(frozen=True)
class StopGradient(TargetPart):
    """The other view's embedding as a constant (Chen and He 2021)."""

    kind: ClassVar[str] = "stop-gradient"

    def build(self, backbone: "nn.Module", projector: "nn.Module", dim: int) -> "Target":
        from fullrank.models.targets import StopGradientTarget

        return StopGradientTarget()


@dataclass(frozen=True)
class Momentum(TargetPart):
    """The embedding by an exponential moving average of the online network (Grill et al. 2020).

    Args:
        tau: share of the old average kept at each step, in [0, 1], at the start.
        schedule: ``cosine`` raises tau to 1 over the run (BYOL), ``constant`` keeps it.
    """

    kind: ClassVar[str] = "momentum"

    tau: float = 0.996
    schedule: Literal["cosine", "constant"] = "cosine"

    def __post_init__(self) -> None:
        require(0.0 <= self.tau <= 1.0, "recipe.target.tau", self.tau, "a number in [0, 1]")

    def check(self, batch_size: int, dim: int | None) -> None:
        if self.tau == 1.0 and self.schedule == "constant":
            raise UserError(
                "recipe.target.tau: 1.0 with a constant schedule never moves the target from the "
                "random network it starts as. Allowed: below 1, or schedule 'cosine'."
            )

    def build(self, backbone: "nn.Module", projector: "nn.Module", dim: int) -> "Target":
        from fullrank.models.targets import MomentumTarget

        return MomentumTarget(backbone, projector, self.tau, self.schedule)

    def describe(self) -> str:
        arrow = " → 1" if self.schedule == "cosine" else ""
        return f"momentum {self.tau}{arrow}"


PARTS: tuple[type[TargetPart], ...] = (Online, StopGradient, Momentum)

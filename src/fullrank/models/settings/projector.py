"""The head that maps a representation h to an embedding z."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fullrank.models.settings.part import Part, require

if TYPE_CHECKING:  # quoted below: whoever reads the settings' types need not import torch
    from torch import nn

Norm = Literal["none", "batch", "batch-affine"]


@dataclass(frozen=True)
class ProjectorPart(Part, ABC):
    """Settings of a projector."""

    @abstractmethod
    def build(self, dim: int) -> "nn.Module":
        """Return the module.

        Args:
            dim: dimension of the input.
        """

    @abstractmethod
    def dim(self, features: int | None) -> int | None:
        """Return the dimension of the embedding; None if only the backbone knows it.

        Args:
            features: dimension of the input, or None if it is not known yet.
        """


@dataclass(frozen=True)
class NoProjector(ProjectorPart):
    """The embedding is the representation itself."""

    kind: ClassVar[str] = "none"

    def build(self, dim: int) -> "nn.Module":
        from torch import nn

        return nn.Identity()

    def dim(self, features: int | None) -> int | None:
        return features

    def describe(self) -> str:
        return "no projector"


@dataclass(frozen=True)
class MLPProjector(ProjectorPart):
    """Linear layers with batch norm and ReLU between them.

    Args:
        hidden: width of the hidden layers.
        out: dimension d of the embedding.
        depth: number of linear layers; 1 is a linear projector.
        last_norm: what follows the last layer: ``none``, ``batch`` (batch norm without affine
            parameters, as in SimSiam) or ``batch-affine``. With an output batch norm, complete
            collapse shows as rank one instead.
        last_bias: whether the last linear layer has a bias (a batch norm after it removes it).
        hidden_norm: whether batch norm follows the hidden layers (MoCo v2 has none).
    """

    kind: ClassVar[str] = "mlp"

    hidden: int = 2048
    out: int = 2048
    depth: int = 3
    last_norm: Norm = "none"
    last_bias: bool = True
    hidden_norm: bool = True

    def __post_init__(self) -> None:
        require(self.hidden >= 1, "recipe.projector.hidden", self.hidden, "1 or more")
        require(self.out >= 1, "recipe.projector.out", self.out, "1 or more")
        require(self.depth >= 1, "recipe.projector.depth", self.depth, "1 or more")

    def build(self, dim: int) -> "nn.Module":
        from fullrank.models.heads import mlp

        widths = [dim, *[self.hidden] * (self.depth - 1), self.out]
        return mlp(widths, self.last_norm, self.last_bias, self.hidden_norm)

    def dim(self, features: int | None) -> int | None:
        return self.out

    def describe(self) -> str:
        widths = "-".join(str(w) for w in [*[self.hidden] * (self.depth - 1), self.out])
        norm = {"none": "", "batch": ", BN", "batch-affine": ", BN (affine)"}[self.last_norm]
        return f"MLP {widths}{norm}" + ("" if self.hidden_norm else ", no hidden BN")


PARTS: tuple[type[ProjectorPart], ...] = (NoProjector, MLPProjector)

"""The head on the online side that maps an embedding z to a prediction p."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fullrank.models.settings.part import Part, require

if TYPE_CHECKING:  # quoted below: whoever reads the settings' types need not import torch
    from torch import nn


@dataclass(frozen=True)
class PredictorPart(Part, ABC):
    """Settings of a predictor."""

    @abstractmethod
    def build(self, dim: int) -> "nn.Module":
        """Return the module; its output has the dimension of its input.

        Args:
            dim: dimension of the input.
        """


@dataclass(frozen=True)
class NoPredictor(PredictorPart):
    """The prediction is the embedding itself."""

    kind: ClassVar[str] = "none"

    def build(self, dim: int) -> "nn.Module":
        from torch import nn

        return nn.Identity()

    def describe(self) -> str:
        return "no predictor"


@dataclass(frozen=True)
class LinearPredictor(PredictorPart):
    """One matrix W_p, trained by gradient (Tian et al. 2021).

    Args:
        bias: whether to add a bias.
    """

    kind: ClassVar[str] = "linear"

    bias: bool = False

    def build(self, dim: int) -> "nn.Module":
        from torch import nn

        return nn.Linear(dim, dim, bias=self.bias)

    def describe(self) -> str:
        return "linear W_p"


@dataclass(frozen=True)
class MLPPredictor(PredictorPart):
    """Linear layers with batch norm and ReLU between them, back to the embedding's dimension.

    Args:
        hidden: width of the hidden layers (SimSiam: a quarter of the embedding's).
        depth: number of linear layers.
        last_bias: whether the last linear layer has a bias.
    """

    kind: ClassVar[str] = "mlp"

    hidden: int = 512
    depth: int = 2
    last_bias: bool = True

    def __post_init__(self) -> None:
        require(self.hidden >= 1, "recipe.predictor.hidden", self.hidden, "1 or more")
        require(self.depth >= 2, "recipe.predictor.depth", self.depth, "2 or more (1 is 'linear')")

    def build(self, dim: int) -> "nn.Module":
        from fullrank.models.heads import mlp

        widths = [dim, *[self.hidden] * (self.depth - 1), dim]
        return mlp(widths, "none", last_bias=self.last_bias)

    def describe(self) -> str:
        return "MLP " + "-".join([*[str(self.hidden)] * (self.depth - 1), "d"])


@dataclass(frozen=True)
class SymmetricLinearPredictor(PredictorPart):
    """One symmetric matrix W_p, trained by gradient (Tian et al. 2021, assumption 3)."""

    kind: ClassVar[str] = "symmetric-linear"

    def build(self, dim: int) -> "nn.Module":
        from fullrank.models.simple_predictors import SymmetricLinear

        return SymmetricLinear(dim)

    def describe(self) -> str:
        return "symmetric linear W_p"


@dataclass(frozen=True)
class BiasPredictor(PredictorPart):
    """The embedding and a bias, ``p = z + b`` (Zhang et al. 2022)."""

    kind: ClassVar[str] = "bias"

    def build(self, dim: int) -> "nn.Module":
        from fullrank.models.simple_predictors import Bias

        return Bias(dim)

    def describe(self) -> str:
        return "bias only"


PARTS: tuple[type[PredictorPart], ...] = (
    NoPredictor,
    LinearPredictor,
    MLPPredictor,
    SymmetricLinearPredictor,
    BiasPredictor,
)

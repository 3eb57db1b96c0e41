"""Spectral filters of a batch's embeddings, on either side (Zhuo et al. 2023)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fullrank.models.settings.part import require
from fullrank.models.settings.predictor import PredictorPart
from fullrank.models.settings.target import TargetPart

if TYPE_CHECKING:  # quoted below: whoever reads the settings' types need not import torch
    from torch import nn

    from fullrank.models.targets import Target

Function = Literal["power", "log", "log-plus-one", "log-square-plus-one"]


@dataclass(frozen=True)
class SpectralFilter(PredictorPart):
    """``p = W z`` with ``W = V g(s) V'``, of the singular values ``Z = U s V'`` of a view's batch.

    No gradient flows through W. It is made from whatever batch it predicts from, in training and
    in evaluation alike.

    Args:
        function: g: ``power`` s^sigma, ``log``, ``log-plus-one`` log(s + 1), or
            ``log-square-plus-one`` log(s² + 1).
        sigma: exponent of the power; above 0 small directions are damped (a low-pass filter).
    """

    kind: ClassVar[str] = "spectral-filter"

    function: Function = "power"
    sigma: float = 1.0

    def __post_init__(self) -> None:
        require(
            self.function != "power" or self.sigma > 0,
            "recipe.predictor.sigma",
            self.sigma,
            "above 0 (a low-pass filter on the online side)",
        )

    def build(self, dim: int) -> "nn.Module":
        from fullrank.models.spectral_filter import BatchFilter

        return BatchFilter(self.function, self.sigma)

    def describe(self) -> str:
        g = f"s^{self.sigma:g}" if self.function == "power" else self.function
        return f"spectral filter, {g}"


@dataclass(frozen=True)
class FilteredStopGradient(TargetPart):
    """The other view's embedding as a constant, ``U s^(1 + sigma) V'`` instead of ``U s V'``.

    Args:
        sigma: below 0 small directions are raised (a high-pass filter); -1 whitens.
    """

    kind: ClassVar[str] = "filtered-stop-gradient"

    sigma: float = -1.0

    def __post_init__(self) -> None:
        require(
            -1 <= self.sigma < 0,
            "recipe.target.sigma",
            self.sigma,
            "in [-1, 0) (a high-pass filter on the target side)",
        )

    def build(self, backbone: "nn.Module", projector: "nn.Module", dim: int) -> "Target":
        from fullrank.models.spectral_filter import FilteredTarget

        return FilteredTarget(self.sigma)

    def describe(self) -> str:
        return f"stop-gradient, s^{1 + self.sigma:g}"


PREDICTORS: tuple[type[PredictorPart], ...] = (SpectralFilter,)
TARGETS: tuple[type[TargetPart], ...] = (FilteredStopGradient,)

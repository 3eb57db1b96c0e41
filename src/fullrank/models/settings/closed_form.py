"""Linear predictors that are made from moments of what they predict from, not trained."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fullrank.models.settings.part import require
from fullrank.models.settings.predictor import PredictorPart

if TYPE_CHECKING:  # quoted below: whoever reads the settings' types need not import torch
    from torch import nn


@dataclass(frozen=True)
class ClosedFormPredictor(PredictorPart):
    """W_p with the eigenvectors of F = E[z z'] and a function of its eigenvalues s.

    DirectPred (Tian et al. 2021, Eqs. 18-19), DirectSet and DirectCopy (Wang et al. 2021) and
    their published implementations differ in these settings alone:

    ``p_j = s_j^exponent + epsilon max(s)``, or ``(s_j + epsilon max(s))^exponent``.

    With exponent 1, no floor and no cut ``W_p`` is F itself and a multiple of the identity, for
    which no eigenvectors are computed.

    Args:
        rho: share of the old F that each step keeps, in [0, 1).
        exponent: of the eigenvalues; 0.5 is DirectPred's, 1 DirectCopy's, 0 a projection.
        epsilon: what is added, so that no direction is forgotten.
        epsilon_inside: whether it is added before the power.
        relative: whether epsilon is a share of the largest eigenvalue, or added as it is.
        normalised: whether eigenvalues are divided by the largest first.
        centred: whether F is the covariance, the mean taken out.
        floor: least value of what epsilon is added to, before the power if epsilon is.
        cut: eigenvalues below this share of the largest count as zero.
        shrink: share by which W_p is made smaller at the end.
        lag: 1 predicts by the W_p that the end of the last step left, random before the first; 0
            by one that has seen the current batch.
        frequency: steps from one setting of W_p to the next; above 1 it is a parameter, trained by
            gradient in between.
        start: the first F is the first ``batch`` 's, or one of weight ``1 - rho`` after ``zero``.
    """

    kind: ClassVar[str] = "closed-form"

    rho: float = 0.3
    exponent: float = 0.5
    epsilon: float = 0.1
    epsilon_inside: bool = False
    relative: bool = True
    normalised: bool = True
    centred: bool = False
    floor: float = 0.0
    cut: float = 0.0
    shrink: float = 0.0
    lag: Literal[0, 1] = 1
    frequency: int = 1
    start: Literal["batch", "zero"] = "batch"

    def __post_init__(self) -> None:
        require(0 <= self.rho < 1, "recipe.predictor.rho", self.rho, "a number in [0, 1)")
        require(self.exponent >= 0, "recipe.predictor.exponent", self.exponent, "0 or more")
        require(self.epsilon >= 0, "recipe.predictor.epsilon", self.epsilon, "0 or more")
        require(self.floor >= 0, "recipe.predictor.floor", self.floor, "0 or more")
        require(0 <= self.cut < 1, "recipe.predictor.cut", self.cut, "a share in [0, 1)")
        require(0 <= self.shrink < 1, "recipe.predictor.shrink", self.shrink, "a share in [0, 1)")
        require(self.frequency >= 1, "recipe.predictor.frequency", self.frequency, "1 or more")
        require(
            self.frequency == 1 or self.lag == 1,
            "recipe.predictor.frequency",
            self.frequency,
            "1 where lag is 0: what every batch sets anew cannot be trained in between",
        )

    def build(self, dim: int) -> "nn.Module":
        from fullrank.models.closed_form import EigenPredictor

        return EigenPredictor(dim, self)

    def describe(self) -> str:
        inner = "cov(z)" if self.centred else "F"
        power = "" if self.exponent == 1 else f"^{self.exponent:g}"
        every = "" if self.frequency == 1 else f", every {self.frequency} steps"
        return f"W_p = {inner}{power} + {self.epsilon:g}{every}"


@dataclass(frozen=True)
class RegressionPredictor(PredictorPart):
    """The W_p that predicts targets best: ``W_p = E[t z'] (E[z z'] + ridge I)^-1``.

    The optimal linear predictor of Richemond et al. 2023; averages over all pairs of views.

    Args:
        rho: share of the old moments that each step keeps, in [0, 1).
        ridge: what is added to the diagonal, as a share of its mean.
        lag: 1 predicts by the W_p that the end of the last step left, random before the first; 0
            by one that has seen the current batch.
    """

    kind: ClassVar[str] = "regression"

    rho: float = 0.3
    ridge: float = 0.1
    lag: Literal[0, 1] = 1

    def __post_init__(self) -> None:
        require(0 <= self.rho < 1, "recipe.predictor.rho", self.rho, "a number in [0, 1)")
        require(self.ridge > 0, "recipe.predictor.ridge", self.ridge, "above 0")

    def build(self, dim: int) -> "nn.Module":
        from fullrank.models.closed_form import OptimalPredictor

        return OptimalPredictor(dim, self)

    def describe(self) -> str:
        return f"W_p by regression, ridge {self.ridge:g}"


PARTS: tuple[type[PredictorPart], ...] = (ClosedFormPredictor, RegressionPredictor)

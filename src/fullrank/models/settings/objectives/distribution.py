"""Objectives that match the distribution of the embedding with a given one."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, ClassVar, Literal

from fullrank.models.settings.objective import ObjectivePart
from fullrank.models.settings.part import require

if TYPE_CHECKING:
    from fullrank.models.objectives.objective import Objective


@dataclass(frozen=True)
class SIGReg(ObjectivePart):
    """Distance of the views, and of their distribution from N(0, I), by characteristic functions.

    Balestriero and LeCun 2025: along random directions, the Epps-Pulley statistic
    ``n ∫ |phi(t) - exp(-t²/2)|² exp(-t²/2) dt`` of the empirical characteristic function phi.

    Args:
        weight: lambda, the share of the statistic in the loss; the distance has the rest.
        directions: how many are drawn at every step.
        knots: points of the trapezoidal rule.
        t_max: where the integral ends.
        half: whether the knots lie in [0, t_max], each counted for both signs, rather than in
            [-t_max, t_max].
    """

    kind: ClassVar[str] = "sigreg"
    couples: ClassVar[bool] = True
    collapsed_at: ClassVar[Literal["any", "zero"]] = "zero"

    weight: float = 0.05
    directions: int = 1024
    knots: int = 17
    t_max: float = 5.0
    half: bool = False

    def __post_init__(self) -> None:
        require(0 <= self.weight <= 1, "recipe.objective.weight", self.weight, "a share in [0, 1]")
        require(self.directions >= 1, "recipe.objective.directions", self.directions, "1 or more")
        require(self.knots >= 2, "recipe.objective.knots", self.knots, "2 or more")
        require(self.t_max > 0, "recipe.objective.t_max", self.t_max, "above 0")

    def quadrature(self) -> tuple[list[float], list[float]]:
        """Return the knots at t >= 0 and their widths by the trapezoidal rule.

        The integrand is even, so that a knot above 0 counts for its mirror image, too.
        """
        low = 0.0 if self.half else -self.t_max
        step = (self.t_max - low) / (self.knots - 1)
        found = []
        for k in range(self.knots):
            t = low + k * step
            if t < -1e-9 * self.t_max:
                continue
            trapezoid = step / 2 if k in (0, self.knots - 1) else step
            mirrored = self.half or t > 1e-9 * self.t_max
            found.append((max(t, 0.0), trapezoid * (2 if mirrored else 1)))
        return [t for t, _ in found], [w for _, w in found]

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.sigreg import SIGRegObjective

        return SIGRegObjective(self)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        distance = 0.0
        for t, width in zip(*self.quadrature(), strict=True):
            normal = math.exp(-t * t / 2)
            distance += width * normal * (1 - normal) ** 2
        return self.weight * batch_size * distance

    def describe(self) -> str:
        return f"SIGReg, λ = {self.weight:g}, {self.directions} directions"


@dataclass(frozen=True)
class VISReg(ObjectivePart):
    """Distance of the views, and centre, scale and shape of their distribution (Wu et al. 2026).

    Args:
        weight: lambda, the share of the three in the loss; the distance has the rest.
        scale: weight of the squared differences of the standard deviations from 1.
        shape: weight of the sliced Wasserstein distance from N(0, I), scale divided out.
        centre: weight of the squared mean.
        directions: how many are drawn at every step for the shape.
    """

    kind: ClassVar[str] = "visreg"
    couples: ClassVar[bool] = True
    collapsed_at: ClassVar[Literal["any", "zero"]] = "zero"

    weight: float = 0.9
    scale: float = 1.0
    shape: float = 1.0
    centre: float = 1.0
    directions: int = 4096

    def __post_init__(self) -> None:
        require(0 <= self.weight <= 1, "recipe.objective.weight", self.weight, "a share in [0, 1]")
        for name in ("scale", "shape", "centre"):
            weight = getattr(self, name)
            require(weight >= 0, f"recipe.objective.{name}", weight, "a weight of 0 or more")
        require(self.directions >= 1, "recipe.objective.directions", self.directions, "1 or more")

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.visreg import VISRegObjective

        return VISRegObjective(self)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        normal, n = NormalDist(), batch_size
        quantiles = sum(normal.inv_cdf(i / (n + 1)) ** 2 for i in range(1, n + 1)) / n
        return self.weight * (self.scale + self.shape * quantiles)

    def describe(self) -> str:
        return f"VISReg, λ = {self.weight:g}, {self.directions} directions"


PARTS: tuple[type[ObjectivePart], ...] = (SIGReg, VISReg)

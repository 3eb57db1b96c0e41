"""Objectives that compare assignments to prototypes."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fullrank.models.settings.objective import ObjectivePart
from fullrank.models.settings.part import require

if TYPE_CHECKING:
    from fullrank.models.objectives.objective import Objective


@dataclass(frozen=True)
class SwappedAssignment(ObjectivePart):
    """Predict the prototype of one view from another, all prototypes used alike (SwAV).

    Caron et al. 2020, Eqs. 1 to 6.

    Args:
        prototypes: their number K.
        temperature: divides the cosines with prototypes in predictions.
        epsilon: divides them in assignments.
        iterations: of Sinkhorn's normalisation; 0 does not make the prototypes' shares equal.
        trained: whether prototypes are trained, or stay where they start.
        frozen_steps: steps, from the start, in which they do not learn.
        queue: targets of earlier batches, of the first view, that share the prototypes with the
            batch; 0 for none. (SwAV's own code keeps one queue a view; views are drawn alike.)
        queue_start: share of the run's steps after which they do.
    """

    kind: ClassVar[str] = "swapped-assignment"
    couples: ClassVar[bool] = True
    collapsed_at: ClassVar[Literal["any", "zero"]] = "zero"

    prototypes: int = 3000
    temperature: float = 0.1
    epsilon: float = 0.05
    iterations: int = 3
    trained: bool = True
    frozen_steps: int = 313
    queue: int = 0
    queue_start: float = 0.0

    def __post_init__(self) -> None:
        _require_least(self, prototypes=2, iterations=0, frozen_steps=0, queue=0)
        _require_positive(self, "temperature", "epsilon")
        require(
            0 <= self.queue_start <= 1,
            "recipe.objective.queue_start",
            self.queue_start,
            "a share in [0, 1]",
        )

    def check(self, batch_size: int, dim: int | None) -> None:
        require(
            self.queue == 0 or self.queue >= batch_size,
            "recipe.objective.queue",
            self.queue,
            f"0 (none), or at least one batch ({batch_size})",
        )
        rows = batch_size + self.queue
        require(
            self.iterations == 0 or self.prototypes <= rows,
            "recipe.objective.prototypes",
            self.prototypes,
            f"at most {rows}, because each gets an equal share of the {batch_size} images of a "
            f"batch and the {self.queue} of the queue; or a larger batch or queue",
        )

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.swapped_assignment import SwappedAssignmentObjective

        return SwappedAssignmentObjective(self, dim)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        if self.iterations:
            return math.log(self.prototypes)
        # One prototype where the embedding is, all others opposite.
        others = self.prototypes - 1
        gap = 2 / self.temperature
        wrong = others / (others + math.exp(min(2 / self.epsilon, 700.0)))
        return math.log1p(others * math.exp(-gap)) + gap * wrong

    def describe(self) -> str:
        kind = "" if self.trained else "fixed "
        return f"swapped assignments to {self.prototypes} {kind}prototypes"


@dataclass(frozen=True)
class ClusterAssignment(ObjectivePart):
    """Predict the cluster that k-means put an image in before the epoch (DeepCluster-v2).

    Caron et al. 2020, section 4.1 and appendix.

    Args:
        prototypes: clusters of each head.
        heads: independent clusterings.
        temperature: divides the cosines with centroids.
        iterations: of spherical k-means before every epoch.
    """

    kind: ClassVar[str] = "cluster-assignment"

    prototypes: int = 3000
    heads: int = 3
    temperature: float = 0.1
    iterations: int = 10

    def __post_init__(self) -> None:
        _require_least(self, prototypes=2, heads=1, iterations=0)
        _require_positive(self, "temperature")

    def check(self, batch_size: int, dim: int | None) -> None:
        require(
            self.prototypes <= batch_size,
            "recipe.objective.prototypes",
            self.prototypes,
            f"at most {batch_size}, the images of a batch; or a larger batch",
        )

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.cluster_assignment import ClusterAssignmentObjective

        return ClusterAssignmentObjective(self, dim, images)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        return math.log(self.prototypes)

    def describe(self) -> str:
        return f"k-means assignments, {self.heads} heads of {self.prototypes}"


def _require_least(part: ObjectivePart, **least: int) -> None:
    for name, smallest in least.items():
        value = getattr(part, name)
        require(value >= smallest, f"recipe.objective.{name}", value, f"{smallest} or more")


def _require_positive(part: ObjectivePart, *names: str) -> None:
    for name in names:
        value = getattr(part, name)
        require(value > 0, f"recipe.objective.{name}", value, "a number above 0")


PARTS: tuple[type[ObjectivePart], ...] = (SwappedAssignment, ClusterAssignment)

"""Objectives that compare whitened embeddings."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fullrank.errors import UserError
from fullrank.models.settings.objective import ObjectivePart
from fullrank.models.settings.part import require

if TYPE_CHECKING:
    from fullrank.models.objectives.objective import Objective


@dataclass(frozen=True)
class Whitening(ObjectivePart):
    """Distance of embeddings that are whitened in sub-batches (W-MSE, Ermolov et al. 2021).

    Args:
        sub_batch: images of the global batch that are whitened together; more than the embedding
            has dimensions, and better twice as many. A batch that is no multiple is dealt into
            sub-batches of about this size, none smaller.
        rounds: how often the batch is dealt into sub-batches anew; the loss is the mean.
        epsilon: share of the identity in the covariance, in [0, 1).
        normalise: whether whitened embeddings are L2-normalised before they are compared.
    """

    kind: ClassVar[str] = "whitening"
    couples: ClassVar[bool] = True

    sub_batch: int = 128
    rounds: int = 1
    epsilon: float = 0.0
    normalise: bool = True

    def __post_init__(self) -> None:
        require(self.sub_batch >= 2, "recipe.objective.sub_batch", self.sub_batch, "2 or more")
        require(self.rounds >= 1, "recipe.objective.rounds", self.rounds, "1 or more")
        require(
            0 <= self.epsilon < 1, "recipe.objective.epsilon", self.epsilon, "a share in [0, 1)"
        )

    def check(self, batch_size: int, dim: int | None) -> None:
        if batch_size < self.sub_batch:
            raise UserError(
                f"batch_size: {batch_size} images do not fill one sub-batch of {self.sub_batch} "
                f"that the whitening needs. Allowed: {self.sub_batch} or more, or a smaller "
                "recipe.objective.sub_batch."
            )
        if dim is not None and self.sub_batch <= dim and self.epsilon == 0:
            raise UserError(
                f"recipe.objective.sub_batch: {self.sub_batch} images span at most "
                f"{self.sub_batch - 1} dimensions about their mean, too few to whiten an embedding "
                f"of {dim}. Allowed: more than {dim}, and {2 * dim} or more for a covariance that "
                "is estimated well; or a smaller recipe.projector.out."
            )

    def build(self, dim: int, images: int = 0) -> "Objective":
        from fullrank.models.objectives.whitening import WhiteningObjective

        return WhiteningObjective(self)

    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        if self.epsilon == 0:
            return None  # a constant cannot be whitened
        return 2.0 if self.normalise else 0.0  # whitened, it is 0, which has no direction

    def describe(self) -> str:
        return f"whitened MSE, sub-batches of {self.sub_batch}"


PARTS: tuple[type[ObjectivePart], ...] = (Whitening,)

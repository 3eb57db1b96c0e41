"""How predictions and targets are compared, and what spreads them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fullrank.models.settings.part import Part

if TYPE_CHECKING:  # quoted below: whoever reads the settings' types need not import torch
    from fullrank.models.objectives.objective import Objective


@dataclass(frozen=True)
class ObjectivePart(Part, ABC):
    """Settings of an objective.

    Attributes:
        couples: whether it compares the images of a batch.
        collapsed_at: which constant embeddings have the collapsed loss: ``any`` but 0, or
            ``zero``, where every other constant has a larger one.
    """

    couples: ClassVar[bool] = False
    collapsed_at: ClassVar[Literal["any", "zero"]] = "any"

    @abstractmethod
    def build(self, dim: int, images: int = 0) -> "Objective":
        """Return the module that computes the loss.

        Args:
            dim: dimension of the embedding, for those that hold prototypes, queues or averages.
            images: in the training set, for those that remember something of each; 0 where none
                is trained on.
        """

    @abstractmethod
    def collapsed_loss(self, dim: int, batch_size: int) -> float | None:
        """Return the least loss that a constant embedding can have, once it has long been so.

        What the objective remembers (a queue, a centre) then is that constant, too. ``None`` where
        it has no loss at all, because the objective refuses it.

        Args:
            dim: dimension d of the embedding.
            batch_size: images in the global batch.
        """

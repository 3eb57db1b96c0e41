"""A target that is another image: the nearest one remembered."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fullrank.models.settings.part import require
from fullrank.models.settings.target import TargetPart

if TYPE_CHECKING:  # quoted below: whoever reads the settings' types need not import torch
    from torch import nn

    from fullrank.models.targets import Target


@dataclass(frozen=True)
class NearestNeighbor(TargetPart):
    """The nearest of the latest embeddings, as a constant (Dwibedi et al. 2021).

    Args:
        support: how many embeddings are remembered; the larger, the nearer the neighbours.
    """

    kind: ClassVar[str] = "nearest-neighbor"

    support: int = 98304

    def __post_init__(self) -> None:
        require(self.support >= 1, "recipe.target.support", self.support, "1 or more")

    def check(self, batch_size: int, dim: int | None) -> None:
        require(
            self.support >= batch_size,
            "recipe.target.support",
            self.support,
            f"the {batch_size} images of a batch, or more",
        )

    def build(self, backbone: "nn.Module", projector: "nn.Module", dim: int) -> "Target":
        from fullrank.models.nearest_neighbor import NearestNeighborTarget

        return NearestNeighborTarget(self.support, dim)

    def describe(self) -> str:
        return f"nearest of {self.support} remembered"


PARTS: tuple[type[TargetPart], ...] = (NearestNeighbor,)

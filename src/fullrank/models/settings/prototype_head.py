"""The projector that ends in prototypes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fullrank.models.settings.part import require
from fullrank.models.settings.projector import ProjectorPart

if TYPE_CHECKING:  # quoted below: whoever reads the settings' types need not import torch
    from torch import nn


@dataclass(frozen=True)
class DINOHead(ProjectorPart):
    """A perceptron to a bottleneck of norm 1, then a weight-normalised layer of prototypes.

    Caron et al. 2021, section 3.2 and appendix C. The embedding is the cosine with each prototype.

    Args:
        hidden: width of the hidden layers.
        bottleneck: dimension before the prototypes.
        out: number of prototypes, the dimension of the embedding.
        depth: linear layers before the prototypes.
        batch_norm: whether hidden layers have batch norm.
        trained_scale: whether each prototype has a trained norm; if not, it is 1.
        frozen: share of the run's steps, from its start, in which the prototypes do not learn.
    """

    kind: ClassVar[str] = "dino-head"

    hidden: int = 2048
    bottleneck: int = 256
    out: int = 65536
    depth: int = 3
    batch_norm: bool = False
    trained_scale: bool = False
    frozen: float = 0.01

    def __post_init__(self) -> None:
        for name, least in (("hidden", 1), ("bottleneck", 2), ("out", 2), ("depth", 1)):
            value = getattr(self, name)
            require(value >= least, f"recipe.projector.{name}", value, f"{least} or more")
        require(0 <= self.frozen < 1, "recipe.projector.frozen", self.frozen, "a share in [0, 1)")

    def build(self, dim: int) -> "nn.Module":
        from fullrank.models.prototype_head import PrototypeHead

        widths = [dim, *[self.hidden] * (self.depth - 1), self.bottleneck]
        return PrototypeHead(
            widths, self.out, self.batch_norm, self.trained_scale, frozen=self.frozen
        )

    def dim(self, features: int | None) -> int | None:
        return self.out

    def describe(self) -> str:
        widths = [*[self.hidden] * (self.depth - 1), self.bottleneck, self.out]
        return f"DINO head {'-'.join(map(str, widths))}"


PARTS: tuple[type[ProjectorPart], ...] = (DINOHead,)

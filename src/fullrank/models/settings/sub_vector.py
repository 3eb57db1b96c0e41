"""A projector that only takes dimensions away."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fullrank.models.settings.part import require
from fullrank.models.settings.projector import ProjectorPart

if TYPE_CHECKING:  # quoted below: whoever reads the settings' types need not import torch
    from torch import nn


@dataclass(frozen=True)
class SubVector(ProjectorPart):
    """The first dimensions of the representation; nothing is trained (Jing et al. 2022, sec. 6).

    Args:
        dims: how many, d0; None if ``share`` says it.
        share: how many, as a share of the representation's; None if ``dims`` says it.
    """

    kind: ClassVar[str] = "sub-vector"

    dims: int | None = 360
    share: float | None = None

    def __post_init__(self) -> None:
        require(
            (self.dims is None) != (self.share is None),
            "recipe.projector.dims, share",
            (self.dims, self.share),
            "one of the two, the other None",
        )
        require(
            self.dims is None or self.dims >= 1, "recipe.projector.dims", self.dims, "1 or more"
        )
        require(
            self.share is None or 0 < self.share <= 1,
            "recipe.projector.share",
            self.share,
            "a share in (0, 1]",
        )

    def check(self, batch_size: int, dim: int | None) -> None:
        if self.dims is not None and dim is not None:
            allowed = f"1 to {dim}, the dimensions of the representation, or a share of them"
            require(dim >= self.dims, "recipe.projector.dims", self.dims, allowed)

    def build(self, dim: int) -> "nn.Module":
        from fullrank.models.sub_vector import SubVector as Module

        dims = self.dim(dim)
        assert dims is not None
        self.check(0, dims)
        return Module(dims)

    def dim(self, features: int | None) -> int | None:
        if self.share is not None:
            return None if features is None else max(1, round(self.share * features))
        assert self.dims is not None
        return self.dims if features is None else min(self.dims, features)

    def describe(self) -> str:
        if self.share is not None:
            return f"the first {self.share:g} of the representation"
        return f"the first {self.dims} dimensions of the representation"


PARTS: tuple[type[ProjectorPart], ...] = (SubVector,)

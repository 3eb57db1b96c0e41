"""The first dimensions of a representation."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class SubVector(nn.Module):
    """``h[:d0]``: only the first dimensions go to the loss (Jing et al. 2022, sec. 6).

    Args:
        dims: how many, d0.
    """

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, h: Float[Tensor, "n features"]) -> Float[Tensor, "n dims"]:
        return h[:, : self.dims]

"""Predictors of one layer."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear


class SymmetricLinear(nn.Module):
    """``p = (A + A') z / 2``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        free = nn.Linear(dim, dim, bias=False).weight.detach()
        self.free = nn.Parameter((free + free.T) / 2)

    @property
    def weight(self) -> Float[Tensor, "d d"]:
        """W_p."""
        return (self.free + self.free.T) / 2

    def forward(self, embedding: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return the prediction."""
        return linear(embedding, self.weight)


class Bias(nn.Module):
    """``p = z + b``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, embedding: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return the prediction."""
        return embedding + self.bias

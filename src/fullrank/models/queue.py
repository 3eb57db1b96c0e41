"""A memory of the latest embeddings."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize


class Queue(nn.Module):
    """The latest ``size`` unit vectors of the global batches, first in, first out.

    It starts with random directions. A forward pass only says what is to be remembered; the rows
    enter after the step, so that passing a batch twice gives one result. The rows need not be a
    multiple of the batch: they are a ring.

    Args:
        size: rows kept.
        dim: of each.
    """

    rows: Tensor
    oldest: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.long))
        self._entering: Tensor | None = None

    def will_remember(self, rows: Float[Tensor, "n d"]) -> None:
        """Take rows of the global batch, the same in every process, for :meth:`commit`."""
        self._entering = rows.detach()

    @torch.no_grad()
    def commit(self) -> None:
        """Let what the last forward pass gave replace the oldest rows."""
        if self._entering is None:
            return
        size = len(self.rows)
        entering = self._entering[-size:].to(self.rows.dtype)
        places = torch.arange(len(entering), device=self.rows.device) + self.oldest
        self.rows[places % size] = entering
        self.oldest.copy_((self.oldest + len(entering)) % size)
        self._entering = None

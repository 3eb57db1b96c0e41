"""Objectives that use chance."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fullrank.models.objectives.objective import Objective
from fullrank.randomness import generator


class Stepped(Objective):
    """An objective whose chance is a function of the steps done.

    Two forward passes between steps therefore have one loss, a resumed run goes on as it would
    have, and every process draws the same.
    """

    step: Int[Tensor, ""]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        # Beside the buffer, so that a forward pass need not wait for an accelerator to read it.
        self._known: int | None = 0

    def after_step(self, step: int, total_steps: int) -> None:
        """Go on to the chance of the next step."""
        self.step.fill_(step)
        self._known = step

    def steps_done(self) -> int:
        """Return how many steps were done."""
        if self._known is None:
            self._known = int(self.step)
        return self._known

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._known = None

    def random_directions(
        self, count: int, embedding: Float[Tensor, "n d"]
    ) -> Float[Tensor, "d {count}"]:
        """Draw unit vectors in the space of ``embedding``, one a column, on its device."""
        device = embedding.device
        gen = generator(0, "directions", self.steps_done(), device=device)
        drawn = torch.randn(embedding.shape[1], count, generator=gen, device=device)
        drawn = drawn.to(embedding.dtype)
        return drawn / torch.linalg.vector_norm(drawn, dim=0)

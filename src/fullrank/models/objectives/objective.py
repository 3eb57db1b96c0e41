"""What objectives take and return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fullrank.errors import UserError


@dataclass
class Outputs:
    """What a joint-embedding network makes of a batch: one tensor ``(n, d)`` a view in each list.

    Attributes:
        features: representations h, by the backbone.
        embeddings: z, by the projector.
        predictions: p, by the predictor.
        targets: what predictions are compared with, of all views or of the first ones.
        indices: which training images the rows show, ``(n,)``; None if nobody asked.
    """

    features: list[Tensor]
    embeddings: list[Tensor]
    predictions: list[Tensor]
    targets: list[Tensor]
    indices: Tensor | None = None

    def full_precision(self) -> Outputs:
        """Return the same in float32 where it was in half precision.

        A tensor that is in two lists (a prediction that is the embedding) stays one tensor.
        """
        done: dict[int, Tensor] = {}

        def cast(t: Tensor) -> Tensor:
            if id(t) not in done:
                done[id(t)] = t.to(torch.promote_types(t.dtype, torch.float32))
            return done[id(t)]

        return Outputs(
            features=[cast(t) for t in self.features],
            embeddings=[cast(t) for t in self.embeddings],
            predictions=[cast(t) for t in self.predictions],
            targets=[cast(t) for t in self.targets],
            indices=self.indices,
        )

    def ordered_pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (prediction of view i, target of view j) for all i ≠ j."""
        for i, prediction in enumerate(self.predictions):
            for j, target in enumerate(self.targets):
                if i != j:
                    yield prediction, target


class CollapsedBatchError(UserError):
    """A batch that an objective refuses, because its embeddings have collapsed; it ends a run."""


class Loss(NamedTuple):
    """A loss and its named terms, which sum to it."""

    total: Tensor
    terms: dict[str, Tensor]

    @classmethod
    def of(cls, **terms: Tensor) -> Loss:
        """Return the loss that is the sum of ``terms``."""
        return cls(sum(terms.values()), terms)  # type: ignore[arg-type]


class Objective(nn.Module, ABC):
    """Compares predictions with targets."""

    @abstractmethod
    def forward(self, outputs: Outputs) -> Loss:
        """Return the loss of ``outputs``."""

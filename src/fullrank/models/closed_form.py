"""Linear predictors that are made from moments of what they predict from, not trained."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from fullrank.models.collectives import all_reduce, world_size
from fullrank.models.eigen import largest_eigenvalue, resolved, symmetric_eigen
from fullrank.models.settings.closed_form import ClosedFormPredictor, RegressionPredictor


class MomentPredictor(nn.Module, ABC):
    """``p = W_p z``, where W_p is a function of averaged moments of z and of its targets.

    What a batch shows is kept aside in ``observe`` and remembered in ``after_step``: two forward
    passes of one batch predict alike. No gradient flows through W_p into the embeddings.

    Args:
        dim: dimension d of the embedding.
        shapes: of the moments, by name; each is a buffer.
        rho: share of the old moments that a step keeps.
        lag: whether predictions are by the W_p of the last step's end (1) or of this batch (0).
        frequency: steps between two settings; above 1, ``weight`` is a parameter.
        from_zero: whether the first moments are averaged with zero.
    """

    weight: Tensor
    """W_p, ``(d, d)``."""
    seen: Tensor
    """How many batches the moments have seen."""

    def __init__(
        self,
        dim: int,
        shapes: Mapping[str, tuple[int, ...]],
        rho: float,
        lag: int,
        frequency: int = 1,
        from_zero: bool = False,
    ) -> None:
        super().__init__()
        self.rho, self.lag, self.frequency, self.from_zero = rho, lag, frequency, from_zero
        self.moments = tuple(shapes)
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        weight = torch.empty(dim, dim)
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5))  # as a linear layer
        if frequency > 1:
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)
        self._observed: list[Tensor] | None = None
        self._current: Tensor | None = None

    @abstractmethod
    def batch_moments(
        self, embeddings: list[Tensor], targets: list[Tensor]
    ) -> tuple[list[Tensor], int]:
        """Return the sums over rows that the moments are averages of, and how many rows."""

    @abstractmethod
    def made_from(self, moments: list[Tensor]) -> Float[Tensor, "d d"]:
        """Return W_p."""

    @torch.no_grad()
    def observe(self, embeddings: list[Tensor], targets: list[Tensor]) -> None:
        """Take in the embeddings of all views of a batch and their targets."""
        with torch.autocast(embeddings[0].device.type, enabled=False):
            # Averages are in float32 whatever the networks compute in.
            dtype = self.weight.dtype
            sums, rows = self.batch_moments(
                [z.detach().to(dtype) for z in embeddings], [t.detach().to(dtype) for t in targets]
            )
            new = [all_reduce(s) / (rows * world_size()) for s in sums]
            first = (self.seen == 0) & (not self.from_zero)
            kept = self.rho * (1 - first.to(dtype))
            old = [getattr(self, name) for name in self.moments]
            self._observed = [kept * o + (1 - kept) * n for o, n in zip(old, new, strict=True)]
            if self.lag == 0:
                self._current = self.made_from(self._observed)

    def forward(self, embedding: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return the prediction."""
        current = self._current if self.training and self._current is not None else self.weight
        return linear(embedding, current)

    @torch.no_grad()
    def after_step(self, step: int, total_steps: int) -> None:
        """Remember what the batch showed, and set W_p."""
        if self._observed is None:
            return
        for name, value in zip(self.moments, self._observed, strict=True):
            getattr(self, name).copy_(value)
        self.seen += 1
        if (step - 1) % self.frequency == 0:
            made = self._current if self._current is not None else self.made_from(self._observed)
            self.weight.copy_(made)
        self._observed = self._current = None


class EigenPredictor(MomentPredictor):
    """DirectPred's family: W_p shares the eigenvectors of F (Tian et al. 2021, Eqs. 18-19).

    F is the second moment of the embeddings of all views of the global batch.
    """

    second_moment: Tensor
    """F, ``(d, d)``, uncentred."""
    mean: Tensor

    def __init__(self, dim: int, settings: ClosedFormPredictor) -> None:
        shapes: dict[str, tuple[int, ...]] = {"second_moment": (dim, dim)}
        if settings.centred:
            shapes["mean"] = (dim,)
        from_zero = settings.start == "zero"
        super().__init__(dim, shapes, settings.rho, settings.lag, settings.frequency, from_zero)
        self.settings = settings

    def batch_moments(
        self, embeddings: list[Tensor], targets: list[Tensor]
    ) -> tuple[list[Tensor], int]:
        z = torch.cat(embeddings)
        sums = [z.T @ z, z.sum(0)] if self.settings.centred else [z.T @ z]
        return sums, len(z)

    def made_from(self, moments: list[Tensor]) -> Float[Tensor, "d d"]:
        settings = self.settings
        F = moments[0]
        if settings.centred:
            F = F - torch.outer(moments[1], moments[1])
        copied = settings.exponent == 1 and settings.floor == 0 and settings.cut == 0
        made = self._copied(F) if copied else self._powered(F)
        return (1 - settings.shrink) * made

    def _copied(self, F: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
        """Return F and a multiple of the identity."""
        F, epsilon = self._scaled(F, largest_eigenvalue(F))
        return F + epsilon * torch.eye(len(F), dtype=F.dtype, device=F.device)

    def _powered(self, F: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
        settings = self.settings
        s, Q = symmetric_eigen(F)
        s = resolved(s, len(F))
        s = torch.where(s < settings.cut * s[-1], torch.zeros_like(s), s)
        s, epsilon = self._scaled(s, s[-1])
        if settings.epsilon_inside:
            p = (s + epsilon).clamp(min=settings.floor) ** settings.exponent
        else:
            # 0 ** 0 is 1, but a direction that is not there is not projected on.
            p = torch.where(s == 0, torch.zeros_like(s), s**settings.exponent) + epsilon
            p = p.clamp(min=settings.floor)
        return (Q * p) @ Q.T

    def _scaled(self, value: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
        """Return F or its eigenvalues, divided by the largest if they are to be, and epsilon."""
        if self.settings.normalised:
            value = value / largest.clamp(min=torch.finfo(largest.dtype).tiny)
            largest = torch.ones_like(largest)
        share = largest if self.settings.relative else torch.ones_like(largest)
        return value, self.settings.epsilon * share


class OptimalPredictor(MomentPredictor):
    """Ridge regression of targets on embeddings, over all pairs of different views."""

    embedding_moment: Tensor
    cross_moment: Tensor

    def __init__(self, dim: int, settings: RegressionPredictor) -> None:
        shapes = {"embedding_moment": (dim, dim), "cross_moment": (dim, dim)}
        super().__init__(dim, shapes, settings.rho, settings.lag)
        self.ridge = settings.ridge

    def batch_moments(
        self, embeddings: list[Tensor], targets: list[Tensor]
    ) -> tuple[list[Tensor], int]:
        pairs = [(z, t) for i, z in enumerate(embeddings) for j, t in enumerate(targets) if i != j]
        z, t = (torch.cat(side) for side in zip(*pairs, strict=True))
        return [z.T @ z, t.T @ z], len(z)

    def made_from(self, moments: list[Tensor]) -> Float[Tensor, "d d"]:
        C, cross = moments
        if not bool(torch.isfinite(C).all()):
            return torch.full_like(C, torch.nan)
        tiny = torch.finfo(C.dtype).tiny
        ridge = (self.ridge * C.diagonal().mean()).clamp(min=tiny)
        regular = C + ridge * torch.eye(len(C), dtype=C.dtype, device=C.device)
        return torch.linalg.solve(regular, cross, left=False)

"""FroSSL's objective."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.models.collectives import gather
from fullrank.models.objectives.cross_correlation import standardise
from fullrank.models.objectives.objective import Loss, Objective, Outputs

# Where all dimensions are constant, 0/0 becomes 1: the value of rank one, the worst there is.
_NOTHING = 1e-12


class FrobeniusObjective(Objective):
    """``sum_i log ||R_i||_F² + lambda sum_i mean (s_i - mean_j s_j)²`` (Skean et al. 2024).

    s are the embeddings of a view, each dimension standardised over the global batch, and R their
    correlation matrix divided by its trace. ``-log ||R||_F²`` is the Rényi entropy of order 2 of
    R's eigenvalues, the logarithm of their participation ratio: 0 if the rank is one, at most
    log d. No eigendecomposition is made, nor a matrix larger than the smaller of n and d.
    """

    def __init__(self, frobenius: float, invariance: float) -> None:
        super().__init__()
        self.frobenius, self.invariance = frobenius, invariance

    def forward(self, outputs: Outputs) -> Loss:
        done: dict[int, Tensor] = {}

        def standardised(z: Tensor) -> Tensor:
            if id(z) not in done:
                done[id(z)] = standardise(gather(z))
            return done[id(z)]

        centre = torch.stack([standardised(t) for t in outputs.targets]).mean(dim=0)
        distances = [(standardised(p) - centre).square().mean() for p in outputs.predictions]
        norms = [log_squared_norm(standardised(z)) for z in outputs.embeddings]
        return Loss.of(
            frobenius=self.frobenius * torch.stack(norms).sum(),
            invariance=self.invariance * torch.stack(distances).sum(),
        )


def log_squared_norm(rows: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return ``log(||R'R||_F² / (tr R'R)²)``, where R are the rows over the root of n."""
    n, d = rows.shape
    scaled = rows / n**0.5
    gram = scaled.T @ scaled if d <= n else scaled @ scaled.T
    squares, trace = gram.square().sum(), gram.diagonal().sum()
    return torch.log((squares + _NOTHING) / (trace.square() + _NOTHING))

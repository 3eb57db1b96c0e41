"""Spectral filters of a batch's embeddings, on either side (Zhuo et al. 2023, sec. 5)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fullrank.models.collectives import gather
from fullrank.models.eigen import resolved, symmetric_eigen
from fullrank.models.targets import Target


def gain(s: Float[Tensor, " k"], function: str, sigma: float) -> Float[Tensor, " k"]:
    """Return g(s) of singular values; directions that are not there (s = 0) stay at zero."""
    there = s > 0
    s = torch.where(there, s, torch.ones_like(s))
    if function == "power":
        g = s**sigma
    elif function == "log":
        g = s.log()
    elif function == "log-plus-one":
        g = s.log1p()
    else:
        g = s.square().log1p()
    return torch.where(there, g, torch.zeros_like(g))


def filtered(z: Float[Tensor, "n d"], function: str, sigma: float) -> Float[Tensor, "n d"]:
    """Return ``Z V g(s) V'``, where ``Z = U s V'`` are the rows of the global batch.

    The filter is a constant for gradients.
    """
    with torch.autocast(z.device.type, enabled=False):
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        with torch.no_grad():
            V, g = _filter(gather(z.detach()), function, sigma)
        return ((z @ V) * g) @ V.T


def _filter(
    Z: Float[Tensor, "m d"], function: str, sigma: float
) -> tuple[Float[Tensor, "d k"], Float[Tensor, " k"]]:
    """Return right singular vectors and gains."""
    # By the smaller Gram matrix: much faster than the singular value decomposition. In float64,
    # as squares lose half of the digits.
    exact = Z if Z.device.type == "mps" else Z.double()
    if Z.shape[0] >= Z.shape[1]:
        squares, V = symmetric_eigen(exact.T @ exact)
        s = resolved(squares, max(Z.shape)).sqrt()
    else:
        squares, U = symmetric_eigen(exact @ exact.T)
        s = resolved(squares, max(Z.shape)).sqrt()
        V = exact.T @ (U / torch.where(s > 0, s, torch.ones_like(s)))
    return V.to(Z.dtype), gain(s, function, sigma).to(Z.dtype)


class BatchFilter(nn.Module):
    """A predictor that filters the spectrum of the batch it predicts from.

    Args:
        function: of :class:`fullrank.models.settings.spectral_filter.SpectralFilter`.
        sigma: exponent, if the function is a power.
    """

    def __init__(self, function: str, sigma: float) -> None:
        super().__init__()
        self.function, self.sigma = function, sigma

    def forward(self, embedding: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return the prediction."""
        return filtered(embedding, self.function, self.sigma)


class FilteredTarget(Target):
    """The embeddings as constants, their singular values to the power ``1 + sigma``."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(
        self, views: list[Tensor], embeddings: list[Float[Tensor, "n d"]]
    ) -> list[Float[Tensor, "n d"]]:
        return [filtered(z.detach(), "power", self.sigma) for z in embeddings]

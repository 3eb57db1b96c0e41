"""Stochastic gradient steps of linear encoders under InfoNCE: the flows' published companion.

The flows of :mod:`fullrank.theory.contrastive` are of squared distances and, but for a fixed batch,
of endless negatives. Here the similarity is the inner product, batches are finite, and each step
draws its own, as the toy experiments of Jing et al. 2022 do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError
from fullrank.randomness import generator
from fullrank.theory.contrastive import product
from fullrank.theory.validity import checked

Views = Callable[[int], tuple[Tensor, Tensor]]


def noisy_views(
    noise: Float[Tensor, "cells k"], *, n: int, seeds: Sequence[int], spread: float = 1.0
) -> Views:
    """Return what draws batches of Gaussian inputs whose two views differ by additive noise.

    Args:
        noise: standard deviation of both views' noise in each coordinate of the input.
        n: inputs a batch, at least 2.
        seeds: one a cell; cells of one seed see the same inputs and the same noise, scaled.
        spread: standard deviation of the inputs.

    Returns:
        From a step to both views, each (cells, n, k).

    Raises:
        UserError: negative noise, fewer than two inputs, not one seed a cell.
    """
    checked("noise", noise)
    checked("spread", spread, above=True)
    if n < 2:
        raise UserError(f"n: {n} given; allowed: 2 and more.")
    if len(seeds) != len(noise):
        raise UserError(f"seeds: {len(seeds)} given; allowed: {len(noise)}, one a cell.")
    own = sorted(set(seeds))
    index = torch.tensor([own.index(seed) for seed in seeds])

    def draw(step: int) -> tuple[Tensor, Tensor]:
        shape = 3, n, noise.shape[1]
        chance = (generator(seed, "batch", step) for seed in own)
        drawn = [torch.randn(*shape, generator=g, dtype=torch.float64) for g in chance]
        x, first, second = torch.stack(drawn, dim=1)[:, index]
        return spread * x + noise[:, None] * first, spread * x + noise[:, None] * second

    return draw


def contrastive_steps(
    layers: Sequence[Float[Tensor, "cells _ _"]],
    views: Views,
    *,
    steps: int,
    rate: float,
    temperature: float = 0.1,
) -> Float[Tensor, "cells d k"]:
    """Train linear encoders ``W_L … W_1``, many at once, and return the products.

    Plain gradient steps of ``mean_i -log exp(z_i·z'_i/T) / Σ_j exp(z_i·z'_j/T)``.

    Args:
        layers: ``W_1`` first, float64.
        views: both views of the batch of a step, each (cells, n, k).
        steps: how many, at least 1.
        rate: learning rate, above 0.
        temperature: T, above 0.

    Raises:
        UserError: a parameter outside its range, or weights that grow beyond every bound.

    References:
        Jing, Vincent, LeCun and Tian 2022, "Understanding Dimensional Collapse in Contrastive
        Self-supervised Learning", the toy experiments of both causes.
    """
    checked("rate", rate, above=True)
    checked("temperature", temperature, above=True)
    if steps < 1:
        raise UserError(f"steps: {steps} given; allowed: 1 and more.")
    weights = tuple(layer.detach().clone() for layer in layers)
    for step in range(steps):
        first, second = views(step)
        whole = product(weights)
        pull = -contrastive_gradient(whole, first, second, temperature)
        moved = []
        for at, W in enumerate(weights):
            above, below = weights[at + 1 :], weights[:at]
            push = product(above).mT @ pull if above else pull
            push = push @ product(below).mT if below else push
            moved.append(W + rate * push)
        weights = tuple(moved)
    end = product(weights)
    if not end.isfinite().all():
        raise UserError(
            f"rate: {rate} given; allowed: a smaller one, the weights left every bound."
        )
    return end


def contrastive_gradient(
    W: Float[Tensor, "cells d k"],
    first: Float[Tensor, "cells n k"],
    second: Float[Tensor, "cells n k"],
    temperature: float,
) -> Float[Tensor, "cells d k"]:
    """Return the gradient of the loss in the whole encoder.

    With ``a`` the softmax over j of ``z_i·z'_j/T`` and ``E = (a - I)/(n T)`` it is
    ``z'ᵀEᵀ x + zᵀE x'``.
    """
    n = first.shape[1]
    z, other = first @ W.mT, second @ W.mT
    errors = (z @ other.mT / temperature).softmax(dim=2)
    errors.diagonal(dim1=1, dim2=2).sub_(1)
    errors = errors / (n * temperature)
    return (errors @ other).mT @ first + (errors.mT @ z).mT @ second

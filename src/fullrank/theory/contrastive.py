"""How contrastive learning loses dimensions: strong augmentation, and depth (Jing et al. 2022).

A linear encoder W under InfoNCE on squared distances flows as ``dW/dt = W X``: X is what pushes
different inputs apart minus what pulls the views of one input together, and a direction in which
X is negative decays. In a product ``W_L … W_1`` the layers keep ``W_l W_lᵀ - W_(l+1)ᵀ W_(l+1)``
and every singular value grows in proportion to a power of its own: the rich get richer.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError
from fullrank.theory.flow import CellRates, Rates
from fullrank.theory.validity import Parameter, checked


def contrast_matrix(
    first: Float[Tensor, "n k"], second: Float[Tensor, "n k"], W: Float[Tensor, "... d k"]
) -> Float[Tensor, "... k k"]:
    """``X = Σ̂_0 - Σ̂_1``, so that ``W X`` is minus the gradient of InfoNCE.

    ``Σ̂_0 = Σ_(i≠j) a_ij (x_i - x_j)(x_i - x_j)ᵀ`` and ``Σ̂_1 = Σ_i (1 - a_ii)(x'_i - x_i)(x'_i -
    x_i)ᵀ``, divided by n, where ``a_i`` is the softmax over ``-||W(x_i - x_j)||²/2`` of the other
    rows and ``-||W(x_i - x'_i)||²/2``.

    Args:
        first: x, one view of each of n inputs.
        second: x', the other view.
        W: the whole encoder, of shape (d, k) or a batch of them.

    Returns:
        X, symmetric.

    References:
        Jing, Vincent, LeCun and Tian 2022, "Understanding Dimensional Collapse in Contrastive
        Self-supervised Learning", Lemma 1 (there summed, not averaged, over inputs).
    """
    n = len(first)
    z, moved = first @ W.mT, (second - first) @ W.mT
    gram = z @ z.mT
    length = gram.diagonal(dim1=-2, dim2=-1)
    logits = gram - (length[..., :, None] + length[..., None, :]) / 2
    own = torch.eye(n, dtype=torch.bool)
    logits = torch.where(own, (-moved.square().sum(dim=-1) / 2).diag_embed(), logits)
    a = logits.softmax(dim=-1)
    apart = a.masked_fill(own, 0.0)
    # Σ a_ij (x_i - x_j)(x_i - x_j)ᵀ as a Laplacian: weights of i and of j, minus both cross terms.
    weight = apart.sum(dim=-1) + apart.sum(dim=-2)
    laplacian = weight.diag_embed() - apart - apart.mT
    together = (1 - a.diagonal(dim1=-2, dim2=-1)).diag_embed()
    step = second - first
    return (first.mT @ laplacian @ first - step.mT @ together @ step) / n


def contrast(
    variance: Parameter, noise: Parameter, squared_weight: Float[Tensor, ...]
) -> Float[Tensor, ...]:
    """The eigenvalue of X in one direction, for Gaussian inputs and endless negatives.

    ``S (2 + S m)/(1 + S m)² - V``. At ``m = 0`` negatives push with ``2S``; the further rows are
    apart, the fewer are near enough to push, and the push falls as ``1/m``.

    Args:
        variance: S of the anchors in this direction, above 0.
        noise: V, variance of the difference ``x' - x`` of an input's views, from 0. It is the
            noise's own variance if only one view carries it, twice that if both do (which
            also adds it to S).
        squared_weight: m, eigenvalue of ``WᵀW`` in this direction, from 0.

    Raises:
        UserError: a variance outside its range.

    References:
        X of Jing et al. 2022 in the limit of many inputs: given ``x_i``, negatives under the
        softmax are normal with covariance ``S/(1 + S m)`` and mean ``S m x_i/(1 + S m)``.
    """
    S = checked("variance", variance, above=True)
    V = checked("noise", noise)
    m = checked("squared_weight", squared_weight)
    return S * (2 + S * m) / (1 + S * m).square() - V


def critical_noise(variance: Parameter, weight_decay: Parameter = 0.0) -> Float[Tensor, ...]:
    """Variance of ``x' - x`` from which on a direction decays to nothing: ``2S - η``.

    Args:
        variance: S of the anchors in this direction, above 0.
        weight_decay: η, from 0.

    Returns:
        Below 0 where weight decay alone kills the direction.

    Raises:
        UserError: a parameter outside its range.
    """
    return 2 * checked("variance", variance, above=True) - checked("weight_decay", weight_decay)


def resting_weight(
    variance: Parameter, noise: Parameter, weight_decay: Parameter = 0.0
) -> Float[Tensor, ...]:
    """Where the eigenvalue m of ``WᵀW`` comes to rest in one direction, one layer.

    The root of ``S (2 + u)/(1 + u)² = V + η``, ``u = S m``: 0 from the critical noise on, and
    falling towards it.

    Args:
        variance: S, above 0.
        noise: V, from 0.
        weight_decay: η, from 0.

    Returns:
        Infinite where neither noise nor weight decay holds the direction.

    Raises:
        UserError: a parameter outside its range.
    """
    S = checked("variance", variance, above=True)
    r = (checked("noise", noise) + checked("weight_decay", weight_decay)) / S
    return (((1 + (1 + 4 * r).sqrt()) / (2 * r) - 1) / S).clamp(min=0)


def layer_rates(X: Float[Tensor, "k k"], *, weight_decay: float = 0.0) -> Rates:
    """The flow of the layers ``(W_1, …, W_L)`` of a linear encoder under a given X.

    ``dW_l/dt = (W_L … W_(l+1))ᵀ (W_L … W_1) X (W_(l-1) … W_1)ᵀ - η W_l``; for one layer ``W X``.

    Args:
        X: symmetric, held fixed.
        weight_decay: η, from 0.

    Returns:
        Rates of as many states as there are layers, ``W_1`` of shape (cells, d_1, k).

    Raises:
        UserError: an X that is not symmetric, negative weight decay.

    References:
        Jing et al. 2022, Eqs. for one and two layers; the products for L are the same gradient.
    """
    if not torch.allclose(X, X.mT, atol=1e-9 * float(X.abs().max())):
        raise UserError("X: a matrix that is not symmetric given; allowed: symmetric.")
    checked("weight_decay", weight_decay)
    return lambda t, layers: _layer_flow(layers, X, weight_decay)


def batch_rates(
    first: Float[Tensor, "_ _"], second: Float[Tensor, "_ _"], *, weight_decay: float = 0.0
) -> Rates:
    """The flow of the layers under InfoNCE on a batch, X following the encoder.

    Args:
        first: x, one view of each of n inputs.
        second: x', the other view.
        weight_decay: η, from 0.

    Returns:
        Rates of as many states as there are layers.

    Raises:
        UserError: views of different shapes, negative weight decay.
    """
    if first.shape != second.shape:
        raise UserError(
            f"second: shape {tuple(second.shape)} given; allowed: that of first, "
            f"{tuple(first.shape)}."
        )
    checked("weight_decay", weight_decay)

    def rates(t: float, layers: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return _layer_flow(layers, contrast_matrix(first, second, product(layers)), weight_decay)

    return rates


def singular_value_rates(growth: Float[Tensor, ...], *, weight_decay: Parameter = 0.0) -> Rates:
    """The flow of one direction's singular value in each of L aligned layers, X held fixed.

    ``dσ_l/dt = σ_l Π_(k≠l) σ_k² x - η σ_l`` with ``x = vᵀXv``: for one layer ``x σ``, for two
    ``σ_1 σ_2² x``. Balanced layers (all σ equal) give the product ``s = σ^L`` the rate
    ``L s^(3-2/L) x``: ratios between directions are kept for one layer and drift apart for more.

    Args:
        growth: x of each direction, any shape that broadcasts with the states.
        weight_decay: η, from 0.

    Returns:
        Rates of as many states as there are layers.

    Raises:
        UserError: negative weight decay.
    """
    checked("weight_decay", weight_decay)
    return CellRates(_singular_value_flow, (growth, weight_decay))


def mode_rates(variance: Parameter, noise: Parameter, *, weight_decay: Parameter = 0.0) -> Rates:
    """As :func:`singular_value_rates`, with x following the encoder (:func:`contrast`).

    Where directions rest does not depend on depth; how long weak ones take does.

    Args:
        variance: S of each direction, above 0.
        noise: V of each direction, from 0.
        weight_decay: η, from 0.

    Returns:
        Rates of as many states as there are layers.

    Raises:
        UserError: a parameter outside its range.
    """
    checked("variance", variance, above=True)
    checked("noise", noise)
    checked("weight_decay", weight_decay)

    def flow(
        t: float, states: tuple[Tensor, ...], S: Parameter, V: Parameter, decay: Parameter
    ) -> tuple[Tensor, ...]:
        u = S * product_of(states).square()
        return _singular_value_flow(t, states, S * (2 + u) / (1 + u).square() - V, decay)

    return CellRates(flow, (variance, noise, weight_decay))


def product(layers: tuple[Float[Tensor, "... _ _"], ...]) -> Float[Tensor, "... d k"]:
    """Return ``W_L … W_1``."""
    W = layers[0]
    for layer in layers[1:]:
        W = layer @ W
    return W


def product_of(sigma: tuple[Float[Tensor, ...], ...]) -> Float[Tensor, ...]:
    """Return the product of one direction's singular values over layers."""
    total = sigma[0]
    for value in sigma[1:]:
        total = total * value
    return total


def imbalance(
    lower: Float[Tensor, "... h k"], upper: Float[Tensor, "... d h"]
) -> Float[Tensor, "... h h"]:
    """``W_l W_lᵀ - W_(l+1)ᵀ W_(l+1)`` of neighbouring layers, which the flow keeps.

    Under weight decay η it falls as ``exp(-2 η t)``. Where it is small beside its terms, the
    singular vectors that the layers share are aligned.
    """
    return lower @ lower.mT - upper.mT @ upper


def _layer_flow(layers: tuple[Tensor, ...], X: Tensor, weight_decay: float) -> tuple[Tensor, ...]:
    rates = []
    pull = product(layers) @ X
    for index, W in enumerate(layers):
        above, below = layers[index + 1 :], layers[:index]
        rate = product(above).mT @ pull if above else pull
        rate = rate @ product(below).mT if below else rate
        rates.append(rate - weight_decay * W)
    return tuple(rates)


def _singular_value_flow(
    t: float, states: tuple[Tensor, ...], growth: Parameter, weight_decay: Parameter
) -> tuple[Tensor, ...]:
    rates = []
    for index, sigma in enumerate(states):
        others = states[:index] + states[index + 1 :]
        power = product_of(others).square() if others else torch.ones_like(sigma)
        rates.append(sigma * (power * growth - weight_decay))
    return tuple(rates)

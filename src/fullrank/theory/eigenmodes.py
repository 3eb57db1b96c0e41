"""The predictor dynamics of one mode: an eigenvalue ``p`` of ``W_p`` and ``s`` of ``F = E[f fᵀ]``.

Data of covariance ``I``, augmentations that add variance ``σ²`` to every direction, a target
network ``τ`` times the online one and a symmetric predictor: the eigenvectors of ``F`` and ``W_p``
align, and every mode runs by itself (Tian, Chen and Ganguli 2021, "Understanding self-supervised
learning dynamics without contrastive pairs", equations 11-17). Time is learning rate times steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError
from fullrank.theory.flow import CellRates, States
from fullrank.theory.validity import Parameter, checked


@dataclass(frozen=True)
class ModeParameters:
    """What rules a mode; tensors broadcast over cells.

    Attributes:
        noise: ``σ²``, augmentation variance over data variance, at least 0.
        weight_decay: ``η``, at least 0.
        tau: ``τ``, the target network over the online one, in [0, 1]; 1 without a momentum target.
        predictor_rate: ``α_p``, the predictor's learning rate over the encoder's, above 0.
        predictor_decay: weight decay of the predictor, at least 0; None: that of the encoder. With
            torch's SGD, which scales decay by the rate, it is ``α_p`` times the set coefficient.
            Invariant, fixed points and basins are known for equal decays alone.
    """

    noise: Parameter
    weight_decay: Parameter
    tau: Parameter = 1.0
    predictor_rate: Parameter = 1.0
    predictor_decay: Parameter | None = None

    def __post_init__(self) -> None:
        checked("noise", self.noise)
        checked("weight_decay", self.weight_decay)
        checked("tau", self.tau, high=1.0)
        checked("predictor_rate", self.predictor_rate, above=True)
        checked("predictor_decay", self.decay_of_predictor)

    @property
    def decay_of_predictor(self) -> Parameter:
        """Weight decay of the predictor."""
        return self.weight_decay if self.predictor_decay is None else self.predictor_decay


@dataclass(frozen=True)
class FixedPoints:
    """Values of ``p`` at which a mode rests, with ``s = p² / α_p``.

    Attributes:
        collapsed: 0.
        lower: ``p₋``, unstable, the edge of the collapsed point's basin along ``s = p² / α_p``; NaN
            above the critical weight decay.
        upper: ``p₊``, stable; NaN likewise.
    """

    collapsed: Float[Tensor, "*cells"]
    lower: Float[Tensor, "*cells"]
    upper: Float[Tensor, "*cells"]


def eigenmode_rates(parameters: ModeParameters) -> CellRates:
    """Rates of ``(p, s)``: ``ṗ = α_p s Δτ - η p`` and ``ṡ = 2 p s Δτ - 2 η s``.

    ``Δτ = τ - (1 + σ²) p`` is what the predictor still lacks (equations 11 and 12).
    """

    def formula(
        t: float, states: States, noise: Tensor, decay: Tensor, of_p: Tensor, tau: Tensor,
        rate: Tensor,
    ) -> States:  # fmt: skip
        p, s = states
        pull = tau - (1 + noise) * p
        return rate * s * pull - of_p * p, 2 * s * (p * pull - decay)

    return CellRates(formula, _in_order(parameters))


def weight_rates(parameters: ModeParameters) -> CellRates:
    """Rates of ``(p, w)``, ``s = w²``: what gradient steps on a one-unit linear network follow.

    ``ẇ = p w Δτ - η w``. Steps of ``flow.iterate`` are those of gradient descent.
    """

    def formula(
        t: float, states: States, noise: Tensor, decay: Tensor, of_p: Tensor, tau: Tensor,
        rate: Tensor,
    ) -> States:  # fmt: skip
        p, w = states
        pull = tau - (1 + noise) * p
        return rate * w.square() * pull - of_p * p, w * (p * pull - decay)

    return CellRates(formula, _in_order(parameters))


def ema_rates(parameters: ModeParameters, beta: Parameter) -> CellRates:
    """Rates of ``(p, s, τ)`` when the target is a moving average: equations 11, 12 and 13.

    ``τ̇ = β (1 - τ) - τ ṡ / 2s``: the target lags behind a mode that grows.

    Args:
        parameters: as ever; ``tau`` is a state here, and the parameter is not used.
        beta: ``(1 - momentum) / learning rate``, above 0.
    """
    lag = checked("beta", beta, above=True)

    def formula(
        t: float, states: States, noise: Tensor, decay: Tensor, of_p: Tensor, _: Tensor,
        rate: Tensor, beta: Tensor,
    ) -> States:  # fmt: skip
        p, s, tau = states
        pull = tau - (1 + noise) * p
        growth = p * pull - decay
        return rate * s * pull - of_p * p, 2 * s * growth, beta * (1 - tau) - tau * growth

    return CellRates(formula, (*_in_order(parameters), lag))


def no_stop_gradient_rates(parameters: ModeParameters) -> CellRates:
    """Rates of ``(p, s)`` when the gradient also runs through the target: every mode dies.

    ``ṡ = -2 s [σ² (p² + 1) + (p - 1)² + η]`` (Theorem 2 in the isotropic case).

    Raises:
        UserError: ``tau`` other than 1: the target is the network itself.
    """
    if not torch.as_tensor(parameters.tau == 1).all():
        raise UserError(f"tau: {parameters.tau} given; allowed without stop-gradient: 1.")

    def formula(
        t: float, states: States, noise: Tensor, decay: Tensor, of_p: Tensor, _: Tensor,
        rate: Tensor,
    ) -> States:  # fmt: skip
        p, s = states
        shrink = noise * (p.square() + 1) + (p - 1).square() + decay
        return rate * s * (1 - (1 + noise) * p) - of_p * p, -2 * s * shrink

    return CellRates(formula, _in_order(parameters))


def no_predictor_rates(parameters: ModeParameters) -> CellRates:
    """Rates of ``(s,)`` without a predictor (``p = 1``): ``ṡ = -2 s [1 + σ² - τ + η]``."""

    def formula(t: float, states: States, noise: Tensor, decay: Tensor, tau: Tensor) -> States:
        return (-2 * states[0] * (1 + noise - tau + decay),)

    given = parameters.noise, parameters.weight_decay, parameters.tau
    return CellRates(formula, tuple(as_double(value) for value in given))


def invariant(
    p: Float[Tensor, "*#cells"],
    s: Float[Tensor, "*#cells"],
    parameters: ModeParameters,
    t: Parameter = 0.0,
) -> Float[Tensor, "*#cells"]:
    """Return ``c = e^{2ηt} (s - p² / α_p)``, the same at all times (equation 14).

    Raises:
        UserError: decays of predictor and encoder that differ.
    """
    _, decay, _, rate = plain(parameters)
    return (2 * decay * t).exp() * (s - p.square() / rate)


def critical_weight_decay(noise: Parameter, tau: Parameter = 1.0) -> Float[Tensor, "*cells"]:
    """Weight decay ``τ² / 4(1 + σ²)`` above which every mode collapses, wherever it starts."""
    return checked("tau", tau, high=1.0).square() / (4 * (1 + checked("noise", noise)))


def fixed_points(parameters: ModeParameters) -> FixedPoints:
    """Return where a mode rests: 0 and ``p± = [τ ± √(τ² - 4η(1 + σ²))] / 2(1 + σ²)``.

    Raises:
        UserError: decays of predictor and encoder that differ.
    """
    noise, decay, tau, _ = plain(parameters)
    # NaN, the root of a negative number, is the answer above the critical weight decay.
    root = (tau.square() - 4 * decay * (1 + noise)).sqrt()
    upper = (tau + root) / (2 * (1 + noise))
    # (τ - √…) would cancel for small weight decay.
    lower = torch.where(upper > 0, decay / ((1 + noise) * upper), upper)
    return FixedPoints(torch.zeros_like(upper), lower, upper)


def stability(parameters: ModeParameters, p: Parameter) -> Float[Tensor, "*cells"]:
    """Growth rate of a small push away from the fixed point ``p``; negative where it is stable.

    Along ``s = p² / α_p``: the derivative ``2τp - 3(1 + σ²)p² - η`` of equation 15. Pushes off that
    curve die at ``2η``.
    """
    noise, decay, tau, _ = plain(parameters)
    p = as_double(p)
    return 2 * tau * p - 3 * (1 + noise) * p.square() - decay


def alignment_margin(
    p: Float[Tensor, "*#cells"], s: Float[Tensor, "*#cells"], parameters: ModeParameters
) -> Float[Tensor, "*#cells"]:
    """Eigenvalue ``(1 + σ²)(α_p s / 2 + p²) - τp + 3η/2`` of Theorem 3's ``K``.

    Where it is positive the eigenvectors of ``W_p`` turn to those of ``F`` (equations 16 and 17).
    """
    noise, decay, tau, rate = plain(parameters)
    return (1 + noise) * (rate * s / 2 + p.square()) - tau * p + 1.5 * decay


def plain(parameters: ModeParameters) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return ``σ²``, ``η``, ``τ`` and ``α_p`` of a mode with one weight decay, as tensors.

    Raises:
        UserError: decays of predictor and encoder that differ.
    """
    p = parameters
    if not torch.as_tensor(p.decay_of_predictor == p.weight_decay).all():
        raise UserError(
            f"predictor_decay: {p.predictor_decay} given; allowed here: the encoder's, "
            f"{p.weight_decay} (fixed points are known for equal decays alone)."
        )
    return (
        as_double(p.noise),
        as_double(p.weight_decay),
        as_double(p.tau),
        as_double(p.predictor_rate),
    )


def as_double(given: Parameter) -> Tensor:
    """Return a parameter as a float64 tensor."""
    return torch.as_tensor(given, dtype=torch.float64)


def _in_order(parameters: ModeParameters) -> tuple[Tensor, ...]:
    p = parameters
    given = p.noise, p.weight_decay, p.decay_of_predictor, p.tau, p.predictor_rate
    return tuple(as_double(value) for value in given)

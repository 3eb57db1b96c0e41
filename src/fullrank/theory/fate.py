"""What the theory expects of every eigenmode from here on: to grow, to hold or to die.

The eigenmode equations (Tian et al. 2021, Eqs. 11-13) follow one direction ``u_j`` in which F and
the predictor are both diagonal: its variance between images ``s_j``, the predictor's factor ``p_j``
and the target's scale ``tau_j``, under an augmentation noise ``sigma²_j`` and weight decay. A
network in training differs from their setting in known ways, which enter here as parameters:

* Inputs are not white. ``gain_j`` is the variance, along the mode, of what the last layer reads.
* The loss compares directions. With every length replaced by its root mean square, a cosine's
  gradient is that of the squared distance with the prediction shortened to fit, ``c p`` with
  ``c = E[p·t] / E|p|²``, times ``1 / (|p||t|)``. Modes are then coupled through both: they share
  a length, and what one gains another loses.
* Both sides may carry the gradient (no stop-gradient), the loss may lack the leading ``W_p``
  (IsoLoss), and the predictor may be set from F instead of trained.
* A batch norm at the end of the embedding holds the total variance: what modes would gain or lose
  together is taken out. (It does so for every coordinate; their sum is all that is counted here.)

What is not linear, not symmetric or not aligned is outside of this picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError
from fullrank.theory._coupled_modes import FURTHEST, CoupledModes, TooManyStepsError

BAND = 1.25
"""A variance that changes by less than this factor, up or down, holds."""

Fate = Literal["grow", "hold", "die"]


@dataclass(frozen=True)
class Modes:
    """The state of some eigenmodes, each ``(m,)``, in float64.

    Attributes:
        variance: ``s_j > 0``, between images.
        noise: ``sigma²_j >= 0``, the variance between views of an image over ``s_j``.
        predictor: ``p_j``.
        target: ``tau_j``, the target's scale along the mode.
        gain: variance of the last layer's input along the mode, above 0; 1 for white inputs.
    """

    variance: Float[Tensor, " m"]
    noise: Float[Tensor, " m"]
    predictor: Float[Tensor, " m"]
    target: Float[Tensor, " m"]
    gain: Float[Tensor, " m"]

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name, value in values.items():
            if value.dtype != torch.float64 or value.shape != self.variance.shape:
                raise UserError(
                    f"modes.{name}: {value.dtype} of shape {tuple(value.shape)} given; allowed: "
                    f"float64 of shape {tuple(self.variance.shape)}."
                )
            if not bool(value.isfinite().all()):
                raise UserError(f"modes.{name}: NaN or infinite values given; allowed: finite.")
        for name, least in {"variance": "above 0", "gain": "above 0", "noise": "0 or more"}.items():
            if bool((values[name] < 0 if name == "noise" else values[name] <= 0).any()):
                raise UserError(
                    f"modes.{name}: {float(values[name].min()):g} given; allowed: {least}."
                )


@dataclass(frozen=True)
class Drive:
    """What moves the modes. Time is counted in learning rate: ``lr`` a step.

    Attributes:
        strength: factor of the loss over ``|p - t|² / 2``.
        cosine: whether directions are compared, not vectors.
        leading: whether the gradient passes back through ``W_p`` (IsoLoss drops it).
        two_sided: whether it flows through the target, too (no stop-gradient).
        weight_decay: eta of the embedding, 0 or more; 0 behind a batch norm, which undoes it.
        predictor_decay: eta of the predictor, in units of the embedding's learning rate.
        predictor_rate: alpha_p, the predictor's learning rate over the embedding's; 0 for one that
            is not trained.
        exponent: of ``s_j`` in a predictor that is set from F, ``p_j ~ s_j^exponent``.
        target_rate: beta, the share of the way to the online weights that the target goes in a
            unit of time; None for a target that is the online network.
        misaligned: part of ``E|p|²`` that no mode has, from a predictor that is not diagonal.
        normalised: whether a batch norm holds the total variance ``Σ s_j (1 + sigma²_j)``.
    """

    strength: float = 1.0
    cosine: bool = True
    leading: bool = True
    two_sided: bool = False
    weight_decay: float = 0.0
    predictor_decay: float = 0.0
    predictor_rate: float = 1.0
    exponent: float = 0.0
    target_rate: float | None = None
    misaligned: float = 0.0
    normalised: bool = False

    def __post_init__(self) -> None:
        names = ("strength", "weight_decay", "predictor_decay", "predictor_rate", "misaligned")
        for name in (*names, "target_rate"):
            value = getattr(self, name)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise UserError(f"drive.{name}: {value} given; allowed: a number of 0 or more.")


class Boundaries(NamedTuple):
    """Between which ``p`` a mode grows; NaN where it cannot.

    Attributes:
        lower: ``p-``, below which weight decay wins.
        upper: ``p+``, above which the prediction overshoots its target.
    """

    lower: Float[Tensor, " m"]
    upper: Float[Tensor, " m"]


class Foretold(NamedTuple):
    """What the theory expects of modes.

    Attributes:
        rate: ``d ln s_j / dt`` now.
        margin: ``p_j - p-_j``, how far a mode is from being lost; NaN where no p would keep it.
        expected: ``ln`` of the variance at the horizon over that of now, within ±27.6; NaN where
            the flow could not be followed.
    """

    rate: Float[Tensor, " m"]
    margin: Float[Tensor, " m"]
    expected: Float[Tensor, " m"]

    def fates(self, band: float = BAND) -> list[Fate | None]:
        """Return the fate of every mode over the horizon; None where it is not known."""
        return [fate_of(value, band) for value in self.expected.tolist()]


def fate_of(log_ratio: float, band: float = BAND) -> Fate | None:
    """Return what a change of variance is called.

    Args:
        log_ratio: ``ln`` of the later over the earlier variance; minus infinity if none is left.
        band: see :data:`BAND`; a factor above 1, or a UserError.

    Returns:
        ``grow`` above the band, ``die`` below, ``hold`` within; None of NaN.
    """
    if not band > 1:
        raise UserError(f"band: {band} given; allowed: a factor above 1.")
    if math.isnan(log_ratio):
        return None
    if abs(log_ratio) <= math.log(band):
        return "hold"
    return "grow" if log_ratio > 0 else "die"


def coupling(modes: Modes, drive: Drive) -> tuple[float, float, float]:
    """Return how strongly a loss pulls now, and by how much it shortens either side.

    Returns:
        ``(k, c, c')``: the rate of all modes; what shortens ``p``, ``E[p·t] / E|p|²``; the same of
        the target's side, ``E[p·t] / E|t|²``. Without the cosine ``(strength, 1, 1)``.
    """
    state = CoupledModes(modes, drive)
    k, c, other = state.coupling(state.start)
    return float(k), float(c), float(other)


def growth(modes: Modes, drive: Drive) -> Float[Tensor, " m"]:
    """Return ``d ln s_j / dt`` (Eq. 12 over ``s_j``).

    ``2 k gain_j p_j [tau_j - c (1 + sigma²_j) p_j] - 2 eta``, with k and c of :func:`coupling`;
    less the mean over modes, weighted by their variances, behind a batch norm.
    """
    state = CoupledModes(modes, drive)
    return torch.from_numpy(state.rates(state.start)[: state.m].copy())


def boundaries(modes: Modes, drive: Drive) -> Boundaries:
    """Return the predictor's values at which a mode neither grows nor dies, k and c as they are.

    Roots of ``p [tau - c (1 + sigma²) p] = eta / (k gain)``; without a leading ``W_p`` there is no
    lower one, and it is minus infinity. With a two-sided gradient there is none at all: NaN.
    What a batch norm takes out is not counted.
    """
    k, c, _ = coupling(modes, drive)
    lost = drive.weight_decay / (k * modes.gain) if k > 0 else modes.gain * math.inf
    curve = c * (1 + modes.noise)
    if drive.two_sided or drive.strength == 0:
        nothing = torch.full_like(modes.variance, math.nan)
        return Boundaries(nothing, nothing)
    if not drive.leading:
        return Boundaries(torch.full_like(curve, -math.inf), (modes.target - lost) / curve)
    if c <= 0:  # what is predicted points away from the target: the parabola has no top
        return Boundaries(lost / modes.target.clamp(min=1e-300), torch.full_like(curve, math.inf))
    root = (modes.target.square() - 4 * lost * curve).sqrt()  # NaN of what is negative
    return Boundaries((modes.target - root) / (2 * curve), (modes.target + root) / (2 * curve))


def foretell(modes: Modes, drive: Drive, horizon: float) -> Foretold:
    """Follow the coupled eigenmode equations for a while.

    Variances, predictor and target move together; noise and gains stay as they are.

    Args:
        modes: their state now; all of them, since a cosine couples them.
        drive: what moves them.
        horizon: how long, in units of learning rate times steps, 0 or more.

    Raises:
        UserError: a horizon that is negative or not finite.
    """
    from scipy.integrate import solve_ivp

    if not (horizon >= 0 and math.isfinite(horizon)):
        raise UserError(f"horizon: {horizon} given; allowed: a time of 0 or more.")
    state = CoupledModes(modes, drive)
    m = state.m
    rate = torch.from_numpy(state.rates(state.start)[:m].copy())
    margin = modes.predictor - boundaries(modes, drive).lower
    if m == 0 or horizon == 0:
        return Foretold(rate, margin, torch.zeros_like(rate))
    # Stiff: a large mode relaxes in a step or two, a small one in thousands.
    unknown = Foretold(rate, margin, torch.full_like(rate, math.nan))
    with np.errstate(all="ignore"):
        try:
            found = solve_ivp(
                state.counted_rates,
                (0.0, horizon),
                state.start,
                method="LSODA",
                rtol=1e-4,
                atol=1e-6,
                t_eval=[horizon],
            )
        except TooManyStepsError:
            return unknown
    if not (found.success and np.isfinite(found.y).all()):
        return unknown
    change = torch.from_numpy(found.y[:m, -1] - state.start[:m])
    return Foretold(rate, margin, change.clamp(-FURTHEST, FURTHEST))

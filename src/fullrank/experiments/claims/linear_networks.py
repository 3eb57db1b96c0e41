"""Linear networks on vectors, trained by SGD, beside the flow that theory says they follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.theory.flow import integrate
from fullrank.theory.predictor_flow import (
    NetworkParameters,
    matrix_rates,
    no_predictor_rates,
    no_stop_gradient_rates,
)

INPUTS, OUTPUTS, NOISE = 20, 8, 0.4
BATCH, RATE, READINGS = 256, 0.01, 9
TARGET_RATE = 0.5

Form = Literal["stop-gradient", "momentum", "no stop-gradient", "no predictor"]


@dataclass(frozen=True)
class Trial:
    """One way to train a linear network.

    Attributes:
        form: what the target is, or that there is no predictor.
        weight_decay: of the encoder, and by the same coefficient of the predictor.
        predictor_rate: the predictor's learning rate over the encoder's.
        length: learning rate times steps.
    """

    form: Form
    weight_decay: float
    predictor_rate: float
    length: float


def start(seed: int) -> tuple[Float[Tensor, "d n"], Float[Tensor, "d d"]]:
    """Return encoder and predictor before training; the predictor is not symmetric."""
    gen = torch.Generator().manual_seed(seed)
    w = torch.randn(OUTPUTS, INPUTS, generator=gen) / 4
    w_p = 0.3 * torch.eye(OUTPUTS) + 0.05 * torch.randn(OUTPUTS, OUTPUTS, generator=gen)
    return w, w_p


def trained(trial: Trial, seed: int) -> Float[Tensor, "t d"]:
    """Return the eigenvalues of F = WWᵀ along SGD on two noisy views of normal vectors.

    The loss is ``½ ||W_p W x_i - t_j||²``, mean over images and both orders of the views: the
    theory's.
    """
    w, w_p = (x.clone().requires_grad_() for x in start(seed))
    average = w.detach().clone()
    gen = torch.Generator().manual_seed(1000 + seed)
    steps = round(trial.length / RATE)
    due = {round(k * steps / (READINGS - 1)) for k in range(1, READINGS)}
    track = [_eigenvalues(w)]
    for step in range(1, steps + 1):
        drawn = torch.randn(3, BATCH, INPUTS, generator=gen)
        views = drawn[0] + NOISE * drawn[1:]
        z = views @ w.T
        p = z if trial.form == "no predictor" else z @ w_p.T
        if trial.form == "momentum":
            t = views @ average.T
        else:
            t = z if trial.form == "no stop-gradient" else z.detach()
        loss = (p - t.flip(0)).square().sum() / (4 * BATCH)
        gradients = torch.autograd.grad(loss, (w, w_p), allow_unused=True)
        with torch.no_grad():
            for x, g, rate in zip((w, w_p), gradients, (1.0, trial.predictor_rate), strict=True):
                if g is not None:  # torch's SGD scales decay by the rate, too
                    x -= RATE * rate * (g + trial.weight_decay * x)
            average += TARGET_RATE * RATE * (w - average)
        if step in due:
            track.append(_eigenvalues(w))
    return torch.stack(track)


def predicted(trial: Trial, seed: int) -> tuple[Float[Tensor, " t"], Float[Tensor, "t d"]]:
    """Return times, and the eigenvalues of F along the matrix flow from the same start."""
    w, w_p = (x.double()[None] for x in start(seed))
    one = torch.eye(INPUTS, dtype=torch.float64)
    at = NetworkParameters(
        one,
        NOISE**2 * one,
        trial.weight_decay,
        trial.predictor_rate,
        trial.weight_decay * trial.predictor_rate,
        target_rate=TARGET_RATE if trial.form == "momentum" else None,
    )
    times = torch.linspace(0, trial.length, READINGS, dtype=torch.float64)
    if trial.form == "no predictor":
        flow = integrate(no_predictor_rates(at), (w,), times)
    elif trial.form == "no stop-gradient":
        flow = integrate(no_stop_gradient_rates(at), (w, w_p), times)
    elif trial.form == "momentum":
        flow = integrate(matrix_rates(at), (w, w_p, w.clone()), times)
    else:
        flow = integrate(matrix_rates(at), (w, w_p), times)
    return times, torch.stack([_eigenvalues(x) for x in flow.check().states[0][:, 0]])


def _eigenvalues(w: Tensor) -> Float[Tensor, " d"]:
    w = w.detach().double()
    return torch.linalg.eigvalsh(w @ w.mT)

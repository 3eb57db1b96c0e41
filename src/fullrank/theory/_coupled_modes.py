"""The coupled eigenmode equations of a network in training, as a solver wants them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from fullrank.theory.fate import Drive, Modes

# Beyond these factors a variance is 0 or without bound, whatever a further step would make of it.
FURTHEST = math.log(1e12)
# Evaluations of the rates after which a solver is not waited for any more: a second or so.
MOST_EVALUATIONS = 20_000


class TooManyStepsError(Exception):
    """The solver got no further: steps without end would hold up whoever asks."""


class CoupledModes:
    """The equations over ``y = (ln s, p, tau)``, in NumPy, as a solver wants them."""

    def __init__(self, modes: Modes, drive: Drive) -> None:
        self.drive, self.m = drive, len(modes.variance)
        self.noise, self.gain = modes.noise.numpy(), modes.gain.numpy()
        parts = (modes.variance.log(), modes.predictor, modes.target)
        self.start = torch.cat(parts).numpy()
        self.log_start = self.start[: self.m]
        self.evaluations = 0

    def counted_rates(self, t: float, y: np.ndarray) -> np.ndarray:
        self.evaluations += 1
        if self.evaluations > MOST_EVALUATIONS:
            raise TooManyStepsError
        return self.rates(y)

    def _parts(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        m = self.m
        bounded = np.clip(y[:m], self.log_start - FURTHEST, self.log_start + FURTHEST)
        return np.exp(bounded), y[m : 2 * m], y[2 * m :]

    def coupling(self, y: np.ndarray) -> tuple[float, float, float]:
        drive = self.drive
        if not drive.cosine:
            return drive.strength, 1.0, 1.0
        s, p, tau = self._parts(y)
        whole = s * (1 + self.noise)
        ours = float((p**2 * whole).sum()) + drive.misaligned
        theirs = float((tau**2 * whole).sum())
        if not (ours > 0 and theirs > 0):
            return 0.0, 0.0, 0.0
        product = float((p * tau * s).sum())
        return drive.strength / math.sqrt(ours * theirs), product / ours, product / theirs

    def rates(self, y: np.ndarray) -> np.ndarray:
        drive = self.drive
        s, p, tau = self._parts(y)
        k, c, other = self.coupling(y)
        short = tau - c * (1 + self.noise) * p
        pull = (p if drive.leading else 1.0) * short
        if drive.two_sided:
            pull = pull + p - other * (1 + self.noise) * tau
        log_s = 2 * k * self.gain * pull - 2 * drive.weight_decay
        if drive.normalised and self.m:
            whole = s * (1 + self.noise)
            log_s = log_s - (whole * log_s).sum() / whole.sum()
        if drive.predictor_rate > 0:
            moved = drive.predictor_rate * k * s * short - drive.predictor_decay * p
        else:
            moved = drive.exponent * p * log_s
        if drive.target_rate is None:
            shifted = np.zeros_like(tau)
        else:  # Eq. 13 over s: the target follows, and is left behind by a mode that grows
            shifted = drive.target_rate * (1 - tau) - tau * log_s / 2
        return np.concatenate([log_s, moved, shifted])

"""Weights of a spectrum, checked and freed of their scale."""

from __future__ import annotations

import torch
from torch import Tensor

from fullrank.errors import UserError

# A millionth of the largest: above the rounding of float32 features (6e-8) and above what a float64
# scatter resolves (1e-8). A direction or a coordinate below it carries no signal.
RESOLUTION = 1e-6


def relative(weights: Tensor) -> Tensor:
    """Return weights as float64, divided by the largest (all zeros stay zeros).

    Raises:
        UserError: no vector, an empty one, or one with negative or non-finite entries.
    """
    w = weights.detach().to(torch.float64)
    if w.ndim != 1 or w.numel() == 0:
        raise UserError(f"spectrum: shape {tuple(w.shape)} given; a non-empty vector is allowed.")
    if not bool((w.isfinite() & (w >= 0)).all()):
        raise UserError("spectrum: negative, NaN or infinite values given; allowed: finite, >= 0.")
    largest = w.max()
    return w / torch.where(largest > 0, largest, 1.0)

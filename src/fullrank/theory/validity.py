"""Where the theory's parameters make sense: variances from 0, EMA factors from 0 to 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fullrank.errors import UserError

Parameter = float | Tensor
"""A number, or a tensor of numbers that broadcasts over cells."""


def checked(
    name: str,
    given: Parameter,
    low: float = 0.0,
    high: float = math.inf,
    *,
    above: bool = False,
) -> Tensor:
    """Return a parameter as a float64 tensor if all of it lies in its range.

    Args:
        name: the argument's name.
        given: one number or many.
        low: the smallest allowed value.
        high: the largest allowed value.
        above: whether ``low`` itself is refused.

    Raises:
        UserError: values that are not finite or outside the range; the first is named.
    """
    value = torch.as_tensor(given, dtype=torch.float64)
    wrong = ~value.isfinite() | (value > high) | (value <= low if above else value < low)
    if wrong.any():
        first = float(value[wrong].reshape(-1)[0])
        bounds = f"above {low:g}" if above else f"from {low:g}"
        end = f"to {high:g}" if math.isfinite(high) else "finite"
        raise UserError(f"{name}: {first:g} given; allowed: {bounds}, {end}.")
    return value

"""The exponent of a spectrum's decay."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure._relative import RESOLUTION, relative

# Fewer points than these fix no exponent.
_FEWEST_POINTS = 10


def alpha_req(
    sigma: Float[Tensor, " k"], fit_range: tuple[int, int] = (3, 100), weighted: bool = True
) -> Float[Tensor, ""] | None:
    r"""Exponent ``α`` of the power law ``λ_j ∝ j^-α`` that fits the eigenvalues ``λ = sigma²``.

    Least squares of ``log λ_j`` on ``log j`` for the ``j``-th largest eigenvalue, each weighted by
    ``1/j``. Values near 1 are said to be healthy, and both sides bad: below it the tail is heavy
    with noise, above it few directions carry everything.

    It misleads often: the ranking of models can turn around with the fit range, real spectra are
    no power laws, and the largest eigenvalues are left out. With fewer than some hundred rows the
    tail of the spectrum is noise.

    Args:
        sigma: singular values of centred features, any order; they are squared here.
        fit_range: which eigenvalues, counted from 0, the end excluded: (3, 100) is the authors'
            and leaves the three largest out; (10, 100) is reptrix's. An end beyond the spectrum, or
            beyond its last direction above ``RESOLUTION`` times the largest, is cut to it.
        weighted: whether to weigh by ``1/j`` as published, or all alike.

    Returns:
        The exponent, 0 for a flat spectrum; None if fewer than 10 eigenvalues are in the range.

    Raises:
        UserError: a range that is empty or starts below 0.

    References:
        Agrawal et al. 2022, "α-ReQ: Assessing Representation Quality in Self-Supervised Learning
        by measuring eigenspectrum decay"; the fit is that of Stringer et al. 2019,
        "High-dimensional geometry of population responses in visual cortex".
    """
    start, end = fit_range
    if not 0 <= start < end:
        raise UserError(f"fit_range: {fit_range} given; allowed: 0 <= start < end.")
    s = relative(sigma).sort(descending=True).values
    end = min(end, int((s > RESOLUTION).sum()))
    if end - start < _FEWEST_POINTS:
        return None
    j = torch.arange(start + 1, end + 1, dtype=torch.float64, device=s.device)
    weight = 1 / j if weighted else torch.ones_like(j)
    weight = weight / weight.sum()
    x, y = j.log(), 2 * s[start:end].log()
    x = x - weight @ x
    return -(weight * x) @ y / (weight @ x.square())

"""Linear encoders under predictors set from the second moment: what weight decay lets live."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.experiments.claims.claim import Arms, Figure, Finding, Number, Series
from fullrank.randomness import generator
from fullrank.theory.closed_loop import (
    DIRECT_COPY,
    DIRECT_PRED,
    ClosedLoop,
    critical_noise,
    critical_weight_decay,
    matrix_rates,
)
from fullrank.theory.flow import integrate

F64 = torch.float64
ALIVE = 1e-2

DECAYS, EXPONENTS = (0.1, 0.2), (DIRECT_PRED, DIRECT_COPY)


def simulated_threshold(
    decay: Float[Tensor, " loops"], exponent: Float[Tensor, " loops"]
) -> Float[Tensor, " loops"]:
    """Return the augmentation variance from which on a feature's flow dies, by bisection.

    The search covers 2 % on either side of the closed form; a threshold outside shows as that end.
    """
    low, high = (share * critical_noise(decay) for share in (0.98, 1.02))
    # Near the threshold a feature lingers before it dies, the longer the smaller the decay.
    times = torch.tensor([0.0, 1500.0], dtype=F64)
    for _ in range(8):
        noise = (low + high) / 2
        rates = ClosedLoop(noise, decay, exponent).rates()
        end = integrate(rates, (torch.full_like(noise, 1.2),), times, rtol=1e-5, atol=1e-8).end[0]
        alive = end.abs() > ALIVE
        low, high = torch.where(alive, noise, low), torch.where(alive, high, noise)
    return (low + high) / 2


def threshold(none: Arms) -> Finding:
    """Judge whether the threshold of the simulated flow is that of the closed form."""
    decay = torch.tensor(DECAYS, dtype=F64).repeat(len(EXPONENTS))
    exponent = torch.tensor(EXPONENTS, dtype=F64).repeat_interleave(len(DECAYS))
    found, expected = simulated_threshold(decay, exponent), critical_noise(decay)
    error = float((found / expected - 1).abs().max())
    noise = torch.linspace(0.0, 3.0, 31, dtype=F64)
    loop = ClosedLoop(noise, 0.1)
    times = torch.tensor([0.0, 300.0], dtype=F64)
    end = integrate(loop.rates(), (torch.full_like(noise, 1.2),), times).end[0]
    rests = loop.fixed_points().upper_feature.nan_to_num(nan=0.0)
    listed = ", ".join(
        f"{f:.4g} for {e:.4g}" for f, e in zip(found.tolist(), expected.tolist(), strict=True)
    )
    return Finding(
        "held" if error <= 1e-3 else "did not hold",
        f"Simulated and expected thresholds differ by a relative {error:.1e} at most ({listed}).",
        (Number("largest relative error of the threshold", error),),
        (
            Figure(
                "A feature lives up to an augmentation variance of 1/(4η) - 1 (here η = 0.1: 1.5).",
                "augmentation variance σ²",
                "feature |w| at rest",
                [
                    Series("closed form", noise.tolist(), rests.tolist()),
                    Series("simulated", noise.tolist(), end.abs().tolist(), kind="points"),
                ],
            ),
        ),
    )


NOISES = (0.1, 0.6, 1.5, 3.0)


def survivors(decays: Sequence[float]) -> list[list[bool]]:
    """Return which features a linear encoder keeps at each weight decay, by rising noise.

    Neither encoder nor data are in the basis of the augmentation: the encoder has to find it.
    """
    k, d = len(NOISES), 6
    Q, U, V = (
        torch.linalg.qr(torch.randn(n, k, generator=generator(0, key), dtype=F64))[0]
        for n, key in ((k, "augmentation"), (d, "outputs"), (k, "inputs"))
    )
    augmentation = (Q * torch.tensor(NOISES, dtype=F64)) @ Q.T
    W = ((U * torch.linspace(0.9, 1.1, k, dtype=F64)) @ V.T)[None]
    times = torch.tensor([0.0, 200.0], dtype=F64)
    found = []
    for decay in decays:
        rates = matrix_rates(torch.eye(k, dtype=F64), augmentation, weight_decay=decay)
        end = integrate(rates, (W,), times, rtol=1e-4, atol=1e-7).end[0][0]
        found.append(((end @ Q).norm(dim=0) > ALIVE).tolist())
    return found


def order(none: Arms) -> Finding:
    """Judge whether a linear encoder keeps just the features that the closed form lets live."""
    critical = critical_weight_decay(torch.tensor(NOISES, dtype=F64)).tolist()
    # Below all critical values, between neighbours, and above all.
    ends = [0.0, *reversed(critical), 1.5 * critical[0]]
    decays = [(a + b) / 2 for a, b in itertools.pairwise(ends)]
    found = survivors(decays)
    expected = [[decay < limit for limit in critical] for decay in decays]
    wrong = int((torch.tensor(found) != torch.tensor(expected)).sum())
    largest = [max((s for s, f in zip(NOISES, fs, strict=True) if f), default=0.0) for fs in found]
    return Finding(
        "held" if wrong == 0 else "did not hold",
        f"Over {len(decays)} weight decays {sum(map(len, found)) - wrong} of "
        f"{sum(map(len, found))} fates of features are as expected; the largest augmentation "
        f"variance that survives is {', '.join(f'{s:g}' for s in largest)} at weight decays "
        f"{', '.join(f'{d:.3g}' for d in decays)} (0: nothing survives).",
        (Number("features whose fate is not as expected", wrong),),
        (
            Figure(
                "As weight decay rises, the features of the largest augmentation variance die.",
                "weight decay η",
                "largest augmentation variance that survives",
                [
                    Series("simulated", decays, largest, kind="points"),
                    Series("closed form", list(reversed(critical)), list(reversed(NOISES))),
                ],
            ),
        ),
    )

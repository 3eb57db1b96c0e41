"""Linear encoders that lose dimensions, exactly: by strong augmentation, and by depth."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.experiments.claims.claim import Arms, Figure, Finding, Number, Series, Verdict
from fullrank.experiments.claims.statistics import decide, interval, paired, together
from fullrank.randomness import generator
from fullrank.theory.contrastive import critical_noise, mode_rates
from fullrank.theory.contrastive_steps import contrastive_steps, noisy_views
from fullrank.theory.flow import integrate

F64 = torch.float64
DIMS, NOISY, SEEDS = 16, 8, (0, 1, 2, 3, 4)

# Standard deviations of the noise on the last 8 of 16 dimensions. Rates and lengths were chosen on
# seeds 100 to 102: 0.001 and 0.003 (doses), 0.01 and 0.03 (depths), 800 steps of 64 inputs; the
# pattern is the same in all, and 0.01 leaves every bound at a dose of 3.
DOSES = (0.3, 0.8, 1.0, 1.5, 3.0)
DOSE_STEPS, DOSE_RATE = 250, 0.004
DEPTHS = (1, 2, 3)
DEPTH_STEPS, DEPTH_RATE = 250, 0.02
BATCH = 64


def dose_response() -> Float[Tensor, "doses seeds d"]:
    """Return the eigenvalues of the trained embedding's covariance on clean data, descending."""
    noise = torch.zeros(len(DOSES), DIMS, dtype=F64)
    noise[:, DIMS - NOISY :] = torch.tensor(DOSES, dtype=F64)[:, None]
    start = [
        (torch.rand(DIMS, DIMS, generator=generator(seed, "weights"), dtype=F64) - 0.5) / 2
        for seed in SEEDS
    ]
    end = contrastive_steps(
        (torch.stack(start).repeat(len(DOSES), 1, 1),),
        noisy_views(noise.repeat_interleave(len(SEEDS), dim=0), n=BATCH, seeds=SEEDS * len(DOSES)),
        steps=DOSE_STEPS,
        rate=DOSE_RATE,
    )
    return torch.linalg.eigvalsh(end @ end.mT).flip(1).view(len(DOSES), len(SEEDS), DIMS)


def simulated_critical_noise(variance: float) -> float:
    """Return the variance of the views' difference from which on a direction's flow dies."""
    low, high = 0.5 * 2 * variance, 1.5 * 2 * variance
    times = torch.tensor([0.0, 1000.0 / variance], dtype=F64)
    for _ in range(2):  # each narrows the search to a twentieth
        noise = torch.linspace(low, high, 21, dtype=F64)
        start = torch.full_like(noise, 0.3)
        end = integrate(mode_rates(variance, noise), (start,), times, rtol=1e-6, atol=1e-9).end[0]
        alive = int((end.abs() > 1e-2).sum())
        low, high = float(noise[max(alive - 1, 0)]), float(noise[min(alive, 20)])
    return (low + high) / 2


def augmentation(none: Arms) -> Finding:
    """Judge whether strong augmentation collapses the dimensions that it moves."""
    variances = (0.5, 2.0)
    error = max(abs(simulated_critical_noise(S) / float(critical_noise(S)) - 1) for S in variances)
    values = dose_response()
    noisy = values[:, :, DIMS - NOISY :].mean(2)
    falls = [
        paired(
            (noisy[i] / values[i, :, 0]).log10().tolist(),
            (noisy[i + 1] / values[i + 1, :, 0]).log10().tolist(),
            f"fall of the small eigenvalues from noise {DOSES[i]:g} to {DOSES[i + 1]:g}",
            "decades",
        )
        for i in range(len(DOSES) - 1)
    ]
    shares = [interval((noisy[i] / values[i, :, 0]).tolist()) for i in range(len(DOSES))]
    threshold: Verdict = "held" if error <= 0.02 else "did not hold"
    return Finding(
        together(threshold, *(decide(fall) for fall in falls)),
        "In the flow a direction dies from a variance of the views' difference of twice that of "
        f"the data on, to a relative {error:.1e}. In the trained linear network the eigenvalues "
        f"of the {NOISY} noisy dimensions are "
        + ", ".join(f"{s.value:.2g}" for s in shares)
        + " of the largest at noise "
        + ", ".join(f"{dose:g}" for dose in DOSES)
        + ".",
        (Number("largest relative error of the critical noise", error), *falls),
        (
            Figure(
                "The stronger the augmentation, the less is left of the dimensions it moves.",
                "standard deviation of the noise on 8 of 16 dimensions (data: 1)",
                "mean of the 8 smallest eigenvalues over the largest",
                [
                    Series(
                        "trained linear network",
                        list(DOSES),
                        [s.value for s in shares],
                        [max(s.low or 0.0, 1e-9) for s in shares],
                        [s.high or s.value for s in shares],
                    )
                ],
                log_y=True,
            ),
        ),
    )


def depth_response() -> dict[int, Float[Tensor, "seeds d"]]:
    """Return the singular values of linear networks after training, by the number of layers.

    Every network starts as the same product, singular values ``exp(-0.35 i)``, each layer with its
    share of them in the frames of its neighbours, so that depth alone tells networks apart.
    """
    found = {}
    for depth in DEPTHS:
        share = torch.exp(-0.35 * torch.arange(DIMS, dtype=F64) / depth)
        layers = tuple(
            torch.stack([(_frame(s, k + 1, depth) * share) @ _frame(s, k, depth).T for s in SEEDS])
            for k in range(depth)
        )
        end = contrastive_steps(
            layers,
            noisy_views(torch.full((len(SEEDS), DIMS), 1e-3, dtype=F64), n=BATCH, seeds=SEEDS),
            steps=DEPTH_STEPS,
            rate=DEPTH_RATE,
        )
        found[depth] = torch.linalg.svdvals(end)
    return found


def _frame(seed: int, at: int, depth: int) -> Float[Tensor, "d d"]:
    """Return a random rotation; those of the first and the last layer's outside are shared."""
    place = "last" if at == depth else f"{at}"
    rows = torch.randn(DIMS, DIMS, generator=generator(seed, "frame", place), dtype=F64)
    return torch.linalg.qr(rows)[0]


def effective_ranks(sigma: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Return the exponential of the entropy of the singular values' shares."""
    return torch.special.entr(sigma / sigma.sum(1, keepdim=True)).sum(1).exp()


def depth(none: Arms) -> Finding:
    """Judge whether more layers leave a lower rank."""
    found = depth_response()
    ranks = {layers: effective_ranks(sigma).tolist() for layers, sigma in found.items()}
    start = effective_ranks(torch.exp(-0.35 * torch.arange(DIMS, dtype=F64))[None])
    falls = [
        paired(ranks[a], ranks[b], f"effective rank of {a} minus {b} layers")
        for a, b in ((1, 2), (2, 3))
    ]
    means = {n: interval(values, f"effective rank, layers: {n}") for n, values in ranks.items()}
    spectra = [
        Series(
            f"{layers} layer{'s' * (layers > 1)}",
            [float(k) for k in range(1, DIMS + 1)],
            (sigma / sigma[:, :1]).mean(0).tolist(),
        )
        for layers, sigma in found.items()
    ]
    return Finding(
        together(*(decide(fall) for fall in falls)),
        f"From one product of effective rank {float(start):.1f}, without strong augmentation, "
        f"{DEPTH_STEPS} steps end at "
        + ", ".join(f"{mean.value:.1f} ({layers})" for layers, mean in means.items())
        + f" of {DIMS}, by the number of layers.",
        (*falls, *means.values()),
        (
            Figure(
                "The deeper the linear network, the steeper its spectrum.",
                "index of the singular value",
                "singular value over the largest",
                spectra,
                log_y=True,
            ),
        ),
    )

"""Sample-contrastive and dimension-contrastive losses are one, up to lengths of rows and columns.

Everything here is exact: random matrices stand for batches of embeddings, and nothing is trained.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.experiments.claims.claim import (
    Arms,
    Claim,
    Figure,
    Finding,
    Number,
    Paper,
    ScaleName,
    Series,
)
from fullrank.randomness import generator
from fullrank.theory.duality import duality

SHAPES = ((256, 64), (64, 256), (128, 128), (200, 1), (1, 200))
ROUNDING = 1e-12


def _matrices(n: int, d: int) -> dict[str, Float[Tensor, "n d"]]:
    """Return batches that are easy, and batches that have collapsed one way or the other."""
    normal = torch.randn(n, d, generator=generator(0, f"{n} x {d}"), dtype=torch.float64)
    scales = torch.logspace(0, -6, d, dtype=torch.float64)
    return {
        "Gaussian": normal,
        "steep spectrum": normal * scales,
        "far from the origin": normal + 100,
        "one direction": normal[:, :1] * normal[:1],
        "one point": normal[:1].expand(n, d).clone(),
    }


def _identity(arms: Arms) -> Finding:
    errors: dict[str, list[float]] = {}
    for n, d in SHAPES:
        for name, K in _matrices(n, d).items():
            found = duality(K)
            gap = (found.by_samples - found.by_dimensions).abs() / found.by_samples
            errors.setdefault(name, []).append(float(gap))
    largest = max(max(values) for values in errors.values())
    names = [f"{n} × {d}" for n, d in SHAPES]
    series = [Series(name, names, values, kind="points") for name, values in errors.items()]
    return Finding(
        "held" if largest <= ROUNDING else "did not hold",
        f"Both sides agree to a relative {largest:.1e} over {len(SHAPES)} shapes and "
        f"{len(errors)} kinds of matrix, collapsed ones among them.",
        (Number("largest relative difference of both sides", largest),),
        (
            Figure(
                "Both sides of the identity differ by rounding alone.",
                "samples × dimensions",
                "relative difference",
                series,
            ),
        ),
    )


def normalised_both(K: Float[Tensor, "n d"], steps: int = 2000) -> Float[Tensor, "n d"]:
    """Return K with rows of length 1 and columns of equal lengths, scaled in turns."""
    n, d = K.shape
    for _ in range(steps):
        K = K / K.norm(dim=0, keepdim=True) * (n / d) ** 0.5
        K = K / K.norm(dim=1, keepdim=True)
    return K


def _gaps(batches: list[Float[Tensor, "n d"]]) -> Float[Tensor, " k"]:
    """Return the dimension-contrastive minus the sample-contrastive criterion of every batch."""
    found = [duality(K) for K in batches]
    return torch.stack([f.dimension_contrastive - f.sample_contrastive for f in found])


def _gradient_angle(K: Float[Tensor, "n d"]) -> float:
    """Return the cosine of both gradients where lengths of rows and columns are held."""
    K = K.detach().requires_grad_()
    found = duality(K)
    directions = []
    for criterion in (found.sample_contrastive, found.dimension_contrastive):
        (gradient,) = torch.autograd.grad(criterion, K, retain_graph=True)
        directions.append(_tangential(gradient, K.detach()).flatten())
    first, second = directions
    return float(first @ second / (first.norm() * second.norm()))


def _tangential(step: Tensor, K: Tensor) -> Tensor:
    """Take from a step what would change, to first order, the length of any row or column."""
    n, d = K.shape
    lengths = torch.zeros(n + d, n, d, dtype=K.dtype)
    lengths[torch.arange(n), torch.arange(n)] = K
    lengths[n + torch.arange(d), :, torch.arange(d)] = K.T
    rows = lengths.flatten(1)
    return step - (torch.linalg.lstsq(rows.T, step.flatten()[:, None]).solution.T @ rows).view(n, d)


def _one_criterion(arms: Arms) -> Finding:
    n, d = 24, 10
    raw = [
        torch.randn(n, d, generator=generator(seed, "rows"), dtype=torch.float64)
        * torch.logspace(0, -0.1 * seed, d, dtype=torch.float64)
        for seed in range(12)
    ]
    rows = [K / K.norm(dim=1, keepdim=True) for K in raw]
    both = [normalised_both(K) for K in raw]
    expected = n - n**2 / d
    spread = float((_gaps(both) - expected).abs().max() / abs(expected))
    by_rows = _gaps(rows)
    bound = bool(((by_rows <= n - n**2 / d + 1e-9) & (by_rows >= n - n**2 - 1e-9)).all())
    angle = min(_gradient_angle(K) for K in both)
    control = float((by_rows.max() - by_rows.min()) / abs(expected))
    held = spread <= 1e-9 and angle >= 1 - 1e-9 and bound
    criteria = [[float(duality(K).sample_contrastive) for K in batch] for batch in (both, rows)]
    others = [[float(duality(K).dimension_contrastive) for K in batch] for batch in (both, rows)]
    return Finding(
        "held" if held else "did not hold",
        f"With rows and columns of fixed lengths the criteria differ by n - n²/d = {expected:.1f} "
        f"in every batch (relative deviation {spread:.0e}), and their gradients have a cosine of "
        f"{angle:.9f}. With rows of length 1 alone the difference varies from batch to batch by "
        f"{control:.0%} of that, within its bounds n - n² and n - n²/d.",
        (
            Number("largest relative deviation of the difference from n - n²/d", spread),
            Number("smallest cosine of the gradients", angle),
            Number("range of the difference, rows alone", control),
        ),
        (
            Figure(
                "Normalised on both sides, one criterion is the other plus a constant.",
                "sample-contrastive criterion",
                "dimension-contrastive criterion",
                [
                    Series("rows and columns normalised", criteria[0], others[0], kind="points"),
                    Series("rows alone", criteria[1], others[1], kind="points"),
                ],
            ),
        ),
    )


EXACT: Mapping[ScaleName, str] = {
    "cpu": "Random float64 matrices; nothing is trained.",
    "paper": "The same: an identity has no larger scale.",
}

PAPER = Paper(
    name="duality2022",
    title="On the duality between contrastive and non-contrastive self-supervised learning",
    citation="Garrido, Chen, Bardes, Najman and LeCun 2022, arXiv:2206.02574 (ICLR 2023)",
    about="That contrasting samples and decorrelating dimensions are two sides of one criterion. "
    "What it says is algebra, and is judged as such; that the methods then train alike once their "
    "settings are matched is not tested here.",
    claims=(
        Claim(
            "duality2022/identity",
            "The sum of squared similarities of different samples plus the fourth powers of the "
            "rows' lengths equals the sum of squared moments of different dimensions plus those of "
            "the columns.",
            "the identity of both criteria (main theorem)",
            EXACT,
            f"Both sides, each computed on its own, agree to a relative {ROUNDING:.0e} for every "
            "shape and kind of matrix, collapsed ones included.",
            _identity,
        ),
        Claim(
            "duality2022/one-criterion",
            "Where rows and columns are normalised, the sample-contrastive and the "
            "dimension-contrastive criterion differ by a constant and have the same gradient.",
            "consequence of the identity; with rows of length 1 alone the difference lies between "
            "n - n² and n - n²/d by Cauchy and Schwarz",
            EXACT,
            "Over 12 random batches the difference deviates from n - n²/d by a relative 1e-9 at "
            "most, the gradients have a cosine of 1 - 1e-9 at least along directions that keep all "
            "lengths, and with rows of length 1 alone the difference stays within its bounds.",
            _one_criterion,
        ),
    ),
)

"""Particles on the sphere: what the centre alone does to a representation, and what it leaves.

An input is a particle, its embedding ``z_i`` a unit vector that may move freely; augmentation noise
makes views of different inputs alike, so that a positive pair is (i, j) with probability ``K_ij``
(``K`` symmetric, rows of equal sums). In expectation over views the objectives are

- ``alignment``: ``L = -Σ_ij K_ij z_i·z_j``;
- ``centre``: ``L + λ ||s||²`` with the centre ``s = mean_i z_i``;
- ``contrast``: InfoNCE with endless negatives at temperature T,
  ``-Σ_ij K_ij z_i·z_j/T + mean_i log mean_j exp(z_i·z_j/T)``.

Each particle follows minus n times its gradient, along the sphere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError, unknown_name
from fullrank.randomness import generator
from fullrank.theory.flow import Rates, integrate
from fullrank.theory.validity import checked

OBJECTIVES = ("alignment", "centre", "contrast")


@dataclass(frozen=True)
class SphereObjective:
    """One of the objectives.

    Attributes:
        kind: ``alignment``, ``centre`` or ``contrast``.
        penalty: λ of the centre, from 0.
        temperature: T of the contrast, above 0.

    Raises:
        UserError: an unknown kind, a number outside its range.

    References:
        Jha, Blaschko, Asano and Tuytelaars 2024, "The Common Stability Mechanism behind most
        Self-Supervised Learning Approaches" (the centre penalty); Wang and Isola 2020 (InfoNCE
        in the limit of many negatives).
    """

    kind: str
    penalty: float = 1.0
    temperature: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in OBJECTIVES:
            raise unknown_name("kind", self.kind, OBJECTIVES)
        checked("penalty", self.penalty)
        checked("temperature", self.temperature, above=True)

    def value(
        self, z: Float[Tensor, "cells n d"], kernel: Float[Tensor, "n n"]
    ) -> Float[Tensor, " cells"]:
        """Return the expected loss of each particle system."""
        gram = z @ z.mT
        attraction = -(kernel * gram).sum(dim=(1, 2))
        if self.kind == "alignment":
            return attraction
        if self.kind == "centre":
            return attraction + self.penalty * gram.mean(dim=(1, 2))
        kernel_mean = (gram / self.temperature).exp().mean(dim=2)
        return attraction / self.temperature + kernel_mean.log().mean(dim=1)

    def rates(self, kernel: Float[Tensor, "n n"]) -> Rates:
        """Return the flow of ``(z,)``, z of shape (cells, n, d) with unit rows."""
        n = len(kernel)
        pull = 2 * n * kernel
        if self.kind == "centre":
            pull = pull - 2 * self.penalty / n

        def rates(t: float, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            (z,) = states
            if self.kind == "contrast":
                push = ((z @ z.mT) / self.temperature).softmax(dim=2)
                force = (pull - push - push.mT) @ z / self.temperature
            else:
                force = pull @ z
            return (force - (force * z).sum(dim=2, keepdim=True) * z,)

        return rates


def uniform_kernel(n: int, overlap: float) -> Float[Tensor, "n n"]:
    """The mean-field picture: with probability ``overlap`` the other view could be anyone's.

    Args:
        n: inputs, at least 2.
        overlap: q, from 0 (views of different inputs are never alike) to 1 (noise alone).

    Returns:
        ``(1 - q) I/n + q/n²``, whose sum is 1.

    Raises:
        UserError: an overlap outside [0, 1], fewer than two inputs.
    """
    checked("overlap", overlap, high=1.0)
    _check_count("n", n, 2)
    every = torch.full((n, n), overlap / n**2, dtype=torch.float64)
    return every + (1 - overlap) / n * torch.eye(n, dtype=torch.float64)


def augmentation_kernel(inputs: Float[Tensor, "n k"], noise: float) -> Float[Tensor, "n n"]:
    """How often Gaussian views of two inputs meet: ``K_ij ∝ exp(-||x_i - x_j||²/(4 σ²))``.

    Scaled to equal rows (Sinkhorn), so that every input is seen as often.

    Args:
        inputs: directions or any points.
        noise: σ², variance of the augmentation in each coordinate, above 0.

    Returns:
        Symmetric; sums to 1.

    Raises:
        UserError: noise that is not positive.

    References:
        HaoChen, Wei, Gaidon and Ma 2021 (the augmentation graph).
    """
    checked("noise", noise, above=True)
    inputs = inputs.double()
    K = (-torch.cdist(inputs, inputs).square() / (4 * noise)).exp()
    scale = torch.ones(len(K), dtype=torch.float64)
    for _ in range(1000):
        # The square root of the step keeps a symmetric iteration from swinging.
        scale = (scale / (K @ scale)).sqrt()
    K = scale[:, None] * K * scale
    return K / K.sum()


def collapse_rates(
    objective: SphereObjective, kernel: Float[Tensor, "n n"]
) -> Float[Tensor, " n_1"]:
    """Growth rates of small displacements from complete collapse, all ``z_i`` in one point.

    With ``k`` the eigenvalues of ``nK`` beside the 1 of all particles together: alignment ``2(k -
    1)``, which never grows; centre ``2(k - 1 + λ)``; contrast ``2k/T``. So the centre penalty lifts
    collapse from ``λ > 1 - max k`` on.

    Returns:
        One rate a displacement that keeps the mean, ascending.
    """
    k = torch.linalg.eigvalsh(_without_mean(kernel) * len(kernel))
    # The displacement of all together is a rotation; it is the eigenvector that was removed.
    zero = int(k.abs().argmin())
    k = torch.cat([k[:zero], k[zero + 1 :]])
    if objective.kind == "contrast":
        return 2 * k / objective.temperature
    return 2 * (k - 1 + (objective.penalty if objective.kind == "centre" else 0.0))


def escape_rate(objective: SphereObjective, overlap: float) -> float:
    """Growth rate of displacements out of two antipodal points, in the mean-field picture.

    Half of the particles sit in each point; displacements at right angles, with mean 0 in each
    half. The centre is 0, so alignment and its penalty exert no force at all: rate 0. Under the
    contrast it is ``(2/T) tanh(1/T)``, whatever the overlap.

    Raises:
        UserError: an overlap outside [0, 1].
    """
    checked("overlap", overlap, high=1.0)
    if objective.kind != "contrast":
        return 0.0
    inverse = torch.tensor(1 / objective.temperature, dtype=torch.float64)
    return float(2 * inverse * inverse.tanh())


def antipodal(n: int, d: int) -> Float[Tensor, "n d"]:
    """Particles in two opposite points, half in each: centre 0, rank 1.

    Raises:
        UserError: an odd or too small n, fewer than 2 dimensions.
    """
    _check_count("d", d, 2)
    if n < 2 or n % 2:
        raise UserError(f"n: {n} given; allowed: even, 2 and more.")
    z = torch.zeros(n, d, dtype=torch.float64)
    z[:, 0] = 1 - 2 * (torch.arange(n) % 2).double()
    return z


def great_circle(n: int, d: int) -> Float[Tensor, "n d"]:
    """Particles evenly on one great circle: centre 0, rank 2.

    Raises:
        UserError: fewer than 2 particles or dimensions.
    """
    _check_count("n", n, 2)
    _check_count("d", d, 2)
    angle = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
    z = torch.zeros(n, d, dtype=torch.float64)
    z[:, 0], z[:, 1] = angle.cos(), angle.sin()
    return z


def centre_length(z: Float[Tensor, "*cells n d"]) -> Float[Tensor, "*cells"]:
    """``||s||``, between 0 and 1; 1 is collapse. The residual's share is ``1 - ||s||²``."""
    return z.mean(dim=-2).norm(dim=-1)


def participation(z: Float[Tensor, "*cells n d"]) -> Float[Tensor, "*cells"]:
    """Participation ratio of the uncentred second moment ``M`` of unit rows: ``1/tr M²``.

    1 for one direction and its opposite, d for an even sphere.
    """
    M = z.mT @ z / z.shape[-2]
    return 1 / M.square().sum(dim=(-2, -1))


@dataclass(frozen=True)
class Demonstration:
    """What became of slightly disturbed low-dimensional configurations.

    Attributes:
        names: of the configurations.
        centre: ``||s||`` before, and after under each objective, (configurations,).
        rank: participation ratio, likewise.
        outside: root mean square distance from the configuration's own plane, likewise.
    """

    names: tuple[str, ...]
    centre: dict[str, Float[Tensor, " c"]]
    rank: dict[str, Float[Tensor, " c"]]
    outside: dict[str, Float[Tensor, " c"]]


def first_moment_is_not_enough(
    *,
    n: int = 32,
    d: int = 6,
    overlap: float = 0.2,
    penalty: float = 1.0,
    temperature: float = 0.5,
    disturbance: float = 1e-3,
    until: float = 20.0,
    seed: int = 0,
) -> Demonstration:
    """Two antipodal points, and a great circle, under the centre penalty and under InfoNCE.

    Both have centre 0, all that the penalty asks for: disturbed, they stay what they are, of rank 1
    and 2. InfoNCE drives them apart into all dimensions. A point (complete collapse) is left
    under both.

    Args:
        n: particles, even.
        d: dimensions, at least 3.
        overlap: q of the mean-field kernel.
        penalty: λ; above ``overlap`` it lifts complete collapse.
        temperature: T of InfoNCE.
        disturbance: standard deviation of the displacement of every coordinate.
        until: time.
        seed: of the disturbance.

    Raises:
        UserError: a number outside its range.
    """
    _check_count("d", d, 3)
    checked("disturbance", disturbance, above=True)
    checked("until", until, above=True)
    point = torch.zeros(n, d, dtype=torch.float64)
    point[:, 0] = 1
    names = ("point", "antipodal points", "great circle")
    still = torch.stack([point, antipodal(n, d), great_circle(n, d)])
    noise = torch.randn(still.shape, generator=generator(seed, "disturbance"), dtype=torch.float64)
    start = torch.nn.functional.normalize(still + disturbance * noise, dim=2)
    kernel = uniform_kernel(n, overlap)
    ends = {"before": start}
    times = torch.tensor([0.0, until], dtype=torch.float64)
    for kind in ("centre", "contrast"):
        objective = SphereObjective(kind, penalty, temperature)
        ends[kind] = integrate(objective.rates(kernel), (start,), times, atol=1e-9).check().end[0]
    own = torch.stack([(z.square().sum(dim=0) > 0) for z in still])
    return Demonstration(
        names,
        {name: centre_length(z) for name, z in ends.items()},
        {name: participation(z) for name, z in ends.items()},
        {
            name: z.masked_fill(own[:, None, :], 0.0).square().sum(dim=2).mean(dim=1).sqrt()
            for name, z in ends.items()
        },
    )


def _without_mean(kernel: Tensor) -> Tensor:
    """Return the kernel on displacements that sum to 0."""
    kernel = kernel - kernel.mean(dim=0)
    return kernel - kernel.mean(dim=1, keepdim=True)


def _check_count(name: str, given: int, least: int) -> None:
    if given < least:
        raise UserError(f"{name}: {given} given; allowed: {least} and more.")

"""The eigenmodes of a network in training, estimated from two views of held-out images.

Everything is a second moment. Products across the two views of an image have no bias from the
augmentation, so ``F = E[z̄ z̄ᵀ]`` is the symmetric part of ``E[z_1 z_2ᵀ]``, and what views of an
image differ by is ``E[z zᵀ] - F``. The predictor counts as the matrix that regresses predictions
on embeddings, which is the predictor itself if that is linear; how much it leaves out is told.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fullrank.measure.predictor import eigenspace_alignment, symmetry
from fullrank.models.joint_embedding import Encoded, JointEmbedding
from fullrank.models.objectives.cosine import CosineObjective, NormalisedMSEObjective
from fullrank.models.objectives.isotropic import IsotropicCosine, IsotropicEuclidean
from fullrank.models.targets import MomentumTarget, OnlineTarget
from fullrank.monitor.checkup import HeldOut
from fullrank.monitor.settling import batch_norms, settle
from fullrank.theory.fate import Modes

# A direction whose variance is below this share of the largest is lost in the noise of the images.
RESOLVED = 1e-4
# Chunks of images that settle the batch norms of predictor and target.
SETTLING_CHUNKS = 4


@dataclass(frozen=True)
class Pull:
    """How an objective pulls on predictions; see :class:`fullrank.theory.fate.Drive`."""

    strength: float
    cosine: bool
    leading: bool


def pull_of(network: JointEmbedding) -> Pull | None:
    """Return how the objective of an asymmetric network pulls; None if it is of another kind.

    Asymmetric are a predictor or a target without gradient, and an objective that compares each
    prediction with the other view's target alone. Two views are assumed.
    """
    plain = isinstance(network.predictor, nn.Identity)
    if plain and isinstance(network.target, OnlineTarget):
        return None
    kinds = {
        CosineObjective: Pull(1.0, cosine=True, leading=True),  # the mean of both orders
        NormalisedMSEObjective: Pull(4.0, cosine=True, leading=True),  # twice 2 - 2 cos
        IsotropicCosine: Pull(4.0, cosine=True, leading=False),
        IsotropicEuclidean: Pull(4.0, cosine=False, leading=False),
    }
    return kinds.get(type(network.objective))


@dataclass(frozen=True)
class Estimate:
    """Eigenmodes of one network, by descending variance; m of d are resolved.

    Attributes:
        modes: the resolved ones.
        vectors: their directions ``u_j``, ``(d, m)``.
        second_moment: F, ``(d, d)``; as estimated, so not always positive semidefinite.
        below_zero: how many eigenvalues of F are negative beyond rounding.
        linear: share of ``E|p|²`` that the regression explains.
        symmetric: of the regressed predictor, see :func:`fullrank.measure.predictor.symmetry`.
        aligned: with F, see :func:`fullrank.measure.predictor.eigenspace_alignment`.
        misaligned: part of ``E|p|²`` that is not ``Σ p_j² s_j (1 + sigma²_j)``.
        normalised: whether a batch norm ends the embedding.
    """

    modes: Modes
    vectors: Float[Tensor, "d m"]
    second_moment: Float[Tensor, "d d"]
    below_zero: int
    linear: float | None
    symmetric: float | None
    aligned: float | None
    misaligned: float
    normalised: bool


class ModeMoments:
    """Collects the moments that eigenmodes are read from, chunk by chunk.

    Use it while the network is in eval mode, without gradients; see :meth:`reading`.
    """

    def __init__(self, network: JointEmbedding) -> None:
        self.network = network
        self.last, self.norm = _last_layer(network)
        self.count = 0
        self.sums: dict[str, Tensor] = {}
        self._inputs: list[Tensor] = []

    def settle(self, held_out: HeldOut) -> None:
        """Give the batch norms of predictor and target statistics of held-out images.

        For a copy of a network of few steps, whose encoder has been calibrated already.
        """

        def passes() -> None:
            for views in itertools.islice(held_out.views(), SETTLING_CHUNKS):
                if len(views[0]) > 1:
                    embeddings = [self.network.encode(view).embedding for view in views]
                    self.network.target(views, embeddings)
                    for z in embeddings:
                        self.network.predictor(z)

        settle(batch_norms([self.network.predictor, self.network.target]), passes)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Watch what the last layer reads, until the end of the block."""
        if self.last is None:
            yield
            return
        hook = self.last.register_forward_pre_hook(
            lambda _, given: self._inputs.append(given[0].detach())
        )
        try:
            yield
        finally:
            hook.remove()
            self._inputs.clear()

    def update(self, views: list[Tensor], encoded: list[Encoded]) -> None:
        """Add the images of a chunk, whose views have just been encoded in this order."""
        inputs, self._inputs[:] = list(self._inputs), []
        z = [e.embedding for e in encoded]
        targets = self.network.target(views, z)
        predictions = [self.network.predictor(one) for one in z]
        self._inputs.clear()  # a target or predictor may share the layer
        (z1, z2), (t1, t2), (p1, p2) = (
            [_double(one) for one in side[:2]] for side in (z, targets, predictions)
        )
        self.count += len(z1)
        self._add("between", z1.T @ z2)
        self._add("whole", (z1.T @ z1 + z2.T @ z2) / 2)
        self._add("target", (z1.T @ t2 + z2.T @ t1) / 2)
        self._add("prediction", (p1.T @ z1 + p2.T @ z2) / 2)
        self._add("length", (p1.square().sum() + p2.square().sum()) / 2)
        if len(inputs) == 2 and inputs[0].ndim == 2:
            x1, x2 = map(_double, inputs)
            self._add("input", (x1.T @ z2 + x2.T @ z1) / 2)

    def _add(self, name: str, value: Tensor) -> None:
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def read(self) -> Estimate:
        """Read the modes; there are none of an embedding that is zero or not finite."""
        mean = {name: (value / self.count).cpu() for name, value in self.sums.items()}
        F = (mean["between"] + mean["between"].T) / 2
        C = mean["whole"]
        sound = all(bool(value.isfinite().all()) for value in mean.values())
        d = len(F)
        if not sound:
            return _nothing(torch.full_like(F, torch.nan), 0, self.norm is not None)
        s, vectors = torch.linalg.eigh(F)
        s, vectors = s.flip(0), vectors.flip(1)
        scale = float(s.abs().max())
        tiny = max(scale * d * torch.finfo(s.dtype).eps, 1e-30)
        below_zero = int((s < -tiny).sum())
        m = int((s > max(RESOLVED * float(s[0]), tiny)).sum())
        if m == 0:
            return _nothing(F, below_zero, self.norm is not None)
        s, U = s[:m], vectors[:, :m]
        noise = (_along(C, U) / s - 1).clamp(min=0)
        W = _regression(mean["prediction"], C)
        p = _along(W, U)
        length = float(mean["length"])
        told = 2 * float((W * mean["prediction"]).sum()) - float((W @ C * W).sum())
        kept = U.T @ W @ U
        modes = Modes(
            variance=s,
            noise=noise,
            predictor=p,
            target=_along(mean["target"], U) / s,
            gain=self._gain(mean.get("input"), s, U),
        )
        return Estimate(
            modes=modes,
            vectors=U,
            second_moment=F,
            below_zero=below_zero,
            linear=min(1.0, max(0.0, told / length)) if length > 0 else None,
            symmetric=symmetry(kept),
            aligned=eigenspace_alignment(kept, torch.diag(s)).weighted,
            misaligned=max(0.0, length - float((p.square() * s * (1 + noise)).sum())),
            normalised=self.norm is not None,
        )

    def _gain(self, moment: Tensor | None, s: Tensor, U: Tensor) -> Tensor:
        """Return ``|E[x z̄ᵀ] u|² / s``: of a linear last layer, ``uᵀ W X² Wᵀ u / uᵀ W X Wᵀ u``."""
        if moment is None:
            return torch.ones_like(s)
        gain = (moment @ U).square().sum(0) / s
        if self.norm is not None and self.norm.running_var is not None:
            # z = D W x behind a batch norm, D of one over standard deviations: D enters twice.
            weight = 1.0 if self.norm.weight is None else _double(self.norm.weight).square().cpu()
            scale = weight / (_double(self.norm.running_var).cpu() + self.norm.eps)
            gain = gain * (U.square() * scale[:, None]).sum(0)
        return gain.clamp(min=torch.finfo(s.dtype).tiny)


def followed(estimate: Estimate, vectors: Float[Tensor, "d k"]) -> Float[Tensor, " k"]:
    """Return the variances between images along other directions, such as those of before."""
    return _along(estimate.second_moment, vectors)


def matched(
    estimate: Estimate, vectors: Float[Tensor, "d k"]
) -> tuple[list[int | None], list[float]]:
    """Find each mode again among earlier directions.

    Returns:
        For every mode of ``estimate``, the earlier direction that it lies nearest to, and the
        cosine of the angle between them, between 0 and 1; None and 0 if there is no earlier one.
    """
    m = estimate.vectors.shape[1]
    if vectors.shape[1] == 0 or m == 0:
        return [None] * m, [0.0] * m
    nearest = (estimate.vectors.T @ vectors).abs().max(1)
    places: list[int | None] = list(nearest.indices.tolist())
    return places, nearest.values.clamp(max=1).tolist()


def share_kept(network: JointEmbedding, step: int, total_steps: int) -> float | None:
    """Return the share of the old average that a momentum target keeps; None of other targets."""
    target = network.target
    return target.tau_at(step, total_steps) if isinstance(target, MomentumTarget) else None


def _double(rows: Tensor) -> Tensor:
    rows = rows.detach()
    return rows.to(torch.float64) if rows.device.type != "mps" else rows.cpu().to(torch.float64)


def _along(matrix: Tensor, U: Tensor) -> Tensor:
    return (U * (matrix @ U)).sum(0)


def _regression(cross: Tensor, C: Tensor) -> Tensor:
    """Return ``E[p zᵀ] C⁺``, on the directions that C resolves."""
    values, vectors = torch.linalg.eigh(C)
    resolved = values > values[-1] * len(C) * 1e-10
    V = vectors[:, resolved]
    return (cross @ V / values[resolved]) @ V.T


def _nothing(F: Tensor, below_zero: int, normalised: bool) -> Estimate:
    none = torch.zeros(0, dtype=torch.float64)
    return Estimate(
        modes=Modes(none, none, none, none, none),
        vectors=torch.zeros(len(F), 0, dtype=torch.float64),
        second_moment=F,
        below_zero=below_zero,
        linear=None,
        symmetric=None,
        aligned=None,
        misaligned=0.0,
        normalised=normalised,
    )


def _last_layer(network: JointEmbedding) -> tuple[nn.Linear | None, _BatchNorm | None]:
    """Return the linear layer that makes the embedding, and the batch norm behind it, if any."""
    modules: list[nn.Module] = [m for m in network.projector.modules() if not list(m.children())]
    found: Any = None
    norm: _BatchNorm | None = None
    for module in modules:
        if isinstance(module, nn.Linear):
            found, norm = module, None
        elif isinstance(module, _BatchNorm):
            norm = module
        elif not isinstance(module, nn.Identity):
            found, norm = None, None  # what follows a layer is not a function of it alone
    return found, norm

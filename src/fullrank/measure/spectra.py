"""Spectra of all images, and of all but one group of them: what error bars are computed from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure._moment_state import MomentState
from fullrank.measure.jackknife import Jackknifed
from fullrank.measure.sample import RowSample
from fullrank.measure.shards import Shards

# Up to this width the spectrum without each shard is computed anew; beyond it that would cost more
# than everything else together, and is replaced by its first-order change.
EXACT_WIDTH = 1024
# Groups of sampled rows of the first-order jackknife.
_GROUPS = 16
_MOST_SAMPLED = 2048

Method = Literal["jackknife", "first-order jackknife", "none"]


@dataclass(frozen=True)
class Spectra:
    """What every statistic of one spectrum is computed from. Everything is float64.

    Attributes:
        sigma: singular values of the centred (rows, dim) matrix, descending, each view about its
            own mean; ``k = min(rows, dim)`` of them.
        uncentred: singular values of the rows as they are, descending, ``k`` of them.
        variances: variance of each coordinate, shape (dim,).
        rows: images times views.
        views: views of each image.
        dim: number of coordinates.
    """

    sigma: Float[Tensor, " k"]
    uncentred: Float[Tensor, " k"]
    variances: Float[Tensor, " d"]
    rows: int
    views: int
    dim: int

    @property
    def images(self) -> int:
        """Number of images."""
        return self.rows // self.views


@dataclass(frozen=True)
class Replicated:
    """Spectra of all images, and replicates that show how they vary from sample to sample.

    Attributes:
        full: spectra of all images.
        replicates: spectra without each group of images; empty if there is a single group.
        halves: spectra of halves of the groups, for the bias of order ``1/n²``; empty if they
            cannot be halved.
        method: ``"jackknife"`` if each replicate is the spectrum without one shard, from which a
            standard error and the bias follow; ``"first-order jackknife"`` if each
            is the first-order change of the spectrum, which gives the standard error but no bias;
            ``"none"`` without replicates.
    """

    full: Spectra
    replicates: tuple[Spectra, ...]
    method: Method
    halves: tuple[Spectra, ...] = ()

    def of(self, statistic: Callable[[Spectra], float | Tensor]) -> Jackknifed:
        """Return a statistic of the spectra, with its replicates.

        With the first-order jackknife it has no halves, and its ``corrected`` says nothing: where
        ``method`` is not ``"jackknife"``, leave it out.
        """
        return Jackknifed(
            float(statistic(self.full)),
            tuple(float(statistic(spectra)) for spectra in self.replicates),
            tuple(float(statistic(spectra)) for spectra in self.halves),
        )


def spectra_of(state: MomentState) -> Spectra:
    """Compute the spectra that a state of moments holds.

    Raises:
        UserError: the state is empty.
    """
    if state.count == 0:
        raise UserError("state: it holds no images; allowed: one image or more.")
    return Spectra(
        sigma=state.singular_values,
        uncentred=state.uncentred_singular_values,
        variances=state.variances,
        rows=state.rows,
        views=state.views,
        dim=state.dim,
    )


def replicated_spectra(
    shards: Shards, sample: RowSample | Float[Tensor, "_m _d"] | None = None
) -> Replicated:
    """Compute the spectra of all images, and replicates for error bars.

    Args:
        shards: moments of the images in groups.
        sample: some of the rows, in random order; used where ``dim > EXACT_WIDTH``.

    Returns:
        One replicate a shard that holds images where ``dim <= EXACT_WIDTH``; otherwise, with a
        sample, first-order replicates; otherwise none.

    Raises:
        UserError: the shards hold no images.
    """
    full = spectra_of(shards.total)
    if shards.dim <= EXACT_WIDTH and len(shards.filled) > 1:
        replicates = tuple(map(spectra_of, shards.leave_one_out()))
        return Replicated(full, replicates, "jackknife", tuple(map(spectra_of, shards.halves())))
    rows = sample.rows if isinstance(sample, RowSample) else sample
    if rows is not None and len(rows) >= 2 * _GROUPS:
        changed = _first_order(shards.total, full, rows)
        return Replicated(full, changed, "first-order jackknife")
    return Replicated(full, (), "none")


def participation_ratio_corrected(shards: Shards) -> float:
    """Participation ratio ``(tr Σ)² / tr Σ²`` of the population, from unbiased products.

    The plug-in ratio reads low: its reciprocal is about ``1/n`` too large (Chun, Canatar, Chung and
    Lee 2025, "Estimating dimensionality of neural representations from finite samples",
    arXiv 2509.26560). Here covariances ``S_a`` and ``S_b`` of different shards, each divided by
    ``n - 1``, are independent, so that ``tr S_a S_b`` and ``tr S_a tr S_b`` averaged over the pairs
    are exact in expectation for any distribution.

    Args:
        shards: at least two that hold two images or more.

    Returns:
        At least 1 in expectation, and close to it for one direction; NaN if nothing varies, if
        there are fewer than two such shards, or if the noise exceeds the signal.
    """
    states = [state for state in shards.states if state.count > 1]
    if len(states) < 2:
        return math.nan
    total = torch.zeros_like(states[0].scatter)
    trace = squares = own = weights = own_weights = 0.0
    for state in states:
        # Pairs weigh by the product of their rows.
        part = state.scatter * (state.count / (state.views * (state.count - 1)))
        total += part
        squares += float(part.square().sum())
        own += float(part.trace()) ** 2
        trace += float(part.trace())
        weights += state.count
        own_weights += state.count**2
    pairs = weights**2 - own_weights
    numerator = (trace**2 - own) / pairs
    denominator = (float(total.square().sum()) - squares) / pairs
    return numerator / denominator if denominator > 0 else math.nan


def _first_order(state: MomentState, full: Spectra, rows: Tensor) -> tuple[Spectra, ...]:
    """Replicates whose jackknife variance is that of a mean over all rows, to first order.

    To first order an eigenvalue is a mean over the rows, ``λ_j = mean_i (v_jᵀ y_i)²`` (Davis 1977,
    "Asymptotic theory for principal component analysis: non-Gaussian case"). The means over ``g``
    groups of ``m`` sampled rows vary ``n/m`` times too much for those of all ``n``.
    """
    size = min(len(rows), _MOST_SAMPLED) // _GROUPS
    groups = rows[: size * _GROUPS].to(state.scatter.device, torch.float64)
    weight = (len(groups) / max(state.rows, len(groups))) ** 0.5 / (_GROUPS - 1)
    mean = state.mean[0]  # the sample is of the first view

    def change(values: Tensor) -> Tensor:
        means = values.square_().view(_GROUPS, size, -1).mean(1)
        return weight * (means - means.mean(0))

    moved_variances = change(groups - mean)
    # Error bars need no more than float32 eigenvectors.
    basis = torch.linalg.eigh(state.covariance.float()).eigenvectors.flip(1)
    along = (groups - mean).float() @ basis
    exact, uncentred = (
        torch.nn.functional.pad(sigma.square() / state.rows, (0, state.dim - len(sigma)))
        for sigma in (full.sigma, full.uncentred)
    )
    if state.views == 1:
        at = basis.T.double() @ mean
        vectors = _rank_one_basis(exact, uncentred, at)
        turned = along @ vectors.float() + at @ vectors  # a large mean must not drown the rest
    else:
        second = state.covariance + state.mean.T @ state.mean / state.views
        turned = (groups @ torch.linalg.eigh(second).eigenvectors).flip(1)
    centred_change, uncentred_change = change(along.double()), change(turned.double())
    k = len(full.sigma)

    def roots(values: Tensor) -> Tensor:
        values = (values.clamp(min=0) * state.rows).sqrt()
        return values.sort(descending=True).values[:k]

    return tuple(
        Spectra(
            sigma=roots(exact - centred_change[g]),
            uncentred=roots(uncentred - uncentred_change[g]),
            variances=(full.variances - moved_variances[g]).clamp(min=0),
            rows=full.rows,
            views=full.views,
            dim=full.dim,
        )
        for g in range(_GROUPS)
    )


def _rank_one_basis(
    eigenvalues: Float[Tensor, " d"], changed: Float[Tensor, " d"], z: Float[Tensor, " d"]
) -> Float[Tensor, "d d"]:
    """Return eigenvectors of ``diag(eigenvalues) + z zᵀ`` as columns, float64.

    That of the eigenvalue ``μ`` is ``(diag(eigenvalues) - μ)⁻¹ z`` but for its length (Bunch,
    Nielsen and Sorensen 1978, "Rank-one modification of the symmetric eigenproblem", theorem 5).

    Args:
        eigenvalues: descending.
        changed: eigenvalues of the sum, descending.
        z: the vector of the rank-one term.
    """
    # Where z has no part in a direction, neither changes: a small part stands for none.
    least = torch.finfo(z.dtype).eps * float(changed[0]) + torch.finfo(z.dtype).tiny
    apart = eigenvalues[:, None] - changed
    apart = torch.where(apart < 0, apart.clamp(max=-least), apart.clamp(min=least))
    z = torch.where(z < 0, z.clamp(max=-(least**0.5)), z.clamp(min=least**0.5))
    vectors = z[:, None] / apart
    return vectors / torch.linalg.vector_norm(vectors, dim=0)

"""The spectrum of rows too wide for a (dim, dim) matrix: leading eigenvalues, and what is left.

A Nyström sketch holds the product of the scatter with ``k`` random vectors: memory is O(dim k).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Real
from torch import Tensor

from fullrank.errors import UserError
from fullrank.randomness import generator

# Width beyond which a float64 (dim, dim) matrix, of 2 GiB, is replaced by a sketch.
WIDEST_EXACT = 16384
# Entries of a block of rows in float64: 64 MiB.
_BLOCK_ENTRIES = 1 << 23


@dataclass(frozen=True)
class SketchedSpectrum:
    """Leading eigenvalues of a scatter, none too large, and how much of its trace they leave.

    Attributes:
        eigenvalues: of the scatter, descending, shape (k,): ``λ̂_j <= λ_j``.
        unresolved: the exact trace of the scatter minus their sum, ``Σ_j (λ_j - λ̂_j) >= 0``.
        variances: exact variance of each coordinate, shape (dim,).
        rows: number of rows.
        dim: number of coordinates.
        centred: whether the scatter is about the mean, not about 0.
    """

    eigenvalues: Float[Tensor, " k"]
    unresolved: float
    variances: Float[Tensor, " d"]
    rows: int
    dim: int
    centred: bool = True

    @property
    def rank_at_most(self) -> int:
        """How many eigenvalues can differ from 0."""
        return min(self.rows - self.centred, self.dim)

    @property
    def most_spread(self) -> Float[Tensor, " k"]:
        """Singular values if the unresolved trace fills the smallest eigenvalues evenly."""
        return self._filled(max(self.rank_at_most, 1))

    @property
    def most_concentrated(self) -> Float[Tensor, " k"]:
        """Singular values if the unresolved trace all belongs to the first direction."""
        return self._filled(1)

    def _filled(self, first: int) -> Float[Tensor, " k"]:
        """Return singular values if the unresolved trace fills the smallest of the first ones."""
        length = min(self.rows, self.dim)
        lambda_ = torch.zeros(length, dtype=torch.float64, device=self.eigenvalues.device)
        resolved = self.eigenvalues[:length]
        lambda_[: len(resolved)] = resolved
        rising = lambda_[:first].flip(0)
        # The level at which what the j smallest lack is what there is to spend.
        spent = rising * torch.arange(1, first + 1, device=rising.device) - rising.cumsum(0)
        j = int((spent <= self.unresolved).sum())
        level = (self.unresolved + float(rising[:j].sum())) / j
        lambda_[:first] = lambda_[:first].clamp(min=level)
        return lambda_.sqrt()

    def bounds(self, statistic: Callable[[Tensor], float | Tensor]) -> tuple[float, float]:
        """Return the smaller and the larger value of a statistic of singular values.

        Every spectrum that agrees with the sketch lies between ``most_concentrated`` and
        ``most_spread`` in the order of majorisation, so that these are bounds for whatever is
        Schur-concave or Schur-convex in the eigenvalues: the participation ratio, the stable rank,
        any Hill number of eigenvalues. Entropies of singular values (effective rank, RankMe) have
        their largest value at ``most_spread``, too, and their smallest where the unresolved trace
        fills the first few eigenvalues evenly: from the stationarity of the entropy over what
        agrees with the sketch, all that is raised ends at one level. How few is tried out.

        Args:
            statistic: a function of descending singular values.
        """
        spread = float(statistic(self.most_spread))
        end = float(statistic(self.most_concentrated))
        sign = -1 if end > spread else 1
        for first in range(2, self.rank_at_most + 1):
            value = float(statistic(self._filled(first)))
            if not sign * value < sign * end:
                break
            end = value
        return (spread, end) if sign < 0 else (end, spread)


class NystromSketch:
    """Mean, variances and a sketch of the scatter of rows, in one pass and any order.

    Args:
        dim: number of coordinates.
        size: number of random vectors, ``k``: with ``r < k - 1``, the unresolved trace is at most
            ``1 + r/(k-r-1)`` times that of the best rank-``r`` approximation, in expectation.
        seed: chooses the random vectors.

    Raises:
        UserError: a size outside 1 to ``dim``.

    References:
        Tropp, Yurtsever, Udell and Cevher 2017, "Fixed-rank approximation of a
        positive-semidefinite matrix from streaming data", algorithm 3 and theorem 4.1.
    """

    def __init__(
        self, dim: int, size: int = 256, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        if not 1 <= size <= dim:
            raise UserError(f"size: {size} given; allowed: 1 to the width, {dim}.")
        self.dim, self.size, self.seed = dim, size, seed
        vectors = torch.randn(dim, size, generator=generator(seed, "sketch"), dtype=torch.float32)
        self._vectors = vectors.to(device, torch.float64)
        self.count = 0
        self.mean = self._vectors.new_zeros(dim)
        self.square_sums = self._vectors.new_zeros(dim)  # about the mean
        self._product = torch.zeros_like(self._vectors)  # scatter times the vectors
        self._spectra: dict[bool, SketchedSpectrum] = {}  # of the rows so far

    def update(self, rows: Real[Tensor, "n d"]) -> None:
        """Add rows, in any real dtype.

        Raises:
            UserError: another width, or rows that are not finite.
        """
        if rows.shape[1] != self.dim:
            raise UserError(f"rows: width {rows.shape[1]} given; allowed: {self.dim}.")
        for block in rows.detach().split(max(1, _BLOCK_ENTRIES // self.dim)):
            if len(block) == 0:
                continue
            x = block.to(self._vectors.device, torch.float64, copy=True)
            bad = ~torch.linalg.vector_norm(x, dim=1).isfinite()
            if bool(bad.any()):
                raise UserError(
                    f"rows: {int(bad.sum())} of {len(bad)} rows hold NaN, infinity or values too "
                    "large to square; only finite rows are allowed."
                )
            mean = x.mean(0)
            x -= mean
            squares = torch.linalg.vector_norm(x, dim=0).square()
            self._absorb(len(x), mean, squares)
            self._product.addmm_(x.T, x @ self._vectors)

    def merge(self, other: NystromSketch) -> None:
        """Add the rows that another sketch saw.

        Raises:
            UserError: its width, size or seed differs.
        """
        ours, theirs = (self.dim, self.size, self.seed), (other.dim, other.size, other.seed)
        if ours != theirs:
            raise UserError(
                f"sketch: width, size and seed {theirs} given; allowed: {ours}, as in the one it "
                "is merged into."
            )
        if other.count > 0:
            self._absorb(other.count, other.mean, other.square_sums)
            self._product += other._product

    def _absorb(self, count: int, mean: Tensor, square_sums: Tensor) -> None:
        """Move to the common mean (Chan, Golub and LeVeque 1979)."""
        self._spectra.clear()
        total = self.count + count
        delta = mean - self.mean
        weight = self.count * count / total
        self.square_sums += square_sums + weight * delta.square()
        self._product.addr_(delta, delta @ self._vectors, alpha=weight)
        self.mean += delta * (count / total)
        self.count = total

    def spectrum(self, centred: bool = True) -> SketchedSpectrum:
        """Return the leading eigenvalues of the scatter, and what they leave.

        Computed once for the rows so far.

        Args:
            centred: about the mean; else about 0, to which the mean adds one direction that the
                sketch knows exactly.

        Raises:
            UserError: no rows were added.
        """
        if self.count == 0:
            raise UserError("sketch: it holds no rows; allowed: one row or more.")
        if centred not in self._spectra:
            self._spectra[centred] = self._decomposed(centred)
        return self._spectra[centred]

    def _decomposed(self, centred: bool) -> SketchedSpectrum:
        about, trace = self._product, float(self.square_sums.sum())
        if not centred:
            about = about.addr(self.mean, self.mean @ self._vectors, alpha=self.count)
            trace += self.count * float(self.mean.square().sum())
        # A small multiple of the identity keeps the Cholesky factor stable; it is taken off again.
        shift = torch.finfo(torch.float64).eps * float(torch.linalg.matrix_norm(about))
        lambda_ = about.new_zeros(self.size)
        if trace > 0:
            product = about + shift * self._vectors
            core = self._vectors.T @ product
            factor, failed = torch.linalg.cholesky_ex((core + core.T) / 2)
            while int(failed) != 0:  # fewer directions than vectors, up to rounding
                shift *= 10
                product = about + shift * self._vectors
                core = self._vectors.T @ product
                factor, failed = torch.linalg.cholesky_ex((core + core.T) / 2)
            root = torch.linalg.solve_triangular(factor, product.T, upper=False)
            lambda_ = (torch.linalg.eigvalsh(root @ root.T).flip(0) - shift).clamp(min=0)
            # Beyond the rank that so few rows can have there is only rounding noise.
            lambda_[max(self.count - centred, 0) :] = 0
        return SketchedSpectrum(
            eigenvalues=lambda_,
            unresolved=max(trace - float(lambda_.sum()), 0.0),
            variances=self.square_sums / self.count,
            rows=self.count,
            dim=self.dim,
            centred=centred,
        )

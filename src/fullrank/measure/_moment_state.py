"""The value that moments add up to: what it holds, what follows from it, how two merge."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure._tridiagonal import WIDE, spectra_with_and_without_mean

_MATRICES = ("scatter", "residual", "contrast")


class MomentState:
    """First and second moments of ``count`` images, each seen in ``views`` views. Immutable.

    Everything is float64. Below, ``x_iv`` is the row of image ``i`` in view ``v``, ``m_v`` the mean
    of view ``v``, ``y_iv = x_iv - m_v``, and ``ȳ_i`` the mean of ``y_iv`` over the views of one
    image. A unit row is ``u = x / ||x||``, and 0 where ``x`` is 0.

    It is not a dataclass because torchmetrics reaches into the dataclasses and tuples that a metric
    returns, and would turn the (1, 1) matrices of one-dimensional data into scalars.

    Attributes:
        count: number of images, ``n``.
        mean: ``m``, shape (views, dim).
        scatter: ``Σ_iv y_iv y_ivᵀ``, shape (dim, dim): views pooled, each about its own mean.
        residual: ``Σ_iv (y_iv - ȳ_i)(y_iv - ȳ_i)ᵀ``, shape (dim, dim); None for a single view.
        contrast: ``½ Σ_i (y_i0 + y_i1)(y_i0 - y_i1)ᵀ``, shape (dim, dim), for exactly two views,
            else None. With ``scatter`` and ``residual`` it holds the joint scatter of both views.
        unit_mean: mean of the unit rows over images and views, shape (dim,).
        unit_scatter: ``Σ_iv (u_iv - unit_mean)²`` per coordinate, shape (dim,).
        zero_rows: how many of the ``count * views`` rows are exactly 0.
        pair_distance: ``Σ_i Σ_{v<w} ||u_iv - u_iw||²``; 0 for a single view.
    """

    count: int
    mean: Tensor
    scatter: Tensor
    residual: Tensor | None
    contrast: Tensor | None
    unit_mean: Tensor
    unit_scatter: Tensor
    zero_rows: int
    pair_distance: float

    def __init__(
        self,
        *,
        count: int,
        mean: Float[Tensor, "q d"],
        scatter: Float[Tensor, "d d"],
        residual: Float[Tensor, "d d"] | None,
        contrast: Float[Tensor, "d d"] | None,
        unit_mean: Float[Tensor, " d"],
        unit_scatter: Float[Tensor, " d"],
        zero_rows: int,
        pair_distance: float,
    ) -> None:
        self.__dict__.update(
            count=count,
            mean=mean,
            scatter=scatter,
            residual=residual,
            contrast=contrast,
            unit_mean=unit_mean,
            unit_scatter=unit_scatter,
            zero_rows=zero_rows,
            pair_distance=pair_distance,
        )

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"MomentState is immutable; cannot set {name!r}")

    def __getattr__(self, name: str) -> Any:
        """Add up the matrices of :func:`merge_later` when one is asked for."""
        parts = self.__dict__.get("parts")
        if parts is None or name not in _MATRICES:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        matrices = _merged_matrices(*parts)
        self.__dict__.update(matrices, parts=None)
        return matrices[name]

    def __repr__(self) -> str:
        return f"MomentState(count={self.count}, views={self.views}, dim={self.dim})"

    @property
    def views(self) -> int:
        """Number of views of each image, ``q``."""
        return self.mean.shape[0]

    @property
    def dim(self) -> int:
        """Number of coordinates, ``d``."""
        return self.mean.shape[1]

    @property
    def rows(self) -> int:
        """Number of rows: images times views."""
        return self.count * self.views

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """``scatter / rows``: mean of the views' covariances, each divided by n (not n - 1)."""
        return self.scatter / self.rows

    @property
    def variances(self) -> Float[Tensor, " d"]:
        """Variance of each coordinate: the diagonal of ``covariance``."""
        return self.scatter.diagonal() / self.rows

    @cached_property
    def eigenvalues(self) -> Float[Tensor, " k"]:
        """Eigenvalues of ``covariance``, descending, never negative; ``k = min(rows, dim)``."""
        return self.singular_values.square() / self.rows

    @cached_property
    def singular_values(self) -> Float[Tensor, " k"]:
        """Singular values of the (rows, dim) matrix of centred rows, descending.

        ``k = min(rows, dim)`` as in an SVD; each view is centred by its own mean, so that at most
        ``rows - views`` of them differ from 0, and the rest are set to exactly 0.

        They are square roots of eigenvalues of ``scatter``. Squaring in float64 costs precision in
        the tail: the relative error of ``σ_j`` grows as ``eps (σ_1/σ_j)²`` with ``eps = 2.2e-16``,
        and was at most a tenth of that for power laws of exponent 0.5 to 4 and for collapsed data.
        That is below 1e-6 for ``σ_j >= 1e-5 σ_1`` and below 1e-3 for ``σ_j >= 1e-7 σ_1``; what
        lies under about ``1e-8 σ_1`` is rounding noise. A mean of 100 spreads changes nothing.
        """
        return self._both[0]

    @cached_property
    def uncentred_singular_values(self) -> Float[Tensor, " k"]:
        """Singular values of the (rows, dim) matrix of rows as they are; ``k = min(rows, dim)``.

        Here a mean that is large against the spread is itself ``σ_1``, and the precision of the
        others is relative to it (see ``singular_values``).
        """
        return self._both[1]

    @property
    def within(self) -> Float[Tensor, "d d"] | None:
        """``Σ_iv (x_iv - x̄_i)(x_iv - x̄_i)ᵀ``: views about their image's mean; None for one view."""
        if self.residual is None:
            return None
        offset = self.mean - self.mean.mean(0)
        return self.residual + self.count * (offset.T @ offset)

    @property
    def between(self) -> Float[Tensor, "d d"] | None:
        """``Σ_i (x̄_i - x̄)(x̄_i - x̄)ᵀ``: scatter of the image means; None for a single view."""
        return None if self.residual is None else (self.scatter - self.residual) / self.views

    @property
    def cross(self) -> Float[Tensor, "d d"] | None:
        """``Σ_i y_i0 y_i1ᵀ``: cross-view scatter (rows: view 0) of exactly two views, else None."""
        if self.residual is None or self.contrast is None:
            return None
        return (self.scatter - 2 * self.residual - self.contrast + self.contrast.T) / 2

    def view_scatter(self, view: int) -> Float[Tensor, "d d"]:
        """Scatter of one view about its mean, ``Σ_i y_iv y_ivᵀ``; for one or two views.

        Raises:
            UserError: there are more than two views (only their pooled scatter is kept), or no
                such view.
        """
        if not 0 <= view < self.views:
            raise UserError(f"view: {view} given; there are {self.views} views, counted from 0.")
        if self.views == 1:
            return self.scatter
        if self.contrast is None:
            raise UserError(f"view_scatter: kept for one or two views, not for {self.views}.")
        difference = self.contrast + self.contrast.T
        return (self.scatter + (difference if view == 0 else -difference)) / 2

    def merge(self, other: MomentState) -> MomentState:
        """Return the moments of both sets of images together; see :func:`merge`."""
        return merge(self, other)

    def to(self, device: torch.device | str) -> MomentState:
        """Return the same moments with every tensor on ``device``."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in MomentState.__annotations__}
        for name, value in fields.items():
            if isinstance(value, Tensor):
                fields[name] = value.to(device)
        return MomentState(**fields)

    @cached_property
    def _both(self) -> tuple[Tensor, Tensor]:
        """Singular values of centred rows and of rows as they are."""
        if self.views == 1 and self.dim >= WIDE and self.scatter.device.type == "cpu":
            centred, uncentred = spectra_with_and_without_mean(
                self.scatter, self.mean[0] * self.count**0.5
            )
        else:
            centred = torch.linalg.eigvalsh(self.scatter)
            uncentred = torch.linalg.eigvalsh(self.scatter + self.count * (self.mean.T @ self.mean))
        # Beyond the rank that so few rows can have there is only rounding noise.
        return self._roots(centred, self.rows - self.views), self._roots(uncentred, self.rows)

    def _roots(self, eigenvalues: Tensor, rank_at_most: int) -> Tensor:
        lambda_ = eigenvalues.flip(0).clamp(min=0)[: self.rows]
        lambda_[max(rank_at_most, 0) :] = 0
        return lambda_.sqrt()


def merge(a: MomentState, b: MomentState) -> MomentState:
    """Merge the moments of two disjoint sets of images.

    Exact up to rounding, without cancellation: scatters are kept about their own means and moved
    to the common one by a positive rank-``views`` term (Chan, Golub and LeVeque 1979).

    Args:
        a: moments of one set of images; may be empty (``count == 0``).
        b: moments of another, with the same number of views and coordinates.

    Returns:
        The moments of the union.

    Raises:
        UserError: views or coordinates differ.
    """
    merged = merge_later(a, b)
    _ = merged.scatter
    return merged


def merge_later(a: MomentState, b: MomentState) -> MomentState:
    """Merge as :func:`merge`, but add up the matrices only when one of them is asked for.

    Until then ``a`` and ``b`` are kept. Many numbers need no matrix, and adding wide ones up takes
    longer than all else that they need.

    Raises:
        UserError: views or coordinates differ.
    """
    if a.count == 0:
        return b
    if b.count == 0:
        return a
    if a.mean.shape != b.mean.shape:
        raise UserError(
            f"moments of {a.views} views of width {a.dim} cannot be merged with moments of "
            f"{b.views} views of width {b.dim}; both must agree."
        )
    count = a.count + b.count
    share = b.count / count
    unit_delta = b.unit_mean - a.unit_mean
    merged = object.__new__(MomentState)
    merged.__dict__.update(
        count=count,
        mean=a.mean + share * (b.mean - a.mean),
        unit_mean=a.unit_mean + share * unit_delta,
        unit_scatter=a.unit_scatter
        + b.unit_scatter
        + a.views * a.count * share * unit_delta.square(),
        zero_rows=a.zero_rows + b.zero_rows,
        pair_distance=a.pair_distance + b.pair_distance,
        parts=(a, b),
    )
    return merged


def _merged_matrices(a: MomentState, b: MomentState) -> dict[str, Tensor | None]:
    weight = a.count * b.count / (a.count + b.count)
    delta = b.mean - a.mean
    residual = contrast = None
    if a.residual is not None and b.residual is not None:
        offset = delta - delta.mean(0)
        residual = (a.residual + b.residual).addmm_(offset.T, offset, alpha=weight)
    if a.contrast is not None and b.contrast is not None:
        total, difference = delta[0] + delta[1], delta[0] - delta[1]
        contrast = (a.contrast + b.contrast).addr_(total, difference, alpha=weight / 2)
    scatter = (a.scatter + b.scatter).addmm_(delta.T, delta, alpha=weight)
    return {"scatter": scatter, "residual": residual, "contrast": contrast}

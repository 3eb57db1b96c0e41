"""Sample-contrastive and dimension-contrastive losses differ by lengths of rows and columns alone.

For any K of n rows (samples) and d columns (dimensions), since ``KᵀK`` and ``KKᵀ`` have one
Frobenius norm,

    Σ_(i≠j) (KᵀK)²_ij + Σ_j ||K_:j||⁴ = Σ_(i≠j) (KKᵀ)²_ij + Σ_i ||K_i:||⁴.

Where columns are normalised (Barlow Twins) or rows are (SimCLR), a length term is a constant, so
that decorrelating dimensions and pushing samples apart are the same criterion up to the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Duality:
    """The four terms of the identity, each at least 0.

    Attributes:
        sample_contrastive: ``Σ_(i≠j) (KKᵀ)²_ij``, squared similarities of different samples.
        row_lengths: ``Σ_i ||K_i:||⁴``.
        dimension_contrastive: ``Σ_(i≠j) (KᵀK)²_ij``, squared moments of different dimensions.
        column_lengths: ``Σ_j ||K_:j||⁴``.
    """

    sample_contrastive: Float[Tensor, ...]
    row_lengths: Float[Tensor, ...]
    dimension_contrastive: Float[Tensor, ...]
    column_lengths: Float[Tensor, ...]

    @property
    def by_samples(self) -> Float[Tensor, ...]:
        """Return ``||KKᵀ||²``."""
        return self.sample_contrastive + self.row_lengths

    @property
    def by_dimensions(self) -> Float[Tensor, ...]:
        """Return ``||KᵀK||²``, equal to ``by_samples``."""
        return self.dimension_contrastive + self.column_lengths


def duality(K: Float[Tensor, "... n d"]) -> Duality:
    """Return the four terms for embeddings K, rows being samples.

    Each side is computed on its own, from the n × n and from the d × d products.

    References:
        Garrido, Chen, Bardes, Najman and LeCun 2022, "On the duality between contrastive and
        non-contrastive self-supervised learning" (2206.02574).
    """
    rows, columns = K @ K.mT, K.mT @ K
    off_rows, on_rows = _split(rows)
    off_columns, on_columns = _split(columns)
    return Duality(off_rows, on_rows, off_columns, on_columns)


def _split(products: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of squares off and on the diagonal."""
    on = products.diagonal(dim1=-2, dim2=-1).square().sum(dim=-1)
    # Not the total minus the diagonal, which would cancel for orthogonal rows.
    off = products - products.diagonal(dim1=-2, dim2=-1).diag_embed()
    return off.square().sum(dim=(-2, -1)), on

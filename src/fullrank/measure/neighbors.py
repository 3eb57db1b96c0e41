"""Nearest neighbours and distances of pairs, in blocks: no (rows, rows) matrix is ever held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Integer, Real
from torch import Tensor

from fullrank.errors import UserError, unknown_name
from fullrank.measure.moments import unit_rows

CHUNK = 1024


def knn_classify(
    train_x: Real[Tensor, "n d"],
    train_y: Integer[Tensor, " n"],
    test_x: Real[Tensor, "m d"],
    *,
    k: int = 20,
    weights: str = "uniform",
    temperature: float = 0.07,
) -> Integer[Tensor, " m"]:
    """Classify each test row by its ``k`` most similar training rows (cosine).

    A row that is exactly 0 has cosine 0 to every other. Products run in the rows' own precision,
    float32 at least, also under autocast.

    Args:
        train_x: training rows (n, d).
        train_y: their classes, integers >= 0, shape (n,).
        test_x: rows to classify (m, d).
        k: how many neighbours vote; 20 as in lightly and DINO.
        weights: ``"uniform"``: one vote each, ties to the smallest class, as in scikit-learn;
            ``"similarity"``: votes weigh ``exp(cosine / temperature)``.
        temperature: of the weights; 0.07 in Wu et al.

    Returns:
        The predicted classes (m,), int64.

    Raises:
        UserError: ``k`` below 1 or above ``n``, an unknown kind of weights, a temperature that is
            not positive, negative classes.

    References:
        Wu, Xiong, Yu and Lin 2018, "Unsupervised Feature Learning via Non-Parametric Instance
        Discrimination", section 3.4.
    """
    if weights not in ("uniform", "similarity"):
        raise unknown_name("weights", weights, ["uniform", "similarity"])
    if not 1 <= k <= len(train_x):
        raise UserError(f"k: {k} given; allowed: 1 to {len(train_x)}, the training rows.")
    if not temperature > 0:
        raise UserError(f"temperature: {temperature} given; allowed: above 0.")
    if bool((train_y < 0).any()):
        raise UserError(f"train_y: class {int(train_y.min())} given; allowed: 0 and above.")
    dtype = torch.promote_types(torch.promote_types(train_x.dtype, test_x.dtype), torch.float32)
    bank, _ = unit_rows(train_x.detach().to(dtype))
    classes = int(train_y.max()) + 1
    every_class = torch.arange(classes, device=train_y.device)
    labels = train_y.to(torch.int64)
    predicted = []
    for chunk in test_x.detach().split(CHUNK):
        query, _ = unit_rows(chunk.to(dtype))
        with torch.autocast(bank.device.type, enabled=False):
            cosine, index = (query @ bank.T).topk(k, dim=1)
        # Relative to the nearest, or a small temperature overflows.
        votes = (
            ((cosine - cosine[:, :1]) / temperature).exp()
            if weights == "similarity"
            else torch.ones_like(cosine)
        )
        tally = votes.new_zeros(len(chunk), classes).scatter_add_(1, labels[index], votes)
        # argmax promises nothing about ties; here the smallest class wins.
        winners = tally == tally.amax(1, keepdim=True)
        predicted.append(torch.where(winners, every_class, classes).amin(1))
    return torch.cat(predicted) if predicted else labels.new_zeros(0)


@dataclass(frozen=True)
class PairDistances:
    """Distances between all pairs of a sample of rows, from one matrix product, block by block.

    Squared distances of the unit rows come from products of unit rows about their mean, so that
    they keep their digits when all rows crowd into one direction; those of the rows as given follow
    by sums of non-negative terms. Both resolve a millionth of a percent of the sample's extent. A
    row that is exactly 0 counts as the zero vector.

    Attributes:
        centred: unit rows minus their mean, float64, shape (m, d).
        squares: their squared lengths (m,).
        norms: lengths of the rows as given, over the largest absolute entry (m,).
        pointing: which rows are not 0 (m,).
    """

    centred: Float[Tensor, "m d"]
    squares: Float[Tensor, " m"]
    norms: Float[Tensor, " m"]
    pointing: Bool[Tensor, " m"]

    @classmethod
    def of(cls, rows: Real[Tensor, "m d"]) -> PairDistances:
        """Prepare a sample of rows.

        Raises:
            UserError: fewer than two rows, no column, NaN or infinite values.
        """
        unit, norms = unit_rows(scaled(rows))
        # About the first row, equal rows are exactly at distance 0.
        centred = unit - unit[0].clone()
        centred -= centred.mean(0)
        return cls(centred, centred.square().sum(1), norms, norms > 0)

    def blocks(self, edges: list[int] | None = None) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield each pair of blocks of rows once, with their squared distances as unit rows.

        Args:
            edges: where blocks begin, and the number of rows; by default every ``CHUNK // 2`` rows.

        Yields:
            Two slices, the first not after the second, and their squared distances, between 0 and
            4; of a block with itself both triangles, and exactly 0 on the diagonal.
        """
        m = len(self.centred)
        edges = [*range(0, m, CHUNK // 2), m] if edges is None else edges
        parts = [slice(start, stop) for start, stop in pairwise(edges)]
        for i, a in enumerate(parts):
            for b in parts[i:]:
                lengths = self.squares[a, None] + self.squares[b]
                block = lengths.addmm_(self.centred[a], self.centred[b].T, alpha=-2).clamp_(0, 4)
                yield a, b, block.fill_diagonal_(0) if a == b else block

    def of_given_rows(self, a: slice, b: slice, block: Tensor) -> Tensor:
        """Return the squared distances of the rows as given, from those of the unit rows.

        ``||x - y||² = |x| |y| ||u - v||² + (|x| - |y|)²``; in units of the largest entry.
        """
        first, second = self.norms[a, None], self.norms[b]
        return block * (first * second) + (first - second).square()


class Nearest:
    """The ``k`` nearest neighbours of each row, among those offered so far."""

    def __init__(self, m: int, k: int, device: torch.device | None = None) -> None:
        self.squares = torch.full((m, k), torch.inf, dtype=torch.float64, device=device)
        self.index = torch.full((m, k), -1, device=device)

    def offer(self, a: slice, b: slice, block: Tensor) -> None:
        """Offer the rows ``b`` to the rows ``a``, with their squared distances (a, b)."""
        if block.numel() == 0:
            return
        k = self.squares.shape[1]
        if k == 1:
            found, place = block.min(dim=1, keepdim=True)
        else:
            found, place = block.topk(min(k, block.shape[1]), dim=1, largest=False)
        squares = torch.cat([self.squares[a], found], 1)
        index = torch.cat([self.index[a], place * (b.step or 1) + b.start], 1)
        self.squares[a], kept = squares.topk(k, dim=1, largest=False)
        self.index[a] = index.gather(1, kept)

    def offer_both(self, a: slice, b: slice, block: Tensor) -> None:
        """Offer each of two blocks to the other; no row is its own neighbour."""
        if a == b:
            self.offer(a, b, block.clone().fill_diagonal_(torch.inf))
        else:
            self.offer(a, b, block)
            self.offer(b, a, block.T)


def scaled(rows: Real[Tensor, "m d"]) -> Float[Tensor, "m d"]:
    """Return a sample of rows in float64, over the largest absolute entry.

    Raises:
        UserError: fewer than two rows, no column, NaN or infinite values.
    """
    m, d = rows.shape
    if m < 2 or d < 1:
        raise UserError(f"rows: shape {(m, d)} given; at least two rows and a column are needed.")
    x = rows.detach().to(torch.float64)
    bad = ~x.isfinite().all(1)
    if bool(bad.any()):
        raise UserError(
            f"rows: {int(bad.sum())} of {m} hold NaN or infinity (the first is row "
            f"{int(bad.nonzero()[0])}); only finite rows are allowed."
        )
    largest = x.abs().max()
    return x / torch.where(largest > 0, largest, 1.0)

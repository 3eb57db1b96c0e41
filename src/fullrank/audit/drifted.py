"""The layers of several beside those of the first, image by image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fullrank.audit.measured import Layer
from fullrank.audit.subject import Block, Subject
from fullrank.errors import UserError
from fullrank.measure.drift import linear_cka, neighbourhood_overlap, svcca
from fullrank.measure.sample import RowSample
from fullrank.measure.tokens import gram_drift

# Images whose tokens are kept whole, at most, and the bytes that those of a layer may hold.
IMAGES = 256
TOKEN_BYTES = 32 << 20


class WithTokens(Subject):
    """A subject that keeps the tokens of some images as its blocks go by.

    Which images these are depends on the seed alone, so that two subjects keep the same ones.

    Args:
        subject: at a level of tokens; elsewhere nothing is kept.
        seed: of the draw.
    """

    def __init__(self, subject: Subject, seed: int = 0) -> None:
        self.what, self.kind, self.conventions = subject.what, subject.kind, subject.conventions
        self._subject, self._seed = subject, seed
        self.kept: dict[str, tuple[int, RowSample]] = {}

    @property
    def labels(self) -> Int[Tensor, " n"] | None:
        """The labels of the subject."""
        return self._subject.labels

    def reference(self) -> Subject | None:
        """Return the twin of the subject."""
        return self._subject.reference()

    def blocks(self) -> Iterable[Block]:
        """Yield the blocks of the subject."""
        self.kept = {}
        for block in self._subject.blocks():
            for layer, count in self.conventions.get("tokens", {}).items():
                if layer in block:
                    self._keep(layer, count, block[layer][0])
            yield block

    def _keep(self, layer: str, count: int, rows: Tensor) -> None:
        whole = rows.detach().reshape(-1, count * rows.shape[1])
        if layer not in self.kept:
            images = max(1, min(IMAGES, TOKEN_BYTES // (4 * whole.shape[1])))
            self.kept[layer] = (count, RowSample(images, self._seed))
        self.kept[layer][1].update(whole)


@dataclass(frozen=True)
class Drawn:
    """What is kept of a WHAT to compare it with another.

    Attributes:
        what: its name.
        counts: by layer, how many rows there are in all.
        rows: by layer, the sampled rows (m, d) and which they are.
        tokens: by layer, the tokens of whole images (m, t, d) and which images they are.
    """

    what: str
    counts: dict[str, int]
    rows: dict[str, tuple[Tensor | None, Tensor | None]]
    tokens: dict[str, tuple[Float[Tensor, "m t d"], Int[Tensor, " m"]]] = field(
        default_factory=dict
    )


def drawn(subject: Subject, layers: dict[str, Layer]) -> Drawn:
    """Return what of a subject's layers is compared."""
    rows = {name: (layer.rows, layer.index) for name, layer in layers.items()}
    kept = subject.kept if isinstance(subject, WithTokens) else {}
    tokens = {
        name: (sample.rows.unflatten(1, (count, -1)), sample.index)
        for name, (count, sample) in kept.items()
    }
    counts = {name: layer.moments.count for name, layer in layers.items()}
    return Drawn(subject.what, counts, rows, tokens)


def drift_between(first: Drawn, later: Drawn) -> list[dict[str, Any]]:
    """Compare one WHAT with another, on the images that both sampled.

    Args:
        first: what is compared with.
        later: what is compared.

    Returns:
        A row for each layer that both have. At a level of tokens it has their ``gram_drift``, too,
        and the number ``gram_images`` of images whose tokens were compared.

    Raises:
        UserError: they share no layer, or hold different images.
    """
    shared = [layer for layer in first.rows if layer in later.rows]
    if not shared:
        raise UserError(
            f"drift: {first.what} has {', '.join(first.rows)} and {later.what} has "
            f"{', '.join(later.rows)}. Allowed: a layer of the same name in both."
        )
    found: list[dict[str, Any]] = []
    for layer in shared:
        (x, i), (y, j) = first.rows[layer], later.rows[layer]
        if x is None or y is None or i is None or j is None:
            raise UserError("drift: no rows are sampled. Allowed: a sample of 4 or more.")
        counts = first.counts[layer], later.counts[layer]
        if counts[0] != counts[1]:
            raise UserError(
                f"drift: {first.what} and {later.what} do not hold the same images: {counts[0]:,} "
                f"and {counts[1]:,} rows."
            )
        x, y, _ = _of_both(x, i, y, j)
        row = {
            "from": first.what,
            "to": later.what,
            "layer": layer,
            "n": len(x),
            "linear_cka": float(linear_cka(x, y, debiased=True)),
            "svcca": float(svcca(x, y)),
            "neighbourhood_overlap": float(neighbourhood_overlap(x, y)),
        }
        if layer in first.tokens and layer in later.tokens:
            row |= _gram(*first.tokens[layer], *later.tokens[layer])
        found.append(row)
    return found


def _of_both(x: Tensor, i: Tensor, y: Tensor, j: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows of both that have the same index, and the indices.

    Wider rows may be sampled in smaller number; the sample of fewer is a part of that of more.
    """
    shared = i[torch.isin(i, j)].sort().values
    at = [of.argsort()[torch.searchsorted(of.sort().values, shared)] for of in (i, j)]
    return x[at[0]], y[at[1]], shared


def _gram(x: Tensor, i: Tensor, y: Tensor, j: Tensor) -> dict[str, Any]:
    if x.shape[1] != y.shape[1]:
        raise UserError(
            f"drift: {x.shape[1]} and {y.shape[1]} tokens an image. Allowed: the same positions."
        )
    x, y, index = _of_both(x, i, y, j)
    return {"gram_drift": gram_drift(x, y), "gram_images": len(index)}

"""The layers of several beside those of the first, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fullrank.errors import UserError
from fullrank.measure.drift import linear_cka, neighbourhood_overlap, svcca


def drift_between(
    whats: Sequence[str], samples: Sequence[Mapping[str, tuple[Any, Any]]]
) -> list[dict[str, Any]]:
    """Compare every later WHAT with the first, on the images that both sampled.

    Args:
        whats: their names.
        samples: of each, by layer, the sampled rows and which they are.

    Returns:
        A row for each later WHAT and each layer that it shares with the first.

    Raises:
        UserError: two share no layer, or hold different images.
    """
    rows: list[dict[str, Any]] = []
    first = 0
    for later in range(1, len(whats)):
        shared = [layer for layer in samples[first] if layer in samples[later]]
        if not shared:
            raise UserError(
                f"drift: {whats[first]} has {', '.join(samples[first])} and {whats[later]} has "
                f"{', '.join(samples[later])}. Allowed: a layer of the same name in both."
            )
        for layer in shared:
            (x, i), (y, j) = samples[first][layer], samples[later][layer]
            if x is None or y is None or i.shape != j.shape or not bool((i == j).all()):
                raise UserError(
                    f"drift: {whats[first]} and {whats[later]} do not hold the same images."
                )
            rows.append(
                {
                    "from": whats[first],
                    "to": whats[later],
                    "layer": layer,
                    "n": len(x),
                    "linear_cka": float(linear_cka(x, y, debiased=True)),
                    "svcca": float(svcca(x, y)),
                    "neighbourhood_overlap": float(neighbourhood_overlap(x, y)),
                }
            )
    return rows

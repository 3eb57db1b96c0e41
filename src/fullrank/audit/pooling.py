"""One vector a sample from features of rank 3 and 4: a choice that is declared, never guessed.

- ``cls``: the first token of ``(n, t, d)``;
- ``mean``: the mean over the tokens of ``(n, t, d)``;
- ``grid``: the mean over height and width of ``(n, c, h, w)``;
- ``grid_last``: the same of ``(n, h, w, c)``;
- ``flatten``: all values of a sample in one row;
- ``views``: axis 1 of ``(n, q, d)`` counts views of a sample;
- ``tokens``: every token ``(n, t, d)``, or every position ``(n, c, h, w)``, is a row; the rows of
  a sample follow each other.
"""

from __future__ import annotations

from jaxtyping import Shaped
from torch import Tensor

from fullrank.errors import UserError

_FITS = {
    3: ("cls", "mean", "flatten", "views", "tokens"),
    4: ("grid", "grid_last", "flatten", "tokens"),
}


def check_pool(shape: tuple[int, ...], pool: str | None, where: str) -> None:
    """Refuse features of rank 3 or 4 without a pooling that fits them.

    Args:
        shape: of the features, samples first.
        pool: the choice; None is no choice.
        where: the features come from, for the error.

    Raises:
        UserError: no choice was made, or it does not fit the rank.
    """
    if len(shape) == 2:
        if pool == "tokens":
            raise UserError(
                f"level: {where} has features of shape {shape}, one vector a sample and no tokens. "
                "Allowed: sample."
            )
        return
    allowed = _FITS.get(len(shape))
    if allowed is None:
        raise UserError(
            f"{where}: features of shape {shape}, rank {len(shape)}. Allowed: rank 2, or 3 and 4 "
            "with pool."
        )
    if pool not in allowed:
        given = "which need a pooling" if pool is None else f"which pool={pool!r} does not fit"
        raise UserError(
            f"pool: {where} has features of shape {shape}, {given}. Allowed for rank "
            f"{len(shape)}: {', '.join(allowed)}."
        )


def pooled(
    features: Shaped[Tensor, "n ..."], pool: str | None
) -> tuple[Shaped[Tensor, "rows d"], ...]:
    """Return rows, one tensor a view (several only for ``views``).

    Args:
        features: of rank 2, which stay as they are, or 3 or 4 with a ``pool`` that fits.
        pool: a choice of the module's list.
    """
    if features.dim() == 2:
        return (features,)
    if pool == "cls":
        return (features[:, 0],)
    if pool == "mean":
        return (features.mean(1),)
    if pool == "grid":
        return (features.mean((2, 3)),)
    if pool == "grid_last":
        return (features.mean((1, 2)),)
    if pool == "views":
        return tuple(features.unbind(1))
    if pool == "tokens":
        positions = features.flatten(2).mT if features.dim() == 4 else features
        return (positions.flatten(0, 1),)
    return (features.flatten(1),)


def tokens_of(shape: tuple[int, ...], pool: str | None) -> int:
    """Return how many rows ``pooled`` makes of one sample of features of this shape."""
    if pool != "tokens" or len(shape) == 2:
        return 1
    return shape[1] if len(shape) == 3 else shape[2] * shape[3]

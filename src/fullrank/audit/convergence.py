"""How each value moves with the number of images it is computed from."""

from __future__ import annotations

from fullrank.measure.shards import Shards
from fullrank.measure.table import Conventions, read_values


def convergence(
    shards: Shards, conventions: Conventions | None = None
) -> dict[str, list[tuple[int, float]]]:
    """Compute every metric of the moments on 1, 2, 4, … and all of the shards.

    Args:
        shards: the moments, in groups of images.
        conventions: constants of the metrics' definitions.

    Returns:
        By metric, ``(images, value)`` pairs in rising order; each set of images holds the one
        before. What needs pairs of rows is not among them.
    """
    states = [state for state in shards.states if state.count > 0]
    points: dict[str, list[tuple[int, float]]] = {}
    total = None
    for number, state in enumerate(states, start=1):
        total = state if total is None else total.merge(state)
        # Powers of 2 are evenly spaced where the bias, of order 1/n, is to be seen.
        if number & (number - 1) == 0 or number == len(states):
            for name, value in read_values(total, conventions).items():
                points.setdefault(name, []).append((total.count, value))
    return points

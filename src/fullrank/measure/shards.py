"""Moments kept in shards: groups of images that merge exactly, and can be left out one at a time.

What is computed from all shards but one shows how far a number moves with the images it is
computed from: that is its error bar (see :mod:`fullrank.measure.jackknife`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from fullrank.errors import UserError
from fullrank.measure._moment_state import MomentState, merge, merge_later


@dataclass(frozen=True)
class Shards:
    """Moments of disjoint groups of images.

    Image ``i`` belongs to shard ``i mod len(states)``, so that the groups are equal up to one image
    and are the same for any order, split or number of processes.

    Attributes:
        states: moments of each group; some may be empty (``count == 0``).
    """

    states: tuple[MomentState, ...]

    def __post_init__(self) -> None:
        if not self.states:
            raise UserError("shards: none given; allowed: 1 or more.")

    def __len__(self) -> int:
        return len(self.states)

    @cached_property
    def total(self) -> MomentState:
        """Moments of all images."""
        return _merged(self.states)

    @property
    def filled(self) -> tuple[MomentState, ...]:
        """Those shards that hold images."""
        return tuple(state for state in self.states if state.count > 0)

    @property
    def count(self) -> int:
        """Number of images in all shards."""
        return sum(state.count for state in self.states)

    @property
    def views(self) -> int:
        """Number of views of each image."""
        return self.total.views

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return self.total.dim

    def merge(self, other: Shards) -> Shards:
        """Return the shards of both sets of images together, shard by shard.

        Raises:
            UserError: the numbers of shards, of views or the widths differ.
        """
        if len(self) != len(other):
            raise UserError(
                f"shards: {len(other)} given; allowed: {len(self)}, as in those they are merged "
                "with."
            )
        return Shards(tuple(map(merge, self.states, other.states)))

    def leave_one_out(self) -> Iterator[MomentState]:
        """Yield the moments of all images but those of one shard, for each that holds images.

        Nothing is subtracted, which would cancel: each is a merge of what comes before and what
        comes after the shard. Its matrices are added up when they are asked for. With a single
        shard that holds images there is nothing to yield.
        """
        states = self.filled
        if len(states) < 2:
            return
        after = [states[-1]]  # after[j]: merge of the last j + 1
        for state in reversed(states[1:-1]):
            after.append(merge_later(state, after[-1]))
        yield after.pop()
        before = states[0]
        for state in states[1:-1]:
            yield merge_later(before, after.pop())
            before = merge_later(before, state)
        yield before

    def halves(self, pairs: int = 4) -> Iterator[MomentState]:
        """Yield the moments of halves of the shards that hold images, each after its complement.

        The halves are runs of neighbouring shards, the last followed by the first. There are none
        unless an even number of shards, at least 4, holds images.

        Args:
            pairs: at most how many pairs of a half and its complement.
        """
        states = self.filled
        half, odd = divmod(len(states), 2)
        if odd or half < 2:
            return
        pairs = min(pairs, half)
        for start in [k * half // pairs for k in range(pairs)]:
            ring = states[start:] + states[:start]
            yield _merged(ring[:half])
            yield _merged(ring[half:])


def _merged(states: Sequence[MomentState]) -> MomentState:
    """Merge in a balanced tree: each matrix goes through a logarithmic number of additions."""
    parts = list(states)
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        parts = [merge(a, b) for a, b in pairs] + (parts[-1:] if len(parts) % 2 else [])
    return parts[0]

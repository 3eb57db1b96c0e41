"""Which images each step of a run shows: a pure function of seed and step."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from fullrank.data.stream_settings import (
    IID,
    Chunked,
    Cumulative,
    Hybrid,
    Once,
    Stream,
)
from fullrank.errors import UserError
from fullrank.randomness import generator


@dataclass(frozen=True)
class Phase:
    """Steps that draw from the same images.

    Attributes:
        first: its first step, counted from 0.
        chunk: the chunk that is due, counted from 0; None where all images are.
        start: of its images in the run's permutation.
        stop: behind the last of them.
    """

    first: int
    chunk: int | None
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class Order:
    """The images of every batch of a run.

    Within a phase every pass is a permutation of the phase's images, of which the last
    ``n mod batch_size`` are left out.

    Args:
        stream: the kind of order.
        n: training images.
        batch_size: of the global batch.
        seed: the run's seed.
        steps: of the whole run; needed by every kind but ``iid``, ``fraction`` and an endless
            ``once``.
        endless: whether there are images beyond the ``n`` (``once`` goes on with them).

    Raises:
        UserError: a batch does not fit a phase, there are more chunks than steps, too few images
            to show each once, or no ``steps`` where they are needed.
    """

    def __init__(
        self,
        stream: Stream,
        n: int,
        batch_size: int,
        seed: int,
        steps: int | None = None,
        endless: bool = False,
    ) -> None:
        self.stream, self.n, self.batch_size, self.seed = stream, n, batch_size, seed
        self.endless = endless
        share = getattr(stream, "share", 1.0)
        self.pool_size = max(1, round(share * n))
        if isinstance(stream, Once) and not endless:
            steps = _needed(steps, stream)
            shown = batch_size * steps
            if shown > n:
                raise UserError(
                    f"data.stream: once needs {shown:,} images for {steps:,} steps of "
                    f"{batch_size}, and there are {n:,}. Allowed: at most {n // batch_size:,} "
                    "steps, or a procedural set (shapes)."
                )
        self.phases = _phases(stream, self.pool_size, steps)
        smallest = min(self.phases, key=len)
        if len(smallest) < batch_size:
            name = "batch_size"
            raise UserError(
                f"{name}: {batch_size} is more than the {len(smallest):,} images that "
                f"{describe(smallest)} of data.stream {stream.kind} has. Allowed: at most "
                f"{len(smallest):,}, fewer chunks, or a larger share."
            )
        self._firsts = [phase.first for phase in self.phases]
        self._pool: Tensor | None = None
        self._pass: tuple[tuple[int, ...], Tensor] | None = None

    def phase(self, step: int) -> Phase:
        """Return the phase of a step, counted from 0."""
        return self.phases[bisect.bisect_right(self._firsts, step) - 1]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that say of every step which chunk it drew from.

        Returns:
            ``stream`` (its settings), ``pool`` (images it draws from; None if there is no end of
            them) and ``phases``: of each the ``first`` step (counted from 1), its ``chunk`` (from
            0; None for all images) and the number of its ``images``.
        """
        endless = isinstance(self.stream, Once) and self.endless
        return {
            "stream": self.stream.to_dict(),
            "pool": None if endless else self.pool_size,
            "phases": [
                {"first": p.first + 1, "chunk": p.chunk, "images": None if endless else len(p)}
                for p in self.phases
            ],
        }

    def images(self, step: int) -> Int[Tensor, " n"]:
        """Return the images of a step's global batch."""
        if isinstance(self.stream, Once):
            return self._once(step)
        phase = self.phase(step)
        number, place = divmod(step - phase.first, len(phase) // self.batch_size)
        start = place * self.batch_size
        return self._order(phase, number)[start : start + self.batch_size]

    def _order(self, phase: Phase, number: int) -> Tensor:
        """Return the order of a phase's images in one of its passes."""
        # All images at every step: the numbers that were drawn before there were other orders.
        key = (number,) if phase.chunk is None and phase.first == 0 else (phase.first, number)
        if self._pass is None or self._pass[0] != key:
            source = generator(self.seed, "order", *key)
            order = torch.randperm(len(phase), generator=source)
            self._pass = (key, self._images(phase)[order])
        return self._pass[1]

    def _images(self, phase: Phase) -> Tensor:
        if isinstance(self.stream, IID):
            return torch.arange(self.n)
        return self._permutation()[phase.start : phase.stop]

    def _permutation(self) -> Tensor:
        """Return the permutation that shares and chunks are cut from."""
        if self._pool is None:
            self._pool = torch.randperm(self.n, generator=generator(self.seed, "chunks"))
        return self._pool

    def _once(self, step: int) -> Tensor:
        start = step * self.batch_size
        if self.endless:  # every image is as good as any other
            return torch.arange(start, start + self.batch_size)
        return self._permutation()[start : start + self.batch_size]


def describe(phase: Phase) -> str:
    """Say in a few words which images a phase draws from."""
    return "the pool" if phase.chunk is None else f"chunk {phase.chunk}"


def _phases(stream: Stream, n: int, steps: int | None) -> list[Phase]:
    if not isinstance(stream, Chunked):
        return [Phase(0, None, 0, n)]
    steps = _needed(steps, stream)
    if not isinstance(stream, Hybrid):
        return _chunks(n, stream.chunks, steps, from_start=isinstance(stream, Cumulative))
    switch = min(max(1, round(stream.switch * steps)), steps - 1)
    whole = _chunks(n, stream.chunks, switch if stream.visits == "all" else steps, False)
    return [*(phase for phase in whole if phase.first < switch), Phase(switch, None, 0, n)]


def _needed(steps: int | None, stream: Stream) -> int:
    if steps is None:
        raise UserError(
            "steps: none given. Allowed: the length of the run, on which data.stream "
            f"{stream.kind} depends."
        )
    return steps


def _chunks(n: int, chunks: int, steps: int, from_start: bool) -> list[Phase]:
    """Divide images and steps into chunks, as equally as whole numbers can."""
    if chunks > steps:
        raise UserError(
            f"data.stream.chunks: {chunks} chunks given for {steps} steps. Allowed: at most one a "
            "step."
        )
    return [
        Phase(t * steps // chunks, t, 0 if from_start else t * n // chunks, (t + 1) * n // chunks)
        for t in range(chunks)
    ]

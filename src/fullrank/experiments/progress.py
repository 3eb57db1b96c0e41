"""How far many runs have come, and how long the rest will take."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """Where many runs stand.

    Attributes:
        done: runs that need no more work: trained, found or failed.
        total: of all.
        found: those that were there already.
        failed: those that have no result.
        seconds: since the beginning.
        remaining: estimated seconds until the end; None before the first run has ended.
        text: the last run and what became of it.
    """

    done: int
    total: int
    found: int
    failed: int
    seconds: float
    remaining: float | None
    text: str


@dataclass
class Clock:
    """Counts runs and estimates what is left from the pace so far, start-up included.

    Attributes:
        total: of all.
        found: finished before.
        stopped: found as well, without a result: to train them again would only repeat it.
        trained: here.
        failed: here.
        started: when counting began.
    """

    total: int
    found: int
    stopped: int = 0
    trained: int = 0
    failed: int = 0
    started: float = field(default_factory=time.perf_counter)

    def seconds(self) -> float:
        """Return the seconds since the beginning."""
        return time.perf_counter() - self.started

    def count(self, failed: bool) -> None:
        """Count one more run that has ended."""
        self.trained += not failed
        self.failed += failed

    def now(self, text: str) -> Progress:
        """Return where things stand."""
        ended = self.trained + self.failed
        done = self.found + self.stopped + ended
        left, failed = self.total - done, self.stopped + self.failed
        remaining = 0.0 if left == 0 else left * self.seconds() / ended if ended else None
        return Progress(done, self.total, self.found, failed, self.seconds(), remaining, text)

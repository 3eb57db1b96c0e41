"""When to take check-ups: geometric, then even steps, within a share of the training time."""

from __future__ import annotations


def checkup_steps(total_steps: int, count: int) -> list[int]:
    """Return the steps at which check-ups are due.

    The start of a run, where most happens, has steps 0, 1, 2, 4, 8, … until doubling would leap
    further than the even spacing of the rest; the last step is always among them.

    Args:
        total_steps: steps of the run.
        count: check-ups in all, about.
    """
    spacing = total_steps
    steps: set[int] = {0, total_steps}
    while spacing > 1:
        geometric = [0]
        while 2 ** (len(geometric) - 1) < spacing:
            geometric.append(2 ** (len(geometric) - 1))
        even = list(range(spacing, total_steps + 1, spacing))
        if len({*geometric, *even, total_steps}) > count:
            break
        steps = {*geometric, *even, total_steps}
        spacing -= max(1, spacing // 20)
    return sorted(step for step in steps if step <= total_steps)


class TimeBudget:
    """Keeps optional work within a share of the training time.

    Args:
        share: of the training time that the work may take, e.g. 0.02.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.spent = 0.0
        self.last = 0.0

    def allows(self, training_seconds: float) -> bool:
        """Say whether one more piece of work, as long as the last, fits by now."""
        return self.spent + self.last <= self.share * training_seconds

    def spend(self, seconds: float, counted: bool = True) -> None:
        """Count a piece of work; with ``counted`` false only its length is remembered."""
        self.last = seconds
        self.spent += seconds if counted else 0.0

"""When to take check-ups: geometric, then even steps, within a share of the training time."""

from __future__ import annotations


def checkup_steps(total_steps: int, count: int) -> list[int]:
    """Return the steps at which check-ups are due.

    The start of a run, where most happens, has steps 0, 1, 2, 4, 8, … until doubling would leap
    further than the even spacing of the rest; the last step is always among them. Too few check-ups
    for all of these are spread geometrically.

    Args:
        total_steps: steps of the run.
        count: check-ups in all, about.
    """
    spacing = total_steps
    steps = {0, *(round(total_steps ** (k / (count - 1))) for k in range(1, count))}
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


class Schedule:
    """The steps at which a check-up is due.

    With a known end, those of :func:`checkup_steps`. Without one, steps 1, 2, 3, … whose distance
    grows to a tenth of the steps so far: however long the run, no more than the last tenth of it
    is unseen.

    Args:
        total_steps: steps of the run; None if it is not known.
        count: check-ups in all, about, if it is known.
    """

    GROWTH = 1.1

    def __init__(self, total_steps: int | None = None, count: int = 24) -> None:
        self.total_steps = total_steps
        self._steps = [] if total_steps is None else checkup_steps(total_steps, count)

    def following(self, step: int) -> int | None:
        """Return the first due step after ``step``; None after the end."""
        if self.total_steps is None:
            return max(step + 1, int(step * self.GROWTH))
        return next((due for due in self._steps if due > step), None)

    def is_last(self, step: int) -> bool:
        """Say whether the run ends with ``step``, as far as is known."""
        return self.total_steps is not None and step >= self.total_steps

"""When a monitor may measure: what is due by now, and what the time of training allows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist

from fullrank.models.collectives import world_size
from fullrank.monitor.schedule import Schedule, TimeBudget


class Pace:
    """Schedule, budget and clock of one run, over interruptions.

    Args:
        budget: share of the training time that measuring may take.
        total_steps: of the run, if known.

    Attributes:
        due: the next step at which to measure; None after the end.
    """

    def __init__(self, budget: float, total_steps: int | None) -> None:
        self.budget = TimeBudget(budget)
        self.schedule = Schedule(total_steps)
        self.due = self.schedule.following(0)
        self._before = 0.0  # seconds of training before this process took it up
        self._since: float | None = None
        self._spent_here = 0.0

    def start(self) -> None:
        """Start the clock, if it does not run yet."""
        if self._since is None:
            self._since = time.perf_counter()

    def expect(self, total_steps: int, steps: int) -> None:
        """Plan for a run of so many steps, of which some are done, unless one is planned."""
        if self.schedule.total_steps is None:
            self.schedule = Schedule(total_steps)
            self.due = self.schedule.following(steps)

    def is_due(self, steps: int) -> bool:
        """Say whether to measure at this step; if so, the next one is planned."""
        if self.due is None or steps < self.due:
            return False
        self.due = self.schedule.following(steps)
        return True

    def spend(self, seconds: float, counted: bool) -> None:
        """Take the time of one measurement off the training time, and count it or not."""
        self.budget.spend(seconds, counted)
        if self._since is not None:
            self._spent_here += seconds

    def training_seconds(self) -> float:
        """Seconds of training so far, without those of measuring."""
        here = 0.0 if self._since is None else time.perf_counter() - self._since - self._spent_here
        return self._before + here

    def affordable(self, device: torch.device | None) -> bool:
        """Say whether the budget allows one more measurement.

        Clocks of processes differ: as the first process has it.

        Args:
            device: of the network, where there is one.
        """
        allowed = self.budget.allows(self.training_seconds())
        if world_size() == 1:
            return allowed
        if dist.get_backend() != "nccl":
            device = torch.device("cpu")
        elif device is None or device.type != "cuda":
            device = torch.device("cuda", torch.cuda.current_device())
        decision = torch.tensor(allowed, device=device)
        dist.broadcast(decision, 0)
        return bool(decision)

    def state_dict(self) -> dict[str, Any]:
        """Return time and plan as plain values."""
        return {
            "due": self.due,
            "seconds": self.training_seconds(),
            "spent": self.budget.spent,
            "last": self.budget.last,
        }

    def load_state_dict(self, state: Mapping[str, Any], steps: int) -> None:
        """Go on from :meth:`state_dict` after so many steps."""
        # A schedule that was changed between is followed from here.
        self.due = self.schedule.following(steps)
        if self.schedule.total_steps is None:
            self.due = state["due"]
        self.budget.spent, self.budget.last = float(state["spent"]), float(state["last"])
        self._before, self._since, self._spent_here = float(state["seconds"]), None, 0.0

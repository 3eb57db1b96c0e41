"""What happens around the steps of a run: record, check-ups, checkpoints, safety."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from fullrank.data.order import Order
from fullrank.monitor.checkup import SETTLING_STEPS, HeldOut, calibrated, take_vitals
from fullrank.monitor.modes import ModeMoments, pull_of
from fullrank.monitor.schedule import TimeBudget, checkup_steps
from fullrank.train.config import Config
from fullrank.train.folder import CHECKPOINT
from fullrank.train.foretelling import Foretelling
from fullrank.train.module import JointEmbeddingModule
from fullrank.train.record import Record

CAUSES_OF_NAN = (
    "the learning rate is too high for this batch size or has no warm-up",
    "bf16 overflow or division by a vanishing norm (try --precision 32)",
    "a collapsed representation that a whitening or normalisation divides by",
)


class StepRecord(Callback):
    """Writes loss, spread and speed of every ``every``-th step."""

    def __init__(self, record: Record, every: int, batch_size: int, order: Order) -> None:
        self.record, self.every, self.batch_size = record, every, batch_size
        self.order = order
        self.since = (0, 0.0)
        self.speed = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.since = (trainer.global_step, time.perf_counter())

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Write a line when one is due."""
        assert isinstance(pl_module, JointEmbeddingModule)
        step = trainer.global_step
        if step % self.every and step != 1 and step != pl_module.total_steps:
            return
        values = pl_module.latest_values()
        now = time.perf_counter()
        steps, seconds = step - self.since[0], now - self.since[1]
        self.since = (step, now)
        self.speed = steps * self.batch_size / max(seconds, 1e-9)
        self.record.write(
            "step",
            step=step,
            loss=values["loss"],
            terms={k[6:]: v for k, v in values.items() if k.startswith("terms.")},
            spread=values["spread"],
            lr=pl_module.lr,
            images_per_second=self.speed,
            **self._chunk(step),
        )
        # Straight to the trackers: Lightning's own bookkeeping of logged values costs 2 ms a line.
        for logger in trainer.loggers:
            logger.log_metrics(values, step)
            logger.save()

    def _chunk(self, step: int) -> dict[str, int]:
        """Return the chunk that a step, counted from 1, drew from, if it drew from one."""
        chunk = self.order.phase(step - 1).chunk
        return {} if chunk is None else {"chunk": chunk}


class FiniteLoss(Callback):
    """Stops a run whose loss is no longer a number, before a checkpoint can hold it."""

    def __init__(self, record: Record, every: int) -> None:
        self.record, self.every = record, every
        self.finite: torch.Tensor | None = None
        self.failed_at: int | None = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Remember on the device whether the loss is finite; look at it now and then."""
        assert isinstance(pl_module, JointEmbeddingModule)
        now = torch.isfinite(pl_module.latest["loss"])
        self.finite = now if self.finite is None else self.finite & now
        # Reading a value waits for an accelerator, so that it is read seldom there.
        if pl_module.device.type == "cpu" or trainer.global_step % self.every == 0:
            self.check(trainer)

    def check(self, trainer: Trainer) -> bool:
        """Say whether all losses so far were finite; ask the trainer to stop if not."""
        bad = self.finite is not None and not bool(self.finite)
        if trainer.strategy.reduce_boolean_decision(bad, all=False):
            if self.failed_at is None:
                self.failed_at = trainer.global_step
                self.record.write(
                    "stop",
                    step=self.failed_at,
                    text=f"the loss became NaN or infinite at step {self.failed_at}",
                    causes=list(CAUSES_OF_NAN),
                )
            trainer.should_stop = True
        return self.failed_at is None


class Checkups(Callback):
    """Takes vital signs when due and affordable; never touches the training state."""

    def __init__(self, record: Record, held_out: HeldOut, config: Config, total: int) -> None:
        self.record, self.held_out, self.total = record, held_out, total
        self.due = checkup_steps(total, config.checkup.count)
        self.budget = TimeBudget(config.checkup.budget)
        self.foretelling = Foretelling(
            config.optimizer, config.run.batch_size, total, list(self.due)
        )
        self.started = 0.0
        self.latest: dict[str, Any] = {}
        self.probe: Any = None

    def state_dict(self) -> dict[str, Any]:
        """Return the modes of the last check-up, so that a resumed run follows them on."""
        return self.foretelling.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from them."""
        self.foretelling.load_state_dict(state_dict)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the network of step 0, or go on after a resume."""
        self.started = time.perf_counter()
        self.due = [step for step in self.due if step > trainer.global_step]
        if trainer.global_step == 0:
            self.take(trainer, pl_module, counted=False)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Take a check-up if one is due; the last is always taken."""
        step = trainer.global_step
        if not self.due or step < self.due[0]:
            return
        self.due = [d for d in self.due if d > step]
        last = step >= self.total
        training = time.perf_counter() - self.started - self.budget.spent
        # Rank zero decides, because clocks differ; the others only skip.
        if last or (trainer.is_global_zero and self.budget.allows(training)):
            self.take(trainer, pl_module, counted=not last)

    def take(self, trainer: Trainer, pl_module: LightningModule, counted: bool) -> None:
        """Measure the network as it is, on rank zero, and write the result."""
        assert isinstance(pl_module, JointEmbeddingModule)
        if not trainer.is_global_zero:
            return
        start = time.perf_counter()
        step = trainer.global_step
        network = pl_module.network
        settling = step < SETTLING_STEPS
        if settling:
            network = calibrated(network, self.held_out)
        modes = ModeMoments(network) if pull_of(network) else None
        if modes is None:
            layers = take_vitals(network, self.held_out)
        else:
            if settling:
                modes.settle(self.held_out)
            with modes.reading():
                layers = take_vitals(network, self.held_out, modes.update)
        probe = self.probe(network) if self.probe else None
        followed = modes and self.foretelling.event(network, modes.read(), step)
        self.budget.spend(time.perf_counter() - start, counted)
        self.latest = {
            "step": step,
            "network": "run" if step else "random-init",
            "mode": "eval, batch norm calibrated" if settling else "eval",
            "n": len(self.held_out),
            "views": 2,
            "seconds": self.budget.last,
            "layers": layers,
            "probe": probe,
        }
        self.record.write("checkup", **self.latest)
        if followed:
            self.record.write("modes", **followed)


class Checkpoints(Callback):
    """Writes ``checkpoints/last.ckpt`` every few minutes, only from finite losses."""

    def __init__(self, record: Record, minutes: float, finite: FiniteLoss) -> None:
        self.record, self.every, self.finite = record, minutes * 60, finite
        self.path = record.path.parent / CHECKPOINT
        self.written = 0.0
        self.before, self.started = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds that the run has taken, with those of before a resume."""
        return self.before + time.perf_counter() - self.started

    def state_dict(self) -> dict[str, Any]:
        """Return how long the run has taken."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.before = float(state_dict["seconds"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.written = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Write a checkpoint if the last is old enough."""
        due = time.perf_counter() - self.written >= self.every
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            self.write(trainer)

    def write(self, trainer: Trainer) -> None:
        """Write a checkpoint of the state after the last whole step (a collective call)."""
        if self.finite.check(trainer):
            self.record.sync()  # a resume from this checkpoint needs all of its lines
            trainer.save_checkpoint(self.path)
            self.written = time.perf_counter()


class Interrupt(Callback):
    """Ctrl-C or SIGTERM ends the run after the step in progress; a second one ends it at once."""

    def __init__(self) -> None:
        self.asked = self.restored = False
        self.before: dict[int, Any] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to SIGINT and SIGTERM, where that is possible."""
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._ask)
        except ValueError:  # not in the main thread: signals stay with whoever has them
            self.before = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take SIGTERM back: the trainer has taken it since, to end without a checkpoint."""
        if self.before:
            signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Stop all processes after the same step."""
        if trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            self.asked = True
            trainer.should_stop = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back before the trainer gives back its own."""
        self.restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, error: Any) -> None:
        """Give the signals back before the trainer gives back its own."""
        self.restore()

    def restore(self) -> None:
        """Give the signals back to whoever had them.

        Called again it looks after what the trainer gave back since: after an error that is this.
        """
        for number, handler in self.before.items():
            if not self.restored or signal.getsignal(number) == self._ask:
                signal.signal(number, handler)
        self.restored = True

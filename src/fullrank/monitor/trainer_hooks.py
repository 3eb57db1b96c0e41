"""What a Lightning callback of the monitor does, in whichever of Lightning's two namespaces."""

from __future__ import annotations

import math
from typing import Any

from fullrank.monitor.monitor import Monitor


class MonitorHooks:
    """Takes check-ups while a Lightning trainer trains, and logs them on all ranks.

    The keys are those of :meth:`Monitor.readings`. From the first batch on they are among the
    trainer's ``callback_metrics`` on every rank, where ``ModelCheckpoint`` and ``EarlyStopping``
    find them. Loggers get them at the step of each check-up. History and schedule are part of the
    trainer's checkpoints.

    Args:
        monitor: the monitor; None makes one.
        **settings: arguments of :class:`Monitor`, to make one. ``taps`` are submodules of the
            LightningModule. The number of steps is taken from the trainer.
    """

    def __init__(self, monitor: Monitor | None = None, **settings: Any) -> None:
        super().__init__()
        self.monitor = Monitor(**settings) if monitor is None else monitor
        self._seen = 0
        self._unlogged: dict[str, float] | None = None

    @property
    def state_key(self) -> str:
        """Name of this state in a checkpoint, the same in both namespaces."""
        return "fullrank.Monitor"

    def state_dict(self) -> dict[str, Any]:
        """Return the monitor's state."""
        return self.monitor.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the monitor's state."""
        self.monitor.load_state_dict(state_dict)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Attach, and measure the network of step 0, or go on after a resume."""
        total = trainer.estimated_stepping_batches
        if math.isfinite(total) and total >= 1:
            self.monitor.expect(int(total))
        self.monitor.attach(pl_module)
        self._seen = trainer.global_step
        if self.monitor.probe is not None and not self.monitor.history:
            self._unlogged = self.monitor.check_up(step=trainer.global_step)
            self._write(trainer, self._unlogged)
        else:
            self._unlogged = self.monitor.readings()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        """Take a check-up if an optimiser step was taken and one is due."""
        readings = None
        if trainer.global_step != self._seen:
            self._seen = trainer.global_step
            readings = self.monitor.step(trainer.global_step)
        if readings is not None:
            self._write(trainer, readings)
        readings = readings or self._unlogged
        self._unlogged = None
        if readings:
            # Lightning keeps the last value of each key for its callbacks.
            pl_module.log_dict(readings, on_step=True, on_epoch=False, logger=False, batch_size=1)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Remove the hooks."""
        self.monitor.detach()

    def _write(self, trainer: Any, readings: dict[str, float]) -> None:
        # Straight to the loggers: by its own way Lightning would wait for `log_every_n_steps`.
        for logger in trainer.loggers:
            logger.log_metrics(readings, step=trainer.global_step)

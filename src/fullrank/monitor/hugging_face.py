"""The monitor as a callback of the Hugging Face ``Trainer``."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from fullrank.monitor.monitor import Monitor

# Under which name the trainer's own state, `trainer_state.json`, holds the monitor's.
STATE_KEY = "fullrank.Monitor"


class MonitorCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Takes check-ups while a Hugging Face trainer trains, and logs them on all ranks.

    Readings (:meth:`Monitor.readings`) go into the trainer's ``log_history``. Each evaluation's
    metrics get the latest ones, with ``eval_`` before the key, so that ``metric_for_best_model``
    and ``EarlyStoppingCallback`` can use them. History and schedule are in ``trainer_state.json``
    of each checkpoint, and go on from there.

    Trackers (TensorBoard, W&B) that the trainer calls before this callback would not see the
    readings: use :meth:`add_to`, which puts it first.

    Args:
        monitor: the monitor; None makes one.
        **settings: arguments of :class:`Monitor`, to make one. Probe batches are mappings of the
            model's inputs. The number of steps is taken from the trainer.
    """

    def __init__(self, monitor: Monitor | None = None, **settings: Any) -> None:
        self.monitor = Monitor(**settings) if monitor is None else monitor
        self._latest: dict[str, float] = {}
        self._unlogged: dict[str, float] = {}

    def add_to(self, trainer: Any) -> MonitorCallback:
        """Add this callback to a trainer, before all others; return it."""
        trainer.add_callback(self)
        callbacks = trainer.callback_handler.callbacks
        callbacks.insert(0, callbacks.pop(callbacks.index(self)))
        return self

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Attach, and measure the network of step 0, or go on after a resume."""
        if state.global_step and STATE_KEY in state.stateful_callbacks:
            self.monitor.load_state_dict(state.stateful_callbacks[STATE_KEY])
        if state.max_steps > 0:
            self.monitor.expect(state.max_steps)
        self.monitor.attach(kwargs["model"])
        if self.monitor.probe is not None and not self.monitor.history:
            self._take_note(state, self.monitor.check_up(step=state.global_step))
        else:
            self._latest = self.monitor.readings()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take a check-up if one is due."""
        readings = self.monitor.step(state.global_step)
        if readings is not None:
            self._take_note(state, readings)
        # A checkpoint may be written before the next call.
        state.stateful_callbacks[STATE_KEY] = self.monitor.state_dict()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Show the callbacks that come after this one what is new."""
        if logs is not None:
            logs.update(self._unlogged)
        self._unlogged = {}

    def on_evaluate(
        self,
        args: Any,
        state: Any,
        control: Any,
        metrics: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Put the latest readings among the evaluation's metrics."""
        if metrics is not None:
            metrics.update({f"eval_{key}": value for key, value in self._latest.items()})

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remove the hooks."""
        self.monitor.detach()

    def _take_note(self, state: Any, readings: dict[str, float]) -> None:
        self._latest = self._unlogged = readings
        state.log_history.append({**readings, "step": state.global_step, "epoch": state.epoch})

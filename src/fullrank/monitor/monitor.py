"""``Monitor``: vital signs inside any training loop, without a trace in the training."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fullrank.errors import UserError, unknown_name
from fullrank.measure.forecast import Forecast, forecast
from fullrank.measure.verdict import Verdict, judge
from fullrank.monitor.checkup import SETTLING_STEPS
from fullrank.monitor.pace import Pace
from fullrank.monitor.probe_set import Forward, ProbeSet
from fullrank.monitor.probing import measure_taps
from fullrank.monitor.readings import (
    BACKBONE,
    batch_readings,
    flat_readings,
    forecast_readings,
)
from fullrank.monitor.streaming import CurrentRows, read_current
from fullrank.monitor.taps import Pool, Taps, parse_taps, pooled, rows_of, tapped_module, unwrapped
from fullrank.monitor.undisturbed import device_of


class Monitor:
    """Watches the representations of a network while any loop trains it.

    Two kinds of numbers. *Check-ups* measure the network of this step on a fixed probe set, in eval
    mode: full vital signs with standard errors, comparable over the run. *Batch statistics* are of
    the latest training batch alone. Neither mixes features of different weights, and neither
    changes weights, modes, batch-norm statistics or random streams: training with and without a
    monitor gives equal weights, bit for bit.

    Under distributed training every process calls the same methods; the probe set is divided among
    them, and all get the same numbers, those of one process. Submodules must be whole on every
    process (not sharded as by FSDP).

    Args:
        taps: submodules to measure, by name; see :func:`fullrank.monitor.taps.parse_taps`. None is
            the output of the module.
        budget: share of the training time that check-ups may take. The first one and the last of a
            known ``total_steps`` are always taken.
        probe: batches of inputs, the same at every check-up; see
            :class:`fullrank.monitor.probe_set.ProbeSet`. None: batch statistics only.
        total_steps: optimiser steps of the run, if known; see
            :class:`fullrank.monitor.schedule.Schedule`.
        shards: groups of inputs that the error bars are computed from; 1 for none.
        seed: of what is chosen by chance.
        pool: how tokens or maps become one row an input: ``"mean"``, ``"first"``, ``"flatten"`` or
            a function; None refuses them.
        forward: how a view of the probe passes the network, if not by calling it.
        calibrate: whether in the first ``SETTLING_STEPS`` steps batch norms are measured with the
            statistics of the probe set instead of their initial ones.
        rows: rows of a training batch that batch statistics are computed from.
        data: the data set of the probe, if it is one that the forecaster was fitted on; see
            :meth:`forecast`.

    Raises:
        UserError: an argument is outside of what it may be.

    Example:
        >>> import torch
        >>> net = torch.nn.Linear(4, 3)
        >>> monitor = Monitor(probe=[torch.eye(4)]).attach(net)
        >>> readings = monitor.check_up()
        >>> readings["fullrank/embedding/hard_rank"]
        3.0
        >>> readings["fullrank/embedding/effective_rank/drawdown"]
        0.0
    """

    def __init__(
        self,
        taps: Taps = None,
        budget: float = 0.02,
        probe: Iterable[Any] | None = None,
        total_steps: int | None = None,
        shards: int = 8,
        seed: int = 0,
        *,
        pool: Pool = None,
        forward: Forward | None = None,
        calibrate: bool = True,
        rows: int = 256,
        data: str | None = None,
    ) -> None:
        if not 0 < budget <= 1:
            raise UserError(f"budget: {budget} given; allowed: a share above 0, at most 1.")
        if total_steps is not None and total_steps < 1:
            raise UserError(f"total_steps: {total_steps} given; allowed: 1 or more, or None.")
        if shards < 1:
            raise UserError(f"shards: {shards} given; allowed: 1 or more.")
        self.taps = parse_taps(taps)
        self.probe = None if probe is None else ProbeSet(probe, forward)
        self.pool, self.shards, self.seed = pool, shards, seed
        self.calibrate, self.rows, self.data = calibrate, rows, data
        self.pace = Pace(budget, total_steps)
        self.history: list[dict[str, Any]] = []
        self.steps = 0
        self.module: nn.Module | None = None
        self._current: dict[str, CurrentRows] = {}
        self._hooks: list[RemovableHandle] = []
        self._measuring = False

    def update(self, *views: Tensor, layer: str = "embedding") -> None:
        """Look at a batch of the training; nothing waits for the device.

        Only the latest batch of a layer is kept, and only ``rows`` of it, until someone reads.

        Args:
            *views: (n, d) features, one tensor a view; row ``i`` of each is the same sample.
            layer: what they are called.

        Raises:
            UserError: no views, or of different shapes, or of more than two dimensions without a
                ``pool``.
        """
        rows = [pooled(view, self.pool, layer) for view in views]
        if not rows or any(view.shape != rows[0].shape for view in rows):
            shapes = [tuple(view.shape) for view in rows]
            raise UserError(f"views: shapes {shapes} given; allowed: one or more, all the same.")
        if layer not in self._current:
            self._current[layer] = CurrentRows(self.rows, self.seed)
        self._current[layer].update(*rows)

    def attach(self, module: nn.Module) -> Monitor:
        """Look at every training-mode forward pass of a module's taps, by forward hooks.

        Args:
            module: the network; it may be wrapped for parallel training or compiled. Passes in eval
                mode do not count.

        Returns:
            This monitor, which is a context manager: leaving it detaches.

        Raises:
            UserError: a tap does not exist; near matches are suggested.
        """
        self.detach()
        root = unwrapped(module)
        tapped = [(tap, tapped_module(root, tap)) for tap in self.taps]
        for tap, child in tapped:

            def look(_: nn.Module, __: Any, output: Any, tap: Any = tap) -> None:
                if root.training and not self._measuring:
                    self.update(rows_of(output, tap, self.pool), layer=tap.layer)

            self._hooks.append(child.register_forward_hook(look))
        self.module = root
        return self

    def detach(self) -> None:
        """Remove the hooks; the network is still known for check-ups."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def expect(self, total_steps: int) -> None:
        """Tell how many optimiser steps the run has, unless that was told before.

        Raises:
            UserError: fewer than one.
        """
        if total_steps < 1:
            raise UserError(f"total_steps: {total_steps} given; allowed: 1 or more.")
        self.pace.expect(total_steps, self.steps)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def step(self, step: int | None = None) -> dict[str, float] | None:
        """Count an optimiser step, and take a check-up if one is due and affordable.

        The first process decides for all. Without a probe, what is due is a reading of the batch.

        Args:
            step: number of steps taken so far; by default one more than at the last call.

        Returns:
            See :meth:`readings`; None if no check-up was taken.
        """
        self.steps = self.steps + 1 if step is None else step
        self.pace.start()
        if not self.pace.is_due(self.steps):
            return None
        last = self.pace.schedule.is_last(self.steps)
        free = last or (self.probe is not None and not self.history)
        if not free and not self.pace.affordable(self._device()):
            return None
        if self.probe is not None:
            return self._take(self.module, self.steps, counted=not free)
        start = time.perf_counter()
        readings = self.readings()
        self.pace.spend(time.perf_counter() - start, counted=not free)
        return readings

    def check_up(
        self, module: nn.Module | None = None, step: int | None = None
    ) -> dict[str, float]:
        """Measure the network now, whatever the schedule and the budget say.

        Call it before the first step: the first check-up is what later ones are compared with.

        Args:
            module: the network; by default the one attached, or measured last.
            step: number of optimiser steps taken; by default as counted by :meth:`step`.

        Returns:
            See :meth:`readings`.

        Raises:
            UserError: there is no probe or no network, or a tap does not exist.
        """
        return self._take(module, self.steps if step is None else step, counted=False)

    def readings(self) -> dict[str, float]:
        """Return the last check-up and the latest batch as flat numbers for a logger.

        Reading the batch waits for the device, and every process must take part.

        Returns:
            ``fullrank/LAYER/METRIC`` of the check-up, with ``/change``, ``/drawdown`` and
            ``/error`` (see :func:`fullrank.monitor.readings.flat_readings`), and
            ``fullrank/LAYER/batch/METRIC`` of the batch; of a layer called ``backbone`` what
            :meth:`forecast` says, as ``fullrank/backbone/forecast/...``.
        """
        said = {}
        if self.history and BACKBONE in self.history[-1]["layers"]:
            said = forecast_readings(BACKBONE, self.forecast(BACKBONE))
        return flat_readings(self.history) | said | batch_readings(read_current(self._current))

    def forecast(self, layer: str, labelled: int | None = None) -> Forecast:
        """Forecast the probe accuracy of a layer from the last check-up, without labels.

        The forecaster was fitted on the outputs of backbones. An accuracy is told for the data sets
        that it was fitted on, where ``Monitor(data=...)`` names one of them.

        Args:
            layer: that was measured.
            labelled: images that a probe would be fitted on; by default as in most training runs.

        Raises:
            UserError: there was no check-up, or none of this layer.
        """
        if not self.history:
            raise UserError("forecast: no check-up was taken; call check_up() or step() first.")
        layers = self.history[-1]["layers"]
        if layer not in layers:
            raise unknown_name("layer", layer, layers)
        return forecast(layers[layer], self.data, labelled)

    def verdict(self) -> dict[str, Verdict]:
        """Judge each layer by the last check-up, against the first and the run's own peak.

        Raises:
            UserError: there was no check-up.
        """
        if not self.history:
            raise UserError("verdict: no check-up was taken; call check_up() or step() first.")
        *before, last = self.history
        found = {}
        for layer, signs in last["layers"].items():
            past = [checkup["layers"][layer] for checkup in before if layer in checkup["layers"]]
            found[layer] = _in_words_of_a_monitor(judge(signs, past or [signs]))
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return history, steps and time as plain values, which JSON can hold.

        Peaks and the first check-up are part of the history. The batch and the probe set are not
        in it.
        """
        return {
            "history": list(self.history),
            "steps": self.steps,
            **self.pace.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`.

        Raises:
            UserError: something is missing in it.
        """
        missing = sorted(set(self.state_dict()) - set(state))
        if missing:
            raise UserError(f"state: {', '.join(missing)} missing; is it that of a Monitor?")
        self.history = [dict(checkup) for checkup in state["history"]]
        self.steps = int(state["steps"])
        self.pace.load_state_dict(state, self.steps)

    def _take(self, module: nn.Module | None, step: int, counted: bool) -> dict[str, float]:
        start = time.perf_counter()
        if module is not None:
            self.module = unwrapped(module)
        if self.module is None:
            raise UserError("module: none given; attach(module) first, or check_up(module).")
        if self.probe is None:
            raise UserError("probe: none given; a check-up needs Monitor(probe=batches).")
        self._measuring = True
        try:
            layers, mode = measure_taps(
                self.module,
                self.taps,
                self.probe,
                self.pool,
                self.shards,
                self.seed,
                settle=self.calibrate and step < SETTLING_STEPS,
            )
        finally:
            self._measuring = False
        batch = self.probe.batches[0]
        self.history.append(
            {
                "step": step,
                "mode": mode,
                "n": len(self.probe),
                "views": len(batch.views),
                "seconds": time.perf_counter() - start,
                "layers": layers,
            }
        )
        readings = self.readings()
        self.pace.spend(time.perf_counter() - start, counted)
        return readings

    def _device(self) -> torch.device | None:
        return None if self.module is None else device_of(self.module)


def _in_words_of_a_monitor(verdict: Verdict) -> Verdict:
    """Call the reference the first check-up: it need not be of a random-init network."""
    words = ("the random-init network's", "the first check-up's")
    reference = verdict.reference
    if reference.startswith("random-init network"):
        reference = "first check-up"
    return replace(
        verdict,
        evidence=tuple(sentence.replace(*words) for sentence in verdict.evidence),
        reference=reference,
    )

"""The monitor as a callback of ``lightning.pytorch``."""

from __future__ import annotations

from lightning.pytorch import Callback

from fullrank.monitor.trainer_hooks import MonitorHooks


class MonitorCallback(MonitorHooks, Callback):
    """See :class:`fullrank.monitor.trainer_hooks.MonitorHooks`: its arguments are these."""

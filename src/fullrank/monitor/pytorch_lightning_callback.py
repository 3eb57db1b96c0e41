"""The monitor as a callback of ``pytorch_lightning``, Lightning's older namespace."""

from __future__ import annotations

from pytorch_lightning import Callback

from fullrank.monitor.trainer_hooks import MonitorHooks


class MonitorCallback(MonitorHooks, Callback):
    """See :class:`fullrank.monitor.trainer_hooks.MonitorHooks`: its arguments are these."""

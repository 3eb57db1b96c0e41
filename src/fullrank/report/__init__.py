"""Run records drawn as one HTML page; reads records, never trains (floor 4)."""

from __future__ import annotations

from fullrank.report.page import report
from fullrank.report.record import Checkup, RunRecord

__all__ = ["Checkup", "RunRecord", "report"]

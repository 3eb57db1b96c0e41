"""The smallest runs that go through everything, and what a test of Ray needs."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")

TINY: dict[str, Any] = {
    "recipe": "simsiam",
    "preset": "small",
    "data": "digits",
    "backbone": {"name": "conv4", "width": 2},
    "steps": 3,
    "batch_size": 16,
    "checkup": {"size": 64, "budget": 0.0, "count": 2},
    "probe": {"train": 100, "test": 100},
    "device": "cpu",
    "precision": "32",
    "threads": 1,
    "logger": "none",
}

"""The published protocol of every recipe runs, as far as two steps show."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullrank.recipes.registry import recipes


@pytest.mark.published
def test_two_steps_of_every_published_protocol_on_two_processes(tmp_path):
    drawn = np.random.default_rng(0)
    for split, count in (("train", 256), ("val", 16)):
        for label in ("a", "b"):
            (tmp_path / "images" / split / label).mkdir(parents=True)
            for i in range(count // 2):
                pixels = drawn.integers(0, 255, (24, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / split / label / f"{i}.png")
    script = Path(__file__).with_name("published_steps.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path / "images", tmp_path / "runs"],
        capture_output=True,
        text=True,
        timeout=1500,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    losses = {line["name"]: line["losses"] for line in lines}
    assert list(losses) == list(recipes()), done.stderr[-2000:]
    assert all(len(two) == 2 and all(map(math.isfinite, two)) for two in losses.values()), losses

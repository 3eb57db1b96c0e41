"""The published protocol of every recipe runs: two steps, two processes, a folder of images."""

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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Losses of the two steps, by recipe."""
    folder = tmp_path_factory.mktemp("published")
    drawn = np.random.default_rng(0)
    for split, count in (("train", 520), ("val", 16)):
        for label in ("a", "b"):
            (folder / "images" / split / label).mkdir(parents=True)
            for i in range(count // 2):
                pixels = drawn.integers(0, 255, (24, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "images" / split / label / f"{i}.png")
    script = Path(__file__).with_name("published_steps.py")
    done = subprocess.run(
        [sys.executable, script, folder / "images", folder / "runs"],
        capture_output=True,
        text=True,
        timeout=1500,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["name"]: line["losses"] for line in lines}, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(recipes()))
def test_two_steps_of_the_published_protocol_on_two_processes(name, trained):
    losses, said = trained
    assert name in losses, said
    assert len(losses[name]) == 2
    assert all(math.isfinite(loss) for loss in losses[name])

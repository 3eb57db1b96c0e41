"""Every run of every claim at the published scale goes through, two steps on tiny data."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.test_sources import write_cifar, write_stl10
from fullrank.experiments.claims.registry import names
from fullrank.experiments.reproduction import planned
from fullrank.experiments.stored import placed
from fullrank.experiments.training import train_one
from fullrank.train.config import CheckupSettings, ProbeSettings
from recipes.published_steps import accepted_batch
from recipes.published_steps import two_steps as steps_alone

SIZE = 32


@pytest.fixture(scope="module")
def published_formats(tmp_path_factory):
    """A folder with ImageNet, ImageNet-100, CIFAR-10 and STL-10 as they are published, tiny."""
    folder = tmp_path_factory.mktemp("published")
    drawn = np.random.default_rng(0)
    for name in ("imagenet", "imagenet100"):
        for split, count in (("train", 300), ("val", 20)):
            for label in ("n01440764", "n01443537"):
                (folder / name / split / label).mkdir(parents=True)
                for i in range(count // 2):
                    pixels = drawn.integers(0, 255, (24, 24, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / name / split / label / f"{i}.JPEG")
    write_cifar(folder / "data", "cifar10", n=100)
    write_stl10(folder / "data" / "stl10_binary", 10, 300)
    return folder


def two_steps(config):
    """Return the configuration for small images, a small batch, and two steps."""
    recipe = config.recipe
    views = {"size": SIZE}
    if recipe.views.kind == "multi-crop":
        views["local_size"] = SIZE // 2
    changes = {"views": views}
    if hasattr(recipe.objective, "prototypes"):  # no more than a small batch can fill
        changes["objective"] = {"prototypes": 16}
    batch = accepted_batch(recipe, changes)
    for name, values in changes.items():
        recipe = replace(recipe, **{name: replace(getattr(recipe, name), **values)})
    backbone = config.backbone
    if "stem" in {f.name for f in fields(backbone)} and config.data.name.startswith("folder:"):
        backbone = replace(backbone, stem="imagenet")
    stream = config.data.stream
    for name, value in (("chunks", 2), ("share", 0.5)):  # so that each part has a batch
        if hasattr(stream, name):
            stream = replace(stream, **{name: value})
    return replace(
        config,
        recipe=recipe,
        backbone=backbone,
        data=replace(config.data, size=SIZE, workers=0, stream=stream, limit=None),
        checkup=CheckupSettings(size=16, budget=0.0, count=2),
        probe=ProbeSettings(train=20, test=10, k=3),
        run=replace(
            config.run, steps=2, epochs=None, batch_size=batch, device="cpu", threads=2,
            logger="none",
        ),
    )  # fmt: skip


def kinds(config):
    """Return what makes another program of a run: numbers do not."""
    recipe = config.recipe
    parts = (recipe.views, recipe.projector, recipe.predictor, recipe.target, recipe.objective)
    one = (part.kind for part in parts)
    return (*one, config.data.name, type(config.data.stream), config.backbone.name)


@pytest.mark.published
@pytest.mark.filterwarnings("ignore")  # Lightning's own, outside of a whole run
@pytest.mark.parametrize("paper", names())
def test_two_steps_of_every_run_at_the_published_scale(
    paper, published_formats, tmp_path, monkeypatch
):
    monkeypatch.chdir(published_formats)
    plans = planned([paper], scale="paper", seeds=1)
    different = {kinds(config): config for config in plans.configs}
    for i, config in enumerate(map(two_steps, different.values())):
        config = placed(config, Path(tmp_path))
        if i:  # check-ups of published dimensions take minutes: once a paper
            losses = steps_alone(config)
            assert len(losses) == 2 and all(map(math.isfinite, losses)), config.to_dict()
            continue
        done = train_one(config)
        assert done["status"] == "finished", config.to_dict()
        assert done["probe"].keys() == {"knn", "linear"}

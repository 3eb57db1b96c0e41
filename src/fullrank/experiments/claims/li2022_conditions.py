"""The conditions of Li, Efros and Pathak's claims: one SimSiam, and what is changed in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fullrank.experiments.claims.claim import ScaleName
from fullrank.experiments.claims.conditions import ArmsOf
from fullrank.train.config import Config
from fullrank.train.resolve import flatten, resolve

Changes = Mapping[ScaleName, Mapping[str, Any]]

# The regime in which the number of images tells at all within a minute of one core: many
# independent factors, pixel noise in the views, an encoder that can know its images, and weight
# decay that would shrink a weight without a gradient by three e-folds: lr/(1 - momentum) x decay x
# steps/2 = 1 x 2e-3 x 1,500.
SMALL: Mapping[str, Any] = {
    "recipe": "simsiam",
    "preset": "small",
    "recipe.views": {"size": 16, "min_scale": 0.4, "flip": 0.0, "noise": 0.4},
    "recipe.projector": {"hidden": 128, "out": 128, "depth": 3},
    "recipe.predictor.hidden": 32,
    "data": {"name": "shapes", "size": 24, "label": "background_texture"},
    "backbone": {"name": "patches", "width": 8},
    "optimizer": {
        "lr": 0.2,
        "weight_decay": 2e-3,
        "warmup": 0.01,
        "predictor_schedule": "constant",
    },
    "batch_size": 128,
    "steps": 3000,
    "device": "cpu",
    "precision": "32",
    "threads": 1,
    "logger": "none",
    "log_every": 100,
    "checkup": {"size": 2000, "count": 2, "budget": 0.0},
    "probe": {"train": 8000, "test": 5000},
}
IMAGES = 60_000
# As published: ResNet-18 with a projector as wide as its features, 100 epochs of batch 256.
PUBLISHED: Mapping[str, Any] = {
    "recipe": "simsiam",
    "preset": "paper",
    "recipe.projector.hidden": 512,
    "data": "folder:imagenet",
    "backbone": "resnet18",
    "batch_size": 256,
}


def condition(
    cpu: Mapping[str, Any] | None = None, paper: Mapping[str, Any] | None = None
) -> Changes:
    """Return what is changed at either scale."""
    return {"cpu": cpu or {}, "paper": paper or {}}


def of_images(n: int, share: float) -> Changes:
    """Return training on ``n`` of the small set's images, or on a share of ImageNet."""
    published = {} if share == 1 else {"data.stream": {"kind": "fraction", "share": share}}
    small = {"data.stream": {"kind": "fraction", "share": n / IMAGES}}
    return condition(small, published)


POOL = 2000
_CHUNKED = {"chunks": 10, "share": POOL / IMAGES}

IID = of_images(POOL, 1.0)
FEW = of_images(250, 0.01)
MANY = of_images(10_000, 0.1)
SINGLE = condition(
    {"data.stream": {"kind": "single-pass", **_CHUNKED}},
    {"data.stream": {"kind": "single-pass"}},
)
CUMULATIVE = condition(
    {"data.stream": {"kind": "cumulative", **_CHUNKED}},
    {"data.stream": {"kind": "cumulative"}},
)
# The hybrid at twice the steps and with a late switch: of the settings of the pilot
# (docs/evidence/li2022-pilot.md) the one that gained most. Chunks are visited long enough to be
# learnt by heart, and what weight decay can still take away after the switch is little.
_LONG = {"steps": 6000}
LONG = condition({**IID["cpu"], **_LONG}, IID["paper"])
HYBRID = condition(
    {**_LONG, "data.stream": {"kind": "hybrid", "switch": 0.7, "visits": "all", **_CHUNKED}},
    {"data.stream": {"kind": "hybrid", "switch": 0.4}},
)

# At the published scale 1, 10 and 100 % of ImageNet.
FEWEST, MOST = "250 images", "10,000 images"
SIZES = {
    FEWEST: FEW,
    "2,000 images": condition(IID["cpu"], of_images(0, 0.1)["paper"]),
    MOST: condition(MANY["cpu"], {}),
}
# At the weight decay of the others both widths keep the same tail; nearer to complete collapse, in
# the pilot, they did not.
_STRONG = {"optimizer.weight_decay": 4e-3}
WIDTHS = {
    "width 4": condition(
        {**MANY["cpu"], **_STRONG, "backbone.width": 4}, {**IID["paper"], "backbone.width": 32}
    ),
    "width 32": condition(
        {**MANY["cpu"], **_STRONG, "backbone.width": 32}, {**IID["paper"], "backbone.width": 128}
    ),
}
_MLP = {"name": "mlp", "width": 64, "out": 128}
DEPTHS = {
    "shallow": condition(
        {**IID["cpu"], "backbone": {**_MLP, "depth": 2}}, {"backbone": "resnet18"}
    ),
    "deep": condition({**IID["cpu"], "backbone": {**_MLP, "depth": 5}}, {"backbone": "resnet34"}),
}
CHOICES = {
    "no projector": condition(
        {**IID["cpu"], "recipe.projector": "none"}, {"recipe.projector": "none"}
    ),
    "linear projector": condition(
        {**IID["cpu"], "recipe.projector.depth": 1}, {"recipe.projector.depth": 1}
    ),
    "bottleneck": condition(
        {**IID["cpu"], "recipe.projector.hidden": 16}, {"recipe.projector.hidden": 64}
    ),
    "momentum target": condition(
        {**IID["cpu"], "recipe.target": {"kind": "momentum", "tau": 0.99}},
        {"recipe.target": {"kind": "momentum", "tau": 0.996}},
    ),
}
BASE = {"2,000 images": IID}
ORDERS = {"iid": IID, "single pass": SINGLE, "cumulative": CUMULATIVE}
HYBRIDS = {"iid, long": LONG, "hybrid": HYBRID}
GENTLE = {
    "less weight decay": condition(
        {**IID["cpu"], "optimizer.weight_decay": 5e-4}, {"optimizer.weight_decay": 2.5e-5}
    ),
    "no pixel noise": condition(
        {**IID["cpu"], "recipe.views.noise": 0.0}, {"recipe.views.strength": 0.5}
    ),
}
ALL = {**SIZES, "single pass": SINGLE, "cumulative": CUMULATIVE, **HYBRIDS}


def arms_of(given: Mapping[str, Changes]) -> ArmsOf:
    """Return what gives the runs of conditions at a scale, one a seed.

    Conditions that are the same at a scale stand there once, under the first name.
    """

    def arms(scale: ScaleName, seeds: Sequence[int]) -> Mapping[str, Sequence[Config]]:
        found: dict[str, Config] = {}
        for name, changes in given.items():
            config = _config(changes, scale)
            if config not in found.values():
                found[name] = config
        return {
            name: [replace(config, run=replace(config.run, seed=seed)) for seed in seeds]
            for name, config in found.items()
        }

    return arms


def _config(changes: Changes, scale: ScaleName) -> Config:
    base = dict(flatten(SMALL if scale == "cpu" else PUBLISHED))
    changed = dict(flatten(changes[scale]))
    for key, value in changed.items():
        # Another kind of part brings its own settings.
        group = key.rpartition(".")[0]
        if key.endswith((".kind", ".name")) and base.get(key) != value:
            base = {k: v for k, v in base.items() if not k.startswith(f"{group}.")}
    return resolve(base | changed)

"""A run folder of fullrank, or its checkpoint, as a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from fullrank.audit.checkpoints import load_matching, read_weights
from fullrank.audit.models import Model, Network
from fullrank.audit.pictures import Pictures
from fullrank.audit.subject import Options
from fullrank.errors import UserError
from fullrank.monitor.checkup import SETTLING_STEPS
from fullrank.recipes.user_file import is_user_file


def run_of_checkpoint(path: Path) -> Path | None:
    """Return the run folder that a checkpoint or encoder lies in, if it lies in one."""
    for folder in path.parents[:2]:
        if (folder / "config.yaml").is_file():
            return folder
    return None


def run_model(
    folder: Path, options: Options, checkpoint: Path | None = None
) -> tuple[Model, Pictures]:
    """Build the network of a run with its last weights, and load the run's data.

    The embedding is there if the run's checkpoint is; an encoder alone gives the backbone.

    Args:
        folder: of a run.
        options: ``data`` replaces the run's own data set.
        checkpoint: of the run; None is its last.

    Raises:
        UserError: the folder has no weights, or they do not fit its configuration.
    """
    from fullrank.train.folder import CHECKPOINT, CONFIG
    from fullrank.train.record import Record, step_of
    from fullrank.train.resolve import read_yaml, resolve

    if not (folder / CONFIG).is_file():
        raise UserError(f"what: {folder} has no {CONFIG}. Allowed: a run folder.")
    given = read_yaml(folder / CONFIG)
    _refuse_code(given, options.trust)
    config = resolve(given)
    path = checkpoint or folder / CHECKPOINT
    if not path.is_file():
        path = folder / "encoder.safetensors"
    if not path.is_file():
        raise UserError(
            f"what: {folder} has neither {CHECKPOINT} nor encoder.safetensors: the run has no "
            "weights yet."
        )
    root = options.data_root or config.data.root
    named = None if options.data is None else replace(config.data, name=options.data, label=None)
    pictures = Pictures(replace(named or config.data, root=root), options)
    channels, side = pictures.source.channels, config.recipe.views.size or pictures.source.size
    about = folder / "encoder.json"
    if about.is_file():  # as trained, whatever data it is shown
        known = json.loads(about.read_text())
        channels, side = int(known["channels"]), int(known["size"])
    views = config.augmentation(
        channels,
        side,
        augment=None if options.augment == "auto" else options.augment,
        count=max(config.recipe.views.count, pictures.count),
    )
    if options.size is not None:
        views = tuple(replace(view, size=options.size) for view in views)

    def build() -> Network:
        network = config.recipe.build(config.backbone, channels, side)
        return Network(network.backbone, network.projector)

    network = build()
    weights, _ = read_weights(path, options.trust)
    if path.name == "encoder.safetensors":
        network.projector = None
        load_matching(network.backbone, weights, str(path), "")
    else:
        load_matching(network.backbone, weights, str(path), "network.backbone")
        assert network.projector is not None
        load_matching(network.projector, weights, str(path), "network.projector")
    whole = network.projector is not None
    last = Record(folder, active=False).last("checkup") or {}

    def fresh() -> Network:
        twin = build()
        return twin if whole else Network(twin.backbone)

    said = {
        "weights": str(path),
        "architecture": config.backbone.describe(),
        "recipe": config.recipe.name,
        "trained_on": config.data.name,
    }
    settled = (step_of(last) or 0) >= SETTLING_STEPS
    size = options.size or side
    return Model(network, fresh, channels, size, views=views, settled=settled, said=said), pictures


def _refuse_code(given: dict[str, Any], trust: bool) -> None:
    """Refuse a configuration whose recipe is a Python file, which reading would run.

    Raises:
        UserError: it is, and it is not trusted.
    """
    recipe = given.get("recipe")
    name = str(recipe.get("name") if isinstance(recipe, dict) else recipe)
    if is_user_file(name) and not trust:
        raise UserError(
            f"what: the run's recipe is {name}, a Python file, and to read the run is to run it. "
            "Allowed: trust, if you know where the run comes from."
        )

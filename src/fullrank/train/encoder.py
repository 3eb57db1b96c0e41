"""The trained backbone as two files that need nothing else of the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fullrank.data.settings import Augmentation
from fullrank.models.joint_embedding import JointEmbedding
from fullrank.train.config import Config
from fullrank.train.storage import write_whole


def save_encoder(
    folder: Path,
    network: JointEmbedding,
    config: Config,
    view: Augmentation,
    channels: int,
    step: int,
) -> None:
    """Write ``encoder.safetensors`` (the backbone's weights) and ``encoder.json``.

    The latter says how to rebuild it and what images it takes.
    """
    from safetensors.torch import save

    weights = {k: v.detach().cpu().contiguous() for k, v in network.backbone.state_dict().items()}
    describes: dict[str, Any] = {
        "backbone": config.backbone.to_dict(),
        "channels": channels,
        "size": view.size,
        "mean": list(view.mean),
        "std": list(view.std),
        "recipe": config.recipe.name,
        "data": config.data.name,
        "step": step,
        "hash": config.identity(),
    }
    write_whole(folder / "encoder.safetensors", save(weights))
    write_whole(folder / "encoder.json", json.dumps(describes, indent=2).encode())

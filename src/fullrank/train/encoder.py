"""The trained backbone as two files that need nothing else of the run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from fullrank.data.augment import prepare
from fullrank.data.settings import Augmentation
from fullrank.errors import UserError
from fullrank.models.joint_embedding import JointEmbedding
from fullrank.models.settings.backbone import backbone_type
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


@dataclass(frozen=True)
class Encoder:
    """A trained backbone with what it needs to know of images.

    Attributes:
        backbone: image → representation h, in eval mode.
        dim: dimension of h.
        channels: that images must have.
        size: side in pixels that they are resized to.
        mean: of each channel, subtracted from pixels in [0, 1].
        std: of each channel, divided by.
    """

    backbone: nn.Module
    dim: int
    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @torch.inference_mode()
    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the representation of uint8 images of any size.

        Raises:
            UserError: the images have another number of channels.
        """
        if images.shape[1] != self.channels:
            raise UserError(
                f"images: {images.shape[1]} channels given. Allowed: {self.channels}, as trained."
            )
        device = next(self.backbone.parameters()).device
        view = prepare(images.to(device), self.size, self.mean, self.std)
        return self.backbone(view).flatten(1)


def load_encoder(folder: str | Path) -> Encoder:
    """Load the trained backbone of a run folder; nothing but weights and plain values is read.

    Args:
        folder: of a finished run.

    Raises:
        UserError: the folder has no encoder.
    """
    from safetensors.torch import load_file

    weights, describes = (Path(folder) / f"encoder.{kind}" for kind in ("safetensors", "json"))
    if not (weights.exists() and describes.exists()):
        raise UserError(f"folder: {folder} has no encoder. Allowed: the folder of a finished run.")
    about = json.loads(describes.read_text())
    _, settings = backbone_type(about["backbone"]["name"])
    backbone, dim = settings(**about["backbone"]).build(about["channels"], about["size"])
    backbone.load_state_dict(load_file(weights))
    mean, std = tuple(about["mean"]), tuple(about["std"])
    return Encoder(backbone.eval(), dim, about["channels"], about["size"], mean, std)

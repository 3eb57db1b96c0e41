"""Checkpoints that are whole or not there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from fullrank.train.storage import replace_whole, writing


class WholeCheckpoint(TorchCheckpointIO):
    """Lightning's checkpoints, written whole."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; the one before stays if this fails."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with writing(Path(path)):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            replace_whole(Path(path), buffer.getvalue())

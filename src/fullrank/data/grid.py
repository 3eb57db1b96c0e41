"""A picture of views: what the augmentation does to the first few images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from fullrank.data.settings import Augmentation
from fullrank.data.sources import resize

MARGIN = 2  # white pixels between the cells, before enlarging
CELL = 64  # cells smaller than this are enlarged by a whole factor, so that pixels stay square


def views_grid(
    images: UInt8[Tensor, "n c h w"],
    views: Sequence[Float[Tensor, "n c _ _"]],
    path: str | Path,
    augmentations: tuple[Augmentation, ...],
) -> None:
    """Write a PNG with one row an image: the original, then its views.

    Args:
        images: the originals.
        views: normalised batches, of one size or of several; their own mean and std are taken
            back, and small views are enlarged.
        path: the file to write.
        augmentations: of each view.
    """
    side = max(v.shape[-1] for v in views)
    columns = [resize(images.cpu(), side)]
    for view, augmentation in zip(views, augmentations, strict=True):
        mean = torch.tensor(augmentation.mean)[:, None, None]
        std = torch.tensor(augmentation.std)[:, None, None]
        pixels = (view.detach().float().cpu() * std + mean).mul(255).round().clamp(0, 255)
        columns.append(resize(pixels.to(torch.uint8), side))
    cells = torch.stack(columns, 1).expand(-1, -1, 3, -1, -1)
    rows, across = cells.shape[:2]
    step = side + MARGIN
    sheet = torch.full((3, rows * step + MARGIN, across * step + MARGIN), 255, dtype=torch.uint8)
    for row in range(rows):
        for column in range(across):
            top, left = MARGIN + row * step, MARGIN + column * step
            sheet[:, top : top + side, left : left + side] = cells[row, column]
    picture = Image.fromarray(sheet.permute(1, 2, 0).contiguous().numpy())
    zoom = max(1, CELL // side)
    picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(
        path
    )

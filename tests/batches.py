"""Networks and batches that the laws of recipes are tried on."""

from __future__ import annotations

import torch

from fullrank.errors import UserError
from fullrank.models.settings.backbone import Conv4
from fullrank.models.settings.views import MultiCrop
from fullrank.recipes.recipe import Recipe

BACKBONE = Conv4(width=2)
SIZE = 16


def batch_size(recipe: Recipe) -> int:
    """Return the smallest batch of a few that the small preset of a recipe accepts."""
    for n in (8, 32, 64, 128, 256):
        try:
            recipe.preset("small").check(n, BACKBONE.width * 8)
        except UserError:
            continue
        return n
    raise AssertionError(f"{recipe.name} accepts no batch of up to 256 images")


def network_of(
    recipe: Recipe,
    dtype=torch.float32,
    n: int | None = None,
    seed: int = 0,
    prepare=lambda network: network,
    rows=slice(None),
):
    """Return a small network of a recipe, ready for its first epoch of ``n`` images.

    ``prepare`` is done to the network before anything passes through it; ``rows`` are those of
    the images that this process shows.
    """
    torch.manual_seed(seed)
    images = n or batch_size(recipe)
    network = recipe.preset("small").build(BACKBONE, channels=1, size=SIZE, images=images)
    prepare(network.to(dtype))
    views, indices = views_of(recipe, dtype, images)
    kept = [view[rows] for view in views[: network.target_views]]

    def embed():
        with torch.no_grad():
            yield indices[rows], [network.encode(view).embedding for view in kept]

    network.before_epoch(0, embed)
    return network


def views_of(recipe: Recipe, dtype=torch.float32, n: int | None = None):
    """Return the views of a batch, as many and as large as a recipe has, and its indices."""
    views = recipe.preset("small").views
    sizes = [SIZE] * views.count
    if isinstance(views, MultiCrop):
        sizes += [SIZE // 2] * views.local_count
    gen = torch.Generator().manual_seed(0)
    n = n or batch_size(recipe)
    return [torch.randn(n, 1, s, s, generator=gen).to(dtype) for s in sizes], torch.arange(n)


def ours(recipe: Recipe, dtype=torch.float32, n: int | None = None):
    """Return a small network of a recipe and the arguments of one forward pass."""
    return network_of(recipe, dtype, n), views_of(recipe, dtype, n)

"""A check-up: the vital signs of a network on held-out images, in eval mode, from two views."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from fullrank.data.augment import Augment
from fullrank.models.joint_embedding import Encoded, JointEmbedding
from fullrank.monitor.layer_moments import LayerMoments
from fullrank.monitor.settling import batch_norms, settle
from fullrank.randomness import derive_seed

# Batch norm averages its statistics over about this many steps (1 / (1 - momentum) = 10, with
# e^-5 of the start left); before them, eval mode would show its initial values.
SETTLING_STEPS = 50
# Groups of images for the error bars, and the width up to which these are told: a decomposition a
# group of wider layers would take longer than the passes of the images.
SHARDS, CHEAP_WIDTH = 8, 512
# Bytes of views that are kept from one check-up to the next: those of small images, where drawing
# them would take as long as showing them.
KEPT_BYTES = 64 << 20


@dataclass
class HeldOut:
    """Held-out images, shown as the same two views at every check-up.

    Args:
        images: uint8 pixels; they stay where they are.
        augment: the distribution of views; the first two are used.
        seed: the run's seed.
        device: where views are made.
        chunk: images that pass the network at once.
    """

    images: UInt8[Tensor, "n c h w"]
    augment: Augment
    seed: int
    device: torch.device
    chunk: int = 256
    _kept: list[list[Tensor]] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.augment = Augment(self.augment.views[:2], self.augment.channels)

    def __len__(self) -> int:
        return len(self.images)

    def views(self) -> Iterator[list[Tensor]]:
        """Yield the two views of every chunk; the same at every call, not to be written to."""
        if self._kept is not None:
            yield from self._kept
            return
        seed, kept, size = derive_seed(self.seed, "checkup"), [], 0
        for index, images in enumerate(self.images.split(self.chunk)):
            with torch.inference_mode(False), torch.no_grad():  # of use in any mode later
                views = self.augment(images.to(self.device), seed, index)
            size += sum(view.nbytes for view in views)
            if size <= KEPT_BYTES:
                kept.append(views)
            yield views
        if size <= KEPT_BYTES:
            self._kept = kept


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put ``network`` in eval mode without gradients; every module's mode is restored after."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def take_vitals(
    network: JointEmbedding,
    held_out: HeldOut,
    also: Callable[[list[Tensor], list[Encoded]], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Measure backbone and embedding on the held-out views.

    The network's weights, batch-norm statistics, modes and random streams are left as they are.

    Args:
        network: what to measure.
        held_out: on which images.
        also: is shown the views of every chunk and what became of them, for other measurements of
            the same passes.

    Returns:
        Vital signs of the layers ``backbone`` (h) and ``embedding`` (z); up to ``CHEAP_WIDTH`` with
        ``errors``, the standard error of each by metric name, beyond it with none.
    """
    layers: dict[str, LayerMoments] = {}
    start = 0
    with evaluating(network):
        for views in held_out.views():
            encoded = [network.encode(view) for view in views]
            found = {
                "backbone": [e.feature.flatten(1) for e in encoded],
                "embedding": [e.embedding for e in encoded],
            }
            for layer, rows in found.items():
                if layer not in layers:
                    # One process measures by itself, so that the others need not wait for it here.
                    width, device = rows[0].shape[1], rows[0].device
                    shards = SHARDS if width <= CHEAP_WIDTH else 1
                    layers[layer] = LayerMoments(width, shards, held_out.seed, device, shared=False)
                layers[layer].update(rows, start)
            if also is not None:
                also(views, encoded)
            start += len(views[0])
        return {layer: moments.read() for layer, moments in layers.items()}


def calibrated(network: JointEmbedding, held_out: HeldOut) -> JointEmbedding:
    """Return a copy whose batch-norm statistics are those of the held-out views.

    So the reference, and a network of few steps, is measured: see
    :mod:`fullrank.monitor.settling`.
    """
    network = copy.deepcopy(network).eval()

    def passes() -> None:
        for views in held_out.views():
            if len(views[0]) > 1:
                for view in views:
                    network.encode(view)

    settle(batch_norms([network]), passes)
    return network

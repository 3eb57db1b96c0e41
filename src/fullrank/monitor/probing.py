"""One check-up: all taps of a network, measured on the probe set by all processes together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from fullrank.errors import UserError
from fullrank.models.collectives import world_size
from fullrank.monitor.layer_moments import LayerMoments
from fullrank.monitor.probe_set import ProbeBatch, ProbeSet
from fullrank.monitor.settling import settled_batch_norm
from fullrank.monitor.taps import Pool, Tap, rows_of, tapped_module
from fullrank.monitor.undisturbed import (
    chance_kept,
    device_of,
    evaluating,
    first_process_buffers,
)
from fullrank.randomness import derive_seed


def measure_taps(
    module: nn.Module,
    taps: Sequence[Tap],
    probe: ProbeSet,
    pool: Pool = None,
    shards: int = 8,
    seed: int = 0,
    settle: bool = False,
) -> tuple[dict[str, dict[str, Any]], str]:
    """Measure layers of a network in eval mode and leave it as it was.

    Every process measures its share of the batches, and all return the same numbers. A network that
    draws random numbers in eval mode draws the same at every call.

    Args:
        module: the network, not wrapped.
        taps: its layers.
        probe: what it is shown.
        pool: see :func:`fullrank.monitor.taps.pooled`.
        shards: groups for the error bars.
        seed: of what is drawn.
        settle: whether batch norms get the statistics of the probe set first.

    Returns:
        Vital signs by layer, and the mode they were measured in.

    Raises:
        UserError: a tap does not exist, is not reached, or gives no rows.
    """
    rank, world = (dist.get_rank() if world_size() > 1 else 0), world_size()
    device = device_of(module)
    layers: dict[str, LayerMoments] = {}
    with chance_kept(device) as reseed, evaluating(module), first_process_buffers(module):

        def passes(batch: ProbeBatch) -> Iterator[Any]:
            reseed(derive_seed(seed, "probe", batch.number))
            return probe.passes(module, batch, device)

        def settling() -> None:
            for batch in probe.batches:
                if len(batch) > 1:
                    for _ in passes(batch):
                        pass

        with contextlib.ExitStack() as stack:
            settled = settle and stack.enter_context(settled_batch_norm(module, settling))
            # A process without a share learns the layers' widths from a batch that does not count.
            for batch in list(probe.share(rank, world)) or probe.batches[:1]:
                counts = batch.number % world == rank
                for layer, views in _features(module, taps, passes(batch), pool).items():
                    if layer not in layers:
                        width = views[0].shape[1]
                        layers[layer] = LayerMoments(width, shards, seed, views[0].device)
                    rows = views if counts else [view[:0] for view in views]
                    layers[layer].update(rows, batch.start)
        found = {tap.layer: layers[tap.layer].read() for tap in taps}
    return found, "eval, batch norm calibrated" if settled else "eval"


def _features(
    module: nn.Module, taps: Sequence[Tap], passes: Iterator[Any], pool: Pool
) -> Mapping[str, list[Tensor]]:
    """Return the rows of every tap, a list of views each."""
    seen: dict[str, Tensor] = {}

    def remember(tap: Tap) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            # A copy: what follows may work in place.
            seen[tap.layer] = rows_of(output, tap, pool).detach().clone()

        return hook

    inner = [tap for tap in taps if tap.module]
    hooks = [tapped_module(module, tap).register_forward_hook(remember(tap)) for tap in inner]
    features: dict[str, list[Tensor]] = {tap.layer: [] for tap in taps}
    try:
        for output in passes:
            for tap in taps:
                if not tap.module:
                    seen[tap.layer] = rows_of(output, tap, pool).detach()
                elif tap.layer not in seen:
                    raise UserError(
                        f"taps: {tap.module!r} is not reached by a forward pass of the probe set."
                    )
                features[tap.layer].append(seen[tap.layer])
            seen.clear()
    finally:
        for hook in hooks:
            hook.remove()
    return features

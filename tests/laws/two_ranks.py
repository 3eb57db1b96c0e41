"""Compares two processes with one on the same global batch, for every recipe; prints JSON.

    python tests/laws/two_ranks.py recipes|variants|NAME|NAME/VARIANT ...

Run as a script of its own, because forked processes must not inherit busy threads.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from fullrank.models.batch_norm import synchronise_batch_norm
from fullrank.recipes.registry import recipe as find
from fullrank.recipes.registry import recipes

sys.path.insert(0, str(Path(__file__).parents[1]))
from batches import batch_size, network_of, views_of


def forms():
    for recipe in recipes().values():
        named = recipe.name in sys.argv
        if named or "recipes" in sys.argv:
            yield recipe
        if named or "variants" in sys.argv:
            yield from (recipe.variant(v.name) for v in recipe.variants)
    yield from (find(name) for name in sys.argv[1:] if "/" in name)


def batch_of(recipe):
    # Of even size, so that both processes have as many images.
    return max(16, batch_size(recipe))


class WithLoss(torch.nn.Module):
    """The loss is computed inside forward, so that DistributedDataParallel sees one module."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, views, indices):
        return self.network.loss(self.network(views, indices)).total


def gradients(network):
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def state(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def stepped(recipe, rank=0, world=1):
    """Return loss, gradient and the state after a step, of a share of the batch."""
    n = batch_of(recipe)
    rows = slice(rank * n // world, (rank + 1) * n // world)
    prepare = synchronise_batch_norm if world > 1 else (lambda network: network)
    network = network_of(recipe, torch.float64, n, prepare=prepare, rows=rows)
    whole = WithLoss(network)
    if world > 1:
        whole = torch.nn.parallel.DistributedDataParallel(whole)
    views, indices = views_of(recipe, torch.float64, n)
    loss = whole([view[rows] for view in views], indices[rows])
    loss.backward()
    mean = loss.detach().clone()
    if world > 1:
        dist.all_reduce(mean)
    network.after_step(1, 100)
    return mean / world, gradients(network), state(network)


def work(rank, port, folder):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    results = {}
    for recipe in forms():
        try:
            results[recipe.name] = stepped(recipe, rank, 2)
        except Exception:  # of one recipe: the others are compared all the same
            results[recipe.name] = traceback.format_exc()
    torch.save(results, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def difference(one, other):
    """Return the largest difference of two states."""
    assert one.keys() == other.keys()
    return max(float((one[k].double() - other[k].double()).abs().max()) for k in one)


def main():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(work, (port, folder), nprocs=2, start_method="fork")
        two = [torch.load(f"{folder}/{rank}.pt") for rank in (0, 1)]
    report = {}
    for recipe in forms():
        if isinstance(two[0][recipe.name], str):
            report[recipe.name] = {"error": two[0][recipe.name]}
            continue
        loss, gradient, kept = stepped(recipe)
        mean, parallel, first = two[0][recipe.name]
        second = two[1][recipe.name][2]
        report[recipe.name] = {
            "loss": float(loss),
            "loss_difference": float((mean - loss).abs()),
            "gradient_norm": float(gradient.norm()),
            "gradient_difference": float((parallel - gradient).norm()),
            "state_difference": max(difference(kept, first), difference(kept, second)),
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main()

"""Compares two processes with one on the same global batch, for every recipe; prints JSON.

Run as a script of its own, because forked processes must not inherit busy threads.
"""

from __future__ import annotations

import copy
import json
import os
import socket
import warnings

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from fullrank.models.batch_norm import synchronise_batch_norm
from fullrank.models.settings.backbone import Conv4
from fullrank.recipes.registry import recipes

N = 16


def networks():
    for name, recipe in recipes().items():
        torch.manual_seed(0)
        yield name, recipe.preset("small").build(Conv4(width=2), 1, 16).double()


def batch():
    gen = torch.Generator().manual_seed(1)
    return [torch.randn(N, 1, 16, 16, generator=gen, dtype=torch.float64) for _ in range(2)]


def gradients(network):
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def statistics(network):
    buffers = dict(network.named_buffers())
    return torch.cat([b.flatten().double() for name, b in buffers.items() if "running" in name])


def work(rank, port, results):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    rows = slice(rank * N // 2, (rank + 1) * N // 2)
    for name, network in networks():
        synchronise_batch_norm(network)
        # The loss is computed inside forward, so that DistributedDataParallel sees one module.
        whole = torch.nn.parallel.DistributedDataParallel(WithLoss(network))
        loss = whole([view[rows] for view in batch()])
        loss.backward()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        results[rank][name] = (mean / 2, gradients(network), statistics(network))
    if rank == 0:
        torch.save(results[0], os.environ["RESULT"])
    dist.barrier()
    dist.destroy_process_group()


class WithLoss(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, views):
        return self.network.loss(self.network(views)).total


def main():
    import tempfile

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RESULT"] = f"{folder}/result.pt"
        mp.start_processes(work, (port, [{}, {}]), nprocs=2, start_method="fork")
        two = torch.load(os.environ["RESULT"])
    report = {}
    for name, network in networks():
        network = copy.deepcopy(network)
        loss = network.loss(network(batch())).total
        loss.backward()
        mean, gradient, statistic = two[name]
        report[name] = {
            "loss": float(loss.detach()),
            "loss_difference": float((mean - loss.detach()).abs()),
            "gradient_norm": float(gradients(network).norm()),
            "gradient_difference": float((gradient - gradients(network)).norm()),
            "statistics_difference": float((statistic - statistics(network)).abs().max()),
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main()

"""Compares what two processes remember with one on the same global batches; prints JSON.

Run as a script of its own, because forked processes must not inherit busy threads.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from fullrank.models.objectives.objective import Outputs
from fullrank.models.settings.objectives.clustering import ClusterAssignment, SwappedAssignment
from fullrank.models.settings.objectives.distillation import SelfDistillation

IMAGES, N, DIM = 24, 8, 5
PARTS = {
    "swapped": SwappedAssignment(prototypes=6, queue=16, frozen_steps=1),
    "cluster": ClusterAssignment(prototypes=4, heads=2),
    "distilled": SelfDistillation(teacher_warmup=0.5),
}


def drawn(*shape, seed):
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=gen, dtype=torch.float64)


def follow(part, rank, world):
    """Return losses, gradients and state over two epochs of batches, this process's part."""
    torch.manual_seed(0)
    objective = part.build(DIM, IMAGES).double()
    rows = slice(rank * N // world, (rank + 1) * N // world)
    images = drawn(IMAGES, DIM, seed=99)
    found = {}
    for epoch in range(2):
        order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(epoch)).split(N)
        if hasattr(objective, "before_epoch"):
            objective.before_epoch(
                epoch, lambda order=order: ((i[rows], [images[i[rows]]]) for i in order)
            )
        for place, indices in enumerate(order):
            step = epoch * len(order) + place
            kept = indices[rows]
            p = [drawn(N, DIM, seed=10 * step + v)[rows].requires_grad_() for v in range(3)]
            t = [drawn(N, DIM, seed=10 * step + v + 5)[rows] for v in range(2)]
            loss = objective(Outputs(p, p, p, t, kept)).total
            loss.backward()
            # Averaged over processes, as distributed data parallelism does.
            found[f"loss {step}"] = _mean(loss.detach().clone(), world)
            whole = torch.zeros(3, N, DIM, dtype=torch.float64)
            whole[:, rows] = torch.stack([x.grad for x in p])
            found[f"gradient {step}"] = _mean(whole, world)
            for name, parameter in objective.named_parameters():
                found[f"{name} {step}"] = _mean(parameter.grad.clone(), world)
                parameter.grad = None
            objective.after_step(step + 1, 2 * len(order))
    return found | {k: v.double() for k, v in objective.state_dict().items()}


def _mean(local, world):
    if world > 1:
        dist.all_reduce(local)
    return local / world


def work(rank, port, path):
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    found = {name: follow(part, rank, 2) for name, part in PARTS.items()}
    torch.save(found, f"{path}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def main():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(work, (port, folder), nprocs=2, start_method="fork")
        ranks = [torch.load(f"{folder}/{rank}.pt") for rank in range(2)]
    report = {}
    for name, part in PARTS.items():
        one = follow(part, 0, 1)
        for two in ranks:
            assert one.keys() == two[name].keys()
            for key, value in one.items():
                difference = float((two[name][key] - value).abs().max())
                report[f"{name} {key}"] = max(difference, report.get(f"{name} {key}", 0.0))
    print(json.dumps(report))


if __name__ == "__main__":
    main()

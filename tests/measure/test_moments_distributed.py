"""Two processes hold what one holds, however unequally they share the images."""

from __future__ import annotations

import multiprocessing
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from fullrank.errors import UserError
from fullrank.measure.moments import Moments, MomentState, moments_of
from fullrank.randomness import generator

# Forked, not spawned: a tenth of a second instead of several for importing torch again. The
# children use one thread, so that no thread pool of the parent is missed.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
    pytest.mark.skipif(
        "fork" not in multiprocessing.get_all_start_methods() or not dist.is_gloo_available(),
        reason="needs forked processes and gloo (Linux)",
    ),
]
FIELDS = list(MomentState.__annotations__)
SHARES = {"equal": 30, "unequal": 47, "empty update": 60, "no update": 60, "unlike": 30}


def images(d: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    g = generator(0, "distributed")
    x = torch.randn(60, d, generator=g) + 100
    return x, x + 0.1 * torch.randn(60, d, generator=g)


def child(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder / 'store'}", rank=rank, world_size=2)
    found = {}
    for name, share in SHARES.items():
        metric = Moments()
        part = slice(0, share) if rank == 0 else slice(share, 60)
        width = 4 if (name, rank) == ("unlike", 1) else 5
        if name != "no update" or rank == 0:
            for batch in zip(*(v[part].split(8) for v in images(width)), strict=True):
                metric.update(*batch)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics warns a rank that was never updated
            try:
                state = metric.compute()
            except UserError as error:
                found[name] = str(error)
                continue
        again = metric.clone()
        again.update(*(v[:1] for v in images()))
        found[name] = vars(state) | {"continues": int(again.count) == int(metric.count) + 1}
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=child, args=(rank, tmp_path)) for rank in range(2)]
    for process in children:
        process.start()
    for process in children:
        process.join(60)
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in children] == [0, 0]

    expected = moments_of(*images())
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name in SHARES:
        if name == "unlike":
            assert "different shapes: [(1, 2, 4), (1, 2, 5)]" in first[name] == second[name]
            continue
        assert first[name]["continues"] and second[name]["continues"]
        for field in FIELDS:
            ours, theirs = first[name][field], second[name][field]
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)  # every rank has the same
            torch.testing.assert_close(ours, getattr(expected, field), rtol=1e-11, atol=1e-9)

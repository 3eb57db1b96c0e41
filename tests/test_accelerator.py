"""What a processor computes, an accelerator computes too; run where CUDA is.

pytest tests/test_accelerator.py
"""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch

import fullrank
from batches import network_of, views_of
from fullrank.measure.moments import moments_of
from fullrank.measure.stream import measure_stream
from fullrank.measure.table import read_table
from fullrank.monitor.monitor import Monitor
from fullrank.recipes.registry import recipes

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA is not here")
every_recipe = pytest.mark.parametrize("recipe", recipes().values(), ids=lambda r: r.name)


def to(device, batch):
    views, indices = batch
    return [view.to(device) for view in views], indices.to(device)


def two_steps(network, batch):
    """Losses and gradients of two steps of plain gradient descent."""
    found = []
    for step in (1, 2):
        network.zero_grad()
        loss = network.loss(network(*batch)).total
        loss.backward()
        gradients = {n: p.grad.cpu() for n, p in network.named_parameters() if p.grad is not None}
        found.append((loss.item(), gradients))
        with torch.no_grad():
            for p in network.parameters():
                if p.grad is not None:
                    p -= 0.01 * p.grad
        network.after_step(step, 2)
    return found


@every_recipe
def test_loss_and_gradient_are_the_processors(recipe):
    network, batch = network_of(recipe, torch.float64), views_of(recipe, torch.float64)
    if hasattr(recipe.preset("small").objective, "directions"):
        pytest.skip("its directions are drawn on the device, from a stream of the device's own")
    there = copy.deepcopy(network).to("cuda")
    expected, got = two_steps(network, batch), two_steps(there, to("cuda", batch))
    for (loss, gradients), (other, others) in zip(expected, got, strict=True):
        assert other == pytest.approx(loss, rel=1e-7, abs=1e-9)
        largest = max(g.abs().max().item() for g in gradients.values())
        for name, gradient in gradients.items():
            torch.testing.assert_close(others[name], gradient, rtol=1e-5, atol=1e-6 * largest)


TINY = {
    "preset": "small",
    "data": "digits",
    "backbone": {"name": "conv4", "width": 4},
    "steps": 12,
    "log_every": 1,
    "logger": "none",
    "checkup": {"size": 100},
    "probe": {"train": 200, "test": 100},
}


@every_recipe
def test_trains_and_is_judged(recipe, tmp_path):
    run = fullrank.train(recipe.name, **TINY, device="cuda", out=str(tmp_path / "run"))
    events = [json.loads(s) for s in (run.folder / "record.jsonl").read_text().splitlines()]
    losses = [e["loss"] for e in events if e["event"] == "step"]
    assert len(losses) == TINY["steps"] and all(map(math.isfinite, losses))
    assert run.verdict["embedding"]["kind"] and (run.folder / "report.html").exists()


@pytest.mark.parametrize(
    "rows", [(lambda g: torch.randn(4001, 96, generator=g)), (lambda g: torch.randn(4001, 2, 96))]
)
def test_moments_are_the_processors(rows):
    x = rows(torch.Generator().manual_seed(0)) * torch.arange(1, 97) ** -1.5 + 3
    views = [x] if x.ndim == 2 else list(x.unbind(1))
    here, there = moments_of(*views), moments_of(*(v.cuda() for v in views))
    torch.testing.assert_close(there.singular_values.cpu(), here.singular_values, rtol=1e-5, atol=0)


def test_the_table_is_the_processors():
    x = torch.randn(6000, 64, generator=torch.Generator().manual_seed(0))
    x = x * torch.arange(1, 65) ** -0.7
    here, there = (
        read_table(measured.shards, measured.sample.rows)
        for measured in (
            measure_stream(lambda d=device: ((block,) for block in x.to(d).split(1024)))
            for device in ("cpu", "cuda")
        )
    )
    assert here.keys() == there.keys()
    for name, reading in here.items():
        assert there[name].value == pytest.approx(reading.value, rel=1e-4, abs=1e-6), name


def watched(probe=None):
    torch.manual_seed(0)
    hidden = torch.nn.Sequential(
        torch.nn.Linear(8, 32), torch.nn.BatchNorm1d(32), torch.nn.ReLU(), torch.nn.Dropout(0.2)
    )
    net = torch.nn.Sequential(hidden, torch.nn.Linear(32, 8)).cuda()
    monitor = Monitor({"embedding": ""}, budget=1, probe=probe).attach(net) if probe else None
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(30):
        x = torch.randn(64, 8, device="cuda")
        loss = (net(x) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if monitor:
            monitor.step()
    return net.state_dict(), monitor


def test_watching_changes_no_weight():
    plain, _ = watched()
    weights, monitor = watched([tuple(torch.randn(40, 8) for _ in range(2)) for _ in range(3)])
    assert monitor.history
    assert all(torch.equal(plain[name], value) for name, value in weights.items())


def test_audit_of_a_network_is_the_processors():
    here, there = (
        fullrank.audit("timm/resnet10t", data="digits", limit=300, size=32, device=device)
        for device in ("cpu", "cuda")
    )
    for name, reading in here.audits[0].main.metrics.items():
        value = there.audits[0].main.metrics[name].value
        assert value == pytest.approx(reading.value, rel=2e-2, abs=1e-3), name

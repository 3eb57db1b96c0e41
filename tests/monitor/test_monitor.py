"""A monitor sees what is there, tells it the same on any number of processes, leaves no trace."""

from __future__ import annotations

import copy
import itertools
import json
import multiprocessing
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from fullrank.errors import UserError
from fullrank.measure.moments import moments_of
from fullrank.measure.vitals import vital_signs
from fullrank.models.batch_norm import SyncedBatchNorm
from fullrank.monitor.monitor import Monitor
from fullrank.monitor.schedule import Schedule
from fullrank.monitor.undisturbed import chance_kept
from fullrank.randomness import generator

NO_FORKS = "fork" not in multiprocessing.get_all_start_methods() or not dist.is_gloo_available()


class Net(nn.Module):
    """Batch norm, dropout, chance in eval mode, and a buffer that is kept for the next pass."""

    def __init__(self, noise=0.0):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(inplace=True))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(16, 8))
        self.noise, self.kept = noise, None

    def forward(self, x):
        if self.kept is None:
            self.kept = torch.ones(16)
        h = self.backbone(x) * self.kept
        return self.head(h + self.noise * torch.randn_like(h))


def network(**settings):
    torch.manual_seed(0)
    return Net(**settings)


def inputs(count=3, n=40, seed=0):
    gen = generator(seed, "probe")
    return [tuple(torch.randn(n, 6, generator=gen) for _ in range(2)) for _ in range(count)]


TAPS = {"backbone": "backbone", "embedding": ""}


def train(net, steps, monitor=None, every=1000):
    torch.manual_seed(1)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        x = torch.randn(32, 6)
        loss = (net(x + 0.1 * torch.randn(32, 6)) - net(x).detach()).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if monitor is not None:
            monitor.update(x, x + 1, layer="input")
            if monitor.step() is None and monitor.steps % every == 0:
                monitor.check_up()
    return net


def test_training_with_and_without_a_monitor_gives_equal_weights():
    plain = train(network(noise=0.1), 60).state_dict()
    chance = torch.get_rng_state()
    net = network(noise=0.1)
    monitor = Monitor(TAPS, budget=1, probe=inputs()).attach(net)
    watched = train(net, 60, monitor, every=5).state_dict()
    assert len(monitor.history) > 10
    assert {c["mode"] for c in monitor.history} == {"eval", "eval, batch norm calibrated"}
    assert all(torch.equal(plain[name], value) for name, value in watched.items())
    assert torch.equal(torch.get_rng_state(), chance)


def test_every_random_stream_comes_back():
    def draw():
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = [draw() for _ in range(4)]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    found = [draw()]
    seeded = []
    for _ in range(2):
        with chance_kept(torch.device("cpu")) as seed:
            seed(2**62)
            seeded.append(draw())
        found.append(draw())
    assert [*found, draw()] == expected
    assert seeded[0] == seeded[1]


def test_modes_and_buffers_come_back_also_after_an_error():
    net = network()
    net.head.eval()
    net.backbone[1].momentum = 0.3
    modes = [m.training for m in net.modules()]
    buffers = dict(net.named_buffers())
    before = copy.deepcopy(net.state_dict())

    def fail(module, view):
        module(view)
        raise RuntimeError("stop")

    Monitor(probe=inputs()).check_up(net)
    with pytest.raises(RuntimeError, match="stop"):
        Monitor(probe=inputs(), forward=fail).check_up(net)
    assert [m.training for m in net.modules()] == modes
    assert all(b is buffers[name] for name, b in net.named_buffers())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert net.backbone[1].momentum == 0.3
    assert not any(m._forward_hooks for m in net.modules())


def test_a_check_up_reads_the_vital_signs_of_the_features_in_eval_mode():
    net = train(network(), 5)
    monitor = Monitor(TAPS, probe=inputs(), calibrate=False)
    readings = monitor.check_up(net)
    net.eval()
    views = [torch.cat(v) for v in zip(*inputs(), strict=True)]
    with torch.no_grad():
        h, z = [net.backbone(v) for v in views], [net(v) for v in views]
    for layer, features in (("backbone", h), ("embedding", z)):
        expected = vital_signs(moments_of(*features))
        for metric in ("spread", "effective_rank", "participation_ratio", "alignment", "cev_auc"):
            assert readings[f"fullrank/{layer}/{metric}"] == pytest.approx(expected[metric], 1e-5)
        assert readings[f"fullrank/{layer}/normalised_std"] == pytest.approx(expected["std"], 1e-5)
    assert (monitor.history[0]["n"], monitor.history[0]["views"]) == (120, 2)


def test_calibrated_statistics_are_those_of_the_probe_set():
    net, probe = network(), [inputs(1)[0][0]]
    monitor = Monitor("backbone.1", probe=probe)
    readings = monitor.check_up(net)
    with torch.no_grad():
        x = net.backbone[0](probe[0])
    expected = vital_signs(moments_of((x - x.mean(0)) / x.std(0)))
    assert readings["fullrank/backbone.1/spread"] == pytest.approx(expected["spread"], 1e-3)
    assert monitor.history[0]["mode"] == "eval, batch norm calibrated"
    monitor.check_up(net, step=50)
    assert monitor.history[1]["mode"] == "eval"
    assert "/alignment" not in "".join(readings)  # one view


def test_chance_in_eval_mode_is_the_same_at_every_check_up():
    net = network(noise=1.0)
    monitor = Monitor(probe=inputs(), calibrate=False)
    first = monitor.check_up(net)
    torch.rand(7)
    assert monitor.check_up(net) == first


def test_change_and_drawdown_are_told_beside_each_value():
    net = nn.Linear(6, 8)
    monitor = Monitor(probe=inputs()).attach(net)
    ranks = []
    for scale in (1.0, 0.01, 0.1):  # of all but the first outputs
        with torch.no_grad():
            weight = torch.eye(8, 6) * torch.tensor([1.0] + 5 * [scale])
            net.weight.copy_(weight)
            net.bias.zero_()
        readings = monitor.check_up()
        key = "fullrank/embedding/effective_rank"
        ranks.append(readings[key])
        assert readings[f"{key}/change"] == pytest.approx(ranks[-1] - ranks[0])
        assert readings[f"{key}/drawdown"] == pytest.approx(1 - ranks[-1] / max(ranks))
    assert ranks[1] < ranks[2] < ranks[0]


def test_error_bars_are_about_the_scatter_between_probe_sets():
    net = network().eval()
    found = [
        Monitor(probe=inputs(4, 50, seed), calibrate=False).check_up(net) for seed in range(30)
    ]
    for metric in ("spread", "effective_rank", "participation_ratio", "alignment"):
        key = f"fullrank/embedding/{metric}"
        scatter = torch.tensor([reading[key] for reading in found]).std()
        error = torch.tensor([reading[f"{key}/error"] for reading in found]).mean()
        assert 0.6 < float(error / scatter) < 1.6


def test_wide_layers_have_first_order_error_bars():
    net = nn.Linear(6, 1100)
    readings = Monitor(probe=inputs(1, 64)).check_up(net)
    assert readings["fullrank/embedding/effective_rank/error"] > 0


def test_a_layer_too_wide_for_a_square_matrix_is_sketched():
    # 65,536 prototypes, say: their scatter would take 32 GiB.
    net = nn.Linear(6, 20_000)
    data = inputs(1, 64)
    monitor = Monitor(probe=data)
    readings = monitor.check_up(net)
    with torch.no_grad():
        rows = [net(view).double() for view in data[0]]
    units = torch.cat([r / r.norm(dim=1, keepdim=True) for r in rows])
    assert readings["fullrank/embedding/spread"] == pytest.approx(
        float(1 - units.mean(0).square().sum()), rel=1e-5
    )
    sigma = torch.linalg.svdvals(rows[0] - rows[0].mean(0))
    share = (sigma / sigma.sum())[:6]
    assert readings["fullrank/embedding/effective_rank"] == pytest.approx(
        float((-share * share.log()).sum().exp()), rel=0.02
    )
    assert monitor.verdict()["embedding"].kind


def test_a_verdict_compares_with_the_first_check_up():
    net = nn.Linear(6, 8, bias=True)
    monitor = Monitor(probe=inputs())
    with pytest.raises(UserError, match="no check-up was taken"):
        monitor.verdict()
    monitor.check_up(net)
    assert monitor.verdict()["embedding"].kind == "healthy"
    with torch.no_grad():
        net.weight.mul_(0.01)
        net.bias.fill_(1)
    monitor.check_up(net)
    verdict = monitor.verdict()["embedding"]
    assert verdict.kind == "complete collapse"
    assert verdict.reference == "first check-up"
    assert "random-init" not in "".join(verdict.evidence)


def test_hooks_count_training_passes_only():
    net = network()
    with Monitor(TAPS).attach(net) as monitor:
        net.eval()
        net(torch.randn(9, 6))
        assert monitor.readings() == {}
        net.train()
        z = net(torch.randn(9, 6))
        expected = Monitor()
        expected.update(z)
        z.data.zero_()
        read = monitor.readings()
        assert {k: v for k, v in read.items() if "embedding" in k} == expected.readings()
        assert "fullrank/backbone/batch/participation_ratio" in read
    net(torch.randn(9, 6))
    assert monitor.readings() == read
    assert not any(m._forward_hooks for m in net.modules())


def test_without_a_probe_a_due_step_reads_the_batch():
    monitor = Monitor(budget=1, total_steps=3)
    monitor.update(torch.randn(9, 6))
    assert "fullrank/embedding/batch/spread" in [monitor.step() for _ in range(3)][-1]
    with pytest.raises(UserError, match="a check-up needs"):
        monitor.check_up(nn.Linear(1, 1))


def test_the_budget_holds_and_the_last_step_is_always_measured():
    net = network()
    slow = Monitor(budget=1e-9, probe=inputs(), total_steps=100).attach(net)
    train(net, 100, slow)
    assert [checkup["step"] for checkup in slow.history] == [1, 100]
    assert slow.pace.budget.spent == 0


def test_an_unknown_end_leaves_no_more_than_a_tenth_unseen():
    schedule, step, steps = Schedule(), 0, []
    while step < 100_000:
        steps.append(step := schedule.following(step))
    assert steps[:10] == list(range(1, 11))
    assert all(b - a <= max(1, 0.1 * a) for a, b in itertools.pairwise(steps))
    assert len(steps) < 150
    assert Schedule(10).following(10) is None


def test_state_survives_a_checkpoint():
    net = network()
    monitor = Monitor(TAPS, budget=1, probe=inputs()).attach(net)
    train(net, 12, monitor, every=4)
    state = json.loads(json.dumps(monitor.state_dict()))
    again = Monitor(TAPS, budget=1, probe=inputs())
    again.load_state_dict(state)
    assert again.state_dict() == state
    assert again.readings() == {k: v for k, v in monitor.readings().items() if "/batch/" not in k}
    again.attach(net)
    monitor.detach()
    before = len(again.history)
    train(net, 3, again, every=3)
    assert again.steps == 15 and len(again.history) > before
    with pytest.raises(UserError, match=r"history, last, .* missing"):
        again.load_state_dict({"steps": 1, "due": 1})


class Outputs(nn.Module):
    def forward(self, x, extra=None):
        tokens = x[:, None, :] * torch.arange(1.0, 4.0)[None, :, None]
        return {"tokens": tokens, "pair": x}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"taps": "backbon"}, "taps: 'backbon' is not known. Did you mean 'backbone'"),
        ({"taps": ["head", "head"]}, "each layer is allowed once"),
        ({"taps": []}, "taps: none given"),
        ({"budget": 2}, "budget: 2 given"),
        ({"rows": 1}, "rows: 1 given"),
        ({"shards": 0}, "shards: 0 given"),
        ({"total_steps": 0}, "total_steps: 0 given"),
        ({"probe": []}, "probe: no inputs"),
        ({"probe": [["a", "b"]]}, "probe: a batch holds str"),
        ({"probe": [(torch.zeros(4, 6), torch.zeros(4))]}, "Labels do not belong here"),
    ],
)
def test_bad_arguments_are_named(settings, words):
    with pytest.raises(UserError) as error:
        monitor = Monitor(**{"probe": inputs(), **settings}).attach(network())
        monitor.update(torch.zeros(4, 6))
        monitor.check_up()
    assert words in str(error.value)


def test_outputs_are_chosen_by_key_and_pooled_as_told():
    x = inputs(1)[0][0]
    probe = [{"x": x}]
    with pytest.raises(UserError, match=r"returns outputs tokens, pair; .* ':tokens'"):
        Monitor(probe=probe).check_up(Outputs())
    with pytest.raises(UserError, match=r"'tokenz' is not known\. Did you mean 'tokens'"):
        Monitor(":tokenz", probe=probe).check_up(Outputs())
    with pytest.raises(UserError, match=r"pool: None given for tokens of shape \(40, 3, 6\)"):
        Monitor(":tokens", probe=probe).check_up(Outputs())
    found = Monitor([":tokens", ":pair"], probe=probe, pool="mean").check_up(Outputs())
    assert found["fullrank/tokens/effective_rank"] == pytest.approx(
        found["fullrank/pair/effective_rank"], 1e-6
    )
    monitor = Monitor(pool="first")
    monitor.update(x[:, :, None, None].expand(-1, -1, 2, 2))
    plain = Monitor()
    plain.update(x[:, :, None, None])
    assert monitor.readings() == plain.readings()
    with pytest.raises(UserError, match="not reached"):
        Monitor("0", probe=[x], forward=lambda module, view: view).check_up(nn.Sequential(Net()))
    with pytest.raises(UserError, match=r"views: shapes .* given"):
        plain.update(x, x[:3])


def test_importing_it_imports_no_trainer():
    code = (
        "import sys; import fullrank.monitor.monitor; "
        "print({'lightning', 'pytorch_lightning', 'timm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def on_two(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder / 'store'}", rank=rank, world_size=2)
    found = {}
    for batches in (1, 3):
        net = Wrapped(rank)
        monitor = Monitor(TAPS, budget=1, probe=inputs(batches), rows=32).attach(net)
        monitor.check_up()
        x = torch.randn(80, 6, generator=generator(2, "batch"))
        for step in range(1, 4):
            monitor.update(x[rank::2], layer="input")
            monitor.step(step)
        found[batches] = monitor.check_up(step=60), [c["step"] for c in monitor.history]
        assert all(b.eq(rank).all() for b in net.module.buffers() if b.is_floating_point())
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


def Wrapped(rank):  # noqa: N802
    """A network in DistributedDataParallel, with batch-norm statistics of this rank's own."""
    net = network()
    net.backbone[1].__class__ = SyncedBatchNorm
    net = nn.parallel.DistributedDataParallel(net) if dist.is_initialized() else net
    for buffer in net.buffers():
        if buffer.is_floating_point():
            buffer.fill_(rank)
    return net


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(NO_FORKS, reason="needs forked processes and gloo (Linux)")
def test_two_processes_tell_what_one_does(tmp_path):
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=on_two, args=(rank, tmp_path)) for rank in range(2)]
    for process in children:
        process.start()
    for process in children:
        process.join(60)
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in children] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first == second
    for batches in (1, 3):
        monitor = Monitor(TAPS, probe=inputs(batches), rows=32).attach(Wrapped(0))
        monitor.check_up()
        monitor.update(torch.randn(80, 6, generator=generator(2, "batch")), layer="input")
        expected = monitor.check_up(step=60)
        assert first[batches][0] == pytest.approx(expected, rel=1e-9, abs=1e-9)

"""Eigenmodes estimated from views are those of the network, and its next step is as foretold."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import fullrank
from fullrank.data.augment import Augment
from fullrank.data.settings import resolve_augmentation
from fullrank.models.joint_embedding import JointEmbedding
from fullrank.models.objectives.cosine import CosineObjective
from fullrank.models.objectives.isotropic import IsotropicEuclidean
from fullrank.models.settings.backbone import Conv4
from fullrank.models.targets import MomentumTarget, OnlineTarget, StopGradientTarget
from fullrank.monitor.checkup import HeldOut, take_vitals
from fullrank.monitor.modes import ModeMoments, followed, matched, pull_of
from fullrank.monitor.schedule import checkup_steps
from fullrank.recipes.registry import recipe
from fullrank.recipes.training import Optimizer
from fullrank.report.record import RunRecord
from fullrank.theory.fate import Drive, growth
from fullrank.train.foretelling import Foretelling
from fullrank.train.rates import rate_at

INPUTS, DIM = 48, 24


def linear_network(objective, seed=0, target=None, predictor=None):
    """``z = W x`` with known singular values, and a predictor aligned with W W'."""
    gen = torch.Generator().manual_seed(seed)
    U, _ = torch.linalg.qr(torch.randn(DIM, DIM, generator=gen))
    V, _ = torch.linalg.qr(torch.randn(INPUTS, DIM, generator=gen))
    s = torch.linspace(2.0, 0.3, DIM)
    p = torch.linspace(1.2, 0.2, DIM)
    projector = nn.Linear(INPUTS, DIM, bias=False)
    projector.weight.data = U @ torch.diag(s.sqrt()) @ V.T
    linear = nn.Linear(DIM, DIM, bias=False)
    linear.weight.data = U @ torch.diag(p) @ U.T
    backbone = nn.Identity()
    network = JointEmbedding(
        backbone,
        projector,
        linear if predictor is None else predictor,
        target or StopGradientTarget(),
        objective,
        INPUTS,
    )
    return network.double(), U.double(), s.double(), p.double()


def two_views(n, sigma=0.6, seed=1, scale=1.0):
    gen = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(n, INPUTS, generator=gen, dtype=torch.float64)
    return [
        x + scale * sigma * torch.randn(n, INPUTS, generator=gen, dtype=torch.float64)
        for _ in range(2)
    ]


def estimated(network, views, chunks=4):
    network.eval()
    moments = ModeMoments(network)
    with torch.no_grad(), moments.reading():
        for chunk in zip(*(v.chunk(chunks) for v in views), strict=True):
            moments.update(list(chunk), [network.encode(view) for view in chunk])
    return moments.read()


def test_a_known_linear_network_is_recovered():
    network, _, s, p = linear_network(CosineObjective())
    network.target = MomentumTarget(network.backbone, network.projector, 0.99, "constant")
    network.target.projector.weight.data *= 0.7
    found = estimated(network, two_views(60_000))
    torch.testing.assert_close(found.modes.variance, s, rtol=0.05, atol=0)
    torch.testing.assert_close(found.modes.noise, torch.full_like(s, 0.36), rtol=0.08, atol=0)
    torch.testing.assert_close(found.modes.target, torch.full_like(s, 0.7), rtol=1e-6, atol=0)
    torch.testing.assert_close(found.modes.gain, torch.ones_like(s), rtol=0.06, atol=0)
    # A linear predictor is regressed exactly, so that p is exact along whatever was found.
    W = network.predictor.weight.detach()
    torch.testing.assert_close(found.modes.predictor, (found.vectors * (W @ found.vectors)).sum(0))
    torch.testing.assert_close(found.modes.predictor, p, rtol=0.1, atol=0.02)
    assert found.linear == pytest.approx(1) and found.symmetric == pytest.approx(1)
    assert found.aligned > 0.97
    assert found.below_zero == 0 and not found.normalised


def test_the_gain_is_the_variance_of_what_the_last_layer_reads():
    network, *_ = linear_network(CosineObjective())
    found = estimated(network, two_views(20_000, scale=3.0))
    assert found.modes.gain.median() == pytest.approx(9, rel=0.05)


@pytest.mark.parametrize(
    ("objective", "drive", "tolerance"),
    [
        (IsotropicEuclidean(), Drive(strength=4.0, cosine=False, leading=False), 0.03),
        # Lengths vary between images: of 24 dimensions, by a tenth or so.
        (CosineObjective(), Drive(), 0.2),
    ],
    ids=["euclidean", "cosine"],
)
def test_one_small_step_of_sgd_moves_the_variances_as_foretold(objective, drive, tolerance):
    network, *_ = linear_network(objective)
    views = two_views(30_000)
    found = estimated(network, views)
    # As the objective is: p here is diagonal up to sampling, and the rest is told.
    expected = growth(found.modes, Drive(**{**vars(drive), "misaligned": found.misaligned}))
    network.train()
    lr = 1e-4
    optimizer = torch.optim.SGD(network.projector.parameters(), lr=lr)
    network.loss(network(views)).total.backward()
    optimizer.step()
    after = followed(estimated(network, views), found.vectors)
    actual = (after / found.modes.variance).log() / lr
    scale = expected.abs().max()
    assert float((actual - expected).abs().max() / scale) < tolerance
    assert float(torch.corrcoef(torch.stack([actual, expected]))[0, 1]) > 0.99


def test_what_is_not_linear_symmetric_or_aligned_is_told():
    gen = torch.Generator().manual_seed(2)
    bent = nn.Sequential(nn.Linear(DIM, 64), nn.ReLU(), nn.Linear(64, DIM))
    network, *_ = linear_network(CosineObjective(), predictor=bent)
    found = estimated(network, two_views(4000))
    assert 0.3 < found.linear < 0.98
    skew = nn.Linear(DIM, DIM, bias=False)
    A = torch.randn(DIM, DIM, generator=gen)
    skew.weight.data = A - A.T
    network, *_ = linear_network(CosineObjective(), predictor=skew)
    found = estimated(network, two_views(4000))
    assert found.symmetric < 0.05 and found.linear == pytest.approx(1)
    assert found.aligned < 0.3 and found.misaligned > 0


def test_a_direction_without_variance_is_not_a_mode():
    network, U, _, _ = linear_network(CosineObjective())
    W = network.projector.weight.data
    network.projector.weight.data = (torch.eye(DIM) - torch.outer(U[:, 0], U[:, 0])).double() @ W
    found = estimated(network, two_views(2000))
    assert len(found.modes.variance) == DIM - 1
    assert float((U[:, 0] @ found.vectors).abs().max()) < 1e-6


def test_an_embedding_of_zeros_or_of_nan_has_no_modes():
    for value in (0.0, float("nan")):
        network, *_ = linear_network(CosineObjective())
        network.projector.weight.data[:] = value
        found = estimated(network, two_views(100))
        assert len(found.modes.variance) == 0
        assert found.linear is None


def test_negative_estimates_are_counted_and_left_out():
    network, *_ = linear_network(CosineObjective())
    found = estimated(network, two_views(20, sigma=3.0), chunks=1)  # fewer images than noise
    assert found.below_zero > 0
    assert bool((found.modes.variance > 0).all() and (found.modes.noise >= 0).all())


def test_modes_are_found_again():
    network, U, s, _ = linear_network(CosineObjective())
    found = estimated(network, two_views(60_000))
    places, cosines = matched(found, U.flip(1))
    assert places == list(range(DIM - 1, -1, -1))
    assert min(cosines) > 0.7
    torch.testing.assert_close(followed(found, U), s, rtol=0.05, atol=0)
    assert matched(found, U[:, :0]) == ([None] * DIM, [0.0] * DIM)


def test_who_has_a_theory():
    asymmetric = ("simsiam", "byol", "directpred", "isoloss", "simsiam/without-stop-gradient")
    others = ("vicreg", "barlow-twins", "simclr", "mocov2", "mocov3", "dino", "wmse")
    build = {
        name: recipe(name).preset("small").build(Conv4(width=2), 1, 8)
        for name in (*asymmetric, *others)
    }
    assert {name for name, network in build.items() if pull_of(network)} == set(asymmetric)
    network, *_ = linear_network(CosineObjective(), target=OnlineTarget(), predictor=nn.Identity())
    assert pull_of(network) is None


@pytest.mark.parametrize("name", ["simsiam", "byol", "directpred"])
def test_reading_modes_leaves_no_trace(name):
    torch.manual_seed(0)
    network = recipe(name).preset("small").build(Conv4(width=2), 1, 8)
    images = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8)
    augment = Augment(resolve_augmentation("auto", "digits", 8, 1, 2), 1)
    held_out = HeldOut(images, augment, seed=0, device=torch.device("cpu"), chunk=16)
    network.projector.eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    training, chance = [m.training for m in network.modules()], torch.get_rng_state()
    moments = ModeMoments(network)
    with moments.reading():
        with_modes = take_vitals(network, held_out, moments.update)
    assert len(moments.read().modes.variance) > 0
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert [m.training for m in network.modules()] == training
    assert torch.equal(torch.get_rng_state(), chance)
    assert not any(m._forward_pre_hooks for m in network.modules())
    assert with_modes == take_vitals(network, held_out)


def test_the_clock_is_how_far_a_steady_gradient_carries():
    settings = Optimizer(lr=0.2, momentum=0.9, warmup=0.1, predictor_lr=3.0)
    settings = replace(settings, predictor_schedule="constant")
    total, step, until = 50, 5, 17
    weight, other = (nn.Parameter(torch.zeros(())) for _ in range(2))
    groups = [{"params": [weight]}, {"params": [other]}]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=settings.momentum)
    places = []
    for k in range(total):
        places.append((-weight.item(), -other.item()))
        optimizer.param_groups[0]["lr"] = 0.1 * rate_at(settings, k, total)
        optimizer.param_groups[1]["lr"] = 0.3
        weight.grad, other.grad = torch.ones(()), torch.ones(())
        optimizer.step()
    horizon, ratio = Foretelling(settings, 128, total, [0, 50]).times(step, until)
    ours, theirs = (b - a for a, b in zip(places[step], places[until], strict=True))
    assert horizon == pytest.approx(ours, rel=1e-5)
    assert ratio == pytest.approx(theirs / ours, rel=1e-5)


def test_what_is_written_down_goes_on_after_a_resume():
    network, *_ = linear_network(CosineObjective())
    estimate = estimated(network, two_views(2000))
    foretelling = Foretelling(Optimizer(), 256, 10, [0, 4, 10])
    first = foretelling.event(network, estimate, 0)
    assert "since" not in first and first["until"] == 4
    resumed = Foretelling(Optimizer(), 256, 10, [0, 4, 10])
    resumed.load_state_dict(foretelling.state_dict())
    again = resumed.event(network, estimate, 4)
    assert again["since"] == 0 and again["followed"] == pytest.approx(first["variance"])
    assert again["matched"] == list(range(DIM))
    assert again == foretelling.event(network, estimate, 4)


def test_an_optimiser_without_a_clock_foretells_no_fate():
    network, *_ = linear_network(CosineObjective())
    estimate = estimated(network, two_views(500))
    event = Foretelling(Optimizer(name="adam"), 256, 10, [0, 10]).event(network, estimate, 0)
    assert not {"fate", "expected", "rate"} & set(event)
    assert event["horizon"] is None and len(event["variance"]) == DIM


def test_no_modes_are_written_down_as_none():
    network, *_ = linear_network(CosineObjective())
    network.projector.weight.data[:] = 0
    foretelling = Foretelling(Optimizer(), 256, 10, [0, 4, 10])
    for step in (0, 4):
        event = foretelling.event(network, estimated(network, two_views(50)), step)
        assert event["resolved"] == 0 and event["variance"] == event["fate"] == []
    assert event["followed"] == []


def test_a_run_writes_down_what_becomes_of_its_modes(tmp_path):
    run = fullrank.train(
        "byol",
        preset="small",
        data="digits",
        backbone={"name": "conv4", "width": 2},
        batch_size=64,
        steps=4,
        threads=1,
        device="cpu",
        logger="none",
        checkup={"size": 100, "budget": 100.0},
        probe={"train": 100, "test": 100},
        out=str(tmp_path / "byol"),
    )
    lines = list(map(json.loads, (run.folder / "record.jsonl").read_text().splitlines()))
    lines = [line for line in lines if line["event"] == "modes"]
    assert [line["step"] for line in lines] == checkup_steps(4, 24)
    columns = ("variance", "noise", "p", "tau", "gain", "rate", "margin")
    for before, line in itertools.pairwise(lines):
        assert before["until"] == line["step"] and line["since"] == before["step"]
        assert len(line["followed"]) == len(before["variance"]) <= 32
        assert len(line["matched"]) == len(line["overlap"]) == len(line["variance"])
        assert all(len(line[name]) == len(line["variance"]) for name in columns)
        assert set(before["fate"]) <= {"grow", "hold", "die"}
        assert line["variance"] == sorted(line["variance"], reverse=True)
    assert lines[-1]["until"] is None and "fate" not in lines[-1]
    assert lines[0]["tau"] == pytest.approx([1] * len(lines[0]["tau"]), abs=1e-6)
    assert lines[0]["weight_decay"] == 5e-4
    assert [dict(line) for line in RunRecord.read(run.folder).modes] == lines

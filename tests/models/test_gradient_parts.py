"""Parts of the extra gradient of SimSiam and of triplets against NumPy, and what they add up to."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.stats import ortho_group
from torch.nn.functional import normalize

from batches import network_of, ours, views_of
from fullrank.errors import UserError
from fullrank.measure.gradient import gradient_parts
from fullrank.models.objectives.objective import Outputs
from fullrank.models.settings.objectives.contrastive import Triplet
from fullrank.models.settings.objectives.directions import Cosine
from fullrank.models.settings.objectives.gradient_parts import NegativeGradient, PredictorGradient
from fullrank.recipes.registry import recipe

N, D = 11, 4
KEEP = ("none", "centre", "residual", "both")
PARTS = [kind(keep) for kind in (PredictorGradient, NegativeGradient) for keep in KEEP]
NAMES = [f"{name}/gradient-{keep}" for name in ("simsiam", "triplet") for keep in KEEP]
each_part = pytest.mark.parametrize("part", PARTS, ids=lambda p: f"{p.kind}-{p.keep}")
each_keep = pytest.mark.parametrize("keep", KEEP)


def draw(seed, views=2, n=N):
    """Return embeddings that have a centre."""
    gen = torch.Generator().manual_seed(seed)
    return [torch.randn(n, D, generator=gen, dtype=torch.float64) + 0.7 for _ in range(views)]


def outputs(p, t, indices=None):
    return Outputs(p, p, p, t, indices)


def value_and_gradients(part, p, t, indices=None):
    p = [v.detach().requires_grad_() for v in p]
    loss = part.build(D)(outputs(p, t, indices)).total
    return float(loss.detach()), [g.numpy() for g in torch.autograd.grad(loss, p)]


def transcribed(part, p, t, indices):
    """Value and gradients as the paper writes them, row by row, from minus the gradient at P_a."""
    p, t = [v.numpy() for v in p], [v.numpy() for v in t]
    pairs = [(i, j) for i in range(len(p)) for j in range(len(t)) if i != j]
    value, gradients = 0.0, [np.zeros((N, D)) for _ in p]
    ordered = [int(index) for index in np.sort(indices)]
    following = dict(zip(ordered, ordered[1:] + ordered[:1], strict=True))
    row = {int(index): k for k, index in enumerate(indices)}
    for i, j in pairs:
        unit_p = np.array([v / np.sqrt(np.sum(v**2)) for v in p[j]])
        unit_z = np.array([v / np.sqrt(np.sum(v**2)) for v in t[j]])
        if isinstance(part, PredictorGradient):
            basic, extra = unit_p, unit_z - unit_p
        else:
            basic = unit_z
            extra = np.array([-unit_z[row[following[int(index)]]] for index in indices])
        o_e = np.sum(extra, axis=0) / N
        for k in range(N):
            pull = basic[k].copy()
            if part.keep in ("centre", "both"):
                pull += o_e
            if part.keep in ("residual", "both"):
                pull += extra[k] - o_e
            length = np.sqrt(np.sum(p[i][k] ** 2))
            u = p[i][k] / length
            value -= u @ pull / N / len(pairs)
            gradients[i][k] -= (pull - (pull @ u) * u) / length / N / len(pairs)
    return value, gradients


@each_part
@pytest.mark.parametrize(("views", "targets"), [(2, 2), (3, 3), (4, 2)])
def test_value_and_gradient_are_the_papers(part, views, targets):
    p, t = draw(0, views), draw(1, targets)
    indices = torch.randperm(100, generator=torch.Generator().manual_seed(2))[:N]
    value, gradients = value_and_gradients(part, p, t, indices)
    expected, theirs = transcribed(part, p, t, indices.numpy())
    assert value == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(gradients, theirs, atol=1e-13)


@each_part
def test_gradients_do_not_flow_through_what_is_kept(part):
    p = [v.requires_grad_() for v in draw(0)]
    t = [v.requires_grad_() for v in draw(1)]
    part.build(D)(outputs(p, t)).total.backward()
    assert all(v.grad is None for v in t)
    # One view predicts, the other one's prediction is only compared with.
    both = [v.requires_grad_() for v in draw(3)]
    part.build(D)(outputs(both, t[:1])).total.backward()
    assert both[0].grad is None or not both[0].grad.any()
    assert both[1].grad is not None


@pytest.mark.parametrize("kind", [PredictorGradient, NegativeGradient])
def test_the_parts_add_up(kind):
    p, t = draw(0), draw(1)
    none, centre, residual, both = (value_and_gradients(kind(keep), p, t) for keep in KEEP)
    assert centre[0] + residual[0] == pytest.approx(none[0] + both[0], abs=1e-13)
    for view in range(2):
        np.testing.assert_allclose(
            centre[1][view] + residual[1][view], none[1][view] + both[1][view], atol=1e-14
        )


def test_both_parts_of_the_predictors_gradient_are_simsiam():
    p, t = draw(0), draw(1)
    found = value_and_gradients(PredictorGradient("both"), p, t)
    expected = value_and_gradients(Cosine(), p, [v.detach() for v in t])
    assert found[0] == pytest.approx(expected[0], abs=1e-13)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-14)


def test_both_parts_of_the_negatives_gradient_are_a_triplet_behind_a_stop_gradient():
    p, t, indices = draw(0), draw(1), torch.randperm(N)
    found = value_and_gradients(NegativeGradient("both"), p, t, indices)
    triplet = value_and_gradients(Triplet(margin=None, negatives="next"), p, t, indices)
    assert found[0] == pytest.approx(triplet[0], abs=1e-13)
    np.testing.assert_allclose(found[1], triplet[1], atol=1e-14)


@each_keep
def test_without_a_predictor_and_equal_views_nothing_is_extra(keep):
    z = [draw(0)[0]] * 2
    found = value_and_gradients(PredictorGradient(keep), z, z)
    assert found[0] == pytest.approx(-1, abs=1e-13)
    np.testing.assert_allclose(found[1], 0, atol=1e-14)


def test_the_centre_of_the_negatives_is_the_part_that_decentres():
    # The anchor's direction is its positive's: pulling together alone has no gradient left.
    z = draw(0, views=1, n=500)[0]
    shares = {}
    for keep in ("centre", "residual", "both"):
        gradient = value_and_gradients(NegativeGradient(keep), [z, z], [z, z])[1][0]
        shares[keep] = gradient_parts(torch.from_numpy(gradient), z).decentring
    assert shares["centre"] > 0.6
    assert abs(shares["residual"]) < 0.05
    assert shares["centre"] > 1.5 * shares["both"] > 0.1


@each_part
def test_a_rotation_of_the_embedding_changes_nothing(part):
    p, t = draw(0), draw(1)
    R = torch.from_numpy(ortho_group.rvs(D, random_state=0))
    value, gradients = value_and_gradients(part, p, t)
    turned, moved = value_and_gradients(part, [v @ R for v in p], [v @ R for v in t])
    assert turned == pytest.approx(value, abs=1e-12)
    np.testing.assert_allclose(moved, [g @ R.numpy() for g in gradients], atol=1e-12)


@each_part
def test_lengths_do_not_count(part):
    p, t = draw(0), draw(1)
    scaled = value_and_gradients(part, [3 * v for v in p], [7 * v for v in t])[0]
    assert scaled == pytest.approx(value_and_gradients(part, p, t)[0], abs=1e-13)


@each_part
def test_constant_embeddings_have_the_collapsed_loss(part):
    rows = [torch.linspace(-1, 2, D, dtype=torch.float64).expand(8, D)] * 2
    found = float(part.build(D)(outputs(rows, rows)).total)
    assert found == pytest.approx(part.collapsed_loss(D, 8), abs=1e-12)
    # A prediction that is another constant is no better.
    other = [torch.linspace(1, -3, D, dtype=torch.float64).expand(8, D)] * 2
    assert float(part.build(D)(outputs(other, rows)).total) >= found - 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_permuting_the_batch_changes_nothing(name):
    network, (views, indices) = ours(recipe(name), torch.float64)
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(1))
    first = network.loss(network(views, indices)).total
    second = network.loss(network([view[order] for view in views], indices[order])).total
    torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name):
    network, views = ours(recipe(name), n=16)
    network.loss(network(*views)).total.backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_bf16_agrees_with_float32(name):
    network, views = network_of(recipe(name), n=32), views_of(recipe(name), n=32)
    exact = network.loss(network(*views)).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network.loss(network(*views)).total
    assert found.dtype == torch.float32
    assert abs(float((found - exact).detach())) < 0.05


@pytest.mark.slow
def test_two_ranks_equal_one_process():
    script = Path(__file__).parents[1] / "laws" / "two_ranks.py"
    done = subprocess.run(
        [sys.executable, script, *NAMES], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert sorted(report) == sorted(NAMES)
    for found in report.values():
        assert "error" not in found, found["error"]
        assert math.isfinite(found["loss"])
        assert found["loss_difference"] < 1e-10
        assert found["gradient_norm"] > 0
        assert found["gradient_difference"] < 1e-8 * found["gradient_norm"]
        assert found["state_difference"] < 1e-10


@pytest.mark.parametrize("name", NAMES)
def test_the_settings_go_to_yaml_and_back(name):
    part = recipe(name).objective
    plain = yaml.safe_load(yaml.safe_dump(part.to_dict()))
    kind = recipe(name).kinds("objective")[plain.pop("kind")]
    assert kind(**plain) == part
    assert part.keep in part.describe()


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_one_has_no_residual_and_is_refused(name):
    with pytest.raises(UserError, match="batch_size: 1 image"):
        recipe(name).check(1)


@pytest.mark.parametrize(
    ("name", "standing"),
    [
        ("simsiam/gradient-none", set()),
        ("simsiam/gradient-centre", {"complete"}),
        ("simsiam/gradient-residual", {"complete", "dimensional"}),
        ("simsiam/gradient-both", {"complete", "dimensional"}),
        ("triplet/gradient-none", set()),
        ("triplet/gradient-centre", {"complete"}),
        ("triplet/gradient-residual", set()),
        ("triplet/gradient-both", {"complete"}),
    ],
)
def test_the_part_that_is_gone_takes_its_mechanism_along(name, standing):
    assert {p.collapse for p in recipe(name).standing()} == standing
    assert {p.collapse for p in recipe(name).preset("small").standing()} == standing


@each_keep
def test_the_centre_of_the_negatives_alone_decides_whether_a_small_network_collapses(keep):
    # Zhang et al. 2022: o_e prevents it, r_e of a random negative is noise.
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 16))
    part = NegativeGradient(keep).build(16)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(200):
        image = torch.randn(128, 16)
        z = [network(image + 0.2 * torch.randn_like(image)) for _ in range(2)]
        optimiser.zero_grad()
        part(outputs(z, [v.detach() for v in z])).total.backward()
        optimiser.step()
    with torch.no_grad():
        spread = float(normalize(network(torch.randn(1000, 16)), dim=1).var(0).sum())
    assert spread > 0.9 if keep in ("centre", "both") else spread < 0.1

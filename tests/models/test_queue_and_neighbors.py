"""The memory of the latest embeddings, the nearest-neighbour target, and the sub-vector."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from fullrank.errors import UserError
from fullrank.models.heads import mlp
from fullrank.models.nearest_neighbor import NearestNeighborTarget
from fullrank.models.objectives.objective import Outputs
from fullrank.models.queue import Queue
from fullrank.models.settings.nearest_neighbor import NearestNeighbor
from fullrank.models.settings.objectives.contrastive import QueueInfoNCE
from fullrank.models.settings.predictor import MLPPredictor
from fullrank.models.settings.projector import MLPProjector
from fullrank.models.settings.sub_vector import SubVector


def numbered(first, count):
    """Rows that say when they came: ``first, first + 1, ...`` in both columns."""
    return torch.arange(first, first + count, dtype=torch.float32)[:, None].expand(count, 2)


@pytest.mark.parametrize(("size", "batch"), [(6, 3), (7, 3), (5, 4), (4, 4), (4, 6)])
def test_a_queue_keeps_the_latest_rows_first_in_first_out(size, batch):
    queue = Queue(size, 2)
    came: list[float] = []
    for step in range(5):
        queue.will_remember(numbered(step * batch, batch))
        queue.commit()
        came += range(step * batch, (step + 1) * batch)
        if len(came) >= size:
            assert sorted(queue.rows[:, 0].tolist()) == came[-size:]


def test_the_oldest_row_is_replaced_first():
    queue = Queue(5, 2)
    for first in (0, 3):  # 0 1 2 3 4, then 5 in the place of 0
        queue.will_remember(numbered(first, 3))
        queue.commit()
    assert queue.rows[:, 0].tolist() == [5, 1, 2, 3, 4]
    assert int(queue.oldest) == 1


def test_a_queue_starts_with_different_unit_vectors():
    rows = Queue(50, 8).rows
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(50))
    assert torch.linalg.matrix_rank(rows) == 8


def test_nothing_enters_before_the_step_and_only_the_last_pass_does():
    queue = Queue(4, 2)
    before = queue.rows.clone()
    queue.will_remember(numbered(0, 4))
    queue.will_remember(numbered(10, 4))
    assert torch.equal(queue.rows, before)
    queue.commit()
    assert queue.rows[:, 0].tolist() == [10, 11, 12, 13]
    queue.commit()  # without a forward pass between, nothing more enters
    assert queue.rows[:, 0].tolist() == [10, 11, 12, 13] and int(queue.oldest) == 0


def test_a_queue_goes_through_a_state_dict_and_to_float64():
    queue = Queue(5, 2)
    queue.will_remember(numbered(0, 3))
    queue.commit()
    other = Queue(5, 2)
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.rows, queue.rows) and int(other.oldest) == 3
    queue.double().will_remember(numbered(0, 3).double() / 3)
    queue.commit()
    assert queue.rows.dtype == torch.float64 and queue.oldest.dtype == torch.long
    assert float(queue.rows[4, 0]) == 1 / 3  # not rounded through float32


def test_keys_of_the_batch_enter_after_the_step_only():
    torch.manual_seed(0)
    objective = QueueInfoNCE(0.3, queue=8).build(3)
    a, b = torch.randn(4, 3), torch.randn(4, 3)
    out = Outputs([a, b], [a, b], [a, b], [a, b])
    first = objective(out).total
    assert torch.equal(first, objective(out).total)
    objective.after_step(1, 2)
    torch.testing.assert_close(objective.queue.rows[:4], normalize(b, dim=1))  # view 2's
    objective(out)
    kept = objective.queue.rows.clone()
    objective.eval()(out)
    objective.after_step(2, 2)
    torch.testing.assert_close(objective.queue.rows[4:], normalize(b, dim=1))
    objective(out)
    objective.after_step(3, 3)  # evaluation leaves nothing to enter
    torch.testing.assert_close(objective.queue.rows[:4], kept[:4])


def test_symmetric_keys_all_enter():
    objective = QueueInfoNCE(0.3, queue=8, symmetric=True).build(3)
    a, b = torch.randn(4, 3), torch.randn(4, 3)
    objective(Outputs([a, b], [a, b], [a, b], [a, b]))
    objective.after_step(1, 2)
    expected = normalize(torch.cat([a, b]), dim=1)
    torch.testing.assert_close(objective.queue.rows, expected)


def test_the_neighbor_is_the_row_of_largest_cosine():
    torch.manual_seed(1)
    target = NearestNeighborTarget(40, 6).double()
    z = [5 * torch.randn(9, 6, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    found = target([], z)
    rows = target.support.rows
    for embeddings, nearest in zip(z, found, strict=True):
        assert not nearest.requires_grad
        for one, neighbor in zip(embeddings.detach(), nearest, strict=True):
            distances = (normalize(one, dim=0) - rows).norm(dim=1)
            assert torch.equal(neighbor, rows[distances.argmin()])


def test_the_support_set_holds_the_first_view_after_the_step():
    target = NearestNeighborTarget(8, 3)
    z = [torch.randn(4, 3), torch.randn(4, 3)]
    before = target.support.rows.clone()
    target([], z)
    assert torch.equal(target.support.rows, before)
    target.after_step(1, 10)
    torch.testing.assert_close(target.support.rows[:4], normalize(z[0], dim=1))
    # What was remembered is its own nearest neighbour.
    torch.testing.assert_close(target([], z)[0], normalize(z[0], dim=1))
    target.eval()
    kept = copy.deepcopy(target.state_dict())
    target.after_step(2, 10)
    target([], [torch.randn(4, 3)] * 2)
    target.after_step(3, 10)
    assert torch.equal(target.support.rows[:4], kept["support.rows"][:4])


def test_neighbors_do_not_depend_on_autocast():
    torch.manual_seed(2)
    target = NearestNeighborTarget(500, 16)
    z = [torch.randn(64, 16)]
    exact = target([], z)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(target([], z)[0], exact)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NearestNeighbor(0), r"target\.support: 0 .*1 or more"),
        (
            lambda: NearestNeighbor(100).check(256, 64),
            r"target\.support: 100 .*the 256 images of a batch, or more",
        ),
        (lambda: SubVector(dims=None), r"projector\.dims, share: \(None, None\).*one of the two"),
        (lambda: SubVector(dims=3, share=0.5), r"projector\.dims, share: \(3, 0\.5\)"),
        (lambda: SubVector(dims=0), r"projector\.dims: 0 .*1 or more"),
        (lambda: SubVector(dims=None, share=1.5), r"projector\.share: 1\.5 .*\(0, 1\]"),
        (
            lambda: SubVector(dims=360).build(128),
            r"projector\.dims: 360 .*1 to 128, the dimensions of the representation",
        ),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_sub_vector_wider_than_the_features_is_refused_by_the_recipe():
    from fullrank.recipes.registry import recipe

    recipe("directclr").check(256, features=2048)
    with pytest.raises(UserError, match=r"projector\.dims: 360 .*1 to 128"):
        recipe("directclr").check(256, features=128)


def test_a_sub_vector_is_the_first_dimensions():
    h = torch.randn(4, 10)
    assert torch.equal(SubVector(dims=3).build(10)(h), h[:, :3])
    assert torch.equal(SubVector(dims=None, share=0.45).build(10)(h), h[:, :4])
    assert SubVector(dims=3).dim(None) == SubVector(dims=3).dim(10) == 3
    assert SubVector(dims=None, share=0.5).dim(None) is None
    assert SubVector(dims=None, share=0.5).dim(128) == 64
    assert SubVector(dims=None, share=0.01).dim(10) == 1
    assert not list(SubVector(dims=3).build(10).parameters())


def test_heads_without_hidden_norm_have_biases_in_its_place():
    plain = mlp([4, 8, 3], "none", hidden_norm=False)
    assert not any(isinstance(layer, nn.BatchNorm1d) for layer in plain)
    assert [layer.bias is not None for layer in plain if isinstance(layer, nn.Linear)] == [True] * 2
    built = MLPProjector(hidden=8, out=3, depth=2, hidden_norm=False).build(4)
    assert [type(layer) for layer in built] == [type(layer) for layer in plain]
    assert MLPPredictor(hidden=8, last_bias=False).build(4)[-1].bias is None
    assert MLPPredictor(hidden=8).build(4)[-1].bias is not None

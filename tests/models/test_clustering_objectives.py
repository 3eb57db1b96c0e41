"""Clustering and self-distillation against NumPy transcriptions, and the laws of their state."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from fullrank.errors import UserError
from fullrank.models.objectives.objective import Outputs
from fullrank.models.prototype_head import PrototypeHead
from fullrank.models.settings.backbone import MLP, Conv4
from fullrank.models.settings.objectives.clustering import ClusterAssignment, SwappedAssignment
from fullrank.models.settings.objectives.distillation import SelfDistillation
from fullrank.models.settings.prototype_head import DINOHead
from fullrank.models.settings.target import Momentum
from fullrank.models.settings.views import MultiCrop
from fullrank.models.sinkhorn import sinkhorn
from fullrank.models.spherical_kmeans import spherical_kmeans
from fullrank.recipes.registry import recipe

SWAPPED = SwappedAssignment(prototypes=6, frozen_steps=0)
CLUSTERS = ClusterAssignment(prototypes=4, heads=2)
DISTILLED = SelfDistillation(teacher_warmup=0.0)


def drawn(*shape, seed=0):
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=gen, dtype=torch.float64)


def outputs(n=12, d=5, predictions=2, targets=2, seed=0, indices=None):
    z = [drawn(n, d, seed=seed + 10 * i) for i in range(predictions)]
    t = [drawn(n, d, seed=seed + 10 * i + 5) for i in range(targets)]
    return Outputs(z, z, z, t, indices)


def built(part, dim=5, images=0, seed=0):
    torch.manual_seed(seed)
    return part.build(dim, images).double()


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def iterated(scores, epsilon, iterations):
    """Sinkhorn as the paper's Eq. 5 reads, on a plain matrix."""
    q = np.exp(scores / epsilon)
    for _ in range(iterations):
        q = q / q.sum(0) / q.shape[1]
        q = q / q.sum(1, keepdims=True) / q.shape[0]
    return q * q.shape[0]


# Sinkhorn


@pytest.mark.parametrize("iterations", [1, 3, 20])
def test_sinkhorn_is_the_alternating_normalisation(iterations):
    scores = drawn(10, 4)
    expected = iterated(scores.numpy(), 0.5, iterations)
    np.testing.assert_allclose(sinkhorn(scores, 0.5, iterations).numpy(), expected, atol=1e-13)


def test_sinkhorn_gives_equal_shares_when_it_has_converged():
    q = sinkhorn(drawn(30, 5), 1.0, 500)
    torch.testing.assert_close(q.sum(1), torch.ones(30, dtype=torch.float64))
    torch.testing.assert_close(q.sum(0), torch.full((5,), 6.0, dtype=torch.float64))


def test_sinkhorn_of_two_by_two_in_closed_form():
    # diag(u) [[a, b], [c, d]] diag(v) is doubly stochastic with p = 1 / (1 + sqrt(bc / ad)).
    scores = drawn(2, 2)
    (a, b), (c, d) = scores.exp().tolist()
    p = 1 / (1 + math.sqrt(b * c / (a * d)))
    expected = torch.tensor([[p, 1 - p], [1 - p, p]], dtype=torch.float64)
    torch.testing.assert_close(sinkhorn(scores, 1.0, 2000), expected)


def test_sinkhorn_of_rank_one_scores_is_uniform():
    scores = drawn(7, 1) + drawn(1, 4, seed=1)
    torch.testing.assert_close(
        sinkhorn(scores, 0.05, 1), torch.full((7, 4), 0.25, dtype=torch.float64)
    )


def test_sinkhorn_does_not_underflow():
    q = sinkhorn(drawn(8, 3).float(), 1e-4, 3)
    assert torch.isfinite(q).all()
    torch.testing.assert_close(q.sum(1), torch.ones(8))


def test_sinkhorn_is_equivariant_to_both_permutations():
    scores = drawn(9, 4)
    rows, columns = torch.randperm(9), torch.randperm(4)
    torch.testing.assert_close(
        sinkhorn(scores[rows][:, columns], 0.1, 3), sinkhorn(scores, 0.1, 3)[rows][:, columns]
    )


def test_sinkhorn_counts_further_rows_as_if_they_were_in_the_batch():
    scores, others = drawn(6, 4), drawn(10, 4, seed=1)
    both = sinkhorn(torch.cat([scores, others]), 0.1, 3)[:6]
    torch.testing.assert_close(sinkhorn(scores, 0.1, 3, others), both)
    for count, expected in ((True, both), (False, sinkhorn(scores, 0.1, 3))):
        found = sinkhorn(scores, 0.1, 3, others, torch.tensor(count))
        torch.testing.assert_close(found, expected)


# Swapped assignments


@pytest.mark.parametrize(("predictions", "targets"), [(2, 2), (3, 3), (5, 2)])
def test_swapped_assignment_is_swavs_equation(predictions, targets):
    out = outputs(predictions=predictions, targets=targets)
    objective = built(SWAPPED)
    c = objective.prototypes.detach().numpy()
    qs = [iterated(unit(t.numpy()) @ c.T, 0.05, 3) for t in out.targets]
    ps = [log_softmax(unit(p.numpy()) @ c.T / 0.1, axis=1) for p in out.predictions]
    terms = [
        -np.mean(np.sum(q * p, axis=1))
        for i, p in enumerate(ps)
        for j, q in enumerate(qs)
        if i != j
    ]
    assert objective(out).total.item() == pytest.approx(np.mean(terms), abs=1e-10)


def test_prototypes_learn_from_predictions_only_and_keep_their_norm():
    objective = built(SWAPPED)
    torch.testing.assert_close(objective.prototypes.norm(dim=1), torch.ones(6).double())
    out = outputs()
    objective(out).total.backward()
    whole = objective.prototypes.grad.clone()
    q = [sinkhorn(_cosines(t, objective), 0.05, 3).detach() for t in out.targets]
    objective.prototypes.grad = None
    p = [torch.log_softmax(_cosines(z, objective) / 0.1, 1) for z in out.predictions]
    (-(q[0] * p[1]).sum(1).mean() / 2 - (q[1] * p[0]).sum(1).mean() / 2).backward()
    torch.testing.assert_close(objective.prototypes.grad, whole)
    with torch.no_grad():
        objective.prototypes.mul_(3)
    objective.after_step(1, 10)
    torch.testing.assert_close(objective.prototypes.norm(dim=1), torch.ones(6).double())


def _cosines(z, objective):
    return torch.nn.functional.normalize(z, dim=1) @ objective.prototypes.T


def test_gradients_flow_through_targets_that_have_them():
    out = outputs()
    out.targets[0].requires_grad_()
    built(SWAPPED)(out).total.backward()
    assert out.targets[0].grad.abs().sum() > 0


def test_frozen_prototypes_have_a_gradient_of_zero_until_the_step():
    objective = built(replace(SWAPPED, frozen_steps=2))
    free = built(SWAPPED)
    for step in (1, 2):
        loss = objective(outputs()).total
        assert loss.item() == pytest.approx(free(outputs()).total.item())
        loss.backward()
        assert objective.prototypes.grad.abs().sum() == 0
        objective.after_step(step, 10)
    objective(outputs()).total.backward()
    assert objective.prototypes.grad.abs().sum() > 0


def test_fixed_prototypes_are_no_parameters_and_are_saved():
    objective = built(replace(SWAPPED, trained=False))
    assert not list(objective.parameters())
    assert "prototypes" in objective.state_dict()


def test_the_queue_holds_the_newest_targets_of_the_first_view_first():
    objective = built(replace(SWAPPED, queue=8))
    seen = []
    for step in range(4):
        out = outputs(n=3, seed=step)
        objective(out)
        objective(out)  # a second look at a batch changes nothing
        objective.after_step(step + 1, 4)
        seen = [*unit(out.targets[0].numpy()), *seen]
    np.testing.assert_allclose(objective.queue.numpy(), np.array(seen)[:8])
    before = objective.queue.clone()
    objective.eval()
    objective(outputs(seed=9))
    objective.after_step(5, 4)
    torch.testing.assert_close(objective.queue, before)


def test_the_queue_shares_the_prototypes_once_it_is_full_and_due():
    objective = built(replace(SWAPPED, queue=6, queue_start=0.5))
    plain = built(SWAPPED)
    out = outputs(n=3)
    for step in range(1, 5):
        assert objective(out).total.item() == pytest.approx(plain(out).total.item())
        objective.after_step(step, 10)
    objective.after_step(5, 10)
    c = objective.prototypes.detach().numpy()
    queue = objective.queue.numpy()
    q = [iterated(np.concatenate([unit(t.numpy()), queue]) @ c.T, 0.05, 3)[:3] for t in out.targets]
    p = [log_softmax(unit(z.numpy()) @ c.T / 0.1, axis=1) for z in out.predictions]
    expected = -np.mean(np.sum(q[0] * p[1] + q[1] * p[0], axis=1)) / 2
    assert objective(out).total.item() == pytest.approx(expected, abs=1e-10)


# Cluster assignments


def test_spherical_kmeans_moves_as_scikit_learns_from_the_same_start():
    from sklearn.cluster import KMeans

    rows = torch.nn.functional.normalize(drawn(400, 6), dim=1)
    start = rows[:7]
    for iterations in range(1, 6):
        found, assigned = spherical_kmeans(rows, start, iterations)
        before, _ = spherical_kmeans(rows, start, iterations - 1)
        theirs = KMeans(7, init=before.numpy(), n_init=1, max_iter=1, tol=0).fit(rows.numpy())
        counts = np.bincount((rows @ before.T).argmax(1).numpy(), minlength=7)
        assert counts.min() > 0
        sums = rows.numpy().T @ np.eye(7)[(rows @ before.T).argmax(1).numpy()]
        np.testing.assert_allclose(found.numpy(), unit(sums.T), atol=1e-12)
        np.testing.assert_allclose(found.numpy(), unit(theirs.cluster_centers_), atol=1e-12)
        assert torch.equal(assigned, torch.cdist(rows, found).argmin(1))


def test_spherical_kmeans_finds_separate_bundles_and_keeps_empty_centroids():
    centres = torch.eye(4, dtype=torch.float64)[:3]
    rows = torch.nn.functional.normalize(centres.repeat(20, 1) + 0.05 * drawn(60, 4), dim=1)
    start = torch.cat([rows[:3], -torch.ones(1, 4, dtype=torch.float64) / 2])
    found, assigned = spherical_kmeans(rows, start, 10)
    assert torch.equal(assigned, torch.arange(3).repeat(20))
    torch.testing.assert_close(found[3], start[3])
    assert ((found[:3] * centres).sum(1) > 0.99).all()


def test_spherical_kmeans_never_loses_cosine():
    rows = torch.nn.functional.normalize(drawn(300, 5), dim=1)
    totals = []
    for iterations in range(8):
        centroids, assigned = spherical_kmeans(rows, rows[:9], iterations)
        totals.append(float((rows * centroids[assigned]).sum()))
    assert totals == sorted(totals)


def pass_over(images, dim, batch=5, seed=3):
    z = torch.nn.functional.normalize(drawn(images, dim, seed=seed), dim=1)

    def embed():
        for indices in torch.randperm(images).split(batch):
            yield indices, [3 * z[indices], -z[indices]]

    return z, embed


def test_cluster_assignment_is_the_cross_entropy_with_the_images_cluster():
    objective = built(CLUSTERS, images=20)
    z, embed = pass_over(20, 5)
    objective.before_epoch(0, embed)
    torch.testing.assert_close(objective.memory, z)
    out = outputs(n=6, predictions=3, indices=torch.tensor([4, 19, 0, 7, 3, 11]))
    terms = []
    for c, assigned in zip(objective.centroids.numpy(), objective.assignments.numpy(), strict=True):
        np.testing.assert_array_equal(assigned, (z.numpy() @ c.T).argmax(1))
        np.testing.assert_allclose(np.linalg.norm(c, axis=1), 1)
        for p in out.predictions:
            logarithms = log_softmax(unit(p.numpy()) @ c.T / 0.1, axis=1)
            terms.append(-np.mean(logarithms[np.arange(6), assigned[out.indices.numpy()]]))
    assert objective(out).total.item() == pytest.approx(np.mean(terms), abs=1e-10)


def test_the_memory_holds_what_each_image_was_when_last_seen():
    objective = built(CLUSTERS, images=20)
    z, embed = pass_over(20, 5)
    objective.before_epoch(0, embed)
    clusters, centroids = objective.assignments.clone(), objective.centroids.clone()
    indices = torch.tensor([2, 9, 15])
    out = outputs(n=3, indices=indices)
    objective(out)
    torch.testing.assert_close(objective.memory, z)  # only pending
    objective.after_step(1, 10)
    expected = z.clone()
    expected[indices] = torch.nn.functional.normalize(out.targets[0], dim=1)
    torch.testing.assert_close(objective.memory, expected)
    torch.testing.assert_close(objective.assignments, clusters)

    def must_not_look():
        raise AssertionError

    objective.before_epoch(1, must_not_look)
    assert not torch.equal(objective.centroids, centroids)
    torch.testing.assert_close(objective.memory, expected)


def test_an_image_not_seen_yet_belongs_to_the_nearest_centroid():
    objective = built(replace(CLUSTERS, heads=1), images=20)
    z, _ = pass_over(20, 5)
    objective.before_epoch(0, lambda: [(torch.arange(15), [z[:15]])])
    assert (objective.assignments[0, 15:] == -1).all()
    out = outputs(n=1, predictions=1, indices=torch.tensor([17]))
    c = objective.centroids[0].numpy()
    nearest = (out.targets[0].numpy() @ c.T).argmax()
    expected = -log_softmax(unit(out.predictions[0].numpy()) @ c.T / 0.1, axis=1)[0, nearest]
    assert objective(out).total.item() == pytest.approx(expected)


def test_a_run_goes_on_in_the_middle_of_an_epoch_with_its_memory():
    first, (_, embed) = built(CLUSTERS, images=20), pass_over(20, 5)
    first.before_epoch(0, embed)
    first(outputs(n=3, indices=torch.tensor([1, 2, 3])))
    first.after_step(1, 10)
    second = built(CLUSTERS, images=20, seed=1)
    second.load_state_dict(first.state_dict())
    out = outputs(n=4, indices=torch.tensor([0, 2, 5, 7]), seed=4)
    for objective in (first, second):
        objective(out)
        objective.after_step(2, 10)
        objective.before_epoch(1, lambda: [])
    assert torch.equal(first.centroids, second.centroids)
    assert float(first(out).total) == float(second(out).total)


# Self-distillation


@pytest.mark.parametrize(("predictions", "targets"), [(2, 2), (3, 3), (5, 2)])
def test_self_distillation_is_dinos_equation(predictions, targets):
    out = outputs(predictions=predictions, targets=targets)
    objective = built(DISTILLED)
    objective.centre.copy_(drawn(5, seed=77))
    c = objective.centre.numpy()
    ts = [softmax((t.numpy() - c) / 0.07, axis=1) for t in out.targets]
    ss = [log_softmax(p.numpy() / 0.1, axis=1) for p in out.predictions]
    terms = [
        -np.mean(np.sum(t * s, axis=1))
        for i, s in enumerate(ss)
        for j, t in enumerate(ts)
        if i != j
    ]
    assert objective(out).total.item() == pytest.approx(np.mean(terms), abs=1e-10)


def test_the_centre_is_the_running_mean_of_the_targets_of_all_views():
    objective = built(DISTILLED)
    expected = np.zeros(5)
    for step in range(4):
        out = outputs(predictions=4, seed=step)
        objective(out)
        np.testing.assert_allclose(objective.centre.numpy(), expected)
        objective(out)
        objective.after_step(step + 1, 4)
        expected = 0.9 * expected + 0.1 * torch.cat(out.targets).mean(0).numpy()
    np.testing.assert_allclose(objective.centre.numpy(), expected)
    objective.eval()
    objective(outputs(seed=8))
    objective.after_step(5, 5)
    np.testing.assert_allclose(objective.centre.numpy(), expected)


def test_without_centring_the_centre_stays_at_zero():
    objective = built(replace(DISTILLED, centring=False))
    objective(outputs())
    objective.after_step(1, 4)
    assert (objective.centre == 0).all()


def test_the_teachers_temperature_rises_linearly():
    objective = built(SelfDistillation(teacher_warmup=0.5))
    found = []
    for step in (0, 10, 25, 50, 100):
        objective.after_step(step, 100)
        found.append(float(objective.teacher_temperature()))
    assert found == pytest.approx([0.04, 0.046, 0.055, 0.07, 0.07])


def test_known_values_of_both_collapses():
    k, n = 5, 8
    constant = drawn(1, k).expand(n, k)
    out = Outputs(*[[constant, constant]] * 4)
    centred = built(DISTILLED)
    centred.centre.copy_(constant[0])
    # A centred constant is a uniform target, to which the nearest prediction is uniform.
    assert centred(out).total.item() > DISTILLED.collapsed_loss(k, n)
    zero = Outputs(*[[torch.zeros(n, k).double()] * 2] * 4)
    assert built(DISTILLED)(zero).total.item() == pytest.approx(math.log(k))
    # Without centring, one output that takes everything costs nothing.
    loose = replace(DISTILLED, centring=False)
    peak = torch.zeros(n, k, dtype=torch.float64)
    peak[:, 2] = 100
    assert built(loose)(Outputs(*[[peak, peak]] * 4)).total.item() == pytest.approx(
        loose.collapsed_loss(k, n), abs=1e-12
    )


def test_a_constant_has_no_smaller_loss_than_the_collapsed_one_without_equal_shares():
    part = SwappedAssignment(prototypes=6, iterations=0, temperature=0.5, epsilon=0.4)
    objective = built(part, dim=1)
    with torch.no_grad():
        objective.prototypes.copy_(torch.tensor([[1.0], [-1], [-1], [-1], [-1], [-1]]))
    one = torch.ones(4, 1, dtype=torch.float64)
    least = objective(Outputs(*[[one, one]] * 4)).total.item()
    assert least == pytest.approx(part.collapsed_loss(1, 4))
    for seed in range(20):
        z = drawn(1, 3, seed=seed).expand(4, 3)
        assert built(part, dim=3, seed=seed)(Outputs(*[[z, z]] * 4)).total.item() > least


# The head


def test_the_head_gives_cosines_with_its_prototypes():
    torch.manual_seed(0)
    head = PrototypeHead([7, 16, 4], 9, batch_norm=False, trained_scale=False, frozen=0.0).double()
    x = drawn(5, 7)
    hidden = head.perceptron(x).detach().numpy()
    expected = unit(hidden) @ unit(head.direction.detach().numpy()).T
    np.testing.assert_allclose(head(x).detach().numpy(), expected, atol=1e-12)
    kinds = [type(layer).__name__ for layer in head.perceptron]
    assert kinds == ["Linear", "GELU", "Linear"]
    normed = PrototypeHead([7, 16, 16, 4], 9, batch_norm=True, trained_scale=True, frozen=0.0)
    kinds = [type(layer).__name__ for layer in normed.perceptron]
    assert kinds == ["Linear", "BatchNorm1d", "GELU"] * 2 + ["Linear"]
    assert dict(normed.named_parameters())["scale"].shape == (9, 1)


def test_the_heads_last_layer_learns_when_its_share_of_the_run_is_done():
    torch.manual_seed(0)
    head = PrototypeHead([7, 4], 9, batch_norm=False, trained_scale=False, frozen=0.1)
    for step, learns in ((0, False), (9, False), (10, True), (99, True)):
        head.after_step(step, 100)
        head.zero_grad()
        head(drawn(5, 7).float()).square().sum().backward()
        assert bool(head.direction.grad.abs().sum() > 0) == learns
        assert head.perceptron[0].weight.grad.abs().sum() > 0


def test_the_momentum_target_averages_the_whole_head():
    small = replace(recipe("dino").preset("small"), target=Momentum(tau=0.5, schedule="constant"))
    network = small.build(Conv4(width=2), 1, 16)
    names = {name for name, _ in network.target.projector.named_parameters()}
    assert "direction" in names
    with torch.no_grad():
        network.projector.direction.add_(1)
    before = network.target.projector.direction.clone()
    network.after_step(1, 10)
    torch.testing.assert_close(network.target.projector.direction, before + 0.5)


# Processes


def test_two_processes_remember_what_one_does():
    script = Path(__file__).with_name("clustering_ranks.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    for name, difference in json.loads(done.stdout.splitlines()[-1]).items():
        assert difference < 1e-9, name


# Bad input


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: SwappedAssignment(prototypes=1), "recipe.objective.prototypes"),
        (lambda: SwappedAssignment(epsilon=0.0), "recipe.objective.epsilon"),
        (lambda: SwappedAssignment(iterations=-1), "recipe.objective.iterations"),
        (lambda: SwappedAssignment(queue_start=2.0), "recipe.objective.queue_start"),
        (lambda: SwappedAssignment().check(256, 128), "at most 256"),
        (lambda: SwappedAssignment(queue=512).check(256, 128), "at most 768"),
        (lambda: SwappedAssignment(prototypes=8, queue=100).check(256, 128), "one batch \\(256"),
        (lambda: ClusterAssignment(prototypes=300).check(256, 128), "at most 256"),
        (lambda: ClusterAssignment(heads=0), "recipe.objective.heads"),
        (lambda: ClusterAssignment(temperature=0.0), "recipe.objective.temperature"),
        (lambda: built(CLUSTERS).before_epoch(0, lambda: []), "images: 0"),
        (lambda: SelfDistillation(centre_momentum=1.0), "recipe.objective.centre_momentum"),
        (lambda: SelfDistillation(teacher_temperature=0.0), "recipe.objective.teacher_temp"),
        (lambda: DINOHead(out=1), "recipe.projector.out"),
        (lambda: DINOHead(frozen=1.0), "recipe.projector.frozen"),
    ],
)
def test_bad_settings_name_the_argument_and_what_is_allowed(make, names):
    with pytest.raises(UserError, match=names) as caught:
        make()
    assert "Allowed" in str(caught.value)


def test_more_clusters_than_images_are_refused():
    objective = built(CLUSTERS, images=20)
    with pytest.raises(UserError, match="4 clusters cannot be made of 3 images"):
        objective.before_epoch(0, lambda: [(torch.arange(3), [drawn(3, 5)])])


def test_small_crops_need_a_backbone_that_takes_them():
    chosen = replace(recipe("dino").preset("small"), views=MultiCrop(local_count=2))
    with pytest.raises(UserError, match=r"multi-crop.*12 pixels.*MLP.*Allowed"):
        chosen.build(MLP(width=8, out=8), 1, 28)
    chosen.build(Conv4(width=2), 1, 28)
    same = replace(chosen, views=MultiCrop(local_count=2, local_size=28))
    same.build(MLP(width=8, out=8), 1, 28)

"""Contrastive objectives against NumPy transcriptions of their papers' equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fullrank.errors import UserError
from fullrank.models.objectives.objective import Outputs
from fullrank.models.settings.objectives.contrastive import (
    AlignUniform,
    DecoupledNTXent,
    InfoNCE,
    NTXent,
    QueueInfoNCE,
    Triplet,
)
from fullrank.models.settings.objectives.stability import CentrePenalty

N, D = 12, 5
PARTS = [
    NTXent(0.3),
    DecoupledNTXent(0.3),
    DecoupledNTXent(0.3, sigma=0.5),
    InfoNCE(0.3),
    InfoNCE(0.3, anchor="target"),
    InfoNCE(0.3, rescaled=True),
    QueueInfoNCE(0.3, queue=20),
    QueueInfoNCE(0.3, queue=20, symmetric=True),
    Triplet(),
    Triplet(margin=0.3),
    Triplet(negatives="next"),
    AlignUniform(3.0, 0.5, alpha=2, t=3),
    AlignUniform(alpha=1),
    CentrePenalty(0.7),
]
every_part = pytest.mark.parametrize("part", PARTS, ids=repr)


def draw(views=2, targets=None, n=N, seed=0):
    """Outputs of unrelated random embeddings, predictions and targets."""
    gen = torch.Generator().manual_seed(seed)

    def rows(count):
        return [torch.randn(n, D, generator=gen, dtype=torch.float64) for _ in range(count)]

    z = rows(views)
    return Outputs(z, z, rows(views), rows(targets or views))


def objective_of(part, d=D):
    torch.manual_seed(3)
    return part.build(d).double()


def total(part, out):
    return float(objective_of(part, out.embeddings[0].shape[1])(out).total)


def unit(x):
    x = np.asarray(x)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def units(tensors):
    return [unit(t.numpy()) for t in tensors]


def cross_entropy(logits, own):
    """Mean of ``-log softmax(logits)[k, own[k]]``."""
    return np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), own])


ORDERS = ((0, 1), (1, 0))


# --- the equations ---------------------------------------------------------------------------


def test_decoupled_is_yehs_equation():
    out = draw()
    p, t = units(out.predictions), units(out.targets)
    losses = []
    for i, j in ORDERS:
        for k in range(N):
            others = [m for m in range(N) if m != k]
            negatives = [p[i][k] @ t[v][m] / 0.3 for m in others for v in (0, 1)]
            losses.append(-p[i][k] @ t[j][k] / 0.3 + np.log(np.exp(negatives).sum()))
    assert total(DecoupledNTXent(0.3), out) == pytest.approx(np.mean(losses), abs=1e-12)


def test_weights_are_yehs_and_average_to_one():
    out = draw()
    p, t = units(out.predictions), units(out.targets)
    difference = []
    for i, j in ORDERS:
        cosines = (p[i] * t[j]).sum(1)
        w = 2 - np.exp(cosines / 0.5) / np.exp(cosines / 0.5).mean()
        assert w.mean() == pytest.approx(1)
        assert np.all(np.diff(w[np.argsort(cosines)]) <= 0)  # the nearer, the lighter
        difference.append(np.mean((1 - w) * cosines / 0.3))
    expected = total(DecoupledNTXent(0.3), out) + np.mean(difference)
    assert total(DecoupledNTXent(0.3, sigma=0.5), out) == pytest.approx(expected, abs=1e-12)


def test_the_weight_carries_no_gradient():
    out = draw()
    leaf = out.predictions[0].requires_grad_()
    objective_of(DecoupledNTXent(0.3, sigma=0.5))(out).total.backward()
    # By hand: w and the negatives' softmax as constants of the cosines of this view.
    p = torch.nn.functional.normalize(leaf.detach(), dim=1).requires_grad_()
    t = [torch.nn.functional.normalize(x, dim=1) for x in out.targets]
    cosines = (p * t[1]).sum(1)
    w = 2 - N * torch.softmax(cosines.detach() / 0.5, 0)
    itself = torch.eye(N).repeat(1, 2).bool()
    logits = torch.cat([p @ t[1].T, p @ t[0].T], 1).masked_fill(itself, -math.inf) / 0.3
    ((logits.logsumexp(1) - w * cosines / 0.3).mean() / 2).backward()
    jacobian = torch.eye(D) - p.detach()[:, :, None] * p.detach()[:, None, :]
    expected = (jacobian @ p.grad[:, :, None]).squeeze(2) / leaf.detach().norm(dim=1, keepdim=True)
    torch.testing.assert_close(leaf.grad, expected, rtol=1e-10, atol=1e-12)


def test_decoupling_removes_exactly_the_positive_from_the_denominator():
    out = draw()
    p, t = units(out.predictions), units(out.targets)
    expected = []
    for i, j in ORDERS:
        positive = np.exp((p[i] * t[j]).sum(1) / 0.3)
        whole = np.exp(p[i] @ t[j].T / 0.3).sum(1) + np.exp(p[i] @ t[i].T / 0.3).sum(1)
        whole -= np.exp((p[i] * t[i]).sum(1) / 0.3)
        expected.append(np.mean(np.log(1 - positive / whole)))
    difference = total(DecoupledNTXent(0.3), out) - total(NTXent(0.3), out)
    assert difference == pytest.approx(np.mean(expected), abs=1e-12)


def test_info_nce_contrasts_with_the_other_view():
    out = draw()
    p, t = units(out.predictions), units(out.targets)
    own = np.arange(N)
    expected = np.mean([cross_entropy(p[i] @ t[j].T / 0.3, own) for i, j in ORDERS])
    assert total(InfoNCE(0.3), out) == pytest.approx(expected, abs=1e-12)
    # Dwibedi et al. 2021, Eq. 3: the neighbour is the anchor, the sum runs over predictions.
    expected = np.mean([cross_entropy(t[j] @ p[i].T / 0.3, own) for i, j in ORDERS])
    assert total(InfoNCE(0.3, anchor="target"), out) == pytest.approx(expected, abs=1e-12)
    # Chen, Xie and He 2021, Alg. 1: ctr(q1, k2) + ctr(q2, k1), each 2T times the cross-entropy.
    expected = sum(2 * 0.3 * cross_entropy(p[i] @ t[j].T / 0.3, own) for i, j in ORDERS)
    assert total(InfoNCE(0.3, rescaled=True), out) == pytest.approx(expected, abs=1e-12)


def test_queue_info_nce_is_mocos_equation():
    out = draw()
    objective = objective_of(QueueInfoNCE(0.3, queue=20))
    queue = objective.queue.rows.numpy()
    q, k = units(out.predictions)[0], units(out.targets)[1]
    logits = np.concatenate([(q * k).sum(1, keepdims=True), q @ queue.T], 1) / 0.3
    expected = cross_entropy(logits, np.zeros(N, int))
    assert float(objective(out).total) == pytest.approx(expected, abs=1e-12)


def test_only_the_first_view_asks_unless_symmetric():
    out = draw()
    for p in out.predictions:
        p.requires_grad_()
    objective_of(QueueInfoNCE(0.3, queue=20))(out).total.backward()
    assert out.predictions[0].grad is not None and out.predictions[1].grad is None
    objective_of(QueueInfoNCE(0.3, queue=20, symmetric=True))(out).total.backward()
    assert out.predictions[1].grad is not None


@pytest.mark.parametrize("margin", [None, 0.2, 5.0])
def test_triplets_are_averaged_over_all_other_images(margin):
    out = draw()
    p, t = units(out.predictions), units(out.targets)
    losses = []
    for i, j in ORDERS:
        for k in range(N):
            for other in set(range(N)) - {k}:
                x = p[i][k] @ t[j][other] - p[i][k] @ t[j][k]
                losses.append(x if margin is None else max(0.0, x + margin))
    assert total(Triplet(margin), out) == pytest.approx(np.mean(losses), abs=1e-12)


def test_the_next_negative_is_that_of_the_next_index():
    out = draw(n=4)
    out.indices = torch.tensor([7, 3, 900_000_000, 5])  # 3 -> 5 -> 7 -> the largest -> 3
    p, t = units(out.predictions), units(out.targets)
    negative = {1: 3, 3: 0, 0: 2, 2: 1}
    expected = np.mean(
        [p[i][k] @ (t[j][m] - t[j][k]) for i, j in ORDERS for k, m in negative.items()]
    )
    assert total(Triplet(negatives="next"), out) == pytest.approx(expected, abs=1e-12)
    out.indices = None  # nobody knows: the next row
    expected = np.mean(
        [p[i][k] @ (t[j][(k + 1) % 4] - t[j][k]) for i, j in ORDERS for k in range(4)]
    )
    assert total(Triplet(negatives="next"), out) == pytest.approx(expected, abs=1e-12)


def test_alignment_and_uniformity_are_wang_and_isolas():
    out = draw()
    z = units(out.embeddings)
    p, t = units(out.predictions), units(out.targets)
    for alpha in (1.0, 2.0, 3.0):
        align = np.mean([np.linalg.norm(p[i] - t[j], axis=1) ** alpha for i, j in ORDERS])
        uniform = []
        for x in z:
            distances = [np.sum((x[a] - x[b]) ** 2) for a in range(N) for b in range(a)]
            uniform.append(np.log(np.mean(np.exp(-1.5 * np.array(distances)))))
        expected = 3 * align + 0.5 * np.mean(uniform)
        assert total(AlignUniform(3, 0.5, alpha, 1.5), out) == pytest.approx(expected, abs=1e-12)


def test_centre_penalty_is_jhas_in_two_views():
    out = draw()
    z = units(out.embeddings)
    p, t = units(out.predictions), units(out.targets)
    cosine = np.mean([(p[i] * t[j]).sum(1) for i, j in ORDERS])
    centre = np.concatenate(z).mean(0)
    expected = -cosine + 0.7 * centre @ centre
    assert total(CentrePenalty(0.7), out) == pytest.approx(expected, abs=1e-12)


# --- what is known of them -------------------------------------------------------------------


def test_without_a_margin_triplets_are_alignment_and_the_centre_of_the_others():
    # So the mean negative is the centre: sum over l≠k of z_l = n (centre) - z_k.
    z = draw().embeddings[0]
    same = Outputs([z, z], [z, z], [z, z], [z, z])
    centre = unit(z.numpy()).mean(0)
    expected = (N * centre @ centre - 1) / (N - 1) - 1
    assert total(Triplet(), same) == pytest.approx(expected, abs=1e-12)


def test_known_minima():
    corners = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    z = torch.cat([corners, -corners])  # a cross-polytope: centred, spread
    same = Outputs([z, z], [z, z], [z, z], [z, z])
    assert total(CentrePenalty(0.7), same) == pytest.approx(-1)
    # Cosines with the other seven are 0 six times and -1 once.
    assert total(Triplet(), same) == pytest.approx(-1 - 1 / 7)
    assert total(Triplet(margin=0.5), same) == pytest.approx(0, abs=1e-12)
    potential = (6 * math.exp(-4) + math.exp(-8)) / 7
    assert total(AlignUniform(), same) == pytest.approx(math.log(potential))
    # Two antipodal points hold the centre still: the penalty sees no dimensional collapse.
    line = torch.cat([corners[:1].expand(4, 4), -corners[:1].expand(4, 4)])
    assert total(CentrePenalty(0.7), Outputs(*[[line, line]] * 4)) == pytest.approx(-1)


@every_part
def test_collapsed_loss_is_the_loss_of_a_constant(part):
    constant = torch.linspace(-1, 2, D, dtype=torch.float64).expand(N, D)
    out = Outputs(*[[constant, constant]] * 4)
    objective = objective_of(part)
    for step in range(4):
        loss = objective(out)
        if isinstance(part, QueueInfoNCE):  # until the queue is full of it
            objective.after_step(step + 1, 4)
    assert float(loss.total) == pytest.approx(part.collapsed_loss(D, N), rel=1e-9, abs=1e-9)


@every_part
@pytest.mark.parametrize(("views", "targets"), [(2, 2), (3, 3), (4, 2)])
def test_more_views_and_fewer_targets(part, views, targets):
    out = draw(views, targets)
    for p in out.predictions:
        p.requires_grad_()
    loss = objective_of(part)(out)
    torch.testing.assert_close(loss.total, sum(loss.terms.values()))
    loss.total.backward()
    asking = out.predictions[:1] if isinstance(part, QueueInfoNCE) else out.predictions
    asking = out.predictions if getattr(part, "symmetric", False) else asking
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in asking)
    assert loss.total.dtype == torch.float64


@every_part
def test_equal_views_have_finite_gradients(part):
    z = draw().embeddings[0].requires_grad_()
    objective_of(part)(Outputs(*[[z, z]] * 4)).total.backward()
    assert torch.isfinite(z.grad).all()


@every_part
def test_the_order_of_the_batch_does_not_matter(part):
    out = draw()
    out.indices = torch.arange(N)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    lists = (out.features, out.embeddings, out.predictions, out.targets)
    shuffled = Outputs(*([t[order] for t in ts] for ts in lists), indices=out.indices[order])
    assert total(part, shuffled) == pytest.approx(total(part, out), abs=1e-12)


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
def test_extreme_temperatures_stay_finite(temperature):
    out = draw()
    parts = [NTXent, DecoupledNTXent, InfoNCE]
    parts = [kind(temperature) for kind in parts] + [QueueInfoNCE(temperature, queue=20)]
    assert all(math.isfinite(total(part, out)) for part in parts)


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NTXent(0.0), r"objective\.temperature: 0\.0 .*above 0"),
        (lambda: DecoupledNTXent(-1.0), r"objective\.temperature"),
        (lambda: DecoupledNTXent(0.1, sigma=0.0), r"objective\.sigma.*None for equal weights"),
        (lambda: InfoNCE(0.0), r"objective\.temperature"),
        (lambda: QueueInfoNCE(0.0), r"objective\.temperature"),
        (lambda: QueueInfoNCE(queue=0), r"objective\.queue: 0 .*1 or more"),
        (
            lambda: QueueInfoNCE(queue=255).check(256, 128),
            r"objective\.queue: 255 .*the 256 images of a batch, or more",
        ),
        (lambda: Triplet(margin=-0.1), r"objective\.margin: -0\.1 .*0 or more, or None"),
        (lambda: AlignUniform(alignment=-1.0), r"objective\.alignment"),
        (lambda: AlignUniform(uniformity=-1.0), r"objective\.uniformity"),
        (lambda: AlignUniform(alpha=0.0), r"objective\.alpha"),
        (lambda: AlignUniform(t=0.0), r"objective\.t: 0\.0 .*above 0"),
        (lambda: CentrePenalty(-1.0), r"objective\.penalty: -1\.0 .*0 or more"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_queue_may_be_as_small_as_a_batch():
    QueueInfoNCE(queue=256).check(256, 128)

"""W-MSE's objective: the whitening, the dealing into sub-batches, and how a collapse is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fullrank.errors import UserError
from fullrank.models.objectives.objective import CollapsedBatchError, Outputs
from fullrank.models.objectives.whitening import whiten
from fullrank.models.settings.objectives.whitening import Whitening


def rows(n, d, seed=0):
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=gen, dtype=torch.float64)


def outputs(n=32, d=5, views=2, targets=None):
    z = [rows(n, d, i) for i in range(views)]
    t = [rows(n, d, 50 + i) for i in range(targets or views)]
    return Outputs(z, z, z, t, torch.arange(n))


def online(*z):
    views = list(z)
    return Outputs(views, views, views, views)


def unit(x):
    x = np.asarray(x)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def pairs(out):
    return [
        (np.asarray(p), np.asarray(t))
        for i, p in enumerate(out.predictions)
        for j, t in enumerate(out.targets)
        if i != j
    ]


def total(part, out):
    return float(part.build(out.predictions[0].shape[1])(out).total)


def test_whitened_rows_are_centred_and_have_the_identity_as_covariance():
    z = rows(40, 6) @ rows(6, 6, seed=1) + 5
    white = whiten(z)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(np.cov(white.numpy().T), np.eye(6), atol=1e-10)
    factor = np.linalg.cholesky(np.cov(z.numpy().T))
    expected = (z - z.mean(0)).numpy() @ np.linalg.inv(factor).T
    np.testing.assert_allclose(white, expected, atol=1e-10)
    assert whiten(z.float()).dtype == torch.float32


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("views", "targets"), [(2, 2), (3, 3), (4, 2)])
def test_whitening_is_w_mses_equation(normalise, views, targets):
    out = outputs(views=views, targets=targets)
    objective = Whitening(sub_batch=16, normalise=normalise).build(5)
    found = []
    for part in objective.deal(out.indices):
        for p, t in pairs(out):
            white = []
            for z in (p[part], t[part]):
                factor = np.linalg.cholesky(np.cov(z.T))
                w = np.linalg.solve(factor, (z - z.mean(0)).T).T
                white.append(unit(w) if normalise else w)
            squares = (white[0] - white[1]) ** 2
            found.append(squares.sum(1).mean() if normalise else squares.mean())
    assert float(objective(out).total) == pytest.approx(np.mean(found), abs=1e-10)


def test_sub_batches_part_the_images_and_change_with_step_and_round_alone():
    objective = Whitening(sub_batch=10).build(5)
    images = torch.randperm(1000, generator=torch.Generator().manual_seed(0))[:64]
    first = objective.deal(images)
    assert [len(part) for part in first] == [11, 11, 11, 11, 10, 10]
    assert sorted(torch.cat(first).tolist()) == list(range(64))
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    again = objective.deal(images[order])
    for a, b in zip(first, again, strict=True):  # the same images, wherever they stand
        assert set(images[a].tolist()) == set(images[order][b].tolist())
    others = [objective.deal(images, place=1)]
    objective.after_step(1, 9)
    others.append(objective.deal(images))
    for other in others:
        assert any(set(a.tolist()) != set(b.tolist()) for a, b in zip(first, other, strict=True))


def test_whitening_does_not_depend_on_an_invertible_map_of_the_embedding():
    out = outputs()
    part = Whitening(sub_batch=32)
    first = total(part, Outputs([], out.embeddings, out.predictions, out.predictions))
    # A triangular map changes the Cholesky factor alone.
    change = torch.linalg.qr(rows(5, 5, seed=7))[1].T.contiguous() + 3 * torch.eye(5).double()
    assert bool((change.diagonal() > 0).all())
    moved = [z @ change.T + 2 for z in out.predictions]
    assert total(part, Outputs([], moved, moved, moved)) == pytest.approx(first, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rank", [0, 1, 3])
def test_a_collapsed_batch_is_refused_with_the_rank_found(rank, dtype):
    z = (rows(32, 8)[:, :rank] @ rows(rank, 8, seed=1) + 4.2).to(dtype)
    with pytest.raises(CollapsedBatchError, match=rf"rank {rank} about.*collapsed to"):
        Whitening(sub_batch=32).build(8)(online(z, z))


def test_too_few_images_are_refused_and_numbers_that_are_not_finite():
    with pytest.raises(CollapsedBatchError, match=r"8 images are too few.*sub_batch"):
        whiten(rows(8, 8))
    with pytest.raises(CollapsedBatchError, match="not finite"):
        whiten(rows(32, 8) * float("nan"))
    assert whiten(rows(8, 8), epsilon=0.01).isfinite().all()


def test_small_embeddings_and_unequal_scales_are_no_collapse():
    z = rows(64, 8).float()
    scaled = z * torch.logspace(-12, 12, 8)
    np.testing.assert_allclose(np.cov(whiten(scaled).numpy().T), np.eye(8), atol=1e-4)


@pytest.mark.parametrize(
    ("part", "batch_size", "dim", "message"),
    [
        (Whitening(sub_batch=128), 64, 32, "batch_size: 64 images.*Allowed: 128 or more"),
        (Whitening(sub_batch=64), 256, 64, "sub_batch: 64 images.*more than 64, and 128"),
    ],
)
def test_a_batch_too_small_for_the_whitening_is_refused(part, batch_size, dim, message):
    with pytest.raises(UserError, match=message):
        part.check(batch_size, dim)
    Whitening(sub_batch=128).check(256, None)
    Whitening(sub_batch=64, epsilon=0.1).check(256, 64)


def test_whitening_has_no_collapsed_loss():
    constant = torch.linspace(-1, 2, 6, dtype=torch.float64).expand(16, 6)
    assert Whitening(sub_batch=16).collapsed_loss(6, 16) is None
    with pytest.raises(CollapsedBatchError):
        total(Whitening(sub_batch=16), online(constant, constant))

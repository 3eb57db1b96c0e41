from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from fullrank.errors import UserError
from fullrank.measure.gradient import GradientParts, gradient_parts
from fullrank.measure.spectrum import participation_ratio
from fullrank.randomness import generator

Loss = Callable[[Tensor, Tensor], Tensor]


def normal(*shape: int, key: str) -> Tensor:
    return torch.randn(*shape, generator=generator(0, "gradient", key), dtype=torch.float64)


def pair(n: int = 512, d: int = 16, mean: float = 1.0, decay: float = 0.5) -> tuple[Tensor, Tensor]:
    """Two views of images whose variance falls off, about a common mean, with equal noise."""
    images = normal(n, d, key="images") * torch.arange(1, d + 1) ** -decay + mean / math.sqrt(d)
    first, second = (images + 0.3 * normal(n, d, key=f"view {v}") for v in range(2))
    return first.requires_grad_(), second.requires_grad_()


def cosine_alignment(x: Tensor, y: Tensor) -> Tensor:
    return -torch.cosine_similarity(x, y).mean()


def centre_penalty(x: Tensor, y: Tensor) -> Tensor:
    return normalize(torch.cat([x, y])).mean(0).square().sum()


def info_nce(temperature: float) -> Loss:
    def loss(x: Tensor, y: Tensor) -> Tensor:
        logits = normalize(x) @ normalize(y).T / temperature
        return temperature * cross_entropy(logits, torch.arange(len(x)))

    return loss


def negatives(temperature: float) -> Loss:
    return lambda x, y: info_nce(temperature)(x, y) - cosine_alignment(x, y)


def gradient(loss: Loss, x: Tensor, y: Tensor) -> Tensor:
    return torch.autograd.grad(loss(x, y), x)[0]


def parts(loss: Loss, x: Tensor, y: Tensor) -> GradientParts:
    return gradient_parts(gradient(loss, x, y), x)


@pytest.mark.parametrize("mean", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_alignment_alone_pulls_to_the_centre_and_narrows_the_spectrum(
    mean: float, decay: float
) -> None:
    found = parts(cosine_alignment, *pair(mean=mean, decay=decay))
    assert found.decentring < -0.03
    assert found.decorrelation < -0.03
    assert found.centre_coefficient > 0


@pytest.mark.parametrize("mean", [0.5, 1.0])
def test_a_centre_penalty_is_all_decentring(mean: float) -> None:
    found = parts(centre_penalty, *pair(mean=mean))
    assert found.decentring > 0.85
    assert abs(found.decorrelation) < 0.1
    x, y = pair(mean=mean)
    u = normalize(x).detach().requires_grad_()
    flat = gradient_parts(gradient(lambda a, _: a.mean(0).square().sum(), u, y), u, sphere=False)
    assert flat.decentring == pytest.approx(1)
    assert flat.decorrelation == pytest.approx(0, abs=1e-12)
    assert flat.centre_coefficient == pytest.approx(-2 / len(u))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_negatives_decentre_and_decorrelate(temperature: float) -> None:
    """What InfoNCE's negatives add to alignment does both, as Zhang et al. find."""
    x, y = pair()
    extra = gradient_parts(
        gradient(info_nce(temperature), x, y), x, alignment=gradient(cosine_alignment, x, y)
    )
    assert extra.decentring > 0.5
    assert extra.decorrelation > 0.05
    direct = parts(negatives(temperature), x, y)
    assert extra.decentring == pytest.approx(direct.decentring)
    assert extra.decorrelation == pytest.approx(direct.decorrelation)


def test_lower_temperatures_decorrelate_more() -> None:
    shares = [parts(negatives(t), *pair()).decorrelation for t in (0.1, 0.3, 1.0, 5.0)]
    assert shares == sorted(shares, reverse=True)


def test_negatives_of_infinite_temperature_take_the_centre_off() -> None:
    """Then all negatives weigh alike: ``G_e = -mean v``, with ``η = -1`` where views are one."""
    u = normalize(pair()[0]).detach().requires_grad_()
    n, temperature = len(u), 1e6

    def repulsion(x: Tensor, y: Tensor) -> Tensor:
        return temperature * torch.logsumexp(x @ y.detach().T / temperature, 1).sum()

    found = gradient_parts(gradient(repulsion, u, u.detach()), u, sphere=False)
    assert found.centre_coefficient == pytest.approx(-1, rel=1e-5)
    assert found.centre.tolist() == pytest.approx((-u.mean(0)).tolist(), abs=1e-6)
    assert found.decentring == pytest.approx(1, rel=1e-5)
    # The next order in 1/temperature is minus the covariance times the residual.
    r = (u - u.mean(0)).detach()
    expected = -r @ (r.T @ r / n) / temperature
    relative = float((found.residual - expected).norm() / expected.norm())
    assert relative < 0.05


def test_decorrelation_is_the_share_of_the_steepest_way_to_a_flat_spectrum() -> None:
    x = pair()[0].detach().requires_grad_()

    def minus_ratio(rows: Tensor, _: Tensor) -> Tensor:
        second = torch.cov(rows.T)
        return -(second.trace() ** 2) / second.square().sum()

    step = gradient(minus_ratio, x, x)
    found = gradient_parts(step, x, sphere=False)
    assert found.decorrelation == pytest.approx(1)
    assert found.decentring == pytest.approx(0, abs=1e-9)
    assert gradient_parts(-step, x, sphere=False).decorrelation == pytest.approx(-1)


@pytest.mark.parametrize("loss", [cosine_alignment, info_nce(0.1), negatives(0.1)])
def test_the_shares_foretell_what_a_step_does(loss: Loss) -> None:
    x, y = pair()
    found = parts(loss, x, y)
    before = normalize(x).detach()
    step = gradient(loss, x, y)
    after = normalize(x - 1e-3 * step / step.norm() * x.norm()).detach()

    def ratio(u: Tensor) -> float:
        return float(participation_ratio(torch.linalg.svdvals(u - u.mean(0))))

    assert (before.mean(0).norm() - after.mean(0).norm()) * found.decentring > 0
    assert (ratio(after) - ratio(before)) * found.decorrelation > 0


def test_gradients_in_embeddings_and_in_their_directions_give_the_same() -> None:
    x, y = pair()
    u, v = (normalize(z).detach().requires_grad_() for z in (x, y))

    def product(a: Tensor, b: Tensor) -> Tensor:
        return torch.logsumexp(a @ b.T / 0.2, 1).sum() - (a * b).sum()

    raw = gradient_parts(gradient(lambda a, b: product(normalize(a), normalize(b)), x, y), x)
    unit = gradient_parts(gradient(product, u, v), u)
    for field in ("decentring", "decorrelation", "centre_coefficient"):
        assert getattr(raw, field) == pytest.approx(getattr(unit, field)), field
    assert torch.allclose(raw.residual, unit.residual)


def test_parts_add_up_and_shares_stay_within_the_whole() -> None:
    for loss in (cosine_alignment, centre_penalty, info_nce(0.1)):
        x, y = pair()
        step = -gradient(loss, x, y)
        found = gradient_parts(-step, x, sphere=False)
        assert torch.allclose(found.centre + found.residual, step)
        assert found.residual.mean(0).abs().max() < 1e-15
        assert found.decentring**2 + found.decorrelation**2 <= 1


def test_scale_rotation_and_order_change_no_share() -> None:
    x, y = pair()
    step = gradient(info_nce(0.2), x, y)
    once = gradient_parts(step, x)
    turn = torch.linalg.qr(normal(16, 16, key="turn")).Q
    order = torch.randperm(len(x), generator=generator(0, "gradient", "order"))
    for found in (
        gradient_parts(1e-9 * step, x),
        gradient_parts(step / 7, 7 * x),
        gradient_parts(step @ turn, x @ turn),
        gradient_parts(step[order], x[order]),
        gradient_parts(step.float(), x.float()),
    ):
        assert found.decentring == pytest.approx(once.decentring, rel=1e-4)
        assert found.decorrelation == pytest.approx(once.decorrelation, rel=1e-4)


def test_nothing_is_nan_where_nothing_is_to_be_read() -> None:
    x = normal(6, 4, key="x")
    for rows in (x, torch.zeros(6, 4), torch.ones(6, 4), x[:1]):
        for sphere in (True, False):
            for step in (torch.zeros_like(rows), torch.ones_like(rows), rows):
                found = gradient_parts(step, rows, sphere=sphere)
                assert all(map(math.isfinite, found[2:]))
    # A radial gradient moves no unit row; a flat spectrum has nothing to flatten.
    assert gradient_parts(x, x)[2:] == (0, 0, 0)
    axes = torch.cat([torch.eye(4), -torch.eye(4)]).double()
    flat = gradient_parts(normal(8, 4, key="step"), axes)
    assert flat.decentring == flat.decorrelation == 0


def test_bad_input_is_refused() -> None:
    x = torch.ones(3, 2)
    with pytest.raises(UserError, match="gradient: NaN or infinite"):
        gradient_parts(x * math.nan, x)
    with pytest.raises(UserError, match="embeddings: NaN or infinite"):
        gradient_parts(x, x * math.inf)
    with pytest.raises(UserError, match="gradient: shape"):
        gradient_parts(torch.ones(0, 2), torch.ones(0, 2))
    with pytest.raises(UserError, match=r"alignment: shape \(3,\) given"):
        inspect.unwrap(gradient_parts)(x, x, torch.ones(3))

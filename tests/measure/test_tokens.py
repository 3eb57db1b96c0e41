from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure.moments import moments_of
from fullrank.measure.pairs import spread
from fullrank.measure.spectrum import effective_rank, participation_ratio
from fullrank.measure.tokens import (
    cross_sample_gap,
    gram_drift,
    per_position_spread,
    tokens_of_sample,
)
from fullrank.randomness import generator

N, T, D = 50, 6, 16


def normal(key: str, n: int = N, t: int = T, d: int = D) -> Tensor:
    return torch.randn(n, t, d, generator=generator(0, key), dtype=torch.float64)


def test_gap_is_a_difference_of_mean_cosines() -> None:
    z, y = normal("z") + 0.4, normal("z") + normal("y")
    u, v = (x.numpy() / np.linalg.norm(x.numpy(), axis=-1, keepdims=True) for x in (z, y))
    cosines = np.einsum("ipd,jpd->pij", u, v)
    own = cosines[:, np.eye(N, dtype=bool)].mean()
    others = cosines[:, ~np.eye(N, dtype=bool)].mean()
    assert cross_sample_gap(z, y) == pytest.approx(own - others, rel=1e-10)


def test_a_gap_of_0_is_per_position_collapse() -> None:
    position = normal("position", 1).expand(N, -1, -1)
    targets = 3 * position + normal("targets")
    assert cross_sample_gap(targets, targets) > 0.05
    # The mean target of each position: a high cosine, and nothing about the image.
    unit = targets / targets.norm(dim=-1, keepdim=True)
    answer = unit.mean(0, keepdim=True).expand(N, -1, -1)
    assert float(torch.cosine_similarity(answer, targets, dim=-1).mean()) > 0.9
    assert cross_sample_gap(answer, targets) == pytest.approx(0, abs=1e-12)
    assert cross_sample_gap(torch.ones(N, T, D), targets) == pytest.approx(0, abs=1e-12)
    assert cross_sample_gap(torch.zeros(N, T, D), targets) == 0


def test_position_spread_splits_the_spread_of_all_tokens() -> None:
    x = normal("position", 1) + 0.5 * normal("x")
    found = per_position_spread(x)
    assert found.total == pytest.approx(spread(moments_of(x.flatten(0, 1))), rel=1e-10)
    each = [spread(moments_of(x[:, p])) for p in range(T)]
    assert found.within == pytest.approx(np.mean(each), rel=1e-10)
    assert found.share == found.within / found.total


def test_position_spread_of_collapsed_tokens() -> None:
    by_place = per_position_spread(normal("position", 1).expand(N, -1, -1))
    assert by_place.within == by_place.share == 0
    assert by_place.total > 0.5
    assert per_position_spread(torch.ones(N, T, D)).share == 0
    assert per_position_spread(torch.zeros(N, T, D)).share == 0
    free = per_position_spread(normal("x"))
    assert free.share == pytest.approx(1, abs=0.03)


def test_gram_drift_is_the_mean_squared_change_of_cosines() -> None:
    x, y = normal("x"), normal("x", d=D) + normal("y")
    changes = []
    for a, b in zip(x, y, strict=True):
        s = torch.nn.functional.normalize(a, dim=1)
        g = torch.nn.functional.normalize(b, dim=1)
        changes.append(float(torch.linalg.matrix_norm(s @ s.T - g @ g.T) ** 2) / T**2)
    assert gram_drift(x, y) == pytest.approx(np.mean(changes), rel=1e-10)
    assert gram_drift(x, y) == pytest.approx(gram_drift(y, x))


def test_gram_drift_is_blind_to_rotations_and_lengths() -> None:
    x = normal("x")
    rotation = torch.from_numpy(ortho_group.rvs(D, random_state=0))
    lengths = torch.rand(N, T, 1, generator=generator(0, "lengths")).add(0.1)
    assert gram_drift(x @ rotation * lengths, x) == pytest.approx(0, abs=1e-25)
    wide = torch.cat([x, torch.zeros(N, T, 4, dtype=torch.float64)], 2)
    assert gram_drift(wide, x) == pytest.approx(0, abs=1e-25)
    opposite = torch.tensor([[[1.0], [-1.0]]])
    assert gram_drift(opposite, opposite.abs()) == pytest.approx(4 * 2 / 4)


def test_ranks_are_means_over_images() -> None:
    x = normal("x", t=9, d=5) * torch.arange(1, 6) ** -1.0
    x[3] = 2.5
    ranks = []
    for tokens in x:
        sigma = torch.linalg.svdvals(tokens - tokens.mean(0))
        flat = bool((tokens == tokens[0]).all())
        ranks.append(
            (0.0, 0.0)
            if flat
            else (float(effective_rank(sigma)), float(participation_ratio(sigma)))
        )
    found = tokens_of_sample(x)
    expected = np.mean(ranks, 0)
    assert (found.effective_rank, found.participation_ratio) == pytest.approx(tuple(expected))
    alike = tokens_of_sample(torch.ones(3, T, D))
    assert (alike.effective_rank, alike.participation_ratio) == (0, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_low_precision_is_computed_in_double(dtype: torch.dtype) -> None:
    x, y = normal("x").to(dtype), normal("y").to(dtype)
    assert cross_sample_gap(x, y) == cross_sample_gap(x.double(), y.double())
    assert per_position_spread(x) == per_position_spread(x.double())
    assert gram_drift(x, y) == gram_drift(x.double(), y.double())


def test_bad_input_is_refused() -> None:
    x = normal("x")
    with pytest.raises(UserError, match="both must be the same"):
        cross_sample_gap(x, x[:, :3])
    with pytest.raises(UserError, match="same images and positions"):
        gram_drift(x, x[:3])
    with pytest.raises(UserError, match="n >= 2"):
        per_position_spread(x[:1])
    with pytest.raises(UserError, match="t >= 1"):
        tokens_of_sample(x[:, :0])
    with pytest.raises(UserError, match="NaN or infinite"):
        tokens_of_sample(x / 0)

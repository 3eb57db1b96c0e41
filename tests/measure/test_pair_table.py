from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure import neighbors
from fullrank.measure._about_pairs import ABOUT
from fullrank.measure.clid import clid, shuffled
from fullrank.measure.coherence import coherence, leverages
from fullrank.measure.intrinsic_dimension import twonn
from fullrank.measure.moments import unit_rows
from fullrank.measure.pair_table import pair_table
from fullrank.measure.uniformity import self_cluster, uniformity, uniformity_gap
from fullrank.randomness import generator

NAMES = {
    "uniformity",
    "uniformity_gap",
    "self_cluster",
    "coherence",
    "twonn",
    "clid",
    "nearest_ratio",
}


def rows(n: int = 500, d: int = 10, seed: int = 0) -> Tensor:
    g = generator(seed, "rows")
    scale = torch.arange(1, d + 1).double() ** -0.5
    return torch.randn(n, d, generator=g, dtype=torch.float64) * scale + 0.3


def test_values_are_those_of_the_single_functions() -> None:
    x = torch.cat([rows(), rows()[:20], torch.zeros(2, 10, dtype=torch.float64)])
    table = pair_table(x, seed=4)
    assert set(table) == NAMES
    expected = {
        "uniformity": uniformity(x),
        "uniformity_gap": uniformity_gap(x),
        "self_cluster": self_cluster(x),
        "coherence": coherence(x),
        "twonn": twonn(x).value,
        "clid": clid(x, seed=4).value,
    }
    for name, value in expected.items():
        assert table[name].value == pytest.approx(value, rel=1e-9), name
        assert len(table[name].replicates) == 8


def test_nearest_ratio_is_its_definition() -> None:
    u, _ = unit_rows(rows())
    distance = torch.cdist(u, u).fill_diagonal_(torch.inf)
    rms = torch.pdist(u).square().mean().sqrt()
    expected = float(distance.min(1).values.quantile(0.5) / rms)
    assert pair_table(rows())["nearest_ratio"].value == pytest.approx(expected, rel=1e-6)


def test_replicates_of_sums_over_pairs_are_those_without_each_group() -> None:
    x = rows(203)
    table = pair_table(x, seed=1, groups=5)
    order = shuffled(203, 1)
    edges = [203 * k // 5 for k in range(6)]
    for k in range(5):
        left = x[torch.cat([order[: edges[k]], order[edges[k + 1] :]])]
        for name, function in (
            ("uniformity", uniformity),
            ("uniformity_gap", uniformity_gap),
            ("self_cluster", self_cluster),
        ):
            assert table[name].replicates[k] == pytest.approx(function(left), abs=1e-11)


def spreads(d: int, n: int, runs: int = 40) -> tuple[dict[str, float], dict[str, float]]:
    """Standard deviation of each value over samples, and the mean standard error within one."""
    tables = [pair_table(rows(n, d, seed)) for seed in range(runs)]
    found = {name: float(np.std([t[name].value for t in tables], ddof=1)) for name in NAMES}
    told = {name: float(np.mean([t[name].standard_error or 0.0 for t in tables])) for name in NAMES}
    return found, told


def test_error_bars_are_as_wide_as_values_vary() -> None:
    found, told = spreads(d=8, n=400)
    # Coherence is left out: the jackknife of a maximum is known not to hold.
    for name in NAMES - {"coherence"}:
        # A standard deviation from 40 runs is known to about 11 %.
        assert 0.6 < told[name] / found[name] < 1.7, (name, told[name], found[name])


def test_cluster_collapse_is_told_from_noise() -> None:
    centres = torch.randn(10, 32, generator=generator(0, "centres"))
    crowded = centres[torch.arange(1000) % 10]
    near = crowded + 1e-3 * torch.randn(1000, 32, generator=generator(0, "near"))
    noise = torch.randn(1000, 32, generator=generator(0, "noise"))
    assert pair_table(crowded)["nearest_ratio"].value == pytest.approx(0, abs=1e-7)
    assert pair_table(near)["nearest_ratio"].value < 0.01
    assert pair_table(noise)["nearest_ratio"].value > 0.5


def test_no_number_is_nan_however_collapsed_the_rows() -> None:
    cases = [
        torch.ones(100, 5),
        torch.zeros(100, 5),
        torch.eye(10).repeat(10, 1),
        torch.eye(50),
        torch.ones(2, 1),
        rows(3, 2),
        rows(60, 1),
        rows(9, 40),
        torch.ones(100, 5) + 1e-7 * torch.randn(100, 5, generator=generator(0, "jitter")),
    ]
    for x in cases:
        for name, jackknifed in pair_table(x).items():
            assert not math.isnan(jackknifed.value), (name, x.shape)
            assert not any(map(math.isnan, jackknifed.replicates)), (name, x.shape)


def test_few_rows_have_fewer_groups_and_none_below_two() -> None:
    assert len(pair_table(rows(17))["uniformity"].replicates) == 4
    assert pair_table(rows(7))["uniformity"].replicates == ()
    assert pair_table(rows(7))["uniformity"].standard_error is None


def test_seeded_and_blind_to_the_size_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    first, again, other = (pair_table(rows(), seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first["uniformity"].replicates != other["uniformity"].replicates
    value = twonn(rows()).value
    monkeypatch.setattr(neighbors, "CHUNK", 90)
    assert twonn(rows()).value == pytest.approx(value, rel=1e-12)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(UserError, match=r"^groups: 0 given"):
        pair_table(rows(), groups=0)
    with pytest.raises(UserError, match=r"^t: 0"):
        pair_table(rows(), t=0)
    with pytest.raises(UserError, match="NaN or infinity"):
        pair_table(rows() / 0)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("rank", [10, 4])
@pytest.mark.parametrize("n", [200, 10, 7])
def test_leverages_are_rows_of_the_left_singular_vectors(n: int, rank: int, centred: bool) -> None:
    x = rows(n) if rank == 10 else rows(n, rank) @ rows(rank, 10, seed=1)
    y = x - x.mean(0) if centred else x
    u, sigma, _ = torch.linalg.svd(y, full_matrices=False)
    kept = sigma > 1e-6 * sigma[0]
    found, r = leverages(x, centred)
    assert r == int(kept.sum())
    np.testing.assert_allclose(found.numpy(), u[:, kept].square().sum(1).numpy(), atol=1e-6)
    assert coherence(x, centred) == pytest.approx(float(found.max()) * n / r)


def test_coherence_of_known_rows() -> None:
    assert coherence(torch.eye(6)) == pytest.approx(1)
    assert coherence(torch.ones(9, 3)) == pytest.approx(1)
    assert coherence(torch.zeros(9, 3)) == 1
    # One row alone in its direction has all of its leverage: n / r.
    alone = torch.cat([torch.eye(2)[:1].repeat(9, 1), torch.eye(2)[1:]])
    assert coherence(alone) == pytest.approx(10 / 2)
    mixed = rows(300) @ torch.randn(10, 10, generator=generator(0, "mix")).double()
    assert coherence(mixed) == pytest.approx(coherence(rows(300)), rel=1e-6)


def test_every_statistic_is_described_and_every_description_leads_to_a_function() -> None:
    assert {about.name for about in ABOUT if about.family == "pairs"} == NAMES
    assert len({about.name for about in ABOUT}) == len(ABOUT)
    for about in ABOUT:
        module, function = about.function.split(".")
        assert callable(getattr(importlib.import_module(f"fullrank.measure.{module}"), function))

"""Statistics of the current batch are those of its rows, on however many processes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from fullrank.errors import UserError
from fullrank.measure.moments import moments_of
from fullrank.measure.pairs import alignment, normalised_std, spread
from fullrank.monitor.streaming import (
    CurrentRows,
    batch_signs,
    participation_ratio_of_rows,
    read_current,
)
from fullrank.randomness import generator


def gaussian(n, d, exponent=0.0, mean=0.0, seed=0):
    rows = torch.randn(n, d, generator=generator(seed, "streaming"), dtype=torch.float64)
    return rows * torch.arange(1, d + 1) ** -exponent + mean


def test_signs_are_those_of_the_moments_of_the_same_rows():
    a = gaussian(50, 12, 0.5, mean=0.3)
    views = a, a + 0.2 * gaussian(50, 12, seed=1), a - 0.1
    state = moments_of(*views)
    found = batch_signs(*views)
    assert found["spread"] == pytest.approx(spread(state), rel=1e-9)
    assert found["normalised_std"] == pytest.approx(normalised_std(state), rel=1e-9)
    assert found["alignment"] == pytest.approx(alignment(state), rel=1e-9)


def by_fours(x):
    """Both U-statistics as their definitions have them: a mean over all fours of rows."""
    squared_trace, trace_of_square = [], []
    for i, j, k, m in itertools.permutations(range(len(x)), 4):
        a, b = x[i] - x[j], x[k] - x[m]
        squared_trace.append((a @ a) * (b @ b) / 4)
        trace_of_square.append((a @ b) ** 2 / 4)
    return sum(squared_trace) / sum(trace_of_square)


@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_the_participation_ratio_is_a_ratio_of_means_over_fours(mean):
    x = gaussian(7, 4, 0.5)
    found = participation_ratio_of_rows(x + mean)
    torch.testing.assert_close(found, by_fours(x).clamp(1, 4), rtol=1e-8, atol=0)


@pytest.mark.parametrize(("d", "exponent"), [(32, 0.5), (256, 0.0), (2048, 0.25)])
def test_few_rows_tell_the_participation_ratio_of_many_dimensions(d, exponent):
    lambda_ = torch.arange(1, d + 1, dtype=torch.float64) ** (-2 * exponent)
    exact = lambda_.sum() ** 2 / lambda_.square().sum()
    found = [
        participation_ratio_of_rows(gaussian(64, d, exponent, mean=5, seed=s)) for s in range(200)
    ]
    mean = torch.stack(found).mean()
    assert abs(mean / exact - 1) < 0.04
    plug_in = torch.linalg.svdvals(gaussian(64, d, exponent)).square()
    plug_in = plug_in.sum() ** 2 / plug_in.square().sum()
    assert abs(mean - exact) < abs(plug_in - exact)


def test_degenerate_rows_give_numbers_and_no_crash():
    assert participation_ratio_of_rows(torch.ones(9, 5)) == 0
    line = torch.arange(9.0)[:, None] * torch.ones(5)
    assert float(participation_ratio_of_rows(line)) == pytest.approx(1, rel=1e-5)
    assert math.isnan(participation_ratio_of_rows(torch.randn(3, 5)))
    broken = torch.randn(9, 5)
    broken[2, 2] = math.nan
    assert math.isnan(batch_signs(broken)["participation_ratio"])
    assert batch_signs(torch.ones(1, 3, dtype=torch.bfloat16))["spread"] == 0


def test_rows_are_chosen_by_content_not_by_order_or_split():
    x = torch.relu(gaussian(500, 80).float())
    whole, shuffled = CurrentRows(100), CurrentRows(100)
    whole.update(x)
    shuffled.update(x[torch.randperm(500, generator=generator(1, "order"))])

    def kept(*parts):
        rows = torch.cat([p.views[0] for p in parts])
        rows = rows[whole.keys(rows).argsort()[:100]]
        return rows

    halves = CurrentRows(100), CurrentRows(100)
    halves[0].update(x[:130])
    halves[1].update(x[130:])
    assert torch.equal(kept(whole), kept(shuffled))
    assert torch.equal(kept(whole), kept(*halves))
    other = CurrentRows(100, seed=1)
    other.update(x)
    assert not torch.equal(kept(whole), kept(other))
    # Every row is as likely: the mean of the kept ones is that of all, within four deviations.
    error = (kept(whole).mean() - x.mean()).abs() / (x.std() / math.sqrt(100 * 80))
    assert error < 4


def test_only_the_latest_batch_counts_and_later_changes_to_it_do_not():
    rows = CurrentRows()
    for seed in range(3):  # the second fits where the first was
        batch = gaussian(20, 6, seed=seed)
        rows.update(batch, batch + 1)
        expected = batch_signs(batch, batch + 1)
        batch.zero_()
        found = read_current({"z": rows})["z"]
        assert found == pytest.approx(expected)
    rows.update(torch.zeros(0, 6))
    assert len(rows.views) == 2
    with torch.inference_mode():
        rows.update(gaussian(9, 6))
    rows.update(gaussian(9, 6, seed=4))
    assert read_current({"z": rows, "none yet": CurrentRows()}).keys() == {"z"}


def test_fewer_than_four_rows_are_refused():
    with pytest.raises(UserError, match="rows: 3 given"):
        CurrentRows(3)

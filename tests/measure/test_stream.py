from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from fullrank.errors import UserError
from fullrank.measure import _single, stream
from fullrank.measure.moments import Moments, MomentState, check_precision, moments_of
from fullrank.measure.stream import Measured, measure_stream, single_share
from fullrank.randomness import generator


def power_law(alpha: float, n: int = 3000, d: int = 64) -> Tensor:
    g = generator(0, "stream")
    mix = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64)).Q
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    return (x * torch.arange(1, d + 1) ** -alpha) @ mix


def collapsed(n: int = 3000, d: int = 64) -> Tensor:
    x = torch.linalg.svd(power_law(0.5, n, d), full_matrices=False)
    return (x.U * torch.logspace(0, -9, d, dtype=torch.float64)) @ x.Vh


def streamed(*views: Tensor, size: int = 500, **kwargs: object) -> Measured:
    def blocks() -> Iterator[tuple[Tensor, ...]]:
        yield from zip(*(v.split(size) for v in views), strict=True)

    return measure_stream(blocks, **kwargs)  # type: ignore[arg-type]


SPECTRA = {f"power {a}": (lambda a=a: power_law(a)) for a in (0.0, 0.3, 0.5, 1.0, 2.0, 3.0, 4.0)}
SPECTRA["collapsed"] = collapsed


@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("name", SPECTRA)
def test_chosen_precision_keeps_small_singular_values(name: str, mean: float) -> None:
    x = SPECTRA[name]()
    x = x / x.std(0).max() + mean
    measured = streamed(x)
    actual = measured.shards.total.singular_values
    expected = torch.linalg.svdvals(x - x.mean(0))
    share, error = expected / expected[0], (actual / expected - 1).abs()
    assert error[share >= 1e-5].max() < 1e-6
    assert error[share >= 1e-7].max() < 1e-3
    # Where the spectrum is nearly flat the fast path is taken; where it is steep it must not be.
    if name in ("power 0.0", "power 0.3"):
        assert measured.precision == "float32"
    elif name != "power 0.5":
        assert measured.precision == "float64"


@pytest.mark.parametrize("q", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_float32_moments_are_the_float64_ones_to_float32_rounding(
    q: int, dtype: torch.dtype
) -> None:
    x = power_law(0.3) + 3
    g = generator(0, "noise")
    views = [
        (x + 0.2 * torch.randn(x.shape, generator=g, dtype=torch.float64) + v).to(dtype)
        for v in range(q)
    ]
    exact, fast = moments_of(*views), moments_of(*views, precision="float32")
    for name in MomentState.__annotations__:
        a, b = getattr(exact, name), getattr(fast, name)
        if isinstance(a, Tensor):
            scale = float(a.abs().max())
            torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-6 * scale, msg=name)
        elif a is not None:
            assert b == pytest.approx(a, rel=1e-5)


def test_unit_rows_stay_accurate_when_they_nearly_agree() -> None:
    x = power_law(0.3)
    x = (x / x.std(0).max() + 1000).float()
    exact, fast = moments_of(x, x.flip(0)), moments_of(x, x.flip(0), precision="float32")
    assert float(fast.unit_scatter.sum() / exact.unit_scatter.sum()) == pytest.approx(1, rel=1e-3)
    assert fast.pair_distance == pytest.approx(exact.pair_distance, rel=1e-3)


@pytest.mark.parametrize("size", [1, 7, 500, 3000])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_same_for_any_blocks(size: int, precision: str) -> None:
    x = power_law(0.3)[:700]
    measured = streamed(x, size=size, precision=precision, sample=50, seed=4)
    metric = Moments(shards=8)
    metric.update(x)
    for ours, theirs in zip(measured.shards.states, metric.compute_shards().states, strict=True):
        torch.testing.assert_close(ours.scatter, theirs.scatter, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(ours.mean, theirs.mean, rtol=0, atol=1e-7)
        assert ours.count == theirs.count
    assert torch.equal(measured.sample.rows, streamed(x, sample=50, seed=4).sample.rows)


@pytest.mark.parametrize("q", [1, 2])
@pytest.mark.parametrize("size", [24, 100, 2000])
def test_same_when_sums_are_added_up_many_times(
    q: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A few rows a product, a few blocks a mean, and a mean that drifts from block to block.
    monkeypatch.setattr(stream, "_SHARD_ROWS", 2)
    monkeypatch.setattr(_single, "_PRODUCT_ROWS", 16)
    monkeypatch.setattr(_single, "_BLOCK_ENTRIES", 256)
    monkeypatch.setattr(_single, "_MOST_BLOCKS", 3)
    x = power_law(0.3, n=2003, d=12)
    x = x[x[:, 0].argsort()] + 5
    x[77] = 0
    views = [x, x + 0.1 * x.flip(1)][:q]
    fast = streamed(*views, size=size, precision="float32").shards
    for k, state in enumerate(fast.states):
        exact = moments_of(*(view[k::8] for view in views))
        for name in ("mean", "scatter", "residual", "contrast", "unit_mean", "unit_scatter"):
            a, b = getattr(exact, name), getattr(state, name)
            if a is not None:
                torch.testing.assert_close(
                    b, a, rtol=1e-5, atol=1e-5 * float(a.abs().max()), msg=name
                )
        assert (state.count, state.zero_rows) == (exact.count, exact.zero_rows)
        assert state.pair_distance == pytest.approx(exact.pair_distance, rel=1e-4)


def test_a_spectrum_that_turns_steep_late_is_measured_again() -> None:
    x = power_law(0.0, n=20_000)
    x[-50:] *= 1000
    x[-50:, 1:] *= 1e-6
    measured = streamed(x, size=4000)
    assert measured.precision == "float64"
    expected = torch.linalg.svdvals(x - x.mean(0))
    torch.testing.assert_close(
        measured.shards.total.singular_values, expected, rtol=1e-6, atol=1e-6
    )


def test_values_too_large_for_float32_are_measured_in_float64() -> None:
    x = 1e30 * power_law(0.0)
    assert streamed(x).precision == "float64"


def test_zero_rows_and_noncontiguous_blocks() -> None:
    x = power_law(0.0)
    x[5] = 0
    wide = torch.cat([x, x], 1)[:, :64]
    fast = streamed(wide, precision="float32").shards.total
    assert fast.zero_rows == 1
    torch.testing.assert_close(fast.scatter, moments_of(x).scatter, rtol=1e-5, atol=1e-2)


def test_share_falls_with_the_width_as_rounding_spreads() -> None:
    assert single_share(64) > single_share(512) > single_share(2048) == single_share(8192)


def test_empty_streams_and_refusals() -> None:
    assert measure_stream(lambda: iter(())).shards.count == 0
    x = power_law(0.0)
    with pytest.raises(UserError, match="width 5 given"):
        measure_stream(lambda: iter([(x,), (x[:, :5],)]))
    for given, allowed in (("float16", ("auto", "float64", "float32")), ("auto", ("float64",))):
        with pytest.raises(UserError, match=f"precision: '{given}' is not known"):
            check_precision(given, allowed)
    with pytest.raises(UserError, match="shards: 0 given"):
        streamed(x, shards=0)
    x[17, 3] = float("nan")
    with pytest.raises(UserError, match="hold NaN"):
        streamed(x)

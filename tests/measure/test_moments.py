from __future__ import annotations

import copy
import doctest
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import SumMetric

from fullrank.errors import UserError
from fullrank.measure import moments as module
from fullrank.measure.moments import Moments, MomentState, merge, moments_of
from fullrank.randomness import generator

FIELDS = list(MomentState.__annotations__)
EPS = torch.finfo(torch.float64).eps


def rows(*shape: int, key: str = "rows", dtype: torch.dtype = torch.float64) -> Tensor:
    """Correlated rows whose mean is not 0."""
    g = generator(0, key)
    mix = torch.randn(shape[-1], shape[-1], generator=g, dtype=torch.float64)
    x = torch.randn(*shape, generator=g, dtype=torch.float64) @ mix
    return (x + 3 * torch.randn(shape[-1], generator=g, dtype=torch.float64)).to(dtype)


def some_views(q: int, n: int = 90, d: int = 7) -> list[Tensor]:
    """Views that agree on the image, and differ in noise and in mean."""
    image = rows(n, d)
    return [image + 0.3 * rows(n, d, key=f"view{v}") + v for v in range(q)]


def assert_same(a: MomentState, b: MomentState, rtol: float = 1e-12) -> None:
    for name in FIELDS:
        x, y = getattr(a, name), getattr(b, name)
        if isinstance(x, Tensor):
            torch.testing.assert_close(x, y, rtol=rtol, atol=rtol * float(x.abs().max()))
        elif x is None or y is None:
            assert x is y, name
        else:
            assert x == pytest.approx(y, rel=rtol), name


@pytest.mark.parametrize("q", [1, 2, 3])
def test_every_statistic_equals_its_definition(q: int) -> None:
    views = some_views(q, n=4000, d=300)  # several blocks of rows, and of columns
    state = moments_of(*views)
    x = np.stack([v.numpy() for v in views])  # (q, n, d)
    y = x - x.mean(1, keepdims=True)
    flat = y.reshape(-1, y.shape[-1])
    own = (x - x.mean(0)).reshape(flat.shape)
    u = x / np.linalg.norm(x, axis=-1, keepdims=True)
    image = x.mean(0)

    def close(actual: Tensor | float | None, expected: np.ndarray | float) -> None:
        assert actual is not None
        scale = np.abs(expected).max()
        np.testing.assert_allclose(np.asarray(actual), expected, rtol=1e-10, atol=1e-12 * scale)

    assert (state.count, state.views, state.dim, state.rows) == (4000, q, 300, 4000 * q)
    assert state.zero_rows == 0
    close(state.mean, x.mean(1))
    close(state.scatter, flat.T @ flat)
    close(state.covariance, np.mean([np.cov(v.T, bias=True) for v in x], axis=0))
    close(state.variances, x.var(1).mean(0))
    close(state.unit_mean, u.mean((0, 1)))
    close(state.unit_scatter, u.var((0, 1)) * u.shape[0] * u.shape[1])
    pairs = [(v, w) for v in range(q) for w in range(v)]
    close(state.pair_distance, float(sum(((u[v] - u[w]) ** 2).sum() for v, w in pairs)))
    if q > 1:
        close(state.within, own.T @ own)
        close(state.between, np.cov(image.T, bias=True) * 4000)
    else:
        assert state.within is state.between is state.cross is None
    if q == 2:
        close(state.cross, y[0].T @ y[1])
    if q < 3:
        for v in range(q):
            close(state.view_scatter(v), y[v].T @ y[v])


@pytest.mark.parametrize("shape", [(40, 9), (9, 9), (5, 9), (1, 9), (40, 1), (1, 1), (600, 520)])
def test_spectra_equal_an_svd(shape: tuple[int, int]) -> None:
    x = rows(*shape)
    state = moments_of(x)
    for actual, matrix in (
        (state.singular_values, x - x.mean(0)),
        (state.uncentred_singular_values, x),
    ):
        expected = torch.linalg.svdvals(matrix)
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=2e-7 * float(x.norm()))
    torch.testing.assert_close(state.eigenvalues, state.singular_values**2 / shape[0])
    # At most n - 1 centred directions exist; the rest are exactly 0, not rounding noise.
    assert not state.singular_values[shape[0] - 1 :].any()


def test_two_views_are_pooled_about_their_own_means() -> None:
    a, b = some_views(2)
    expected = torch.linalg.svdvals(torch.cat([a - a.mean(0), b - b.mean(0)]))
    torch.testing.assert_close(moments_of(a, b).singular_values, expected)


def power_law(alpha: float, n: int = 1500, d: int = 96) -> Tensor:
    g = generator(0, "power law")
    left = torch.linalg.qr(torch.randn(n, d, generator=g, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64)).Q
    sigma = torch.arange(1, d + 1, dtype=torch.float64) ** -alpha
    return (left * sigma) @ right


def collapsed(n: int = 1500, d: int = 96) -> Tensor:
    """Nearly rank one: a long tail falls to a billionth of the first direction."""
    x = torch.linalg.svd(power_law(0.5, n, d), full_matrices=False)
    return (x.U * torch.logspace(0, -9, d, dtype=torch.float64)) @ x.Vh


SPECTRA = {f"power {a}": lambda a=a: power_law(a) for a in (0.5, 1.0, 2.0, 3.0, 4.0)}
SPECTRA["collapsed"] = collapsed


@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("q", [1, 2])
def test_precision_of_the_tail_is_as_documented(name: str, mean: float, q: int) -> None:
    x = SPECTRA[name]()
    x = x / x.std(0).max() + mean  # a mean of 100 spreads
    views = [x] if q == 1 else [x[::2].clone(), x[1::2].clone()]
    metric = Moments()
    for batch in zip(*(v.split(100) for v in views), strict=True):
        metric.update(*batch)
    actual = metric.compute().singular_values
    expected = torch.linalg.svdvals(torch.cat([v - v.mean(0) for v in views]))
    share = expected / expected[0]
    error = (actual / expected - 1).abs()
    assert error[share >= 1e-5].max() < 1e-6
    assert error[share >= 1e-7].max() < 1e-3
    resolved = share >= 1e-7
    assert (error[resolved] < 0.1 * EPS / share[resolved] ** 2 + 1e-12).all()


@pytest.mark.parametrize("q", [1, 2, 3])
def test_same_for_any_split_order_and_tree(q: int) -> None:
    views = [v + 1e3 for v in some_views(q)]
    expected = moments_of(*views)
    shuffled = torch.randperm(90, generator=generator(0, "order"))
    for sizes in ([90], [1] * 90, [7, 0, 50, 33], [89, 1]):
        metric = Moments()
        parts = []
        for batch in zip(*(v[shuffled].split(sizes) for v in views), strict=True):
            metric.update(*batch)
            parts.append(moments_of(*batch))
        assert_same(metric.compute(), expected, rtol=1e-9)  # 1e3 spends digits of the input
        while len(parts) > 1:  # a balanced tree instead of a chain
            parts = [
                merge(*parts[i : i + 2]) if i + 1 < len(parts) else parts[i]
                for i in range(0, len(parts), 2)
            ]
        assert_same(parts[0], expected, rtol=1e-9)


def test_sorted_batches_far_apart_do_not_cancel() -> None:
    x = rows(80, 5)
    x[40:] += 1e6
    parts = moments_of(x[:40]).merge(moments_of(x[40:]))
    centred = x - x.mean(0)
    torch.testing.assert_close(parts.scatter, centred.T @ centred, rtol=1e-13, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int32])
def test_any_real_dtype_is_taken_at_its_exact_value(dtype: torch.dtype) -> None:
    x = (10 * rows(50, 6)).to(dtype)
    assert_same(moments_of(x), moments_of(x.to(torch.float64)), rtol=0)


def test_constant_rows_have_exactly_no_variance() -> None:
    x = torch.linspace(-0.7, 0.3, 64).expand(20_001, 64)
    metric = Moments()
    for batch in x.split([1, 20_000]):  # the second comes in several blocks
        metric.update(batch, batch)
    state = metric.compute()
    assert not state.scatter.any()
    assert not state.unit_scatter.any()
    assert state.pair_distance == 0
    assert not state.singular_values.any()


def test_zero_rows_are_counted_and_have_no_direction() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]])
    v = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
    state = moments_of(x, v)
    assert state.zero_rows == 3
    assert state.pair_distance == 1  # a zero row is at distance 1 from a unit row
    u = torch.tensor([[0.6, 0.8], [0, 0], [0, -1], [0.6, 0.8], [0, 0], [0, 0]]).double()
    torch.testing.assert_close(state.unit_mean, u.mean(0), rtol=1e-7, atol=0)


def test_inputs_and_random_streams_are_left_alone() -> None:
    x = rows(30, 4)
    kept, stream = x.clone(), torch.get_rng_state()
    Moments().update(x, x)
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), stream)


def test_same_under_autocast_and_inference_mode() -> None:
    x = rows(64, 5, dtype=torch.float32).requires_grad_()
    metric = Moments()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        metric.update(x[:32])
    metric.update(x[32:])
    assert_same(metric.compute(), moments_of(x))
    assert not metric.compute().scatter.requires_grad


class TestMetric:
    def test_forward_returns_the_batch_and_accumulates(self) -> None:
        x, metric = rows(40, 3), Moments()
        assert_same(metric(x[:10]), moments_of(x[:10]))
        assert_same(metric(x[10:]), moments_of(x[10:]))
        assert_same(metric.compute(), moments_of(x))

    def test_merge_state_takes_a_metric_or_its_state(self) -> None:
        x = some_views(2)
        a, b, c = Moments(), Moments(), Moments()
        for metric, part in ((a, slice(0, 20)), (b, slice(20, 30)), (c, slice(30, 90))):
            metric.update(*(v[part] for v in x))
        empty = Moments()
        empty.merge_state(a)
        empty.merge_state(b.metric_state)
        empty.merge_state(Moments())
        c.merge_state(empty)
        assert_same(c.compute(), moments_of(*x))
        for other in (SumMetric(), {"count": torch.tensor(3)}):
            with pytest.raises(UserError, match=r"incoming_state: \w+ given; allowed: Moments"):
                c.merge_state(other)

    def test_reset_forgets_also_the_width(self) -> None:
        metric = Moments()
        metric.update(rows(5, 3))
        metric.reset()
        metric.update(rows(5, 4), rows(5, 4))
        assert metric.compute().dim == 4

    def test_clone_pickle_and_state_dict_continue_alike(self, tmp_path: object) -> None:
        x = some_views(2)
        metric = Moments()
        metric.update(*(v[:50] for v in x))
        loaded = Moments()
        loaded.load_state_dict(metric.state_dict())
        assert_same(loaded.compute(), metric.compute(), rtol=0)  # and torchmetrics does not warn
        for other in (loaded, metric.clone(), copy.deepcopy(metric)):
            other.update(*(v[50:] for v in x))
            assert_same(other.compute(), moments_of(*x))
        restored = pickle.loads(pickle.dumps(metric))
        restored.update(*(v[50:] for v in x))
        assert_same(restored.compute(), moments_of(*x))
        assert metric.compute().count == 50

    def test_moves_between_devices_with_its_state(self) -> None:
        metric = Moments()
        metric(rows(5, 3))
        metric.to("meta")  # the only second device that every machine has
        assert metric.scatter.device.type == "meta"
        assert metric.mean.dtype == torch.float64
        metric.half().float()  # casts do not reach the state
        assert metric.mean.dtype == torch.float64

    def test_an_update_without_rows_changes_nothing(self) -> None:
        metric = Moments()
        metric.update(torch.zeros(0, 9))
        assert metric.compute().count == 0
        metric.update(rows(5, 3))
        metric.update(torch.zeros(0, 9))
        assert_same(metric.compute(), moments_of(rows(5, 3)))

    def test_refused_input_changes_nothing(self) -> None:
        x, metric = rows(6, 3), Moments()
        metric.update(x)
        bad = x.clone()
        bad[4] = float("nan")
        for call in (metric.update, metric):
            with pytest.raises(UserError, match="1 of 6 rows hold NaN"):
                call(bad)
            with pytest.raises(UserError, match="1 of width 4 given; the first update had 1 of"):
                call(rows(6, 4))
            with pytest.raises(UserError, match="2 of width 3 given"):
                call(x, x)
        assert_same(metric.compute(), moments_of(x))

    def test_docstring_example(self) -> None:
        assert doctest.testmod(module).failed == 0


class TestRefusals:
    def test_rows_that_are_not_finite_are_counted_and_the_first_is_named(self) -> None:
        x = rows(9000, 130)
        x[2500, 3], x[8800, 1] = float("inf"), float("nan")
        other = rows(9000, 130)
        other[8999, 0] = -float("inf")
        with pytest.raises(UserError, match=r"3 of 9000 rows .* \(the first is row 2500\)"):
            moments_of(x, other)

    def test_views_must_exist_and_agree(self) -> None:
        with pytest.raises(UserError, match="views: none given"):
            moments_of()
        with pytest.raises(UserError, match=r"shapes \[\(5, 3\), \(4, 3\)\] given"):
            moments_of(rows(5, 3), rows(4, 3))
        with pytest.raises(UserError, match=r"shape \(5, 0\) given"):
            moments_of(torch.zeros(5, 0))

    def test_unlike_moments_do_not_merge(self) -> None:
        with pytest.raises(UserError, match=r"1 views of width 3 cannot be merged with .* width 4"):
            merge(moments_of(rows(5, 3)), moments_of(rows(5, 4)))

    def test_scatter_of_one_view_among_three_is_not_kept(self) -> None:
        with pytest.raises(UserError, match="kept for one or two views, not for 3"):
            moments_of(*some_views(3)).view_scatter(0)
        with pytest.raises(UserError, match="view: 2 given"):
            moments_of(*some_views(2)).view_scatter(2)

    def test_a_state_cannot_be_changed(self) -> None:
        with pytest.raises(AttributeError, match="immutable"):
            moments_of(rows(5, 3)).count = 7

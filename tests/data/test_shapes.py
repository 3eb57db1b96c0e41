"""The procedural set: pure by index, labels in range, and the factors are in the pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fullrank.data import drawing
from fullrank.data.settings import DataSettings
from fullrank.data.shapes import (
    BINS,
    CONTINUOUS,
    DISCRETE,
    SHAPES,
    TEXTURES,
    factor_names,
    label_of,
    render,
)
from fullrank.data.sources import load_source
from fullrank.errors import UserError


def test_an_image_is_a_function_of_its_index() -> None:
    indices = torch.tensor([700, 3, 123456789, 3, 299])
    images, factors = render(indices, 16)
    for row, index in enumerate(indices.tolist()):
        alone, values = render(torch.tensor([index]), 16)
        # The arithmetic of a batch may round a value that lies between two bytes either way.
        assert int((alone[0].int() - images[row].int()).abs().max()) <= 1
        for name in factor_names():
            assert torch.equal(values[name][0], factors[name][row]), name
    assert torch.equal(images[1], images[3])


def test_order_and_chunks_do_not_matter() -> None:
    order = torch.randperm(600, generator=torch.Generator().manual_seed(0))
    images, factors = render(torch.arange(600), 8)
    shuffled, others = render(order, 8)
    assert int((images[order].int() - shuffled.int()).abs().max()) <= 1
    assert all(torch.equal(factors[name][order], others[name]) for name in factor_names())


def test_splits_differ_and_factors_do_not_depend_on_the_size() -> None:
    indices = torch.arange(64)
    train, small = render(indices, 8)
    test, _ = render(indices, 8, "test")
    _, large = render(indices, 24)
    assert not torch.equal(train, test)
    assert all(torch.equal(small[name], large[name]) for name in factor_names())


def test_no_image_is_an_image() -> None:
    images, factors = render(torch.arange(0), 8)
    assert images.shape == (0, 3, 8, 8)
    assert set(factors) == set(factor_names())


def test_factors_are_in_range_and_fill_it() -> None:
    _, factors = render(torch.arange(3000), 4)
    for name, values in DISCRETE.items():
        counts = torch.bincount(factors[name], minlength=len(values))
        assert len(counts) == len(values)
        expected = 3000 / len(values)
        assert float((counts - expected).abs().max()) < 5 * expected**0.5
    for name, (low, high) in CONTINUOUS.items():
        values = factors[name]
        assert low <= float(values.min()) and float(values.max()) <= high
        assert float(values.max() - values.min()) > 0.85 * (high - low), name


def test_discrete_factors_are_independent() -> None:
    _, factors = render(torch.arange(6000), 4)
    table = np.zeros((len(SHAPES), len(TEXTURES)))
    np.add.at(table, (factors["shape"].numpy(), factors["background_texture"].numpy()), 1)
    from scipy.stats import chi2_contingency

    assert chi2_contingency(table).pvalue > 1e-3


@pytest.fixture(scope="module")
def sample() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    images, factors = render(torch.arange(1500), 32)
    return images.float() / 255, factors


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(np.corrcoef(a.numpy(), b.numpy())[0, 1])


def test_background_colour_is_in_the_border(sample) -> None:
    images, factors = sample
    border = torch.cat([images[:, :, :2].flatten(2), images[:, :, -2:].flatten(2)], 2)
    for channel, name in enumerate(("background_red", "background_green", "background_blue")):
        assert correlation(border[:, channel].mean(1), factors[name]) > 0.75


def test_background_contrast_is_in_the_border(sample) -> None:
    images, factors = sample
    border = torch.cat([images[:, :, :3].flatten(2), images[:, :, -3:].flatten(2)], 2)
    assert correlation(border[:, 1].std(1), factors["background_contrast_green"]) > 0.6
    plain = factors["background_texture"] == TEXTURES.index("plain")
    assert float(factors["background_contrast_red"][plain].max()) == 0
    # What is left on a plain one is the smooth colour field and the noise.
    assert float(border[plain].std(2).mean()) < 0.7 * float(border[~plain].std(2).mean())


def test_object_colour_and_place_are_in_the_image(sample) -> None:
    images, factors = sample
    solid = torch.isin(factors["shape"], torch.tensor([0, 1, 4, 5, 7]))  # no hole in the middle
    column = ((factors["x"] + 1) * 16).long().clamp(2, 29)
    row = ((factors["y"] + 1) * 16).long().clamp(2, 29)
    rows = torch.arange(len(images))
    around = [images[rows, 0, row + dy, column + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    assert correlation(torch.stack(around).mean(0)[solid], factors["object_red"][solid]) > 0.6


def test_outlines_have_the_areas_of_geometry() -> None:
    size, kinds = 401, torch.arange(len(SHAPES))
    axis = (torch.arange(size) + 0.5) * (2 / size) - 1
    n = len(kinds)
    x, y = axis.expand(n, size, size), axis[:, None].expand(n, size, size)
    turn, scale = torch.full((n,), 0.4), torch.full((n,), 0.7)
    cover = drawing.outline(kinds, x, y, torch.zeros(n, 2), scale, turn)
    measured = dict(zip(SHAPES, (cover.sum((1, 2)) * (2 / size) ** 2 / 0.49).tolist(), strict=True))
    inner = 0.45 * math.sin(math.pi / 5)
    exact = {
        "disc": math.pi * 0.8**2,
        "square": 1.4**2,
        "triangle": 3 * math.sqrt(3) / 4,
        "ring": math.pi * (0.87**2 - 0.43**2),
        "cross": 2 * 1.8 * 0.56 - 0.56**2,
        "star": 10 * inner / 2,
        "bar": 1.9 * 0.56,
    }
    for name, area in exact.items():
        assert measured[name] == pytest.approx(area, rel=0.01), name
    assert 0 < measured["crescent"] < math.pi * 0.85**2


def test_textures_are_shares() -> None:
    n = len(TEXTURES)
    axis = torch.linspace(-1, 1, 21)
    x, y = axis.expand(n, 21, 21), axis[:, None].expand(n, 21, 21)
    angle, phase = torch.full((n,), 0.3), torch.full((n, 2), 0.5)
    share = drawing.texture(torch.arange(n), x, y, angle, torch.full((n,), 6.0), phase)
    assert float(share.min()) >= 0 and float(share.max()) <= 1
    spread = dict(zip(TEXTURES, share.flatten(1).std(1).tolist(), strict=True))
    assert spread.pop("plain") == 0
    assert min(spread.values()) > 0.1


def test_labels_are_products() -> None:
    _, factors = render(torch.arange(400), 4)
    labels, classes = label_of(factors, "shape*background_texture")
    assert len(classes) == 40 and classes[7] == "square, checker"
    assert torch.equal(labels // 5, factors["shape"])
    assert torch.equal(labels % 5, factors["background_texture"])


def test_a_continuous_factor_is_cut_into_equal_bins() -> None:
    factors = {"scale": torch.tensor([0.45, 0.474, 0.476, 0.6999, 0.70])}
    labels, classes = label_of(factors, "scale")
    assert labels.tolist() == [0, 0, 1, BINS - 1, BINS - 1]
    assert len(classes) == BINS


def test_load() -> None:
    source = load_source(DataSettings("shapes", size=12, limit=50, label="shape * scale"))
    assert source.train.images is not None and source.train.images.shape == (50, 3, 12, 12)
    assert len(source.test) == 5000
    assert source.classes is not None and len(source.classes) == 80
    assert source.train.factors is not None and len(source.train.factors["x"]) == 50
    assert (source.channels, source.size) == (3, 12)


def test_unknown_factor_has_a_near_one() -> None:
    with pytest.raises(UserError, match=r"data\.label: 'shap'.*'shape'"):
        load_source(DataSettings("shapes", label="shap*scale"))

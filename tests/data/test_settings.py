"""Settings and presets: plain data, checked."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from fullrank.data.settings import (
    PRESETS,
    Augmentation,
    data_descriptions,
    data_family,
    data_names,
    preset_names,
    resolve_augmentation,
)
from fullrank.errors import UserError


def test_settings_import_no_torch() -> None:
    code = "import sys, fullrank.data.settings; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_data_set_has_a_preset_and_a_description() -> None:
    assert set(data_names()) <= set(PRESETS)
    assert [d.name for d in data_descriptions()] == list(data_names())
    assert preset_names()[0] == "auto"


def test_byol_is_asymmetric_and_cycled() -> None:
    one, two, three = resolve_augmentation("byol", "cifar10", 32, 3, 3)
    assert (one.blur, one.solarise) == (1.0, 0.0)
    assert (two.blur, two.solarise) == (0.1, 0.2)
    assert one == three


def test_presets_say_what_the_papers_say() -> None:
    (moco,) = PRESETS["mocov2"]
    assert (moco.scale, moco.jitter, moco.jitter_p) == ((0.2, 1.0), (0.4, 0.4, 0.4, 0.1), 0.8)
    assert (moco.grey, moco.blur, moco.blur_sigma, moco.flip) == (0.2, 0.5, (0.1, 2.0), 0.5)
    (simclr,) = PRESETS["simclr"]
    assert (simclr.scale, simclr.jitter) == ((0.08, 1.0), (0.8, 0.8, 0.8, 0.2))


def test_overrides_apply_to_every_view() -> None:
    views = resolve_augmentation(
        "byol",
        "cifar10",
        24,
        3,
        2,
        min_scale=0.5,
        flip=0.0,
        strength=0.5,
        grey=0.1,
        blur=0.3,
        solarise=0.0,
        noise=0.2,
    )
    for view in views:
        assert (view.size, view.scale, view.flip, view.grey) == (24, (0.5, 1.0), 0.0, 0.1)
        assert view.jitter == (0.2, 0.2, 0.1, 0.05)
        assert (view.blur, view.solarise, view.noise) == (0.3, 0.0, 0.2)


def test_the_data_set_normalises_whatever_the_preset() -> None:
    own = resolve_augmentation("auto", "cifar10", 32, 3, 1)[0]
    paper = resolve_augmentation("simclr", "cifar10", 32, 3, 1)[0]
    assert (own.mean, own.std) == (paper.mean, paper.std)


def test_one_channel_has_no_colour() -> None:
    view = resolve_augmentation("simclr", "fashion-mnist", 28, 1, 1, grey=0.5)[0]
    assert view.jitter == (0.8, 0.8, 0.0, 0.0)
    assert view.grey == 0.0
    assert len(view.mean) == len(view.std) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size: 0"),
        ({"flip": 1.5}, "flip: 1.5 given; it is a probability"),
        ({"scale": (0.5, 0.2)}, "scale"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"ratio": (0.0, 1.0)}, "ratio"),
        ({"blur_sigma": (2.0, 1.0)}, "blur_sigma"),
        ({"jitter": (0.1, 0.1, 0.1, 0.6)}, "hue at most 0.5"),
        ({"noise": -0.1}, "noise"),
        ({"std": (0.0,)}, "std"),
    ],
)
def test_impossible_augmentations_are_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(Augmentation(8), **change)


def test_unknown_names_come_with_near_ones() -> None:
    with pytest.raises(UserError, match=r"data\.name.*fashion-mnist"):
        data_family("fashion_mnist")
    with pytest.raises(UserError, match=r"augment.*'simclr'"):
        resolve_augmentation("simcrl", "cifar10", 32, 3, 2)
    with pytest.raises(UserError, match="needs a path"):
        data_family("folder")
    assert data_family("folder:/somewhere") == "folder"
    with pytest.raises(UserError, match="views: 0"):
        resolve_augmentation("auto", "cifar10", 32, 3, 0)
    with pytest.raises(UserError, match="strength: -1"):
        resolve_augmentation("auto", "cifar10", 32, 3, 2, strength=-1.0)

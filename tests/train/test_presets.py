"""What presets and views resolve to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fullrank.errors import UserError
from fullrank.models.settings.views import MultiCrop
from fullrank.recipes.registry import recipe
from fullrank.train.resolve import resolve


def test_the_paper_preset_brings_the_published_backbone_unless_another_is_given():
    whole = recipe("simsiam").training.backbone
    assert resolve({"recipe": "simsiam", "preset": "paper"}).backbone.name == whole
    assert resolve({"recipe": "simsiam"}).backbone.name == "conv4"
    assert resolve({"recipe": "simsiam", "preset": "small"}).backbone.name == "conv4"
    given = resolve({"recipe": "simsiam", "preset": "paper", "backbone": "resnet18"})
    assert given.backbone.name == "resnet18"


def multi_crop(**changes):
    config = resolve({"recipe": "simsiam", "data": "stl10", "steps": 1})
    views = MultiCrop(count=2, local_count=3, **changes)
    return replace(config, recipe=replace(config.recipe, views=views))


def test_small_crops_follow_the_large_ones():
    views = multi_crop(size=224).augmentation(3, 96)
    assert [v.size for v in views] == [224, 224, 96, 96, 96]
    assert [v.scale for v in views[2:]] == [(0.05, 0.14)] * 3
    assert views[0].scale == (0.2, 1.0)
    assert (views[2].jitter, views[2].mean) == (views[0].jitter, views[0].mean)


def test_measurement_with_a_given_number_of_views_has_large_crops_only():
    assert [v.size for v in multi_crop().augmentation(3, 96, count=3)] == [96, 96, 96]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"local_size": 97}, "recipe.views.local_size: 97"),
        ({"local_min_scale": 0.3}, "recipe.views.local_min_scale, local_max_scale"),
        ({"local_count": 0}, "recipe.views.local_count: 0"),
    ],
)
def test_small_crops_that_cannot_be_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        if "local_count" in changes:
            MultiCrop(**changes)
        multi_crop(**changes).augmentation(3, 96)

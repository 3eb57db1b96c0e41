"""Laws of the views: what may change them, what may not, and what they equal when all is off."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from fullrank.data.augment import Augment, prepare
from fullrank.data.sampler import draw, draw_noise
from fullrank.data.settings import Augmentation, resolve_augmentation
from fullrank.errors import UserError

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
OFF = Augmentation(12, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, mean=MEAN, std=STD)
ALL = Augmentation(
    12,
    scale=(0.3, 1.0),
    flip=0.5,
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_p=0.8,
    grey=0.2,
    blur=0.5,
    solarise=0.3,
    noise=0.1,
    mean=MEAN,
    std=STD,
)


def pictures(n: int, c: int = 3, side: int = 12) -> Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, c, side, side), dtype=torch.uint8, generator=source)


def test_views_are_a_function_of_images_seed_and_step() -> None:
    images, augment = pictures(16), Augment((ALL, ALL), 3)
    first, again = augment(images, 3, 7), augment(images, 3, 7)
    torch.manual_seed(5)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    for seed, step in ((4, 7), (3, 8)):
        assert not torch.equal(first[0], augment(images, seed, step)[0])


def test_drawing_views_leaves_the_global_stream_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    Augment((ALL, ALL), 3)(pictures(4), 0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("world", [2, 4])
def test_processes_see_what_one_process_sees(world: int) -> None:
    images, augment = pictures(16), Augment((ALL, dataclasses.replace(ALL, size=6)), 3)
    whole = augment(images, 0, 5)
    size = 16 // world
    parts = [augment(images[k : k + size], 0, 5, k, 16) for k in range(0, 16, size)]
    for view, together in enumerate(whole):
        # Equal chance to the last bit; a batched product may round differently in another batch.
        torch.testing.assert_close(torch.cat([p[view] for p in parts]), together)


def test_every_sample_has_its_own_view() -> None:
    images = pictures(1).expand(32, -1, -1, -1).contiguous()
    view = Augment((ALL,), 3)(images, 0)[0].flatten(1)
    assert len(torch.unique(view, dim=0)) == 32


@pytest.mark.parametrize("channels", [1, 3])
def test_with_everything_off_a_view_is_the_evaluation_image(channels: int) -> None:
    off = dataclasses.replace(OFF, mean=MEAN[:channels], std=STD[:channels])
    images = pictures(8, channels, 20)
    view = Augment((off,), channels)(images, 0)[0]
    assert torch.equal(view, prepare(images, 12, off.mean, off.std))


def test_evaluation_image_is_the_normalised_image() -> None:
    images = pictures(8)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(prepare(images, 12, MEAN, STD), (images / 255 - mean) / std)


def test_evaluation_image_is_the_central_square() -> None:
    images = torch.zeros(1, 1, 4, 8, dtype=torch.uint8)
    images[..., 2:6] = 255
    torch.testing.assert_close(prepare(images, 4, (0.0,), (1.0,)), torch.ones(1, 1, 4, 4))


@pytest.mark.parametrize(
    ("field", "expected"),
    [("flip", lambda x: x.flip(3)), ("solarise", lambda x: torch.where(x >= 0.5, 1 - x, x))],
)
def test_probability_one_is_the_operation_on_every_sample(field: str, expected) -> None:
    raw = dataclasses.replace(OFF, mean=(0.0,) * 3, std=(1.0,) * 3)
    images = pictures(8)
    view = Augment((dataclasses.replace(raw, **{field: 1.0}),), 3)(images, 0)[0]
    plain = prepare(images, 12, (0.0,) * 3, (1.0,) * 3)
    torch.testing.assert_close(view, expected(plain))


def test_grey_makes_the_channels_equal() -> None:
    grey = dataclasses.replace(OFF, grey=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    view = Augment((grey,), 3)(pictures(8), 0)[0]
    luma = torch.einsum("nchw,c->nhw", pictures(8) / 255, torch.tensor([0.299, 0.587, 0.114]))
    torch.testing.assert_close(view, luma[:, None].expand(-1, 3, -1, -1))


def test_noise_has_the_stated_deviation_in_pixel_units() -> None:
    noisy = dataclasses.replace(OFF, noise=0.2)
    images = pictures(400)
    difference = Augment((noisy,), 3)(images, 0)[0] - prepare(images, 12, MEAN, STD)
    pixels = difference * torch.tensor(STD)[:, None, None]
    n = pixels.numel()  # 172 800: standard errors .2/sqrt(n) and .2/sqrt(2n)
    assert abs(pixels.mean()) < 5 * 0.2 / n**0.5
    assert abs(pixels.std() - 0.2) < 5 * 0.2 / (2 * n) ** 0.5


def test_noise_of_a_sample_depends_on_its_place_alone() -> None:
    cpu = torch.device("cpu")
    whole = draw_noise(8, (3, 5, 5), 0, 1, 0, 0, cpu)
    assert torch.equal(whole[5:], draw_noise(3, (3, 5, 5), 0, 1, 0, 5, cpu))
    for other in ((1, 1, 0), (0, 2, 0), (0, 1, 1)):
        assert not torch.equal(whole, draw_noise(8, (3, 5, 5), *other, 0, cpu))


def test_drawn_crops_follow_the_stated_ranges() -> None:
    view = dataclasses.replace(ALL, scale=(0.2, 0.6))
    n = 4000
    boxes = draw(view, n, 0, 0, 0).boxes(torch.full((n,), 30.0), torch.full((n,), 40.0))
    left, top, width, height = boxes.unbind(1)
    area, ratio = width * height / 1200, width / height
    slack = 1e-4
    assert float(area.min()) > 0.2 - slack and float(area.max()) < 0.6 + slack
    assert float(ratio.min()) > 3 / 4 - slack and float(ratio.max()) < 4 / 3 + slack
    assert min(left.min(), top.min()) >= 0
    assert float((left + width).max()) <= 40 + slack and float((top + height).max()) <= 30 + slack
    # Areas in this range always fit somewhere, but rejection tilts them a little: uniform to 3 %.
    assert abs(float(area.mean()) - 0.4) < 0.012


def test_a_crop_that_never_fits_is_the_centre() -> None:
    view = dataclasses.replace(ALL, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    box = draw(view, 1, 0, 0, 0).boxes(torch.tensor([10.0]), torch.tensor([40.0]))
    torch.testing.assert_close(box, torch.tensor([[15.0, 0.0, 10.0, 10.0]]))


def test_drawn_events_have_the_stated_probabilities() -> None:
    n = 20000
    drawn = draw(ALL, n, 0, 0, 0)
    jittered = (drawn.brightness != 1).float().mean()
    for share, p in (
        (drawn.flip.float().mean(), 0.5),
        (drawn.grey.float().mean(), 0.2),
        (drawn.blur.float().mean(), 0.5),
        (drawn.solarise.float().mean(), 0.3),
        (jittered, 0.8),
    ):
        assert abs(float(share) - p) < 5 * (p * (1 - p) / n) ** 0.5
    sigma = drawn.sigma[drawn.blur]
    assert 0.1 <= float(sigma.min()) < 0.12 and 1.98 < float(sigma.max()) <= 2.0
    assert abs(float(sigma.mean()) - 1.05) < 5 * 1.9 / 12**0.5 / len(sigma) ** 0.5


def test_one_operation_does_not_move_the_chance_of_another() -> None:
    plain, other = draw(OFF, 50, 0, 3, 1), draw(dataclasses.replace(OFF, blur=1.0), 50, 0, 3, 1)
    assert torch.equal(plain.place, other.place)
    assert torch.equal(plain.area, other.area)


def test_crops_cut_elsewhere_are_finished_alike() -> None:
    images = pictures(8)
    view = dataclasses.replace(ALL, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    augment = Augment((view,), 3)
    torch.testing.assert_close(augment.finish([images], 2, 3)[0], augment(images, 2, 3)[0])


def test_views_of_two_sizes() -> None:
    views = Augment((ALL, dataclasses.replace(ALL, size=7)), 3)(pictures(4), 0)
    assert [tuple(v.shape) for v in views] == [(4, 3, 12, 12), (4, 3, 7, 7)]


def test_what_augment_refuses() -> None:
    with pytest.raises(UserError, match="views: none"):
        Augment((), 3)
    with pytest.raises(UserError, match="mean: 3 entries given; images have 1"):
        Augment((ALL,), 1)
    with pytest.raises(UserError, match="channels: 4"):
        Augment((ALL,), 4)


def test_every_preset_runs_on_every_set() -> None:
    for preset in ("auto", "mocov2", "simclr", "byol"):
        for name, channels in (("fashion-mnist", 1), ("cifar10", 3)):
            views = resolve_augmentation(preset, name, 12, channels, 3)
            drawn = Augment(views, channels)(pictures(4, channels), 0)
            assert len(drawn) == 3
            assert all(torch.isfinite(v).all() for v in drawn)

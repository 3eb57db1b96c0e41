"""The operations against torchvision, SciPy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample
from torchvision.transforms.v2 import functional as peer

from fullrank.data import operators


def floats(n: int, c: int, h: int, w: int) -> Tensor:
    return torch.rand(n, c, h, w, generator=torch.Generator().manual_seed(1))


def ones(n: int) -> Tensor:
    return torch.ones(n)


def no(n: int) -> Tensor:
    return torch.zeros(n, dtype=torch.bool)


def test_crop_of_a_ramp_has_the_affine_values() -> None:
    """A plane a + bx + cy sampled bilinearly is that plane, where the box is inside the image."""
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    image = (3 + 0.5 * x - 0.25 * y).expand(2, 1, 20, 30)
    boxes = torch.tensor([[4.3, 2.7, 9.0, 11.5], [10.0, 5.0, 16.0, 12.25]])
    size = 12
    out = operators.crop(image, boxes, size)
    grid = (torch.arange(size) + 0.5) / size
    for sample, (left, top, width, height) in enumerate(boxes.tolist()):
        px, py = left + grid * width - 0.5, top + grid * height - 0.5
        expected = 3 + 0.5 * px[None, :] - 0.25 * py[:, None]
        # A triangle wider than a pixel is not exactly balanced on the grid; where enlarged it is.
        tolerance = 1e-4 if max(width, height) <= size else 0.02
        torch.testing.assert_close(out[sample, 0], expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_enlarging_crop_equals_grid_sample(channels: int) -> None:
    images = floats(6, channels, 14, 17)
    source = torch.Generator().manual_seed(2)
    extent = 3 + 9 * torch.rand(6, 2, generator=source)
    corner = torch.rand(6, 2, generator=source) * (torch.tensor([17.0, 14.0]) - extent)
    out = operators.crop(images, torch.cat([corner, extent], 1), 13)
    theta = torch.zeros(6, 2, 3)
    full = torch.tensor([17.0, 14.0])
    theta[:, 0, 0], theta[:, 1, 1] = (extent / full).unbind(1)
    theta[:, :, 2] = (2 * corner + extent) / full - 1
    grid = affine_grid(theta, (6, channels, 13, 13), align_corners=False)
    expected = grid_sample(images, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("side", "size"), [(32, 9), (24, 16), (8, 28)])
def test_whole_image_equals_torchvision_resize(side: int, size: int) -> None:
    images = floats(3, 3, side, side)
    box = torch.tensor([[0.0, 0.0, side, side]]).expand(3, 4)
    expected = peer.resize(images, [size, size], antialias=True)
    torch.testing.assert_close(operators.crop(images, box, size), expected, atol=1e-5, rtol=0)


def test_crop_flips_as_torch_flip_and_only_where_asked() -> None:
    images = floats(4, 3, 10, 10)
    box = torch.tensor([[1.5, 0.5, 7.0, 8.0]]).expand(4, 4)
    flip = torch.tensor([True, False, True, False])
    plain, flipped = operators.crop(images, box, 6), operators.crop(images, box, 6, flip)
    expected = torch.where(flip[:, None, None, None], plain.flip(3), plain)
    torch.testing.assert_close(flipped, expected)


def test_crop_reads_bytes() -> None:
    images = (floats(2, 1, 8, 8) * 255).to(torch.uint8)
    box = torch.tensor([[0.0, 0.0, 8.0, 8.0]]).expand(2, 4)
    assert torch.equal(operators.crop(images, box, 8), images.float())


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4])
def test_colour_equals_torchvision(name: str, channels: int, factor: float) -> None:
    images = floats(4, channels, 9, 7)
    factors = {key: ones(4) for key in ("brightness", "contrast", "saturation")}
    factors[name] = torch.full((4,), factor)
    out = operators.colour(images, **factors, hue=torch.zeros(4), grey=no(4))
    expected = getattr(peer, f"adjust_{name}")(images, factor)
    # torchvision rounds the weights of grey to four digits.
    torch.testing.assert_close(out, expected, atol=3e-4, rtol=0)


def test_colour_composes_in_the_stated_order() -> None:
    images = 0.3 + 0.2 * floats(2, 3, 5, 5)  # no intermediate value leaves [0, 1]
    b, c, s = 1.2, 0.7, 1.3
    out = operators.colour(images, *(torch.full((2,), v) for v in (b, c, s)), torch.zeros(2), no(2))
    expected = peer.adjust_saturation(peer.adjust_contrast(peer.adjust_brightness(images, b), c), s)
    torch.testing.assert_close(out, expected, atol=3e-4, rtol=0)


def test_colour_without_change_is_the_identity() -> None:
    images = floats(3, 3, 6, 6)
    out = operators.colour(images, ones(3), ones(3), ones(3), torch.zeros(3), no(3))
    torch.testing.assert_close(out, images, atol=1e-6, rtol=0)


def test_hue_keeps_luma_and_grey_and_composes() -> None:
    turn = torch.tensor([-0.5, -0.1, 0.07, 0.4])
    matrix = operators.hue_matrix(turn).double()
    luma = torch.tensor(operators.LUMA).double()
    torch.testing.assert_close(luma @ matrix, luma.expand(4, 3), atol=1e-6, rtol=0)
    white = torch.ones(3).double()
    torch.testing.assert_close(matrix @ white, white.expand(4, 3), atol=1e-5, rtol=0)
    eye = torch.eye(3).double().expand(4, 3, 3)
    torch.testing.assert_close(operators.hue_matrix(0 * turn).double(), eye, atol=1e-6, rtol=0)
    back = operators.hue_matrix(-turn).double()
    torch.testing.assert_close(matrix @ back, eye, atol=1e-5, rtol=0)


def test_hue_turns_the_way_torchvision_does() -> None:
    """A third of a turn takes red towards green in both, though the two are not the same map."""
    red = torch.tensor([0.5, 0.1, 0.1])[None, :, None, None]
    ours = operators.colour(red, ones(1), ones(1), ones(1), torch.tensor([1 / 3]), no(1)).flatten()
    theirs = peer.adjust_hue(red, 1 / 3).flatten()
    assert int(ours.argmax()) == int(theirs.argmax()) == 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kernel", [3, 9])
@pytest.mark.parametrize("sigma", [0.1, 0.8, 2.0])
def test_blur_equals_torchvision(channels: int, kernel: int, sigma: float) -> None:
    images = floats(2, channels, 16, 12)
    out = operators.blur(images, torch.full((2,), sigma), kernel)
    expected = peer.gaussian_blur(images, [kernel, kernel], [sigma, sigma])
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)


def test_blur_has_its_own_sigma_a_sample_and_equals_scipy() -> None:
    images, sigma = floats(3, 1, 15, 15), torch.tensor([0.3, 1.0, 1.7])
    out = operators.blur(images, sigma, 5)
    for image, s, blurred in zip(images[:, 0].double().numpy(), sigma.tolist(), out, strict=True):
        taps = np.exp(-0.5 * (np.arange(-2, 3) / s) ** 2)
        expected = image
        for axis in (0, 1):
            expected = correlate1d(expected, taps / taps.sum(), axis=axis, mode="mirror")
        torch.testing.assert_close(
            blurred[0].double(), torch.from_numpy(expected), atol=1e-6, rtol=0
        )


def test_blur_keeps_a_constant_image() -> None:
    images = torch.full((2, 3, 6, 6), 0.7)
    torch.testing.assert_close(operators.blur(images, torch.tensor([0.5, 2.0]), 5), images)


@pytest.mark.parametrize(("side", "kernel"), [(8, 3), (28, 3), (32, 3), (96, 9), (224, 23)])
def test_blur_kernel_is_a_tenth_of_the_side(side: int, kernel: int) -> None:
    assert operators.blur_kernel_size(side) == kernel


def test_solarise_equals_torchvision() -> None:
    images = floats(2, 3, 6, 6)
    images[0, 0, 0, 0] = 0.5
    torch.testing.assert_close(operators.solarise(images), peer.solarize(images, 0.5))


def test_normalise_equals_torchvision() -> None:
    images, mean, std = floats(2, 3, 6, 6), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    expected = peer.normalize(images, list(mean), list(std))
    torch.testing.assert_close(operators.normalise(images, mean, std), expected)

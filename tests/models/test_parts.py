"""Heads, targets, backbones and batch norm."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fullrank.errors import UserError
from fullrank.models.backbones import resnet
from fullrank.models.batch_norm import SyncedBatchNorm, synchronise_batch_norm
from fullrank.models.convolution import PointSafeConv2d, make_point_safe
from fullrank.models.heads import mlp
from fullrank.models.settings.backbone import MLP, Conv4, Patches, ResNet, Timm, backbone_type
from fullrank.models.settings.target import Momentum
from fullrank.models.targets import MomentumTarget


@pytest.mark.parametrize(
    ("settings", "dim"),
    [
        (Conv4(width=4), 32),
        (Conv4(width=4, out=7, stem_stride=1), 7),
        (MLP(width=16, out=9), 9),
        (Patches(width=3, patch=8, out=11), 11),
        (ResNet("resnet18", width=4), 32),
        (ResNet("resnet50", width=4), 128),
        (Timm("timm/test_resnet"), None),
    ],
    ids=lambda v: getattr(v, "name", v),
)
def test_backbones_give_the_dimension_they_state(settings, dim):
    network, stated = settings.build(channels=3, size=32)
    features = network(torch.randn(4, 3, 32, 32))
    assert features.shape == (4, stated)
    assert dim in (None, stated)


def test_patches_must_tile_the_image():
    with pytest.raises(UserError, match="patch: 5 is not allowed"):
        Patches(patch=5).build(3, 32)


def test_patches_see_each_patch_alone_before_the_last_layer():
    network, _ = Patches(width=16, patch=4, out=50).build(3, 8)
    patchwise = network.eval()[:6]
    images = torch.randn(2, 3, 8, 8)
    changed = images.clone()
    changed[:, :, :4, :4] += 1
    same = (patchwise(images) == patchwise(changed)).all(1)
    assert same[:, 1].all() and same[:, 0, 1].all()
    assert not torch.equal(network(images), network(changed))


def test_the_full_width_resnet_is_torchvisions():
    import torchvision

    ours, _ = resnet("resnet18", 3, 64, "imagenet", zero_init=False)
    theirs = torchvision.models.resnet18()
    theirs.fc = nn.Identity()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_small_images_get_the_cifar_stem():
    small, _ = ResNet("resnet18", width=4).build(3, 32)
    large, _ = ResNet("resnet18", width=4).build(3, 224)
    assert (small.conv1.stride, small.conv1.kernel_size) == ((1, 1), (3, 3))
    assert isinstance(small.maxpool, nn.Identity)
    assert large.conv1.kernel_size == (7, 7)


def test_unknown_backbones_name_the_nearest():
    with pytest.raises(UserError, match="conv4"):
        backbone_type("conv5")
    with pytest.raises(UserError, match="timm/resnet18"):
        backbone_type("timm/resnet188")
    assert backbone_type("resnet10t") == ("timm/resnet10t", Timm)


def test_an_image_size_that_a_timm_model_refuses_is_an_error_in_words():
    with pytest.raises(UserError, match="does not take images"):
        Timm("timm/inception_v3").build(3, 16)


def test_heads_have_no_bias_before_a_norm():
    head = mlp([3, 4, 5], "batch")
    linear = [layer for layer in head if isinstance(layer, nn.Linear)]
    assert all(layer.bias is None for layer in linear)
    assert head[-1].affine is False
    assert mlp([3, 4, 5], "none")[-1].bias is not None


def test_the_momentum_target_starts_as_a_copy_and_follows():
    backbone, projector = nn.Linear(4, 3), nn.Linear(3, 2)
    target = MomentumTarget(backbone, projector, tau=0.9, schedule="constant")
    before = [p.clone() for p in target.parameters()]
    online = [*backbone.parameters(), *projector.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, online, strict=True))
    assert not any(p.requires_grad for p in target.parameters())
    with torch.no_grad():
        for p in online:
            p.add_(1.0)
    target.after_step(1, 10)
    for new, old, now in zip(target.parameters(), before, online, strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * now)


def test_the_cosine_schedule_ends_at_one():
    target = MomentumTarget(nn.Linear(1, 1), nn.Linear(1, 1), tau=0.5, schedule="cosine")
    assert target.tau_at(0, 100) == pytest.approx(0.5)
    assert target.tau_at(50, 100) == pytest.approx(1 - 0.5 * (math.cos(math.pi / 2) + 1) / 2)
    assert target.tau_at(100, 100) == pytest.approx(1.0)


@pytest.mark.parametrize("tau", [-0.1, 1.5])
def test_an_average_outside_its_range_is_refused(tau):
    with pytest.raises(UserError, match=r"target\.tau"):
        Momentum(tau=tau)


def test_synchronised_batch_norm_is_batch_norm_in_one_process():
    layer = nn.BatchNorm2d(3)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), layer)
    x = torch.randn(5, 1, 8, 8)
    expected = network(x)
    statistics = layer.running_var.clone()
    layer.reset_running_stats()
    synchronise_batch_norm(network)
    assert isinstance(network[1], SyncedBatchNorm)
    assert torch.equal(network(x), expected)
    assert torch.equal(layer.running_var, statistics)


@pytest.mark.parametrize("side", [1, 2, 5])
def test_a_point_safe_convolution_computes_the_same(side):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 2, 1, stride=2))
    x = torch.randn(6, 3, side, side)
    expected = network(x)
    make_point_safe(network)
    assert all(isinstance(layer, PointSafeConv2d) for layer in network)
    torch.testing.assert_close(network(x), expected)


def test_bf16_gradients_over_one_pixel_agree_with_float32():
    layer = make_point_safe(nn.Sequential(nn.Conv2d(64, 128, 3, stride=2, padding=1, bias=False)))
    layer = layer.to(memory_format=torch.channels_last)
    weight = layer[0].weight
    x = torch.randn(64, 64, 1, 1)
    layer(x).sum().backward()
    exact = weight.grad.clone()
    for _ in range(5):  # what is left uninitialised differs from call to call
        junk = [torch.full_like(weight, math.nan) for _ in range(4)]
        del junk
        weight.grad = None
        with torch.autocast("cpu", dtype=torch.bfloat16):
            layer(x).sum().backward()
        torch.testing.assert_close(weight.grad, exact, rtol=0.02, atol=0.05 * float(exact.max()))

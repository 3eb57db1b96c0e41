"""Networks whose output is the representation h, each returned with its dimension."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import resnet as torchvision_resnet

from fullrank.errors import UserError
from fullrank.models.heads import mlp


class GlobalAverage(nn.Module):
    """The mean of each channel over all positions: ``(n, c, h, w)`` to ``(n, c)``.

    Its gradient lies in memory as its input does. That of ``nn.AdaptiveAvgPool2d(1)`` never is
    channels-last, and a ReLU whose gradient lies otherwise than its input takes 20 times as long
    on a processor.
    """

    def forward(self, input: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c"]:
        """Average ``input`` over height and width."""
        if input.is_contiguous(memory_format=torch.channels_last):
            return input.permute(0, 2, 3, 1).flatten(1, 2).mean(1)
        return input.flatten(2).mean(2)


def conv4(channels: int, width: int, out: int | None, stem_stride: int) -> tuple[nn.Module, int]:
    """Build four 3x3 convolutions with batch norm and ReLU, then a global average."""
    layers: list[nn.Module] = []
    before = channels
    for stage, stride in enumerate((stem_stride, 2, 2, 2)):
        after = width * 2**stage
        layers += _conv(before, after, kernel=3, stride=stride)
        before = after
    if out is not None:
        layers += _conv(before, out, kernel=1, stride=1)
        before = out
    return nn.Sequential(*layers, GlobalAverage()), before


def _conv(before: int, after: int, kernel: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    ]


def flat_mlp(inputs: int, width: int, depth: int, out: int) -> tuple[nn.Module, int]:
    """Build an MLP over flattened images; its last layer has batch norm and ReLU too."""
    widths = [inputs, *[width] * (depth - 1), out]
    layers = [*mlp(widths, "batch-affine"), nn.ReLU(inplace=True)]
    return nn.Sequential(nn.Flatten(), *layers), out


def patch_network(
    channels: int, size: int, width: int, patch: int, out: int
) -> tuple[nn.Module, int]:
    """Build two layers on each patch and one over all patches, each with batch norm and ReLU."""
    first = nn.Conv2d(channels, width, patch, stride=patch, bias=False)
    layers = [first, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    layers += _conv(width, width, kernel=1, stride=1)
    layers += [nn.Flatten(), nn.Linear(width * (size // patch) ** 2, out, bias=False)]
    return nn.Sequential(*layers, nn.BatchNorm1d(out), nn.ReLU(inplace=True)), out


class _WidthResNet(torchvision_resnet.ResNet):
    """torchvision's residual network with a settable number of channels."""

    def __init__(self, block: type, layers: list[int], width: int, zero_init: bool) -> None:
        self._share = width / 64
        super().__init__(block, layers, zero_init_residual=zero_init)

    def _make_layer(
        self, block: type, planes: int, blocks: int, stride: int = 1, dilate: bool = False
    ) -> nn.Sequential:
        if planes == 64:  # the first stage follows the stem, which torchvision makes 64 wide
            self.inplanes = round(64 * self._share)
        return super()._make_layer(block, round(planes * self._share), blocks, stride, dilate)


_STAGES: dict[str, tuple[type, list[int]]] = {
    "resnet18": (torchvision_resnet.BasicBlock, [2, 2, 2, 2]),
    "resnet34": (torchvision_resnet.BasicBlock, [3, 4, 6, 3]),
    "resnet50": (torchvision_resnet.Bottleneck, [3, 4, 6, 3]),
    "resnet101": (torchvision_resnet.Bottleneck, [3, 4, 23, 3]),
    "resnet152": (torchvision_resnet.Bottleneck, [3, 8, 36, 3]),
}


def resnet(
    name: str, channels: int, width: int, stem: str, zero_init: bool
) -> tuple[nn.Module, int]:
    """Build a torchvision residual network without its classifier (He et al. 2016)."""
    block, layers = _STAGES[name]
    network = _WidthResNet(block, layers, width, zero_init)
    if stem == "cifar":
        network.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    else:
        network.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.bn1 = nn.BatchNorm2d(width)
    network.avgpool = GlobalAverage()
    network.fc = nn.Identity()
    return network, width * 8 * block.expansion  # type: ignore[attr-defined]


def timm_model(name: str, channels: int, size: int, pretrained: bool) -> tuple[nn.Module, int]:
    """Build a timm model without its classifier."""
    import timm

    options: dict[str, Any] = {"num_classes": 0, "in_chans": channels, "pretrained": pretrained}
    # Transformers of any size, for crops of several; convolutional families take any and know no
    # img_size.
    sizes: list[dict[str, Any]] = [
        {"img_size": size, "dynamic_img_size": True},
        {"img_size": size},
        {},
    ]
    try:
        for given in sizes:
            try:
                network = timm.create_model(name, **given, **options)
                break
            except TypeError:
                if not given:
                    raise
        with torch.no_grad():
            output = network.eval()(torch.zeros(2, channels, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(
            f"backbone: timm/{name} does not take images of {channels}x{size}x{size} ({error}). "
            "Set --data.size or --recipe.views.size to a size that it takes."
        ) from error
    return network.train(), int(output.shape[1])


def check_size(network: nn.Module, name: str, channels: int, size: int) -> None:
    """Refuse a backbone that small crops cannot pass.

    Args:
        network: the backbone.
        name: what to call it.
        channels: of the images.
        size: side of a small crop in pixels.

    Raises:
        UserError: it takes images of another size only.
    """
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(2, channels, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(
            f"recipe.views: 'multi-crop' has small crops of {size} pixels, which the backbone "
            f"{name} does not take ({error}). Allowed: recipe.views 'crops', or a backbone that "
            "takes images of any size (conv4, a resnet)."
        ) from error
    finally:
        network.train(training)

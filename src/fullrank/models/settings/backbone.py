"""The network whose output is the representation h."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from fullrank.errors import unknown_name
from fullrank.models.settings.part import require

if TYPE_CHECKING:  # quoted below: whoever reads the settings' types need not import torch
    from torch import nn

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


@dataclass(frozen=True)
class BackboneSettings(ABC):
    """Settings of a backbone.

    Args:
        name: what ``--backbone`` takes.
    """

    name: str

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"name": ..., field: value, ...}``, from which it can be made again."""
        return asdict(self)

    def describe(self) -> str:
        """Say in a few words what this backbone is, for diagrams and listings."""
        return self.name

    @abstractmethod
    def build(self, channels: int, size: int) -> "tuple[nn.Module, int]":
        """Return the module and the dimension of its output.

        Args:
            channels: channels of the input images.
            size: side of the input images in pixels.
        """


@dataclass(frozen=True)
class Conv4(BackboneSettings):
    """Four 3x3 convolutions of stride 2 with batch norm and ReLU, then a global average.

    Args:
        width: channels of the first; the others have 2, 4 and 8 times as many.
        out: dimension of the representation, made by a 1x1 convolution with batch norm and ReLU
            before the average; None leaves it at 8 times the width.
        stem_stride: stride of the first convolution; 1 costs more and keeps more detail.
    """

    name: str = "conv4"
    width: int = 16
    out: int | None = None
    stem_stride: Literal[1, 2] = 2

    def __post_init__(self) -> None:
        require(self.width >= 1, "backbone.width", self.width, "1 or more")
        require(self.out is None or self.out >= 1, "backbone.out", self.out, "1 or more")

    def build(self, channels: int, size: int) -> "tuple[nn.Module, int]":
        from fullrank.models.backbones import conv4

        return conv4(channels, self.width, self.out, self.stem_stride)

    def describe(self) -> str:
        return f"conv4 (width {self.width})"


@dataclass(frozen=True)
class MLP(BackboneSettings):
    """Linear layers with batch norm and ReLU over the flattened image.

    Args:
        width: width of the hidden layers.
        depth: number of linear layers.
        out: dimension of the representation.
    """

    name: str = "mlp"
    width: int = 1024
    depth: int = 3
    out: int = 512

    def __post_init__(self) -> None:
        for name in ("width", "depth", "out"):
            require(getattr(self, name) >= 1, f"backbone.{name}", getattr(self, name), "1 or more")

    def build(self, channels: int, size: int) -> "tuple[nn.Module, int]":
        from fullrank.models.backbones import flat_mlp

        return flat_mlp(channels * size * size, self.width, self.depth, self.out)

    def describe(self) -> str:
        return f"MLP {'-'.join([*[str(self.width)] * (self.depth - 1), str(self.out)])}"


@dataclass(frozen=True)
class Patches(BackboneSettings):
    """Two layers on each patch, then a linear layer over all of them, each with batch norm.

    It has no pooling, so that it can tell single images apart even when it is small.

    Args:
        width: channels of the two layers on a patch.
        patch: side of the patches in pixels.
        out: dimension of the representation.
    """

    name: str = "patches"
    width: int = 8
    patch: int = 4
    out: int = 128

    def __post_init__(self) -> None:
        for name in ("width", "patch", "out"):
            require(getattr(self, name) >= 1, f"backbone.{name}", getattr(self, name), "1 or more")

    def build(self, channels: int, size: int) -> "tuple[nn.Module, int]":
        from fullrank.models.backbones import patch_network

        require(
            size % self.patch == 0,
            "backbone.patch",
            self.patch,
            f"a divisor of the views' side, {size} pixels",
        )
        return patch_network(channels, size, self.width, self.patch, self.out)

    def describe(self) -> str:
        return f"patches of {self.patch} (width {self.width})"


@dataclass(frozen=True)
class ResNet(BackboneSettings):
    """A torchvision residual network.

    Args:
        width: channels of the first stage (torchvision's is 64); stages double it.
        stem: ``cifar`` is a 3x3 convolution of stride 1 without pooling, ``imagenet`` the 7x7 of
            stride 2 with pooling; ``auto`` takes ``cifar`` for images up to 64 pixels.
        zero_init: whether the last batch norm of every residual branch starts at zero.
    """

    name: str = "resnet18"
    width: int = 64
    stem: Literal["auto", "cifar", "imagenet"] = "auto"
    zero_init: bool = False

    def __post_init__(self) -> None:
        require(self.width >= 1, "backbone.width", self.width, "1 or more")

    def build(self, channels: int, size: int) -> "tuple[nn.Module, int]":
        from fullrank.models.backbones import resnet

        stem = ("cifar" if size <= 64 else "imagenet") if self.stem == "auto" else self.stem
        return resnet(self.name, channels, self.width, stem, self.zero_init)

    def describe(self) -> str:
        name = self.name.replace("resnet", "ResNet-")
        return name if self.width == 64 else f"{name} (width {self.width})"


@dataclass(frozen=True)
class Timm(BackboneSettings):
    """Any model of timm without its classifier.

    Args:
        pretrained: whether to load timm's weights.
    """

    name: str = "timm/resnet18"
    pretrained: bool = False

    def build(self, channels: int, size: int) -> "tuple[nn.Module, int]":
        from fullrank.models.backbones import timm_model

        return timm_model(self.name.removeprefix("timm/"), channels, size, self.pretrained)


_BACKBONES: dict[str, type[BackboneSettings]] = {
    "conv4": Conv4,
    "mlp": MLP,
    "patches": Patches,
    **dict.fromkeys(RESNETS, ResNet),
}


def backbone_names() -> tuple[str, ...]:
    """Return the names that ``--backbone`` takes, timm's aside (``timm/NAME``)."""
    return tuple(_BACKBONES)


def backbone_type(name: str) -> tuple[str, type[BackboneSettings]]:
    """Find the backbone ``name``; a bare name that only timm knows is completed.

    Returns:
        The full name and the settings class.

    Raises:
        UserError: the name is not known; near matches are given, timm's names included.
    """
    if name in _BACKBONES:
        return name, _BACKBONES[name]
    import timm

    bare = name.removeprefix("timm/")
    if not timm.is_model(bare):
        prefix = "timm/" if name.startswith("timm/") else ""
        known = [*_BACKBONES, *(prefix + model for model in timm.list_models())]
        listing = f"Allowed: {', '.join(_BACKBONES)}, or timm/NAME."
        raise unknown_name("backbone", name, known, listing)
    return f"timm/{bare}", Timm

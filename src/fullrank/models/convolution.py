"""Works around a wrong bf16 gradient of convolutions on processors."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import conv2d


class PointSafeConv2d(nn.Conv2d):
    """A convolution that takes a map of one pixel with stride 1.

    On processors with bf16 matrix units, oneDNN (as of torch 2.14) leaves the taps that only ever
    see padding uninitialised in the weight gradient of a strided convolution over a map of one
    pixel. There the stride changes nothing, and without it the gradient is right.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``input`` with shape ``(n, channels, height, width)``."""
        if input.shape[-2:] == (1, 1) and self.padding_mode == "zeros":
            return conv2d(
                input, self.weight, self.bias, 1, self.padding, self.dilation, self.groups
            )
        return super().forward(input)


def make_point_safe(module: nn.Module) -> nn.Module:
    """Replace, in place, the strided convolutions whose output for one pixel is one pixel."""
    for child in module.modules():
        if (
            type(child) is nn.Conv2d
            and max(child.stride) > 1
            and isinstance(child.padding, tuple)
            and all(
                2 * p == d * (k - 1)
                for p, d, k in zip(child.padding, child.dilation, child.kernel_size, strict=True)
            )
        ):
            child.__class__ = PointSafeConv2d
    return module

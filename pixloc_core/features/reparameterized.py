"""Convolution blocks that train with parallel branches and run as one convolution.

Source: Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", CVPR 2021. There a block that
halves the resolution has a 3x3 kernel, whose output cells lie half a cell off the blocks of pixels
that they stand for. Here it has a 4x4 kernel, which lies evenly about a block of 2x2.
"""

import torch
from torch import nn
from torch.nn.functional import pad
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pixloc_core.shapes import Float, Tensor

# What the smaller kernel lacks on each side of the larger one.
_RIM = 1


class BranchedBlock(nn.Module):
    """Sum of a large and a small convolution and, where shapes allow, the input; then ReLU.

    Each of them has its own batch normalization. At stride 1 the kernels are 3x3 and 1x1, at
    stride 2 they are 4x4 and 2x2; an odd last row or column is then left out.

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        stride: 1 or 2.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self._stride = stride
        has_shortcut = stride == 1 and channels_in == channels_out
        # All branches together begin with unit variance.
        gain = (3 if has_shortcut else 2) ** -0.5
        self.large = _Branch(channels_in, channels_out, stride, rim=_RIM, gain=gain)
        self.small = _Branch(channels_in, channels_out, stride, rim=0, gain=gain)
        self.shortcut = _create_norm(channels_out, gain) if has_shortcut else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Float[Tensor, "b c1 h1 w1"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Sum of the branches, then ReLU."""
        total = self.large(x) + self.small(x)
        if self.shortcut is not None:
            total = total + self.shortcut(x)
        result: Tensor = self.relu(total)
        return result

    def fused(self) -> nn.Sequential:
        """One convolution and ReLU that compute the same with the running statistics."""
        weight, bias = _fold(self.large.convolution.weight, self.large.norm)
        small, small_bias = _fold(self.small.convolution.weight, self.small.norm)
        weight = weight + pad(small, (_RIM,) * 4)
        bias = bias + small_bias
        if self.shortcut is not None:
            unit = torch.eye(weight.shape[0]).to(weight)[:, :, None, None]
            identity, identity_bias = _fold(unit, self.shortcut)
            weight = weight + pad(identity, (_RIM,) * 4)
            bias = bias + identity_bias
        out, channels, size = weight.shape[:3]
        convolution = nn.Conv2d(channels, out, size, self._stride, padding=_RIM)
        convolution.weight = nn.Parameter(weight.detach())
        convolution.bias = nn.Parameter(bias.detach())
        return nn.Sequential(convolution, nn.ReLU(inplace=True))


class _Branch(nn.Module):
    """A convolution, normalized over the batch; its kernel is `stride + 2 rim` wide."""

    def __init__(
        self, channels_in: int, channels_out: int, stride: int, *, rim: int, gain: float
    ) -> None:
        super().__init__()
        size = stride + 2 * rim
        self.convolution = nn.Conv2d(
            channels_in, channels_out, size, stride, padding=rim, bias=False
        )
        nn.init.kaiming_normal_(self.convolution.weight, nonlinearity="relu")
        self.norm = _create_norm(channels_out, gain)

    def forward(self, x: Float[Tensor, "b c1 h1 w1"]) -> Float[Tensor, "b c2 h2 w2"]:
        result: Tensor = self.norm(self.convolution(x))
        return result


def _create_norm(channels: int, gain: float) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    nn.init.constant_(norm.weight, gain)
    return norm


def _fold(kernel: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a convolution with the normalization behind it folded in."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    return fuse_conv_bn_weights(kernel, None, mean, variance, norm.eps, norm.weight, norm.bias)

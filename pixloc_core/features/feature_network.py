"""What every feature network gives, and how one is made ready for inference."""

import copy
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pixloc_core.errors import ConfigError
from pixloc_core.shapes import Float, Tensor

N = TypeVar("N", bound=nn.Module)

# Of ImageNet, in RGB: published encoders were trained on images normalized like this.
_IMAGE_MEAN = (0.485, 0.456, 0.406)
_IMAGE_STD = (0.229, 0.224, 0.225)


class NetworkOutput(NamedTuple):
    """One output of a network: raw features, not normalized, and confidence in [0, 1]."""

    features: Float[Tensor, "b c h w"]
    confidence: Float[Tensor, "b 1 h w"]


class Architecture(Protocol):
    """What is known of a network from its config alone; it travels with the weights."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per cell of each output, fine to coarse."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Length of a descriptor of each output."""

    @property
    def smallest_side(self) -> int:
        """Smallest width and height of an image, in pixels."""


class FeatureNetwork(nn.Module):
    """From images to feature maps; a class and no protocol, since it must be a torch module.

    Attributes:
        config: The architecture.
    """

    config: Architecture

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[NetworkOutput]:
        """Compute features and confidences; no image of a batch has a say in those of another.

        In training, batch normalization is the exception.

        Args:
            image: RGB in [0, 1], at least `config.smallest_side` pixels a side.

        Returns:
            One output per entry of `config.strides`. Cell (x, y) of an output of stride s is the
            block of image pixels from (s x, s y); at sizes that are no multiple of it an output
            may lack the last row and column, or reach beyond the image.
        """
        raise NotImplementedError


@runtime_checkable
class Fusable(Protocol):
    """A part of a network that has a leaner equal for inference."""

    def fused(self) -> nn.Module:
        """The equal, made of the present weights and statistics."""


def fuse_for_inference(network: N) -> N:
    """Copy a network for inference: no gradients, batch normalization folded into convolutions.

    The copy computes the same in fewer passes over memory; its state dict is another one, so save
    the original.
    """
    fused = copy.deepcopy(network).eval()
    for module in list(fused.modules()):
        _fuse_children(module)
    return fused.requires_grad_(False)


def _fuse_children(module: nn.Module) -> None:
    """Replace what has a leaner equal, and a batch normalization just behind a convolution."""
    previous_name, previous = "", None
    for name, child in list(module.named_children()):
        if isinstance(child, Fusable):
            setattr(module, name, child.fused())
        elif isinstance(child, nn.BatchNorm2d) and isinstance(previous, nn.Conv2d):
            setattr(module, previous_name, fuse_conv_bn_eval(previous, child))
            setattr(module, name, nn.Identity())
        previous_name, previous = name, child


def check_outputs(name: str, scales: Sequence[int], dims: Sequence[int]) -> None:
    """Hold `output_scales` and `output_dim` of an architecture against each other.

    Args:
        name: Class of the config, for the message.
        scales: Powers of two of the strides, fine to coarse.
        dims: Channels of these outputs.

    Raises:
        ConfigError: If scales do not rise, or there are more or fewer dims than scales.
    """
    if not scales or list(scales) != sorted(set(scales)):
        raise ConfigError(f"{name}.output_scales is {tuple(scales)}, expected rising numbers")
    if len(dims) != len(scales):
        raise ConfigError(
            f"{name}.output_dim is {tuple(dims)}, "
            f"expected one entry for each of output_scales {tuple(scales)}"
        )


def normalize_colours(image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Images in [0, 1] as the published encoders expect them."""
    mean, std = (image.new_tensor(v)[:, None, None] for v in (_IMAGE_MEAN, _IMAGE_STD))
    return (image - mean) / std

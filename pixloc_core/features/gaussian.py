"""A Gaussian pyramid of the image itself: the baseline that anything learned must beat.

Per level one affine map of the colours is trained. It begins as (r, g, b, 1), each colour from -1
to 1: of unit length, such a descriptor still tells bright from dark. There is no confidence: every
pixel has confidence 1.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, pad

from pixloc_core.config import check, setting
from pixloc_core.features.feature_network import FeatureNetwork, NetworkOutput, check_outputs
from pixloc_core.shapes import Float, Tensor

_COLOURS = 3
# Where the kernel is cut off, in standard deviations.
_REACH = 3


@dataclass(frozen=True, kw_only=True)
class GaussianConfig:
    """Architecture of the pyramid; it travels with the weights."""

    output_scales: tuple[int, ...] = setting(
        (0, 2, 4), doc="Strides of the outputs, as powers of two, fine to coarse.", ge=0, le=8
    )
    output_dim: tuple[int, ...] = setting(
        (4, 4, 4), doc="Channels of the features of each output.", ge=4
    )
    blur: float = setting(
        1.0, doc="Standard deviation of the smoothing.", unit="cells", ge=0.3, le=8.0
    )

    def __post_init__(self) -> None:
        check(self)
        check_outputs("GaussianConfig", self.output_scales, self.output_dim)

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per cell of each output, fine to coarse."""
        return tuple(2**scale for scale in self.output_scales)

    @property
    def channels(self) -> tuple[int, ...]:
        """Length of a descriptor of each output."""
        return tuple(self.output_dim)

    @property
    def smallest_side(self) -> int:
        """The coarsest output has at least one cell."""
        return self.strides[-1]


class GaussianNet(FeatureNetwork):
    """The pyramid with fresh weights.

    Args:
        config: Its architecture.
    """

    def __init__(self, config: GaussianConfig) -> None:
        super().__init__()
        self.config: GaussianConfig = config
        self.adaptation = nn.ModuleList(_create_affine(dim) for dim in config.output_dim)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[NetworkOutput]:
        """Compute features, see `FeatureNetwork.forward`; confidence is 1."""
        outputs = []
        for stride, affine in zip(self.config.strides, self.adaptation, strict=True):
            # Means of blocks: even about their centres, and without aliasing.
            smooth = _blur(avg_pool2d(2 * image - 1, stride), self.config.blur)
            descriptors = affine(smooth)
            outputs.append(NetworkOutput(descriptors, torch.ones_like(descriptors[:, :1])))
        return outputs


def _create_affine(dim: int) -> nn.Conv2d:
    affine = nn.Conv2d(_COLOURS, dim, 1)
    # Further channels begin with small random numbers.
    nn.init.normal_(affine.weight, std=0.1)
    nn.init.zeros_(affine.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        affine.weight[: _COLOURS + 1] = torch.eye(_COLOURS + 1, _COLOURS)[..., None, None]
        affine.bias[_COLOURS] = 1.0  # type: ignore[index]
    return affine


def _blur(image: Float[Tensor, "b 3 h w"], sigma: float) -> Float[Tensor, "b 3 h w"]:
    """Smooth along x, then along y; the image is continued by its border."""
    reach = math.ceil(_REACH * sigma)
    places = torch.arange(-reach, reach + 1, dtype=torch.float32, device=image.device)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(image.dtype).expand(_COLOURS, 1, 1, -1)
    image = pad(image, (reach, reach, 0, 0), mode="replicate")
    image = conv2d(image, kernel, groups=_COLOURS)
    image = pad(image, (0, 0, reach, reach), mode="replicate")
    return conv2d(image, kernel.mT, groups=_COLOURS)

"""S2DNet: descriptors straight from three depths of a VGG, without a decoder, at full resolution.

It knows no confidence: every pixel has confidence 1.

Source: Germain et al., "S2DNet: Learning Image Features for Accurate Sparse-to-Dense Matching",
ECCV 2020.
"""

from dataclasses import dataclass

import torch
from torch import nn

from pixloc_core.config import check, setting
from pixloc_core.errors import ConfigError
from pixloc_core.features.encoders import NUM_STAGES, create_encoder
from pixloc_core.features.feature_network import FeatureNetwork, NetworkOutput, normalize_colours
from pixloc_core.shapes import Float, Tensor

# Ends of conv1_2, conv3_3 and conv5_3 in a VGG16.
_STAGES = (0, 2, 4)
_WIDTH = 64


@dataclass(frozen=True, kw_only=True)
class S2DNetConfig:
    """Architecture of S2DNet; it travels with the weights."""

    encoder: str = setting("vgg16", doc="Encoder of the network.", choices=("vgg16", "vgg19"))
    output_dim: tuple[int, ...] = setting(
        (128, 128, 128), doc="Channels of the features of strides 1, 4 and 16.", ge=1
    )

    def __post_init__(self) -> None:
        check(self)
        if len(self.output_dim) != len(_STAGES):
            raise ConfigError(
                f"S2DNetConfig.output_dim is {self.output_dim}, expected {len(_STAGES)} entries"
            )

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per cell of each output, fine to coarse."""
        return tuple(2**stage for stage in _STAGES)

    @property
    def channels(self) -> tuple[int, ...]:
        """Length of a descriptor of each output."""
        return tuple(self.output_dim)

    @property
    def smallest_side(self) -> int:
        """The encoder halves an image four times."""
        return int(2 ** (NUM_STAGES - 1))


class S2DNet(FeatureNetwork):
    """The network with fresh weights.

    Args:
        config: Its architecture.
    """

    def __init__(self, config: S2DNetConfig) -> None:
        super().__init__()
        self.config: S2DNetConfig = config
        self.encoder, channels = create_encoder(config.encoder)
        self.adaptation = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels[stage], _WIDTH, 1),
                nn.ReLU(inplace=True),
                nn.Conv2d(_WIDTH, dim, 5, padding=2),
                nn.BatchNorm2d(dim),
            )
            for stage, dim in zip(_STAGES, config.output_dim, strict=True)
        )

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[NetworkOutput]:
        """Compute features, see `FeatureNetwork.forward`; confidence is 1."""
        features = normalize_colours(image)
        outputs: list[NetworkOutput] = []
        for number, stage in enumerate(self.encoder):
            features = stage(features)
            if number in _STAGES:
                descriptors = self.adaptation[len(outputs)](features)
                outputs.append(NetworkOutput(descriptors, torch.ones_like(descriptors[:, :1])))
        return outputs

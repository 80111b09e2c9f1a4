"""The U-Net of PixLoc: an image becomes feature maps of three strides, each with its confidence.

Names and shapes of all parameters are those of the official checkpoints (docs/weights.md).

Source: Sarlin et al., "Back to the Feature", CVPR 2021.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import interpolate

from pixloc_core.config import check, setting
from pixloc_core.errors import ConfigError
from pixloc_core.features.encoders import ENCODERS, NUM_STAGES, create_encoder
from pixloc_core.features.feature_network import (
    FeatureNetwork,
    NetworkOutput,
    check_outputs,
    normalize_colours,
)
from pixloc_core.shapes import Float, Tensor


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Architecture of the network; it travels with the weights."""

    encoder: str = setting("vgg19", doc="Encoder of the network.", choices=ENCODERS)
    decoder: tuple[int, ...] = setting(
        (64, 64, 64, 32), doc="Channels of the decoder, from stride 8 to stride 1.", ge=1
    )
    output_scales: tuple[int, ...] = setting(
        (0, 2, 4), doc="Which stages give features, as powers of two, fine to coarse.", ge=0, le=4
    )
    output_dim: tuple[int, ...] = setting(
        (32, 128, 128), doc="Channels of the features of each of these stages.", ge=1
    )

    def __post_init__(self) -> None:
        check(self)
        if len(self.decoder) != NUM_STAGES - 1:
            raise ConfigError(
                f"UNetConfig.decoder is {self.decoder}, expected {NUM_STAGES - 1} entries"
            )
        check_outputs("UNetConfig", self.output_scales, self.output_dim)

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
        """The encoder halves an image four times."""
        return int(2 ** (NUM_STAGES - 1))


class _DecoderBlock(nn.Module):
    """Upsample by two, join with the encoder's map of that stride, convolve."""

    def __init__(self, previous: int, skip: int, out: int) -> None:
        super().__init__()
        convolution = nn.Conv2d(previous + skip, out, 3, padding=1, bias=False)
        self.layers = nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True))

    def forward(
        self, previous: Float[Tensor, "b c1 h1 w1"], skip: Float[Tensor, "b c2 h2 w2"]
    ) -> Float[Tensor, "b c3 h3 w3"]:
        upsampled = interpolate(previous, scale_factor=2.0, mode="bilinear", align_corners=False)
        # Of an odd size, a VGG loses the last row or column and a ResNet gains one: cut both maps
        # at the right and bottom, so that cell (0, 0) stays where it is.
        height = min(upsampled.shape[2], skip.shape[2])
        width = min(upsampled.shape[3], skip.shape[3])
        joined = torch.cat([upsampled[..., :height, :width], skip[..., :height, :width]], dim=1)
        result: Tensor = self.layers(joined)
        return result


class UNet(FeatureNetwork):
    """The network with fresh weights; load a state dict of the official layout into it.

    Args:
        config: Its architecture.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config: UNetConfig = config
        self.encoder, skips = create_encoder(config.encoder)
        inputs = (skips[-1], *config.decoder[:-1])
        self.decoder = nn.ModuleList(
            _DecoderBlock(previous, skip, out)
            for previous, skip, out in zip(inputs, skips[-2::-1], config.decoder, strict=True)
        )
        # Channels by stage, fine to coarse: the coarsest head sits on the encoder itself.
        channels = (*config.decoder[::-1], skips[-1])
        heads = [channels[scale] for scale in config.output_scales]
        self.adaptation = nn.ModuleList(
            nn.Sequential(nn.Conv2d(head, dim, 1))
            for head, dim in zip(heads, config.output_dim, strict=True)
        )
        self.uncertainty = nn.ModuleList(nn.Sequential(nn.Conv2d(head, 1, 1)) for head in heads)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[NetworkOutput]:
        """Compute features and confidences.

        Args:
            image: RGB in [0, 1]; at least 16 pixels a side.

        Returns:
            One output per entry of `config.output_scales`. Cell (x, y) of an output of stride s
            is the block of image pixels from (s x, s y); at sizes that are not multiples of 16
            an output may lack the last rows and columns.
        """
        features = normalize_colours(image)
        skips = []
        for stage in self.encoder:
            features = stage(features)
            skips.append(features)
        finest = self.config.output_scales[0]
        outputs = []
        for scale in reversed(range(finest, NUM_STAGES)):
            # A skip is let go as soon as it has been used: at full resolution each is large.
            skip = skips.pop()
            if scale < NUM_STAGES - 1:
                features = self.decoder[NUM_STAGES - 2 - scale](features, skip)
            if scale in self.config.output_scales:
                outputs.append(self._head(features, self.config.output_scales.index(scale)))
        return outputs[::-1]

    def _head(self, features: Float[Tensor, "b c h w"], index: int) -> NetworkOutput:
        adapted, uncertainty = self.adaptation[index](features), self.uncertainty[index](features)
        return NetworkOutput(adapted, torch.sigmoid(-uncertainty))

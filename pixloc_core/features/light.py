"""A lean network for robots without a large GPU: re-parameterized blocks in a feature pyramid.

An encoder halves the image again and again; from its coarsest map a decoder goes back up and
takes in the encoder's map of each stride. About 2.8 billion multiplications for 640x480 pixels,
a fiftieth of a VGG19 U-Net. Light is taken out at the door: each colour of each image is reduced
to mean 0 and variance 1, so that exposure, white balance and haze change next to nothing, and the
brightness is given a second and third time with mean 0 and variance 1 in the surroundings of each
pixel, so that shadows and lamps, which change from place to place, do not either.

Sources: Lin et al., "Feature Pyramid Networks", CVPR 2017; Jarrett et al., "What is the best
multi-stage architecture for object recognition?", ICCV 2009 (local contrast); `reparameterized`.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import interpolate, pad

from pixloc_core.config import check, setting
from pixloc_core.errors import ConfigError
from pixloc_core.features.feature_network import FeatureNetwork, NetworkOutput, check_outputs
from pixloc_core.features.reparameterized import BranchedBlock
from pixloc_core.shapes import Float, Tensor

_COLOURS = 3
# Standard deviation, in grey levels of [0, 1], of an image that is as likely noise as structure.
_NOISE = 0.02
# The same of a square, where the whole image has 1.
_FLAT = 0.1
# Sides of the squares, in pixels, over which brightness is normalized.
_SURROUNDINGS = (9, 33)


@dataclass(frozen=True, kw_only=True)
class LightConfig:
    """Architecture of the light network; it travels with the weights."""

    widths: tuple[int, ...] = setting(
        (16, 32, 64, 96, 128), doc="Channels of the encoder, from stride 2 on.", ge=1
    )
    blocks: tuple[int, ...] = setting(
        (1, 2, 2, 2, 2),
        doc="Blocks of the encoder at each stride behind the one that halves.",
        ge=0,
    )
    decoder: tuple[int, ...] = setting(
        (16, 24, 32, 64, 64),
        doc="Channels of the decoder, from stride 1 on; finer ones than the outputs are unused.",
        ge=1,
    )
    output_scales: tuple[int, ...] = setting(
        (1, 2, 4), doc="Strides of the outputs, as powers of two, fine to coarse.", ge=0, le=8
    )
    output_dim: tuple[int, ...] = setting(
        (32, 32, 32), doc="Channels of the features of each output.", ge=1
    )

    def __post_init__(self) -> None:
        check(self)
        check_outputs("LightConfig", self.output_scales, self.output_dim)
        if self.output_scales[-1] > len(self.widths):
            raise ConfigError(
                f"LightConfig.output_scales is {self.output_scales}, expected none above "
                f"{len(self.widths)}, the number of widths"
            )
        for name in ("blocks", "decoder"):
            value = getattr(self, name)
            if len(value) != len(self.widths):
                raise ConfigError(
                    f"LightConfig.{name} is {value}, expected one entry for each of widths "
                    f"{self.widths}"
                )

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
        """The coarsest map of the encoder has at least one cell."""
        return int(2 ** len(self.widths))


class _DecoderBlock(nn.Module):
    """Upsample by two, add the encoder's map of that stride, convolve."""

    def __init__(self, previous: int, skip: int, out: int) -> None:
        super().__init__()
        # Reduced before it is upsampled, where there are four times fewer cells.
        self.top_down = nn.Conv2d(previous, out, 1)
        self.lateral = nn.Conv2d(skip, out, 1, bias=False)
        self.block = BranchedBlock(out, out)

    def forward(
        self, previous: Float[Tensor, "b c1 h1 w1"], skip: Float[Tensor, "b c2 h2 w2"]
    ) -> Float[Tensor, "b c3 h2 w2"]:
        reduced = self.top_down(previous)
        upsampled = interpolate(reduced, scale_factor=2.0, mode="bilinear", align_corners=False)
        result: Tensor = self.block(upsampled.add_(self.lateral(skip)))
        return result


class LightNet(FeatureNetwork):
    """The network with fresh weights.

    Args:
        config: Its architecture.
    """

    def __init__(self, config: LightConfig) -> None:
        super().__init__()
        self.config: LightConfig = config
        skips = (_COLOURS + len(_SURROUNDINGS), *config.widths)
        self.encoder = nn.ModuleList(
            nn.Sequential(
                BranchedBlock(previous, width, stride=2),
                *(BranchedBlock(width, width) for _ in range(count)),
            )
            for (previous, width), count in zip(pairwise(skips), config.blocks, strict=True)
        )
        finest, deepest = config.output_scales[0], len(config.widths)
        channels = (*config.decoder, config.widths[-1])
        # From coarse to fine, as they are used.
        self.decoder = nn.ModuleList(
            _DecoderBlock(channels[scale + 1], skips[scale], channels[scale])
            for scale in reversed(range(finest, deepest))
        )
        heads = [channels[scale] for scale in config.output_scales]
        self.adaptation = nn.ModuleList(
            nn.Conv2d(head, dim, 1) for head, dim in zip(heads, config.output_dim, strict=True)
        )
        self.uncertainty = nn.ModuleList(nn.Conv2d(head, 1, 1) for head in heads)
        for layer in self.uncertainty:
            # Every pixel counts alike until there is a reason for something else.
            nn.init.normal_(layer.weight, std=1e-3)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[NetworkOutput]:
        """Compute features and confidences, see `FeatureNetwork.forward`.

        At sizes that are no multiple of the coarsest stride the image is continued by its border,
        and the last cells of an output may reach beyond it.
        """
        height, width = image.shape[-2:]
        colours = _remove_light(image)
        normalized = torch.cat((colours, _local_contrast(colours)), 1)
        features = _pad_to_multiple(normalized, 2 ** len(self.encoder))
        skips = [features]
        for stage in self.encoder:
            features = stage(features)
            skips.append(features)
        scale = len(self.encoder)
        maps = {scale: skips.pop()}
        for block in self.decoder:
            scale -= 1
            maps[scale] = block(maps[scale + 1], skips.pop())
        outputs = []
        for index, scale in enumerate(self.config.output_scales):
            rows, columns = -(-height // 2**scale), -(-width // 2**scale)
            outputs.append(self._head(maps[scale][..., :rows, :columns], index))
        return outputs

    def _head(self, features: Float[Tensor, "b c h w"], index: int) -> NetworkOutput:
        adapted, uncertainty = self.adaptation[index](features), self.uncertainty[index](features)
        return NetworkOutput(adapted, torch.sigmoid(-uncertainty))


def _remove_light(image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Each colour of each image with mean 0 and variance 1, less where there is only noise."""
    # Two plain means: four times as fast on a CPU as torch.var_mean.
    centred = image.float() - image.float().mean((-2, -1), keepdim=True)
    variance = centred.square().mean((-2, -1), keepdim=True)
    return (centred * (variance + _NOISE**2).rsqrt()).to(image.dtype)


def _local_contrast(colours: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
    """Brightness with mean 0 and variance 1 in squares around each pixel, one channel a size."""
    grey = colours.float().mean(1, keepdim=True)
    moments = torch.cat((grey, grey.square()), 1)
    channels = []
    for side in _SURROUNDINGS:
        mean, square = _box_mean(moments, side).chunk(2, 1)
        variance = (square - mean.square()).clamp(min=0.0)
        channels.append((grey - mean) * (variance + _FLAT**2).rsqrt())
    return torch.cat(channels, 1).to(colours.dtype)


def _box_mean(image: Float[Tensor, "b k h w"], side: int) -> Float[Tensor, "b k h w"]:
    """Mean over squares, along one axis after the other; at the border, over what is there."""
    for axis in (-1, -2):
        image = _line_mean(image, side // 2, axis)
    return image


def _line_mean(image: Tensor, half: int, axis: int) -> Tensor:
    """Mean over up to `2 half + 1` pixels of a line: a difference of running sums."""
    length = image.shape[axis]
    # The sums are as good as the pixels, which are about zero in mean. Before the first pixel they
    # are zero, behind the last one they stay: so every line is a difference of two slices.
    sums = image.cumsum(axis)
    before = torch.zeros_like(sums.narrow(axis, 0, 1))
    sums = torch.cat((before, sums), axis)
    rims = (half, half, 0, 0) if axis == -1 else (0, 0, half, half)
    sums = pad(sums, rims, mode="replicate")
    total = sums.narrow(axis, 2 * half + 1, length) - sums.narrow(axis, 0, length)
    place = torch.arange(length, device=image.device)
    count = (place + half + 1).clamp(max=length) - (place - half).clamp(min=0)
    return total / (count if axis == -1 else count[:, None])


def _pad_to_multiple(image: Float[Tensor, "b k h w"], side: int) -> Float[Tensor, "b k h2 w2"]:
    """Continue images at the right and bottom, so that cell (0, 0) stays where it is."""
    height, width = image.shape[-2:]
    right, bottom = -width % side, -height % side
    return pad(image, (0, right, 0, bottom), mode="replicate") if right or bottom else image

"""The encoders of the U-Net: VGG and ResNet cut into five stages of strides 1, 2, 4, 8 and 16.

Layer numbers follow the checkpoints of PixLoc, whose encoders are cut out of torchvision's
classifiers: a VGG stage opens with the pooling of the stage before it, and a ResNet stage stands
in one more `Sequential`. The weights come from a checkpoint, so nothing is ever downloaded.

Sources: Simonyan and Zisserman, ICLR 2015 (VGG); He et al., CVPR 2016 (ResNet).
"""

from collections.abc import Iterator

from torch import nn

from pixloc_core.shapes import Float, Tensor

_VGG_CHANNELS = (64, 128, 256, 512, 512)
_VGG_CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}

_RESNET_BLOCKS = {
    "resnet18": (2, 2, 2),
    "resnet34": (3, 4, 6),
    "resnet50": (3, 4, 6),
    "resnet101": (3, 4, 23),
}
_BOTTLENECKS = ("resnet50", "resnet101")

ENCODERS = (*_VGG_CONVOLUTIONS, *_RESNET_BLOCKS)
NUM_STAGES = 5


def create_encoder(name: str) -> tuple[nn.ModuleList, tuple[int, ...]]:
    """Make an encoder with fresh weights.

    Args:
        name: One of `ENCODERS`.

    Returns:
        Five stages, each fed by the one before it, and the channels that each puts out. Stage 0
        keeps the resolution of the image, each further one halves it.
    """
    if name in _VGG_CONVOLUTIONS:
        return nn.ModuleList(_vgg_stages(_VGG_CONVOLUTIONS[name])), _VGG_CHANNELS
    block = _Bottleneck if name in _BOTTLENECKS else _BasicBlock
    stages = nn.ModuleList(_resnet_stages(block, _RESNET_BLOCKS[name]))
    # Stage 0 passes the image itself on: the first convolution of a ResNet already strides by 2.
    return stages, (3, 64, *(width * block.expansion for width in (64, 128, 256)))


def _vgg_stages(convolutions: tuple[int, ...]) -> Iterator[nn.Sequential]:
    previous = 3
    for stage, (channels, count) in enumerate(zip(_VGG_CHANNELS, convolutions, strict=True)):
        layers: list[nn.Module] = [] if stage == 0 else [nn.MaxPool2d(2)]
        for _ in range(count):
            layers += [nn.Conv2d(previous, channels, 3, padding=1), nn.ReLU(inplace=True)]
            previous = channels
        yield nn.Sequential(*layers)


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (ResNet-18 and -34)."""

    expansion = 1

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(channels_in, width, stride)

    def forward(self, x: Float[Tensor, "b c1 h1 w1"]) -> Float[Tensor, "b c2 h2 w2"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        result: Tensor = self.relu(self.bn2(self.conv2(x)) + shortcut)
        return result


class _Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut (ResNet-50 and -101)."""

    expansion = 4

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        channels = width * self.expansion
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        # The stride is that of the 3x3 convolution, as in torchvision's weights.
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels_in, channels, stride)

    def forward(self, x: Float[Tensor, "b c1 h1 w1"]) -> Float[Tensor, "b c2 h2 w2"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        result: Tensor = self.relu(self.bn3(self.conv3(x)) + shortcut)
        return result


def _shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels_in == channels_out:
        return None
    convolution = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out))


def _resnet_stages(
    block: type[_BasicBlock] | type[_Bottleneck], counts: tuple[int, ...]
) -> Iterator[nn.Module]:
    yield nn.Identity()
    stem = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
    yield nn.Sequential(nn.Sequential(stem, nn.BatchNorm2d(64), nn.ReLU(inplace=True)))
    previous = 64
    for stage, (width, count) in enumerate(zip((64, 128, 256), counts, strict=True)):
        strides = [1 if stage == 0 else 2] + [1] * (count - 1)
        blocks = []
        for stride in strides:
            blocks.append(block(previous, width, stride))
            previous = width * block.expansion
        layer = nn.Sequential(*blocks)
        if stage == 0:
            layer = nn.Sequential(nn.MaxPool2d(3, stride=2, padding=1), layer)
        yield nn.Sequential(layer)

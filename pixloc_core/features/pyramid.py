"""What an extractor makes of an image: feature maps at several strides, each with its camera."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from pixloc_core.errors import ShapeError
from pixloc_core.geometry import Camera
from pixloc_core.shapes import Float, Tensor


@dataclass(frozen=True)
class FeatureLevel:
    """One feature map, its confidence and the camera that projects onto its grid.

    Attributes:
        features: Descriptors, channels last: one pixel is one contiguous read when sampled.
        confidence: How far each pixel can be relied on, in [0, 1].
        camera: The camera in pixels of THIS map; its size is the size of the map, and (0, 0) is
            the centre of the top-left cell.
        stride: Pixels of the image fed to the network per cell.
    """

    features: Float[Tensor, "*b h w c"]
    confidence: Float[Tensor, "*b h w"]
    camera: Camera
    stride: int

    def __post_init__(self) -> None:
        if self.features.shape[:-1] != self.confidence.shape:
            raise ShapeError(
                f"feature level of stride {self.stride}: features {tuple(self.features.shape)} do "
                f"not fit confidence {tuple(self.confidence.shape)}, expected (h, w, c) and (h, w)"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the map in cells."""
        height, width = self.confidence.shape[-2:]
        return width, height

    @property
    def channels(self) -> int:
        """Length of a descriptor."""
        return self.features.shape[-1]


@dataclass(frozen=True)
class FeaturePyramid:
    """Feature maps of one image, or of a batch of equally sized images.

    Attributes:
        levels: From fine (index 0) to coarse; levels of a reference map have the same order.
    """

    levels: tuple[FeatureLevel, ...]

    def __post_init__(self) -> None:
        strides = [level.stride for level in self.levels]
        if not strides or any(a >= b for a, b in itertools.pairwise(strides)):
            raise ShapeError(f"feature pyramid of strides {strides}, expected rising strides")

    def __len__(self) -> int:
        return len(self.levels)

    def __getitem__(self, level: int) -> FeatureLevel:
        return self.levels[level]

    def __iter__(self) -> Iterator[FeatureLevel]:
        return iter(self.levels)

"""The plug point of features: what the rest of the system knows about any extractor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixloc_core.config import check, load, setting
from pixloc_core.features.pyramid import FeaturePyramid
from pixloc_core.geometry import Camera


class Extractor(Protocol):
    """Turns an image into a pyramid of feature maps."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per cell of each level, fine to coarse."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Length of a descriptor at each level, fine to coarse."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that the features depend on: weights and settings."""

    @property
    def config_dict(self) -> dict[str, Any]:
        """The `ExtractorConfig` that makes this extractor again, as plain JSON values."""

    def extract(self, image: NDArray[np.uint8], camera: Camera) -> FeaturePyramid:
        """Extract features of one image.

        Args:
            image: Array (h, w, 3) in RGB or (h, w) in grey.
            camera: The camera of that image, in its full resolution.

        Raises:
            ImageError: If the image cannot be used, see `preprocessing.prepare`.
        """


@dataclass(frozen=True, kw_only=True)
class ExtractorConfig:
    """Which features to use."""

    kind: str = setting(
        "gradients",
        doc="Features: training-free gradient descriptors, or the U-Net of PixLoc.",
        choices=("gradients", "unet"),
    )
    device: str = setting("cpu", doc="Torch device that computes the features: cpu, cuda, cuda:1.")

    def __post_init__(self) -> None:
        check(self)


def create_extractor(config: ExtractorConfig | Mapping[str, Any]) -> Extractor:
    """Make the extractor that a config describes.

    Args:
        config: The config, or the dictionary of one as a map file holds it.

    Raises:
        ConfigError: If an entry is unknown or out of range.
        CheckpointError: If the weights of a network cannot be used.
    """
    if not isinstance(config, ExtractorConfig):
        config = load(ExtractorConfig, **{str(key): value for key, value in config.items()})
    raise NotImplementedError(config.kind)

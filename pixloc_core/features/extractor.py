"""The plug point of features: what the rest of the system knows about any extractor."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch

from pixloc_core.config import check, load, section, setting
from pixloc_core.errors import ConfigError
from pixloc_core.features.gradients import GradientConfig, GradientExtractor
from pixloc_core.features.network_extractor import NetworkExtractorConfig
from pixloc_core.features.preferences import Preferences
from pixloc_core.features.preprocessing import Image
from pixloc_core.features.pyramid import FeaturePyramid
from pixloc_core.features.shipped_weights import DEFAULT
from pixloc_core.geometry import Camera
from pixloc_core.shapes import Float, Tensor


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

    @property
    def preferences(self) -> Preferences:
        """What these features want of the localizer, unless the settings say otherwise."""

    def extract(self, image: Image, camera: Camera) -> FeaturePyramid:
        """Extract features of one image.

        Args:
            image: Array (h, w, 3) in RGB or (h, w) in grey.
            camera: The camera of that image, in its full resolution.

        Raises:
            ImageError: If the image cannot be used, see `preprocessing.prepare`.
        """


@runtime_checkable
class RawExtractor(Protocol):
    """An extractor whose map images are sampled before descriptors are normalized."""

    def extract_reference(self, image: Image, camera: Camera) -> FeaturePyramid:
        """As `Extractor.extract`, with descriptors that are not normalized yet."""


@runtime_checkable
class DampedExtractor(Protocol):
    """An extractor whose features were learned together with the damping of the optimizer."""

    @property
    def damping(self) -> Float[Tensor, "l 6"] | None:
        """Parameters of `optim.damping.LearnedDamping` per level, fine to coarse."""


@runtime_checkable
class SteerableExtractor(Protocol):
    """An extractor whose descriptors can be turned as if their image had been."""

    def rotate(
        self, descriptors: Float[Tensor, "n c"], angle: Float[Tensor, " n"], level: int
    ) -> Float[Tensor, "n c"]:
        """Descriptors of one level after a rotation of the image about each point.

        Args:
            descriptors: Descriptors of that level.
            angle: From the x towards the y axis of the image, radians.
            level: Pyramid level, 0 = finest.
        """


@dataclass(frozen=True, kw_only=True)
class ExtractorConfig:
    """Which features to use."""

    kind: str = setting(
        "network",
        doc="Features: those of a network, or training-free gradient descriptors.",
        choices=("network", "gradients"),
    )
    device: str = setting("cpu", doc="Torch device that computes the features: cpu, cuda, cuda:1.")
    gradients: GradientConfig = section(  # noqa: RUF009 (a field)
        GradientConfig, doc="Settings of the training-free descriptors."
    )
    network: NetworkExtractorConfig = section(  # noqa: RUF009 (a field)
        NetworkExtractorConfig, doc="Settings of the learned features."
    )

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
    device = _find_device(config.device)
    if config.kind == "network":
        return _create_learned(config.network, device)
    return GradientExtractor(config.gradients)


def _create_learned(config: NetworkExtractorConfig, device: torch.device) -> Extractor:
    from pixloc_core.features.checkpoint import load_weights
    from pixloc_core.features.network_extractor import NetworkExtractor

    # By name, so that a map stays that of these weights should the default ever be another one.
    config = replace(config, weights=config.weights or DEFAULT)
    return NetworkExtractor(load_weights(config.weights), config, device)


def _find_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"ExtractorConfig.device is {name!r}, expected cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"ExtractorConfig.device is {name!r}, but there is no CUDA device")
    return device

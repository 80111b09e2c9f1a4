"""The plug point of retrieval: one vector for each image, compared by the cosine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from pixloc_core.config import check, load, section, setting
from pixloc_core.features.preprocessing import Image
from pixloc_core.geometry import Camera
from pixloc_core.retrieval.hloc_descriptor import HlocConfig, HlocDescriptor
from pixloc_core.retrieval.local_features import Array
from pixloc_core.retrieval.map_images import MapImages
from pixloc_core.retrieval.vlad import Progress, VladConfig, VladDescriptor


class GlobalDescriptor(Protocol):
    """Turns an image into one vector of unit length."""

    @property
    def kind(self) -> str:
        """Its name in `DescriptorConfig.kind`."""

    @property
    def dim(self) -> int:
        """Length of a vector; 0 where it is known from the first image on only."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that the vectors depend on."""

    @property
    def config_dict(self) -> dict[str, Any]:
        """Settings of its kind, as plain JSON values."""

    def arrays(self) -> dict[str, Array]:
        """What it learned on a map, by name; an index file keeps it."""

    def load(self) -> None:
        """Load what it needs to describe images, so that a lack of it shows early.

        Raises:
            ConfigError: If a package is missing.
        """

    def describe(self, image: Image, camera: Camera | None = None) -> Array:
        """Vector (dim) of one image.

        Args:
            image: Array (h, w, 3) in RGB or (h, w) in grey, uint8.
            camera: Its camera, if it is known.

        Raises:
            ImageError: If the image cannot be used.
        """


@dataclass(frozen=True, kw_only=True)
class DescriptorConfig:
    """Which global descriptor."""

    kind: str = setting(
        "vlad",
        doc="Global descriptor: the built-in one, whose vocabulary is learned on the map, or a "
        "network of hloc.",
        choices=("vlad", "hloc"),
    )
    device: str = setting("cpu", doc="Torch device that computes it: cpu, cuda, cuda:1.")
    vlad: VladConfig = section(  # noqa: RUF009 (a field)
        VladConfig, doc="Settings of the built-in descriptor."
    )
    hloc: HlocConfig = section(  # noqa: RUF009 (a field)
        HlocConfig, doc="Settings of hloc's descriptors."
    )

    def __post_init__(self) -> None:
        check(self)


def learn_descriptor(
    config: DescriptorConfig, images: MapImages, progress: Progress | None = None
) -> GlobalDescriptor:
    """The descriptor of a config, with what it has to learn on a map.

    Raises:
        ImageError, MapError: If the images of the map cannot be used.
        ConfigError: If a package or the device is missing.
        CheckpointError: If the weights of a network cannot be used.
    """
    if config.kind == "hloc":
        descriptor = HlocDescriptor(config.hloc, device=config.device)
        descriptor.load()
        return descriptor
    return VladDescriptor.learn(config.vlad, images, config.device, progress)


def restore_descriptor(
    kind: str,
    settings: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    *,
    dim: int,
    device: str = "cpu",
) -> GlobalDescriptor:
    """The descriptor that an index file was made with.

    Args:
        kind: See `DescriptorConfig.kind`.
        settings: `GlobalDescriptor.config_dict`.
        arrays: `GlobalDescriptor.arrays`.
        dim: Length of the vectors in the file.
        device: Torch device.

    Raises:
        ConfigError: If the kind or a setting is unknown.
        MapError: If an array is missing.
        CheckpointError: If the weights of a network cannot be used.
    """
    config = DescriptorConfig(kind=kind, device=device)
    values: dict[str, Any] = {"kind": kind, "device": device, kind: dict(settings)}
    config = load(DescriptorConfig, **values)
    if config.kind == "hloc":
        return HlocDescriptor(config.hloc, dim, config.device)
    return VladDescriptor.restore(config.vlad, arrays, config.device)

"""Learned features: any network of `networks` as an extractor."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch.nn.functional import avg_pool2d, normalize

from pixloc_core.config import check, setting
from pixloc_core.errors import ConfigError, ImageError
from pixloc_core.features.feature_network import NetworkOutput, fuse_for_inference
from pixloc_core.features.networks import NETWORKS, kind_of
from pixloc_core.features.preferences import Preferences
from pixloc_core.features.preprocessing import Image, prepare
from pixloc_core.features.pyramid import FeatureLevel, FeaturePyramid
from pixloc_core.features.weights import Weights
from pixloc_core.geometry import Camera
from pixloc_core.shapes import Float, Tensor

# Of all networks.
_SMALLEST_SIDE = 16


@dataclass(frozen=True, kw_only=True)
class NetworkExtractorConfig:
    """Which weights, and at which resolution."""

    weights: str = setting(
        "",
        doc="Name of shipped weights (light), or a file: .safetensors, or an official "
        "checkpoint. Empty: light.",
    )
    max_size: int = setting(
        1024, doc="Images are shrunk to this longest side.", unit="px", ge=_SMALLEST_SIDE
    )
    octaves: int = setting(
        0,
        doc="Sizes of the image that the network sees, each half the one before: the smaller ones "
        "give the coarser levels that the network itself lacks. 0: 3 for a light network, 1 for "
        "others.",
        ge=0,
        le=4,
    )
    half: bool = setting(False, doc="Compute in float16; needs a CUDA device.")

    def __post_init__(self) -> None:
        check(self)


class NetworkExtractor:
    """Feature maps of the strides that the weights say, with learned confidence.

    Args:
        weights: The weights.
        config: Resolution and precision; its `weights` is only a name here.
        device: Where the network runs and the features stay.

    Raises:
        ConfigError: If half precision is asked for on a CPU.
    """

    def __init__(
        self, weights: Weights, config: NetworkExtractorConfig, device: torch.device | str = "cpu"
    ) -> None:
        self._device = torch.device(device)
        if config.half and self._device.type != "cuda":
            raise ConfigError(
                f"NetworkExtractorConfig.half is True on {self._device}, expected a CUDA device"
            )
        # The number, not the wish: what a map remembers stays what its features are.
        octaves = config.octaves or NETWORKS[kind_of(weights.config)].octaves
        self._config = config = replace(config, octaves=octaves)
        self._architecture = weights.config
        self._sources = _find_sources(weights.config.strides, octaves)
        self._damping = weights.damping
        self._fingerprint = _hash_settings(weights, config)
        self._dtype = torch.float16 if config.half else torch.float32
        # Channels last throughout: 1.3 times as fast on a CPU, and the layout that sampling needs.
        network = fuse_for_inference(weights.create_network()).to(self._device, self._dtype)
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per cell of each level, fine to coarse."""
        return tuple(source.stride for source in self._sources)

    @property
    def channels(self) -> tuple[int, ...]:
        """Length of a descriptor at each level."""
        return tuple(self._architecture.channels[source.output] for source in self._sources)

    @property
    def fingerprint(self) -> str:
        """Hash of the weights and the resolution; device and precision do not count."""
        return self._fingerprint

    @property
    def damping(self) -> Float[Tensor, "l 6"] | None:
        """Learned damping that came with the weights, see `Weights.damping`, for each level."""
        if self._damping is None:
            return None
        return self._damping[[source.output for source in self._sources]]

    @property
    def preferences(self) -> Preferences:
        """What the localizer does with these features unless it is told otherwise."""
        return NETWORKS[kind_of(self._architecture)].preferences

    @property
    def config_dict(self) -> dict[str, Any]:
        """What a map file keeps to make this extractor again; not where it ran."""
        config = self._config
        settings = {
            "weights": config.weights,
            "max_size": config.max_size,
            "octaves": config.octaves,
        }
        return {"kind": "network", "network": settings}

    def extract(self, image: Image, camera: Camera) -> FeaturePyramid:
        """Extract the features of a query: descriptors of unit length at each cell.

        Raises:
            ImageError: If the image cannot be used, see `preprocessing.prepare`.
        """
        pyramid = self.extract_reference(image, camera)
        for level in pyramid:
            # In place: at full resolution a copy would be 100 MB, and nobody else has the maps.
            normalize(level.features, dim=-1, out=level.features)
        return pyramid

    def extract_reference(self, image: Image, camera: Camera) -> FeaturePyramid:
        """Extract the features of a map image: descriptors as the network gives them.

        They are to be interpolated first and normalized after, as in the training.

        Raises:
            ImageError: If the image cannot be used, see `preprocessing.prepare`.
        """
        prepared, camera = prepare(image, camera, self._config.max_size)
        self._check_size(prepared.shape[2], prepared.shape[1])
        # Images stay planar, as what is done before the first convolution likes them.
        batch = prepared[None].to(self._device, self._dtype)
        octaves = [self._network(batch)]
        for _ in range(1, self._config.octaves):
            # Means of 2x2 pixels: a cell still is a block of pixels, whose first one is (0, 0).
            batch = avg_pool2d(batch, 2)
            octaves.append(self._network(batch))
        outputs = [octaves[source.octave][source.output] for source in self._sources]
        return create_pyramid(outputs, camera.to(device=self._device), self.strides)

    def _check_size(self, width: int, height: int) -> None:
        """Refuse what is too small for the smallest octave; all images have the same levels."""
        octaves, alone = self._config.octaves, self._architecture.smallest_side
        smallest = alone * 2 ** (octaves - 1)
        if min(height, width) < smallest:
            fewer = f" with octaves={octaves}, {alone} px with octaves=1" if octaves > 1 else ""
            raise ImageError(
                f"image of {width}x{height} px, expected at least {smallest} px a side{fewer}"
            )


class _Source(NamedTuple):
    """Where a level comes from: its stride in the image, and the output that gives it."""

    stride: int
    octave: int
    output: int


def _find_sources(strides: Sequence[int], octaves: int) -> tuple[_Source, ...]:
    """All strides that there are, fine to coarse, each from the largest image that has it."""
    found: dict[int, _Source] = {}
    for octave in range(octaves):
        for output, stride in enumerate(strides):
            source = _Source(stride * 2**octave, octave, output)
            found.setdefault(source.stride, source)
    return tuple(found[stride] for stride in sorted(found))


def create_pyramid(
    outputs: Sequence[NetworkOutput], camera: Camera, strides: Sequence[int]
) -> FeaturePyramid:
    """Make a pyramid of what a network gives; gradients pass.

    Args:
        outputs: Outputs of the network, fine to coarse.
        camera: The cameras of the images `(b)`; or of the only image, without a batch, and then
            the pyramid has none either.
        strides: Pixels of these images per cell of each output.
    """
    levels = zip(outputs, strides, strict=True)
    return FeaturePyramid(tuple(_create_level(out, camera, stride) for out, stride in levels))


def _create_level(output: NetworkOutput, camera: Camera, stride: int) -> FeatureLevel:
    features = output.features.permute(0, 2, 3, 1).float().contiguous()
    confidence = output.confidence[:, 0].float()
    if camera.ndim == 0:
        features, confidence = features.squeeze(0), confidence.squeeze(0)
    height, width = confidence.shape[-2:]
    # The stride is exact even where the map lacks the last columns: scale by it, then cut.
    level_camera = camera.scale(1.0 / stride).crop((0.0, 0.0), (width, height))
    return FeatureLevel(features, confidence, level_camera, stride)


def _hash_settings(weights: Weights, config: NetworkExtractorConfig) -> str:
    kind = kind_of(weights.config)
    # Map images are sampled as the features have it (`observations`), so that counts too.
    sampling = ",".join(NETWORKS[kind].preferences.interpolation)
    text = f"{kind} {weights.fingerprint} max_size={config.max_size} octaves={config.octaves} "
    text += f"interpolation={sampling}"
    return hashlib.sha256(text.encode()).hexdigest()

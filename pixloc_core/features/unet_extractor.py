"""Learned features: the U-Net of PixLoc as an extractor."""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import normalize

from pixloc_core.config import check, setting
from pixloc_core.errors import ConfigError, ImageError
from pixloc_core.features.preprocessing import Image, prepare
from pixloc_core.features.pyramid import FeatureLevel, FeaturePyramid
from pixloc_core.features.unet import UNetOutput, fuse_for_inference
from pixloc_core.features.weights import Weights
from pixloc_core.geometry import Camera
from pixloc_core.shapes import Float, Tensor

# The encoder halves an image four times.
_SMALLEST_SIDE = 16


@dataclass(frozen=True, kw_only=True)
class UNetExtractorConfig:
    """Which weights, and at which resolution."""

    weights: str = setting("", doc="Weights file: .safetensors, or an official checkpoint.")
    max_size: int = setting(
        1024, doc="Images are shrunk to this longest side.", unit="px", ge=_SMALLEST_SIDE
    )
    half: bool = setting(False, doc="Compute in float16; needs a CUDA device.")

    def __post_init__(self) -> None:
        check(self)


class UNetExtractor:
    """Feature maps of strides 1, 4 and 16 (as the weights say) with learned confidence.

    Args:
        weights: The weights.
        config: Resolution and precision; its `weights` is only a name here.
        device: Where the network runs and the features stay.

    Raises:
        ConfigError: If half precision is asked for on a CPU.
    """

    def __init__(
        self, weights: Weights, config: UNetExtractorConfig, device: torch.device | str = "cpu"
    ) -> None:
        self._device = torch.device(device)
        if config.half and self._device.type != "cuda":
            raise ConfigError(
                f"UNetExtractorConfig.half is True on {self._device}, expected a CUDA device"
            )
        self._config = config
        self._architecture = weights.config
        self._damping = weights.damping
        self._fingerprint = _hash_settings(weights, config)
        self._dtype = torch.float16 if config.half else torch.float32
        # Channels last throughout: 1.3 times as fast on a CPU, and the layout that sampling needs.
        network = fuse_for_inference(weights.create_network()).to(self._device, self._dtype)
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per cell of each level, fine to coarse."""
        return self._architecture.strides

    @property
    def channels(self) -> tuple[int, ...]:
        """Length of a descriptor at each level."""
        return self._architecture.output_dim

    @property
    def fingerprint(self) -> str:
        """Hash of the weights and the resolution; device and precision do not count."""
        return self._fingerprint

    @property
    def damping(self) -> Float[Tensor, "l 6"] | None:
        """Learned damping that came with the weights, see `Weights.damping`."""
        return self._damping

    @property
    def config_dict(self) -> dict[str, Any]:
        """What a map file keeps to make this extractor again; not where it ran."""
        settings = {"weights": self._config.weights, "max_size": self._config.max_size}
        return {"kind": "unet", "unet": settings}

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
        height, width = prepared.shape[1:]
        if min(height, width) < _SMALLEST_SIDE:
            raise ImageError(
                f"image of {width}x{height} px, expected at least {_SMALLEST_SIDE} px a side"
            )
        batch = prepared[None].to(
            device=self._device, dtype=self._dtype, memory_format=torch.channels_last
        )
        outputs = self._network(batch)
        camera = camera.to(device=self._device)
        levels = zip(outputs, self.strides, strict=True)
        return FeaturePyramid(tuple(_create_level(out, camera, stride) for out, stride in levels))


def _create_level(output: UNetOutput, camera: Camera, stride: int) -> FeatureLevel:
    features = output.features[0].permute(1, 2, 0).float().contiguous()
    confidence = output.confidence[0, 0].float()
    height, width = confidence.shape
    # The stride is exact even where the map lacks the last columns: scale by it, then cut.
    level_camera = camera.scale(1.0 / stride).crop((0.0, 0.0), (width, height))
    return FeatureLevel(features, confidence, level_camera, stride)


def _hash_settings(weights: Weights, config: UNetExtractorConfig) -> str:
    text = f"unet {weights.fingerprint} max_size={config.max_size}"
    return hashlib.sha256(text.encode()).hexdigest()

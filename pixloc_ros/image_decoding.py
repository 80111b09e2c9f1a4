"""From the messages of a rig to what the core takes: pixels, cameras, masks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pixloc_core.errors import ConfigError, FormatError
from pixloc_core.geometry import Camera
from pixloc_ros.conversions import CameraReader
from pixloc_ros.image_conversions import message_to_array
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.rig_messages import CameraMessage


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """Pixels (h, w, 3) RGB or (h, w) grey uint8, their camera, and their mask or None."""

    pixels: np.ndarray
    camera: Camera
    mask: np.ndarray | None


class ImageDecoder:
    """Decodes images; knows the masks, and the calibration of each camera while it lasts."""

    # Every so many pixels per axis are compared with the last image.
    _SPARSE = 8

    def __init__(self, config: NodeConfig) -> None:
        """Read the masks.

        Raises:
            ConfigError: If a mask cannot be read.
        """
        self.is_rectified = config.image_is_rectified
        self._readers = {
            name: CameraReader(rectified=config.image_is_rectified) for name in config.camera_names
        }
        self._masks = read_masks(config)
        self._last: dict[str, np.ndarray] = {}

    def decode(self, message: CameraMessage) -> DecodedImage:
        """Decode one image.

        Raises:
            FormatError: If there is no calibration, or image, calibration and mask are unusable
                or do not fit each other.
        """
        label = f"{message.name}: " if message.name else ""
        if message.info is None:
            raise FormatError(f"{label}there is no camera_info yet")
        try:
            pixels = message_to_array(message.image)
            size = (pixels.shape[1], pixels.shape[0])
            camera = self._readers[message.name].read(message.info, size)
        except FormatError as error:
            raise FormatError(f"{label}{error}") from error
        mask = self._masks.get(message.name)
        if mask is not None and mask.shape != pixels.shape[:2]:
            raise FormatError(
                f"{label}image is {size[0]}x{size[1]}, but its mask {mask.shape[1]}x"
                f"{mask.shape[0]}"
            )
        return DecodedImage(pixels, camera, mask)

    def is_frozen(self, name: str, pixels: np.ndarray) -> bool:
        """Whether a camera delivers the very pixels of its last image; remembers these.

        Sensors have noise: no two exposures are equal to the last bit, not even where only some
        of the pixels are compared.
        """
        sparse = pixels[:: self._SPARSE, :: self._SPARSE]
        last = self._last.get(name)
        is_same = last is not None and bool(np.array_equal(last, sparse))
        if not is_same:
            # Messages may share memory with the middleware.
            self._last[name] = sparse.copy()
        return is_same


def read_masks(config: NodeConfig) -> Mapping[str, np.ndarray]:
    """Masks (h, w) bool by camera, true where the image may be used.

    Raises:
        ConfigError: If a file is not a readable image.
    """
    masks = {}
    for name, path in zip(config.camera_names, config.masks, strict=False):
        if not path:
            continue
        grey = cv2.imread(path, cv2.IMREAD_GRAYSCALE) if Path(path).is_file() else None
        if grey is None:
            raise ConfigError(f"masks: {path} is not a readable image")
        masks[name] = grey > 0
    return masks

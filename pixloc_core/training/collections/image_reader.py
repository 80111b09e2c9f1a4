"""Reading the images of collections, with a memory for those that cannot be read."""

import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from pixloc_core.errors import ImageError
from pixloc_core.features.preprocessing import Image, load_image
from pixloc_core.geometry import Camera

logger = logging.getLogger(__name__)

# Undistortion and other tools round sizes; nothing but the border depends on it.
_SIZE_TOLERANCE_PX = 2


class ImageReader:
    """Reads images; one that cannot be read is reported once and refused from then on."""

    def __init__(self, cache_images: int) -> None:
        self._cache_images = cache_images
        self._cache: OrderedDict[tuple[Path, int], Image] = OrderedDict()
        self._refused: dict[Path, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Other processes fill a memory of their own.
        return {**self.__dict__, "_cache": OrderedDict()}

    def read(self, path: Path, camera: Camera, quarter_turns: int) -> tuple[Image, Camera]:
        """An image (h, w, 3) after its quarter turns, and its camera with the size found.

        Raises:
            ImageError: If the image cannot be used; the first time this is logged too.
        """
        if path in self._refused:
            raise ImageError(self._refused[path])
        try:
            image = self._load(path, quarter_turns)
            return image, _sized(path, image, camera)
        except ImageError as error:
            self._refused[path] = str(error)
            logger.warning("%s; pairs with it are left out", error)
            raise

    def _load(self, path: Path, quarter_turns: int) -> Image:
        key = (path, quarter_turns)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        image = np.ascontiguousarray(np.rot90(load_image(path), quarter_turns))
        if self._cache_images:
            self._cache[key] = image
            if len(self._cache) > self._cache_images:
                self._cache.popitem(last=False)
        return image


def _sized(path: Path, image: Image, camera: Camera) -> Camera:
    height, width = image.shape[:2]
    expected = camera.size.tolist()
    if max(abs(width - expected[0]), abs(height - expected[1])) > _SIZE_TOLERANCE_PX:
        raise ImageError(
            f"{path}: image of {width}x{height} px, expected {expected[0]:g}x{expected[1]:g} px "
            "as its camera says"
        )
    return camera.crop((0, 0), (width, height))

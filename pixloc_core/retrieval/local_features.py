"""Local features of a small image, from which a global descriptor is put together."""

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.features.extractor import Extractor
from pixloc_core.features.preprocessing import Image
from pixloc_core.geometry import Camera

Array = NDArray[np.float32]
# Of the network, the level nearest to this many pixels a cell: fine enough to have thousands of
# cells in a small image.
_STRIDE = 4
# Lower than OpenCV's 0.04, so that dark and blurred images have keypoints, too.
_SIFT_CONTRAST = 0.02


@dataclass(frozen=True)
class LocalDescriptors:
    """Descriptors of one image, without their places.

    Attributes:
        vectors: One row per feature (n, c).
        weights: How far each can be relied on (n), at least 0.
    """

    vectors: Array
    weights: Array


class LocalFeatures(Protocol):
    """Where local descriptors come from."""

    @property
    def fingerprint(self) -> str:
        """Text that changes with everything the descriptors depend on."""

    def extract(self, image: Image, camera: Camera) -> LocalDescriptors:
        """Describe one image.

        Args:
            image: Array (h, w, 3) in RGB, of the size it is to be worked on.
            camera: Its camera.

        Raises:
            ImageError: If the image is too small.
        """


class NetworkCells:
    """Every cell of one level of a network's features, with its confidence."""

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor
        strides = extractor.strides
        self._level = min(range(len(strides)), key=lambda level: abs(strides[level] - _STRIDE))

    @property
    def fingerprint(self) -> str:
        """That of the network, and the level taken."""
        return f"cells {self._extractor.fingerprint} level={self._level}"

    @torch.inference_mode()
    def extract(self, image: Image, camera: Camera) -> LocalDescriptors:
        """All cells of the level, from the top left on; see `LocalFeatures.extract`."""
        level = self._extractor.extract(image, camera)[self._level]
        vectors = level.features.flatten(0, 1).float().cpu().numpy()
        return LocalDescriptors(vectors, level.confidence.flatten().float().cpu().numpy())


class RootSift:
    """SIFT at keypoints, compared by the square roots of its entries; turns with the image."""

    def __init__(self, keypoints: int) -> None:
        self._keypoints = keypoints

    @property
    def fingerprint(self) -> str:
        """Its settings."""
        return f"rootsift keypoints={self._keypoints} contrast={_SIFT_CONTRAST}"

    def extract(self, image: Image, camera: Camera) -> LocalDescriptors:
        """The strongest keypoints, all of weight 1; none where there is no structure."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        sift = cv2.SIFT.create(self._keypoints, contrastThreshold=_SIFT_CONTRAST)
        _, found = sift.detectAndCompute(grey, None)
        if found is None:
            return LocalDescriptors(np.zeros((0, 128), np.float32), np.zeros(0, np.float32))
        shares = found / np.maximum(found.sum(1, keepdims=True), 1e-6)
        vectors = np.sqrt(shares).astype(np.float32)
        return LocalDescriptors(vectors, np.ones(len(vectors), np.float32))

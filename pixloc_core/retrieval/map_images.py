"""The images of a map, one after the other."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pixloc_core.errors import ImageError
from pixloc_core.features.observations import find_images
from pixloc_core.features.preprocessing import Image, load_image
from pixloc_core.geometry import Camera
from pixloc_core.map.sparse_map import SparseMap

T = TypeVar("T")


@dataclass(frozen=True)
class MapImages:
    """Images of a map by their index in it.

    Attributes:
        sparse: The map.
        folder: Its image folder.
    """

    sparse: SparseMap
    folder: Path

    def __post_init__(self) -> None:
        find_images(self.sparse, self.folder, range(len(self)))

    def __len__(self) -> int:
        return self.sparse.num_images

    def apply(self, index: int, function: Callable[[Image, Camera], T]) -> T:
        """Call a function with one image and its camera.

        Raises:
            ImageError: If the image cannot be read or used; the message names it.
        """
        path = self.folder / self.sparse.image_names[index]
        try:
            return function(load_image(path), self.sparse.camera_of(index))
        except ImageError as error:
            # Reading errors name the file already.
            text = str(error)
            raise ImageError(text if str(path) in text else f"{path}: {text}") from error

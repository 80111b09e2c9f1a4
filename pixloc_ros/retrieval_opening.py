"""From a map file to the index of its images: opened, or made where the images are known."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from pixloc_core.errors import ConfigError, MapError
from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.retrieval.faiss_library import require_faiss
from pixloc_core.retrieval.index import RetrievalIndex
from pixloc_core.retrieval.index_file import index_path
from pixloc_core.retrieval.vlad import Progress
from pixloc_ros.retrieval_config import RetrievalNodeConfig

logger = logging.getLogger(__name__)

# Beside map.h5: map.images.
_IMAGES_SUFFIX = ".images"


@dataclass(frozen=True)
class _Places:
    """What belongs to a map.

    Attributes:
        index: Index file.
        images: Folder of its images; None if they are not there.
        hint: How the images could be given, in a few words.
    """

    index: Path
    images: Path | None
    hint: str


def open_index(
    config: RetrievalNodeConfig,
    map_path: str,
    check: Callable[[], None],
    on_making: Callable[[], None],
    progress: Progress,
) -> RetrievalIndex:
    """The index of a map, or a new one where there is none that fits and the images are there.

    Sets torch's number of threads.

    Args:
        config: Settings.
        map_path: The map.
        check: Called between the stages; what it raises ends the opening.
        on_making: Called once, before an index is made; the same.
        progress: As in `RetrievalIndex.build`; the same.

    Raises:
        ConfigError: If no map is given, or FAISS or the device is missing.
        MapError, ImageError, CheckpointError: If there is no index that can be used, and none can
            be made.
    """
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
        require_faiss().omp_set_num_threads(config.num_threads)
    if not map_path:
        raise ConfigError("parameter map is empty, expected a file made by `pixloc map build`")
    feature_map = FeatureMap.open(map_path)
    check()
    places = _places(config, map_path)
    device = config.descriptor.device
    try:
        index = RetrievalIndex.open(feature_map, places.index, config.search, device=device)
    except MapError as error:
        if places.images is None:
            raise MapError(f"{error}, or {places.hint}") from error
        logger.info("%s; it is made of the images in %s", error, places.images)
        on_making()
        index = RetrievalIndex.build(
            feature_map, places.images, config.descriptor, config.search, progress
        )
        check()
        _keep(index, places.index)
    check()
    index.descriptor.load()
    return index


def _places(config: RetrievalNodeConfig, map_path: str) -> _Places:
    """The parameters `index` and `images` are those of the map of the parameter `map`.

    Another map brings its own, under its own name: image names are often the same in all maps of a
    robot, so that an index made of another map's images would look right and be wrong.
    """
    beside, path = index_path(map_path), Path(map_path)
    if config.map and path.resolve() == Path(config.map).resolve():
        images = Path(config.images) if config.images else None
        hint = "give the folder of the images (images)"
        return _Places(Path(config.index) if config.index else beside, images, hint)
    folder = path.with_suffix(_IMAGES_SUFFIX)
    return _Places(
        beside, folder if folder.is_dir() else None, f"put its images into the folder {folder}"
    )


def _keep(index: RetrievalIndex, path: Path) -> None:
    try:
        index.save(path)
    except MapError as error:
        logger.warning("the index is not kept: %s", error)

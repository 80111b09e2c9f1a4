"""From files and settings to a localizer that is ready to work."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixloc_core.config import check, load, section
from pixloc_core.errors import MapError
from pixloc_core.features.extractor import Extractor, ExtractorConfig, create_extractor
from pixloc_core.features.reference import build_feature_map
from pixloc_core.localizer.localizer import Localizer, LocalizerConfig
from pixloc_core.map import colmap_format
from pixloc_core.map.feature_map import FeatureMap

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that can be set when images are localized; the schema of `a.b=c`."""

    extractor: ExtractorConfig = section(  # noqa: RUF009 (a field)
        ExtractorConfig, doc="Features of map and queries."
    )
    localizer: LocalizerConfig = section(  # noqa: RUF009 (a field)
        LocalizerConfig, doc="Localization of one image."
    )

    def __post_init__(self) -> None:
        check(self)


def open_localizer(
    map_path: Path, conf: Path | None = None, overrides: Sequence[str] = ()
) -> Localizer:
    """A localizer for a feature map, with the extractor that the map was made with.

    Args:
        map_path: Feature map file.
        conf: YAML file of a `RunConfig`.
        overrides: Entries `a.b=c` of a `RunConfig`. Those of the extractor may change where it
            runs, not what it computes.

    Raises:
        MapError: If the map cannot be used, or was made with other features.
        ConfigError: If a setting is unknown or out of range.
        CheckpointError: If the weights named in the map cannot be used.
    """
    feature_map = FeatureMap.open(map_path)
    values: dict[str, Any] = {"extractor": feature_map.extractor_config}
    config = load(RunConfig, conf, overrides, **values)
    extractor = create_extractor(config.extractor)
    if extractor.fingerprint != feature_map.extractor_fingerprint:
        # Opening it anew says in one line what does not fit.
        feature_map = FeatureMap.open(map_path, expect_fingerprint=extractor.fingerprint)
    return Localizer(feature_map, extractor, config.localizer)


def open_or_build_map(
    path: Path, sfm: Path, images: Path, extractor: Extractor, progress: Progress | None = None
) -> FeatureMap:
    """The cached feature map of a COLMAP model; built anew where the cache does not fit.

    Args:
        path: The cache file.
        sfm: Folder of the COLMAP model.
        images: Folder of its images.
        extractor: Makes the features.
        progress: Called after each image with the number done and their total.

    Raises:
        MapError: If the model or an image is missing or damaged.
    """
    try:
        cached = FeatureMap.open(path, expect_fingerprint=extractor.fingerprint)
        if cached.sparse.fingerprint == colmap_format.fingerprint(sfm):
            return cached
        logger.info("%s: the model in %s has changed, building the map anew", path, sfm)
    except MapError as error:
        logger.info("no usable cache, building the map: %s", error)
    path.parent.mkdir(parents=True, exist_ok=True)
    return build_feature_map(colmap_format.from_colmap(sfm), images, extractor, path, progress)

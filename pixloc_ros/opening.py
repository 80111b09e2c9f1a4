"""From the node's parameters to a map that is open and features that are warm."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from pixloc_core.config import load
from pixloc_core.errors import ConfigError, MapError
from pixloc_core.features.extractor import Extractor, ExtractorConfig, create_extractor
from pixloc_core.geometry import Pose
from pixloc_core.localizer.localizer import Localizer, LocalizerConfig
from pixloc_core.localizer.prior import Prior
from pixloc_core.localizer.view import View
from pixloc_core.map.feature_map import FeatureMap
from pixloc_ros.image_pipeline import Localizes
from pixloc_ros.node_config import NodeConfig

# How far outside the box of the map's cameras a robot may be said to start, in its diagonals.
_MARGIN = 1.0


class OpenedMap(Protocol):
    """A map that is ready for work."""

    @property
    def map_id(self) -> str:
        """Content hash of the map."""
        ...

    def localizer(self, config: LocalizerConfig) -> Localizes:
        """A localizer in this map with these settings; cheap."""
        ...

    def refuse(self, map_from_base: Pose) -> str:
        """Why the robot cannot be at this pose; empty if it may."""
        ...

    def points(self, point_idx: np.ndarray) -> np.ndarray:
        """Positions (n, 3) of map points, metres, in the map."""
        ...


class OpenMap:
    """A feature map with the extractor that it was made with."""

    def __init__(self, feature_map: FeatureMap, extractor: Extractor) -> None:
        self._map = feature_map
        self._extractor = extractor
        sparse = feature_map.sparse
        centers = sparse.centers_map + sparse.origin
        self._low, self._high = centers.amin(0), centers.amax(0)
        self._diagonal = float((self._high - self._low).norm())

    @property
    def map_id(self) -> str:
        """See `OpenedMap`."""
        return self._map.content_id

    def localizer(self, config: LocalizerConfig) -> Localizer:
        """See `OpenedMap`."""
        return Localizer(self._map, self._extractor, config)

    def refuse(self, map_from_base: Pose) -> str:
        """See `OpenedMap`."""
        position = map_from_base.t
        outside = torch.maximum(self._low - position, position - self._high).clamp(min=0).norm()
        if float(outside) <= _MARGIN * self._diagonal:
            return ""
        x, y, z = position.tolist()
        return (
            f"({x:.2f}, {y:.2f}, {z:.2f}) lies {float(outside):.1f} m outside the map, "
            f"whose images span {self._diagonal:.1f} m"
        )

    def points(self, point_idx: np.ndarray) -> np.ndarray:
        """See `OpenedMap`."""
        sparse = self._map.sparse
        chosen = sparse.points_map[torch.from_numpy(point_idx).long()] + sparse.origin
        return np.asarray(chosen.numpy())

    def warm(self) -> None:
        """Localize noise once: the first time costs seconds for what is set up on the way.

        Raises:
            PixlocError: If the settings or the features do not fit the map.
        """
        sparse = self._map.sparse
        camera = sparse.camera_of(0)
        width, height = (round(side) for side in camera.size.tolist())
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        prior = Prior.from_pose(sparse.to_model(sparse.cam_from_map[:1]))
        localizer = self.localizer(LocalizerConfig())
        localizer.localize_views((View(noise, camera),), prior, search=False)


def open_map(config: NodeConfig, path: str) -> OpenMap:
    """Open a map, with the extractor it was made with; sets torch's number of threads.

    Raises:
        ConfigError: If no map is given, or the device does not exist.
        MapError: If the map cannot be used, or was made with other weights.
        CheckpointError: If the weights cannot be used.
    """
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    if not path:
        raise ConfigError("parameter map is empty, expected a file made by `pixloc map build`")
    feature_map = FeatureMap.open(Path(path))
    values: dict[str, Any] = {**feature_map.extractor_config, "device": config.device}
    if config.weights:
        settings = {**values.get("network", {}), "weights": config.weights}
        values |= {"kind": "network", "network": settings}
    opened = OpenMap(feature_map, create_extractor(load(ExtractorConfig, **values)))
    # What does not fit must be found out now, not at the first image.
    try:
        opened.warm()
    except MapError as error:
        hint = ", or leave the parameter weights empty" if config.weights else ""
        raise MapError(f"{error}{hint}") from error
    return opened

"""From the node's parameters to a localizer that is ready to work."""

from typing import Any

import torch

from pixloc_core.config import load
from pixloc_core.errors import ConfigError
from pixloc_core.features.extractor import ExtractorConfig, create_extractor
from pixloc_core.localizer.localizer import Localizer, LocalizerConfig
from pixloc_core.map.feature_map import FeatureMap
from pixloc_ros.node_config import NodeConfig


def open_localizer(config: NodeConfig, core_config: LocalizerConfig) -> Localizer:
    """Open the map, with the extractor it was made with; sets torch's number of threads.

    Raises:
        ConfigError: If no map is given, or the device does not exist.
        MapError: If the map cannot be used, or was made with other weights.
        CheckpointError: If the weights cannot be used.
    """
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    if not config.map:
        raise ConfigError("parameter map is empty, expected a file made by `pixloc map build`")
    feature_map = FeatureMap.open(config.map)
    values: dict[str, Any] = {**feature_map.extractor_config, "device": config.device}
    if config.weights:
        settings = {**values.get("network", {}), "weights": config.weights}
        values |= {"kind": "network", "network": settings}
    extractor = create_extractor(load(ExtractorConfig, **values))
    return Localizer(feature_map, extractor, core_config)

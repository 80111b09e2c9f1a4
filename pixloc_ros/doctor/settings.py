"""How the localizer is set up: from a parameter file as ROS reads it."""

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from pixloc_core.config import load
from pixloc_core.errors import ConfigError, FormatError
from pixloc_core.localizer.localizer import LocalizerConfig
from pixloc_ros.doctor.snapshot import Settings
from pixloc_ros.node_config import NodeConfig

# Declared by rclpy, not by the schemas.
_FOREIGN = ("qos_overrides", "start_type_description_service")


def read_settings(path: Path, node: str) -> Settings:
    """Settings of a parameter file.

    Args:
        path: YAML file with `ros__parameters`.
        node: Full name of the node that they are for.

    Raises:
        FormatError: If it cannot be read or is no parameter file.
        ConfigError: If a parameter is unknown, of the wrong type or out of range.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as problem:
        raise FormatError(f"{path}: cannot be read ({problem.strerror})") from problem
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise FormatError(f"{path}: no YAML ({' '.join(str(problem).split())})") from problem
    try:
        values = _of_node(content, node)
    except (AttributeError, KeyError, TypeError) as problem:
        raise FormatError(
            f"{path}: no parameter file of ROS, expected NODE: ros__parameters: ..."
        ) from problem
    try:
        return make_settings(values, str(path))
    except ConfigError as problem:
        raise ConfigError(f"{path}: {problem}") from problem


def _of_node(content: Any, node: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for pattern, entry in content.items():
        absolute = pattern if pattern.startswith("/") else f"/{pattern}"
        # fnmatch's star crosses slashes: ** of ROS does so, and * hardly matters here.
        if fnmatch(node, absolute):
            values |= entry["ros__parameters"]
    return values


def make_settings(values: Mapping[str, Any], origin: str) -> Settings:
    """Settings of nested parameters.

    Args:
        values: Parameters of the localizer node, by name.
        origin: Where they were read.

    Raises:
        ConfigError: If one is unknown, of the wrong type or out of range.
    """
    own = {name: value for name, value in values.items() if name not in _FOREIGN}
    use_sim_time = bool(own.pop("use_sim_time", False))
    load(LocalizerConfig, **own.pop("localizer", {}))
    return Settings(load(NodeConfig, **own), use_sim_time, origin)

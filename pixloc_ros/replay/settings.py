"""Settings of a replay: those of the node, topics of the bag, and what counts as wrong.

On the command line they are `a.b=c`: `bag.image=/cam/image` for topics, `bounds.position=0.1` for
what counts as wrong; anything else is a parameter of the localizer node.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from pixloc_core.bags.topics import BagLayout
from pixloc_core.config import load
from pixloc_core.errors import ConfigError
from pixloc_core.evaluation.replay_judgement import ReplayBounds
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.parameters import Settings, default_of, settings

_LAYOUT, _BOUNDS = "bag.", "bounds."
# Parameters that every node has of rclpy.
OF_ROS = ("use_sim_time", "qos_overrides.", "start_type_description_service")
# Names under which a parameter file may speak to the node.
_NODES = ("/**", "localizer", "/localizer", "/**/localizer")

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class ReplaySettings:
    """All of them.

    Attributes:
        parameters: Of the node, by dotted name.
        layout: Topics and frames of the bag.
        bounds: What counts as wrong.
    """

    parameters: Parameters = field(default_factory=dict)
    layout: BagLayout = field(default_factory=BagLayout)
    bounds: ReplayBounds = field(default_factory=ReplayBounds)


def node_values(parameters: Parameters, layout: BagLayout) -> dict[str, Any]:
    """Parameters of the node in a replay, by dotted name; those given win over the layout."""
    frames = {
        "global_frame_id": layout.map_frame,
        "odom_frame_id": layout.odom_frame,
        "base_frame_id": layout.base_frame,
    }
    return {**frames, **parameters}


def node_config(parameters: Parameters, layout: BagLayout) -> NodeConfig:
    """What the node makes of them; those of rclpy are left to it.

    Raises:
        ConfigError: If a value does not fit.
    """
    known = {name for name, _ in settings()}
    values = node_values(parameters, layout)
    return Settings.of({name: value for name, value in values.items() if name in known}).node


def read_settings(params_file: Path | None, overrides: Sequence[str]) -> ReplaySettings:
    """Settings of a parameter file and of the command line, which wins.

    Raises:
        ConfigError: If the file is none, or an entry is malformed, unknown or out of range.
    """
    parameters = read_parameters(params_file) if params_file is not None else {}
    for name, value in parameters.items():
        _check_parameter(f"{params_file}: ", name, value)
    layout = [o.removeprefix(_LAYOUT) for o in overrides if o.startswith(_LAYOUT)]
    bounds = [o.removeprefix(_BOUNDS) for o in overrides if o.startswith(_BOUNDS)]
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals or not name:
            raise ConfigError(f"{override!r}, expected name=value")
        if not name.startswith((_LAYOUT, _BOUNDS)):
            parameters[name] = _value(override, text)
            _check_parameter("", name, parameters[name])
    return ReplaySettings(
        parameters, load(BagLayout, overrides=layout), load(ReplayBounds, overrides=bounds)
    )


def read_parameters(path: Path) -> dict[str, Any]:
    """Parameters of the localizer node in a ROS parameter file, by dotted name.

    Raises:
        ConfigError: If it cannot be read or says nothing about the node.
    """
    try:
        entries = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the parameters ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    nodes = entries if isinstance(entries, dict) else {}
    found: dict[str, Any] = {}
    for name in (name for name in _NODES if name in nodes):
        section = nodes[name]
        if not isinstance(section, dict) or not isinstance(section.get("ros__parameters"), dict):
            raise ConfigError(f"{path}: {name} has no ros__parameters")
        found |= dict(_flat(section["ros__parameters"]))
    if not found:
        raise ConfigError(f"{path}: no parameters, expected /**: ros__parameters: ...")
    return found


def _check_parameter(where: str, name: str, value: object) -> None:
    """A node would warn of one that it does not know, and go on without.

    Raises:
        ConfigError: If the node has no such parameter, or it is a list and the value is none.
    """
    known = dict(settings())
    if name.startswith(OF_ROS):
        return
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f", did you mean {near[0]}?" if near else " (config/localizer.yaml has them all)"
        raise ConfigError(f"{where}no parameter {name!r} of the localizer{hint}")
    if isinstance(default_of(known[name]), list) and not isinstance(value, list):
        raise ConfigError(f"{where}{name} is a list: write {name}=[{value}]")


def _flat(entries: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in entries.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _value(override: str, text: str) -> Any:
    try:
        return yaml.safe_load(text) if text else ""
    except yaml.YAMLError as error:
        raise ConfigError(f"{override!r}: the value is not YAML") from error

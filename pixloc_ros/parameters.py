"""ROS parameters made of config dataclasses: names, types, defaults, ranges, descriptions.

`python -m pixloc_ros.parameters` prints the defaults as a parameter file (config/localizer.yaml).
"""

import sys
import textwrap
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass
from enum import Enum
from typing import Any, TypeVar

import yaml
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from pixloc_core.config import load, walk
from pixloc_core.errors import ConfigError
from pixloc_core.localizer.localizer import LocalizerConfig
from pixloc_ros.node_config import DYNAMIC, DYNAMIC_GROUPS, NodeConfig

T = TypeVar("T")
Values = dict[str, Any]
# The parameters of the node: those of its own at the top, those of the core below.
CORE_PREFIX = "localizer."
SCHEMAS: tuple[tuple[str, type[Any]], ...] = (("", NodeConfig), (CORE_PREFIX, LocalizerConfig))


def declare(
    node: Node,
    schema: type[T],
    prefix: str = "",
    is_dynamic: Callable[[str], bool] = lambda name: False,
) -> T:
    """Declare a parameter for each setting of a schema and read their values.

    Args:
        node: Where to declare; values come from its parameter files and command line.
        schema: Config dataclass.
        prefix: Put before every name, with its dot.
        is_dynamic: Tells, by full name, which may change while the node runs.

    Raises:
        ConfigError: If a value has the wrong type or is out of range.
    """
    return load(schema, **_nested(_declare_all(node, schema, prefix, is_dynamic), prefix))


def _declare_all(
    node: Node, schema: type[Any], prefix: str, is_dynamic: Callable[[str], bool]
) -> Values:
    """Values by full name."""
    return {
        prefix + name: _declare_one(node, prefix + name, field, is_dynamic(prefix + name))
        for name, field in walk(schema)
    }


def _nested(values: Values, prefix: str) -> Values:
    """Values under a prefix, as nested dictionaries."""
    result: Values = {}
    for name, value in values.items():
        *groups, leaf = name.removeprefix(prefix).split(".")
        place = result
        for group in groups:
            place = place.setdefault(group, {})
        place[leaf] = value
    return result


@dataclass(frozen=True)
class Settings:
    """All parameters of the localizer node at one moment.

    Attributes:
        node: Those of the node.
        core: Those of the core.
        values: All of them by full name.
    """

    node: NodeConfig
    core: LocalizerConfig
    values: Values

    @classmethod
    def of(cls, values: Values) -> "Settings":
        """Settings of values by full name.

        Raises:
            ConfigError: If they do not fit, each for itself or together.
        """
        own = {name: v for name, v in values.items() if not name.startswith(CORE_PREFIX)}
        core = {name: v for name, v in values.items() if name.startswith(CORE_PREFIX)}
        try:
            node = load(NodeConfig, **_nested(own, ""))
            localizer = load(LocalizerConfig, **_nested(core, CORE_PREFIX))
        except ConfigError as error:
            text = str(error).replace("NodeConfig.", "parameter ")
            raise ConfigError(text.replace("StateConfig.", "parameter state.")) from error
        return cls(node, localizer, values)

    @classmethod
    def declare(cls, node: Node) -> "Settings":
        """Declare the parameters of the localizer node and read their values.

        Raises:
            ConfigError: If a value has the wrong type or is out of range.
        """
        values: Values = {}
        for prefix, schema in SCHEMAS:
            values |= _declare_all(node, schema, prefix, is_dynamic)
        return cls.of(values)

    def changed(self, parameters: Sequence[Parameter]) -> "Settings":
        """The settings with other values; all are taken, or none.

        Raises:
            ConfigError: Naming the value that does not fit.
        """
        new = {p.name: _plain(p.value) for p in parameters if p.name in self.values}
        return self.of({**self.values, **new}) if new else self


def is_dynamic(name: str) -> bool:
    """Whether a parameter of the localizer node may change while it runs."""
    return name in DYNAMIC or name.startswith(DYNAMIC_GROUPS)


def _plain(value: Any) -> Any:
    # Numbers come back as array.array.
    return list(value) if isinstance(value, list | tuple | array) else value


def _declare_one(node: Node, name: str, field: "Field[Any]", dynamic: bool) -> Any:
    default = default_of(field)
    description = descriptor(name, field, read_only=not dynamic)
    try:
        parameter = node.declare_parameter(name, default, description)
    except ParameterException as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"parameter {name} (default {default!r}): {text}") from error
    value = parameter.value
    if isinstance(default, list) and isinstance(value, str | bool | int | float):
        raise ConfigError(f"parameter {name} is {value!r}, expected a list: [{value}]")
    # Numbers come back as array.array; an empty list of a parameter file has no type at all.
    return list(value or ()) if isinstance(default, list) else value


def unknown_overrides(node: Node) -> list[str]:
    """Names given in parameter files that nobody declared: most likely misspelt."""
    # rclpy keeps them to itself; without this attribute nothing is reported.
    given = getattr(node, "_parameter_overrides", {})
    return [
        name
        for name in given
        if not (node.has_parameter(name) or name.startswith("qos_overrides."))
    ]


def default_of(field: "Field[Any]") -> Any:
    """Default of a setting as ROS knows it: bool, int, float, str or a list of such."""
    value = field.default
    if field.default_factory is not MISSING:
        value = field.default_factory()
    if isinstance(value, Enum):
        return value.name
    return list(value) if isinstance(value, tuple | list) else value


def descriptor(name: str, field: "Field[Any]", *, read_only: bool = True) -> ParameterDescriptor:
    """Description, range and choices of a setting."""
    meta = field.metadata
    result = ParameterDescriptor(name=name, description=describe(field), read_only=read_only)
    default, low, high = default_of(field), meta.get("ge"), meta.get("le")
    # rclpy takes an empty list for one of bytes, and would then refuse numbers.
    result.dynamic_typing = isinstance(default, list)
    if meta.get("choices"):
        result.additional_constraints = f"one of {', '.join(meta['choices'])}"
    if isinstance(default, bool | str | list) or (low is None and high is None):
        return result
    if isinstance(default, int):
        limits = IntegerRange(from_value=-(2**63), to_value=2**63 - 1, step=1)
        result.integer_range = [_narrowed(limits, int, low, high)]
    else:
        largest = sys.float_info.max
        limits = FloatingPointRange(from_value=-largest, to_value=largest)
        result.floating_point_range = [_narrowed(limits, float, low, high)]
    return result


def _narrowed(limits: Any, kind: type, low: float | None, high: float | None) -> Any:
    if low is not None:
        limits.from_value = kind(low)
    if high is not None:
        limits.to_value = kind(high)
    return limits


def describe(field: "Field[Any]") -> str:
    """What a setting means, with its unit and choices."""
    meta = field.metadata
    unit = f" [{meta['unit']}]" if meta.get("unit") else ""
    choices = f" One of: {', '.join(meta['choices'])}." if meta.get("choices") else ""
    return f"{meta['doc']}{unit}{choices}"


def settings() -> Iterator[tuple[str, "Field[Any]"]]:
    """Name and field of every parameter of the node, in order."""
    for prefix, schema in SCHEMAS:
        for name, field in walk(schema):
            yield prefix + name, field


def default_parameters() -> dict[str, Any]:
    """Every parameter with its default, nested as in a parameter file."""
    result: dict[str, Any] = {}
    for name, field in settings():
        *groups, leaf = name.split(".")
        place = result
        for group in groups:
            place = place.setdefault(group, {})
        place[leaf] = default_of(field)
    return result


def to_yaml() -> str:
    """The parameter file of all defaults, each with its description."""
    comments = {name: describe(field) for name, field in settings()}
    head = (
        '# Parameters of localizer_node: all of them, at their defaults. "Dynamic" ones can be\n'
        "# changed while the node runs.\n"
        "# Written by `python -m pixloc_ros.parameters`; a test holds the two equal.\n"
        "/**:\n  ros__parameters:\n"
    )
    return head + "\n".join(_lines(default_parameters(), comments)) + "\n"


def _lines(
    values: Mapping[str, Any], comments: Mapping[str, str], prefix: str = "", indent: str = "    "
) -> Iterator[str]:
    for key, value in values.items():
        name = prefix + key
        if isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from _lines(value, comments, f"{name}.", f"{indent}  ")
            continue
        text = comments[name] + (" Dynamic." if is_dynamic(name) else "")
        yield from (f"{indent}# {line}" for line in textwrap.wrap(text, 90))
        flow = isinstance(value, list)
        text = yaml.safe_dump(value, default_flow_style=True) if flow else ""
        text = f"{key}: {text}" if flow else yaml.safe_dump({key: value})
        yield f"{indent}{text.strip()}"


if __name__ == "__main__":
    sys.stdout.write(to_yaml())

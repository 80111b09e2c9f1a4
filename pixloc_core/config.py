"""Settings: frozen dataclasses that are schema, defaults, ranges and documentation at once.

A config class is a frozen, keyword-only dataclass whose fields are made by `setting` or `section`
and whose `__post_init__` calls `check`. OmegaConf reads YAML and `a.b=c` overrides against it.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pixloc_core.errors import ConfigError

T = TypeVar("T")


def setting(
    default: Any,
    *,
    doc: str,
    unit: str = "",
    ge: float | None = None,
    le: float | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    """One field of a config dataclass.

    Args:
        default: Its default; lists are not allowed (use a tuple).
        doc: One sentence for YAML files, ROS parameter descriptions and documentation.
        unit: Unit of the value ("px", "deg", "m", "s"), empty if it has none.
        ge: Smallest allowed value; for tuples, of each element.
        le: Largest allowed value; for tuples, of each element.
        choices: The allowed strings.
    """
    metadata = {"doc": doc, "unit": unit, "ge": ge, "le": le, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def section(factory: Callable[[], T], *, doc: str) -> T:
    """A nested config dataclass as a field."""
    return dataclasses.field(default_factory=factory, metadata={"doc": doc})


def check(config: Any) -> None:
    """Hold the fields of a config against their ranges and choices.

    Raises:
        ConfigError: Naming the class, field, value and what is allowed.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        meta = field.metadata
        for item in value if isinstance(value, tuple | list) else (value,):
            _check_item(f"{type(config).__name__}.{field.name}", item, meta)


def _check_item(name: str, item: Any, meta: Any) -> None:
    low, high, choices = meta.get("ge"), meta.get("le"), meta.get("choices")
    if choices is not None and item not in choices:
        raise ConfigError(f"{name} is {item!r}, expected one of {', '.join(choices)}")
    if item is None or isinstance(item, str | bool | Enum):
        return
    # "not >=" rather than "<", so that NaN is refused too.
    if low is not None and not item >= low:
        raise ConfigError(f"{name} is {item!r}, expected at least {low}")
    if high is not None and not item <= high:
        raise ConfigError(f"{name} is {item!r}, expected at most {high}")


def load(
    schema: type[T], path: str | Path | None = None, overrides: Sequence[str] = (), **values: Any
) -> T:
    """Read a config: defaults, then a YAML file, then nested `values`, then `a.b=c` overrides.

    Raises:
        ConfigError: For an unreadable file, an unknown key, a wrong type or a value out of range.
    """
    source = "overrides" if path is None else str(path)
    try:
        merged = OmegaConf.structured(schema)
        OmegaConf.set_readonly(merged, False)
        if path is not None:
            merged = OmegaConf.merge(merged, OmegaConf.load(path))
        if values:
            merged = OmegaConf.merge(merged, OmegaConf.create(values))
        merged = OmegaConf.merge(merged, OmegaConf.from_dotlist(list(overrides)))
        result = OmegaConf.to_object(merged)
    except (OSError, YAMLError) as error:
        raise ConfigError(f"{source}: {' '.join(str(error).split())}") from error
    except OmegaConfBaseException as error:
        # OmegaConf's messages go on over several lines; the first one names key and value.
        key = f" ({error.full_key})" if error.full_key else ""
        raise ConfigError(f"{source}: {str(error).splitlines()[0]}{key}") from error
    if not isinstance(result, schema):
        raise ConfigError(f"{source}: expected the entries of {schema.__name__}")
    return result


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain dictionary of a config, fit for JSON and for `load(schema, **values)`."""
    container = OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def walk(schema: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """Dotted name and dataclass field of every leaf setting of a schema, in order."""
    for field in dataclasses.fields(schema):
        name = f"{prefix}{field.name}"
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            yield from walk(field.type, f"{name}.")
        else:
            yield name, field

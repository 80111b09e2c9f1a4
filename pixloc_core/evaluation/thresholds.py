"""Limits for the numbers of a replay, from a YAML file, and the verdict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from pixloc_core.errors import FormatError
from pixloc_core.evaluation.consistency import AXES, SIGMAS
from pixloc_core.evaluation.replay_summary import ReplaySummary
from pixloc_core.localizer.supervisor import State

_WORDS = {"min", "max", "if_known"}
_SHOWN_LENGTH = 60
_SIGMAS = tuple(f"{sigma:g}_sigma" for sigma in SIGMAS)
# Names in sections that are no dataclasses. Those of stages and failures depend on the replay.
_NAMES: Mapping[str, Sequence[str]] = {
    "states_s": tuple(State.__members__),
    "covariance.coverage": _SIGMAS,
    **{f"covariance.coverage.{sigma}": AXES for sigma in _SIGMAS},
}


@dataclass(frozen=True)
class Threshold:
    """Limits of one number.

    Attributes:
        key: Dotted name in `summary.json`.
        low: Smallest value that passes.
        high: Largest value that passes.
        if_known: A value that is not known (null) passes; otherwise it fails.
    """

    key: str
    low: float = -math.inf
    high: float = math.inf
    if_known: bool = False


def read_thresholds(path: Path) -> tuple[Threshold, ...]:
    """Thresholds of a file with entries `dotted.key: {min: x, max: y, if_known: true}`.

    Raises:
        FormatError: If it cannot be read, says something else, or a key is not that of a number
            of a `ReplaySummary`.
    """
    try:
        entries: Any = yaml.safe_load(path.read_text())
    except OSError as error:
        raise FormatError(f"{path}: cannot read the thresholds ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(entries, dict) or not entries:
        raise FormatError(f"{path}: expected entries dotted.key: {{min: x, max: y}}")
    return tuple(_threshold(path, str(key), entry) for key, entry in entries.items())


def _threshold(path: Path, key: str, entry: Any) -> Threshold:
    _check_key(path, key)
    if not isinstance(entry, dict) or not entry.keys() & {"min", "max"} or entry.keys() - _WORDS:
        raise FormatError(
            f"{path}: {key}: {_shown(entry)}, expected min, max or both, and perhaps if_known"
        )
    limits = [entry.get("min", -math.inf), entry.get("max", math.inf)]
    if any(isinstance(x, bool) or not isinstance(x, int | float) for x in limits):
        raise FormatError(f"{path}: {key}: {_shown(entry)}, expected numbers")
    if not isinstance(entry.get("if_known", False), bool):
        raise FormatError(f"{path}: {key}: {_shown(entry)}, expected if_known: true or false")
    return Threshold(key, float(limits[0]), float(limits[1]), entry.get("if_known", False))


def _shown(value: object) -> str:
    """A value in an error, which is to stay one short line."""
    text = repr(value)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}..."


def shortfalls(summary: Mapping[str, Any], thresholds: tuple[Threshold, ...]) -> list[str]:
    """One line for each threshold that is missed.

    Args:
        summary: As in `summary.json`.
        thresholds: What to hold it against.
    """
    lines = []
    for threshold in thresholds:
        value = _find(summary, threshold.key)
        if value is None:
            if not threshold.if_known:
                lines.append(f"{threshold.key} is not known")
        elif not value >= threshold.low:
            lines.append(f"{threshold.key} is {value:.4g}, expected at least {threshold.low:g}")
        elif not value <= threshold.high:
            lines.append(f"{threshold.key} is {value:.4g}, expected at most {threshold.high:g}")
    return lines


def _find(summary: Mapping[str, Any], key: str) -> float | None:
    """The number of a key; None if it is not known, such as the time in a state never entered."""
    value: Any = summary
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) else None


def _check_key(path: Path, key: str) -> None:
    """Whether a key is one of a number of the summary; before a replay that may take an hour.

    Raises:
        FormatError: If it is not.
    """
    kind: Any = ReplaySummary
    place = ""
    for part in key.split("."):
        names = _names(kind, place)
        if names is not None and part not in names:
            known = ", ".join(names) or "nothing below"
            raise FormatError(
                f"{path}: {key}: no {part!r} in {place or 'the summary'}, it has {known}"
            )
        kind = get_type_hints(kind)[part] if is_dataclass(kind) else get_args(kind)[1]
        if isinstance(kind, UnionType):
            # A section that a replay may lack.
            kind = get_args(kind)[0]
        place = f"{place}.{part}" if place else part
    if kind not in (int, float):
        below = ", ".join(_names(kind, place) or ())
        raise FormatError(f"{path}: {key}: not a number" + (f", it has {below}" if below else ""))


def _names(kind: Any, place: str) -> Sequence[str] | None:
    """What a part of the summary may hold; None: that depends on the replay."""
    if is_dataclass(kind):
        return [field.name for field in fields(kind)]
    return _NAMES.get(place) if get_origin(kind) is dict else ()

"""Limits for the numbers of a replay, from a YAML file, and the verdict."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pixloc_core.errors import FormatError

_WORDS = {"min", "max", "if_known"}
_SHOWN_LENGTH = 60
# What stands in these depends on the run: a state that never came is not known.
_OPEN_SECTIONS = ("latency_ms", "states_s", "failures")


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
        FormatError: If it cannot be read, or says something else.
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

    Raises:
        FormatError: If a key is not one of the summary's, or not that of a number.
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
    value: Any = summary
    for part in key.split("."):
        if value is None:
            # A whole section that is not known, such as the covariance.
            return None
        if not isinstance(value, Mapping) or part not in value:
            if key.startswith(_OPEN_SECTIONS):
                return None
            known = ", ".join(value) if isinstance(value, Mapping) else "nothing below"
            raise FormatError(f"threshold {key}: no {part!r} in the summary, it has {known}")
        value = value[part]
    if value is not None and not isinstance(value, int | float):
        raise FormatError(f"threshold {key}: not a number")
    return value

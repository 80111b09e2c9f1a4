"""What the doctor says: one line for each finding."""

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How bad it is; ERROR: the localizer cannot work, WARN: it will work badly or not always."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        level: How bad it is.
        what: What was seen, with names and values.
        advice: What to do about it; empty if all is well.
    """

    level: Level
    what: str
    advice: str = ""

    def line(self) -> str:
        """The finding as it is printed."""
        advice = f"  -> {self.advice}" if self.advice else ""
        return f"{self.level.name:<5} {self.what}{advice}"


def ok(what: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, what)


def warn(what: str, advice: str) -> Finding:
    """Something that will do harm at times."""
    return Finding(Level.WARN, what, advice)


def error(what: str, advice: str) -> Finding:
    """Something that keeps the localizer from working."""
    return Finding(Level.ERROR, what, advice)

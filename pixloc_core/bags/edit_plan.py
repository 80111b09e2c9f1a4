"""What to do to a bag: stretches to keep, outages, late images; and the cuts that come of it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pixloc_core.bags.trajectory import NANOSECONDS
from pixloc_core.errors import FormatError

CUTS_FILE = "cuts.yaml"


@dataclass(frozen=True)
class Stretch:
    """A part of a bag, in seconds since its first message.

    Attributes:
        begin_s: Where it begins.
        end_s: Where it ends, exclusively; before `begin_s`: it is played backwards.
    """

    begin_s: float
    end_s: float

    def __post_init__(self) -> None:
        if math.isnan(self.end_s) or not 0 <= self.begin_s < math.inf or self.end_s < 0:
            raise FormatError(f"stretch {self}: expected times that are not negative")
        if self.begin_s == self.end_s:
            raise FormatError(f"stretch {self} is empty")

    def __str__(self) -> str:
        return f"{self.begin_s:g}:{self.end_s:g}"

    @property
    def length_s(self) -> float:
        """Its duration."""
        return abs(self.end_s - self.begin_s)

    def holds(self, time_s: float) -> bool:
        """Whether a time of the bag is part of it."""
        if self.end_s > self.begin_s:
            return self.begin_s <= time_s < self.end_s
        return self.end_s < time_s <= self.begin_s

    def elapsed_s(self, time_s: float) -> float:
        """Seconds from its begin to a time of the bag."""
        return abs(time_s - self.begin_s)


@dataclass(frozen=True)
class Outage:
    """Messages that are missing in the result.

    Attributes:
        begin_s: Begin, in seconds since the first message of the result.
        end_s: End, exclusively.
        topic: Topic, or empty: images and calibration.
    """

    begin_s: float
    end_s: float
    topic: str = ""


@dataclass(frozen=True)
class BagEdit:
    """How a bag is changed.

    Attributes:
        stretches: Parts to keep, in this order; none: all of it.
        repeats: How often these parts follow each other.
        outages: What is missing then.
        image_latency_s: Images and calibration arrive so much later; their stamps stay.
    """

    stretches: tuple[Stretch, ...] = ()
    repeats: int = 1
    outages: tuple[Outage, ...] = ()
    image_latency_s: float = 0.0

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise FormatError(f"a bag cannot be repeated {self.repeats} times, expected 1 or more")
        if not 0 <= self.image_latency_s < math.inf:
            raise FormatError(f"a latency of {self.image_latency_s} s, expected 0 or more")


@dataclass(frozen=True)
class Cut:
    """A place where one stretch follows another.

    Attributes:
        stamp_ns: Begin of the later stretch.
        position: How far the true pose jumps, beyond what going on as before would have moved it.
        rotation_deg: The same for the rotation.
    """

    stamp_ns: int
    position: float
    rotation_deg: float


def parse_stretch(text: str) -> Stretch:
    """`BEGIN:END` in seconds; either may be missing: 0, and the end of the bag.

    Raises:
        FormatError: If it is something else.
    """
    begin, colon, end = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return Stretch(float(begin or 0), float(end) if end else math.inf)
    except ValueError:
        raise FormatError(f"stretch {text!r}, expected BEGIN:END in seconds") from None


def parse_outage(text: str) -> Outage:
    """`BEGIN:END` or `TOPIC@BEGIN:END` in seconds.

    Raises:
        FormatError: If it is something else.
    """
    topic, _, times = text.rpartition("@")
    stretch = parse_stretch(times)
    if stretch.end_s < stretch.begin_s:
        raise FormatError(f"outage {text!r} ends before it begins")
    return Outage(stretch.begin_s, stretch.end_s, topic)


def write_cuts(bag: Path, cuts: tuple[Cut, ...]) -> None:
    """Leave the cuts in the folder of a bag."""
    entries = [
        {
            "stamp_ns": cut.stamp_ns,
            "position": round(cut.position, 6),
            "rotation_deg": round(cut.rotation_deg, 6),
        }
        for cut in cuts
    ]
    head = "# Where the bag was cut, and how far the true pose jumps there (map units, degrees).\n"
    (bag / CUTS_FILE).write_text(head + yaml.safe_dump({"cuts": entries}, sort_keys=False))


def read_cuts(bag: Path) -> tuple[Cut, ...]:
    """Cuts of a bag; none where it has no list of them.

    Raises:
        FormatError: If the list is damaged.
    """
    path = bag / CUTS_FILE
    if not path.is_file():
        return ()
    try:
        entries: Any = yaml.safe_load(path.read_text())["cuts"]
        return tuple(
            Cut(int(entry["stamp_ns"]), float(entry["position"]), float(entry["rotation_deg"]))
            for entry in entries
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise FormatError(
            f"{path}: not a list of cuts, expected stamp_ns, position, rotation_deg ({reason})"
        ) from error


def to_ns(seconds: float) -> int:
    """Nanoseconds of a finite time in seconds."""
    return round(seconds * NANOSECONDS)

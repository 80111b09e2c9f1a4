"""Images of the cameras of a rig that belong to one exposure, as messages."""

import itertools
from collections import deque
from dataclasses import dataclass, field

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pixloc_ros.conversions import stamp_to_ns

# Exposures that wait for images of other cameras.
_MOST_WAITING = 4
# Images of every camera without one exposure, from which on they are said to be apart.
_ENOUGH = 3


@dataclass(frozen=True)
class CameraMessage:
    """One image as it came in, with the newest calibration of its camera.

    Attributes:
        name: Name of the camera; empty for a single one.
        image: The message.
        info: Calibration, or None while there is none.
    """

    name: str
    image: Image | CompressedImage
    info: CameraInfo | None

    @property
    def stamp_ns(self) -> int:
        """Stamp of the exposure."""
        return stamp_to_ns(self.image.header.stamp)


@dataclass(frozen=True)
class RigMessage:
    """The images of one exposure, at least one, in the order of the cameras.

    Attributes:
        cameras: The images.
        arrived_s: When the last one came (`time.monotonic`).
    """

    cameras: tuple[CameraMessage, ...]
    arrived_s: float

    @property
    def stamp_ns(self) -> int:
        """Stamp of the first camera."""
        return self.cameras[0].stamp_ns


def is_too_soon(stamp_ns: int, taken_ns: int, max_rate: float) -> bool:
    """Whether an exposure follows the last one that was taken faster than `max_rate` (Hz) allows.

    Args:
        stamp_ns: Stamp of the exposure.
        taken_ns: Stamp of the last one that was taken.
        max_rate: Limit; 0: none.
    """
    # A hair less than the period, or jitter would halve a rate that is that of the camera.
    return max_rate > 0 and 0 <= stamp_ns - taken_ns < 0.95e9 / max_rate


@dataclass
class _Exposure:
    stamp_ns: int
    images: dict[str, CameraMessage] = field(default_factory=dict)


class _Gaps:
    """How far the images of the cameras are apart, since the last exposure."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._pairs = tuple(itertools.combinations(names, 2))
        self._counts = dict.fromkeys(names, 0)
        self._newest: dict[str, int] = {}
        self._smallest: dict[tuple[str, str], int] = {}

    def add(self, name: str, stamp: int) -> None:
        self._counts[name] += 1
        self._newest[name] = stamp
        for pair in self._pairs:
            if name in pair and all(other in self._newest for other in pair):
                gap = abs(self._newest[pair[0]] - self._newest[pair[1]])
                self._smallest[pair] = min(gap, self._smallest.get(pair, gap))

    def clear(self) -> None:
        """An exposure is complete. The newest images stay: the next ones may belong to them."""
        self._counts = dict.fromkeys(self._counts, 0)
        self._smallest.clear()

    def widest(self) -> tuple[tuple[str, str], int] | None:
        """The pair whose images come least close, and how close; None while there are few."""
        if min(self._counts.values()) < _ENOUGH or not self._smallest:
            return None
        return max(self._smallest.items(), key=lambda item: item[1])


class RigSynchronizer:
    """Puts images of about the same stamp together.

    An exposure is complete when every camera has delivered. One that still waits when a later
    one completes is given up; a camera that has said nothing for a second is not waited for, so
    that a rig lives on when one of its cameras dies.

    Attributes:
        given_up: Exposures given up so far.
    """

    def __init__(self, names: tuple[str, ...], slop_s: float, patience_s: float = 1.0) -> None:
        """Begin without images.

        Args:
            names: The cameras.
            slop_s: Largest difference of stamps within an exposure.
            patience_s: Silence, in stamps of the others, after which a camera counts as dead.
        """
        self._names = names
        self._slop_ns = round(slop_s * 1e9)
        self._patience_ns = round(patience_s * 1e9)
        self._waiting: deque[_Exposure] = deque(maxlen=_MOST_WAITING)
        self._newest: dict[str, int] = {}
        self._first_ns: int | None = None
        self._gaps = _Gaps(names)
        self.given_up = 0

    def clear(self) -> None:
        """Forget the images that wait: time was set back."""
        self._waiting.clear()
        self._newest.clear()
        self._first_ns = None
        self._gaps = _Gaps(self._names)

    @property
    def apart(self) -> str:
        """Which images come too far apart to be of one exposure, in one line; else empty.

        Said where every camera has delivered some images since the last exposure.
        """
        found = self._gaps.widest()
        if found is None or found[1] <= self._slop_ns:
            return ""
        (first, second), gap = found
        gap_ms, slop_ms = (round(ns / 1e6, 1) for ns in (gap, self._slop_ns))
        return (
            f"images of {first} and {second} are {gap_ms:g} ms apart, "
            f"limit {slop_ms:g} ms (sync_slop)"
        )

    @property
    def silent(self) -> tuple[str, ...]:
        """Cameras that are not waited for any more, or not yet heard of."""
        newest = max(self._newest.values(), default=0)
        return tuple(name for name in self._names if not self._is_alive(name, newest))

    def add(self, message: CameraMessage, arrived_s: float) -> RigMessage | None:
        """Take in an image; the exposure that it completes, if it does."""
        stamp = message.stamp_ns
        if stamp < self._newest.get(message.name, stamp) - self._patience_ns:
            self.clear()
        if self._first_ns is None:
            self._first_ns = stamp
        self._newest[message.name] = stamp
        self._gaps.add(message.name, stamp)
        exposure = self._find(stamp)
        exposure.images[message.name] = message
        needed = [name for name in self._names if self._is_alive(name, stamp)]
        if not all(name in exposure.images for name in needed):
            return None
        while self._waiting and self._waiting[0].stamp_ns <= exposure.stamp_ns:
            self.given_up += self._waiting.popleft() is not exposure
        self._gaps.clear()
        images = tuple(exposure.images[n] for n in self._names if n in exposure.images)
        return RigMessage(images, arrived_s)

    def _find(self, stamp: int) -> _Exposure:
        for exposure in self._waiting:
            if abs(exposure.stamp_ns - stamp) <= self._slop_ns:
                return exposure
        exposure = _Exposure(stamp)
        self.given_up += len(self._waiting) == _MOST_WAITING
        self._waiting.append(exposure)
        return exposure

    def _is_alive(self, name: str, now_ns: int) -> bool:
        # One that has not been heard yet gets the same patience from the first image on.
        last = self._newest.get(name, self._first_ns)
        return last is not None and now_ns - last <= self._patience_ns

"""What the node knows between two images: where the robot was, and how odometry continues it."""

import threading
from dataclasses import dataclass

from pixloc_core.geometry import Pose


@dataclass(frozen=True)
class BasePrior:
    """Where the robot is believed to be before an image is looked at.

    Attributes:
        map_from_base: The pose.
        source: "initialpose", "odometry" or "last_pose", as in LocalizationStatus.msg.
    """

    map_from_base: Pose
    source: str


@dataclass(frozen=True)
class InitialPose:
    """A pose somebody gave, and the stamp it is meant for."""

    map_from_base: Pose
    stamp_ns: int


class PoseKeeper:
    """Carries the last good pose from image to image.

    With odometry the last `map_from_odom` is kept and the odometry does the rest; without, the
    last pose itself. After too many failures or too long a time everything is forgotten, until a
    new initial pose comes. Safe for threads: the executor gives poses and publishes
    `map_from_odom`, the worker does the rest.
    """

    def __init__(self, max_failures: int, timeout_s: float) -> None:
        """Start without a pose.

        Args:
            max_failures: Images in a row that may fail; the next forgets the pose. 0: any number.
            timeout_s: Time of the images since the last good pose, likewise. 0: any time.
        """
        self._max_failures = max_failures
        self._timeout_ns = round(timeout_s * 1e9)
        self._lock = threading.Lock()
        self._initial: InitialPose | None = None
        self._forget()

    def _forget(self) -> None:
        self._map_from_base: Pose | None = None
        self._map_from_odom: Pose | None = None
        self._broadcast: Pose | None = None
        self._source = ""
        self._good_ns = 0
        self._failures = 0

    def give(self, initial: InitialPose) -> None:
        """Leave an initial pose for the next image; it replaces all that is known."""
        with self._lock:
            self._initial = initial

    def take_initial(self) -> InitialPose | None:
        """The initial pose given since the last call."""
        with self._lock:
            initial, self._initial = self._initial, None
            return initial

    def start(self, initial: InitialPose, odom_from_base: Pose | None) -> None:
        """Begin anew at an initial pose.

        Args:
            initial: The pose.
            odom_from_base: Odometry at its stamp, or None if there is none.
        """
        with self._lock:
            self._forget()
            self._set(initial.map_from_base, odom_from_base, initial.stamp_ns)
            self._source = "initialpose"

    def prior(self, odom_from_base: Pose | None) -> BasePrior | None:
        """Where the robot is believed to be, given the odometry at the image's stamp."""
        with self._lock:
            if self._map_from_base is None:
                return None
            if odom_from_base is None or self._map_from_odom is None:
                return BasePrior(self._map_from_base, self._source or "last_pose")
            pose = self._map_from_odom @ odom_from_base
            return BasePrior(pose, self._source or "odometry")

    def accept(self, map_from_base: Pose, odom_from_base: Pose | None, stamp_ns: int) -> None:
        """Remember the pose of an image that was localized."""
        with self._lock:
            self._set(map_from_base, odom_from_base, stamp_ns)
            # An image without odometry says nothing new about the frame of the odometry.
            if self._map_from_odom is not None:
                self._broadcast = self._map_from_odom
            self._source = ""
            self._failures = 0

    def _set(self, map_from_base: Pose, odom_from_base: Pose | None, stamp_ns: int) -> None:
        self._map_from_base = map_from_base
        self._map_from_odom = None
        if odom_from_base is not None:
            self._map_from_odom = (map_from_base @ odom_from_base.inv()).normalized()
        self._good_ns = stamp_ns

    def fail(self, stamp_ns: int) -> str:
        """Count an image that was not localized; the reason if the pose is forgotten now."""
        with self._lock:
            self._failures += 1
            if self._map_from_base is None:
                return ""
            failures, age_ns = self._failures, stamp_ns - self._good_ns
            if self._max_failures and failures > self._max_failures:
                reason = f"{failures} images in a row without a pose"
            elif self._timeout_ns and age_ns > self._timeout_ns:
                reason = f"no pose for {age_ns / 1e9:.1f} s"
            else:
                return ""
            self._forget()
            self._failures = failures
            return f"{reason}: the last pose is forgotten, waiting for initialpose"

    @property
    def failures(self) -> int:
        """Images in a row that were not localized."""
        with self._lock:
            return self._failures

    @property
    def map_from_odom(self) -> Pose | None:
        """The transform to broadcast; None before the first image was localized."""
        with self._lock:
            return self._broadcast

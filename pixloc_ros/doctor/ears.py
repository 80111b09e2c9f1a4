"""Subscriptions that remember what they heard."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pixloc_core.errors import FormatError, FrameError
from pixloc_core.geometry import Camera
from pixloc_ros.conversions import rigid_from_message, stamp_to_ns
from pixloc_ros.doctor.snapshot import (
    CalibrationSeen,
    DiagnosticSeen,
    EdgeSeen,
    ImageSeen,
    StatusSeen,
)
from pixloc_ros.frames import TF_STATIC_QOS
from pixloc_ros.image_conversions import compressed_to_array
from pixloc_ros.interfaces import LocalizationStatus, TFMessage

# Matches every publisher.
ANY_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
# Middlewares pad the identity of a publisher differently in its two places.
GID_BYTES = 16
Info = dict[str, Any]
Now = Callable[[], int]
STATES = {getattr(LocalizationStatus, name): name for name in (
    "UNINITIALIZED", "INITIALIZING", "TRACKING", "DEGRADED", "LOST")}  # fmt: skip
STATUSES = {getattr(LocalizationStatus, name): name for name in (
    "LOCALIZED", "NOT_LOCALIZED", "NO_PRIOR", "BAD_INPUT", "INTERNAL_ERROR")}  # fmt: skip


def sender(info: Info) -> bytes:
    """Which publisher a message came from; empty where the middleware does not say."""
    gid = info.get("publisher_gid")
    return bytes(gid["data"])[:GID_BYTES] if gid else b""


class StreamEar:
    """Counts the messages of a topic, and those that got lost."""

    def __init__(self, node: Node, kind: type[Any], topic: str, now: Now) -> None:
        self._now = now
        self._arrivals: list[float] = []
        self._numbers: defaultdict[bytes, list[int]] = defaultdict(list)
        self.newest: Any = None
        self.stamps_ns: list[int] = []
        self.ages_s: list[float] = []
        node.create_subscription(kind, topic, self._hear, ANY_QOS)

    def _hear(self, message: Any, info: Info) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp)
        self.ages_s.append((self._now() - stamp_ns) / 1e9)
        self.stamps_ns.append(stamp_ns)
        self._arrivals.append(time.monotonic())
        self._numbers[sender(info)].append(info.get("publication_sequence_number") or 0)
        self.newest = message

    @property
    def count(self) -> int:
        """Messages heard."""
        return len(self._arrivals)

    @property
    def rate_hz(self) -> float:
        """Messages per second; 0 for less than two."""
        if self.count < 2:
            return 0.0
        return (self.count - 1) / max(self._arrivals[-1] - self._arrivals[0], 1e-9)

    @property
    def lost(self) -> int:
        """Gaps in the numbers that each publisher gives its messages."""
        return sum(
            max(numbers) - min(numbers) + 1 - len(numbers)
            for numbers in self._numbers.values()
            if min(numbers)
        )


def image_seen(ear: StreamEar) -> ImageSeen | None:
    """What is known of the images of a topic, if there were any."""
    image: Image | CompressedImage | None = ear.newest
    if image is None:
        return None
    stamps = {"stamps_ns": tuple(ear.stamps_ns), "ages_s": tuple(ear.ages_s)}
    frame, num_bytes = image.header.frame_id, len(image.data)
    if isinstance(image, Image):
        size = (image.width, image.height)
        return ImageSeen(image.encoding, size, num_bytes, frame, **stamps)
    try:
        pixels = compressed_to_array(image)
    except FormatError:
        return ImageSeen(image.format, None, num_bytes, frame, **stamps)
    size = (pixels.shape[1], pixels.shape[0])
    return ImageSeen(image.format, size, num_bytes, frame, **stamps)


def calibration_seen(ear: StreamEar, *, rectified: bool) -> CalibrationSeen | None:
    """What is known of a calibration, if there was any.

    Args:
        ear: Of CameraInfo.
        rectified: As the parameter `image_is_rectified`.
    """
    info: CameraInfo | None = ear.newest
    if info is None:
        return None
    known = (info.distortion_model, info.header.frame_id, tuple(ear.stamps_ns))
    try:
        camera = Camera.from_camera_info(info, rectified=rectified)
    except FormatError as problem:
        return CalibrationSeen(str(problem), None, *known)
    w, h = (round(side) for side in camera.size.tolist())
    return CalibrationSeen("", (w, h), *known)


class FrameEar:
    """Remembers every edge of the tree of frames, and who sent it."""

    def __init__(self, node: Node, tf: str, tf_static: str) -> None:
        self._edges: dict[tuple[str, str, bool], EdgeSeen] = {}
        self._senders: defaultdict[tuple[str, str, bool], set[bytes]] = defaultdict(set)

        def moving(message: TFMessage, info: Info) -> None:
            self._hear(message, info, static=False)

        def fixed(message: TFMessage, info: Info) -> None:
            self._hear(message, info, static=True)

        node.create_subscription(TFMessage, tf, moving, ANY_QOS)
        node.create_subscription(TFMessage, tf_static, fixed, TF_STATIC_QOS)

    def _hear(self, message: TFMessage, info: Info, *, static: bool) -> None:
        for item in message.transforms:
            key = (item.header.frame_id, item.child_frame_id, static)
            self._senders[key].add(sender(info))
            before = self._edges.get(key)
            newest = max(stamp_to_ns(item.header.stamp), before.newest_ns if before else 0)
            try:
                transform, problem = rigid_from_message(item.transform), ""
            except FrameError as refused:
                transform, problem = None, str(refused)
            self._edges[key] = EdgeSeen(
                *key, newest_ns=newest, transform=transform, problem=problem
            )

    def edges(self, names: dict[bytes, str]) -> tuple[EdgeSeen, ...]:
        """All edges, with the names of their publishers, given those of the senders."""
        return tuple(
            EdgeSeen(
                edge.parent, edge.child, edge.static,
                # Two publishers of one node are one here: it may be restarted, or mean it.
                frozenset(names[one] for one in self._senders[key] if one in names),
                edge.newest_ns, edge.transform, edge.problem,
            )
            for key, edge in self._edges.items()
        )  # fmt: skip


class NodeEar:
    """What the localizer says about itself, and others on /diagnostics."""

    def __init__(self, node: Node, localizer: str, status: str) -> None:
        self._name = localizer
        self._since = time.monotonic()
        self._diagnostics: dict[str, DiagnosticSeen] = {}
        self.status: StatusSeen | None = None
        node.create_subscription(LocalizationStatus, status, self._on_status, ANY_QOS)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, ANY_QOS)

    @property
    def heard_s(self) -> float:
        """Seconds since it began to listen."""
        return time.monotonic() - self._since

    @property
    def diagnostics(self) -> tuple[DiagnosticSeen, ...]:
        """Those of the localizer, the newest of each name."""
        entries = self._diagnostics.items()
        return tuple(entry for name, entry in entries if name.startswith(f"{self._name}:"))

    def said(self, key: str) -> str:
        """A value of its diagnostics; empty if it was not heard."""
        return next((d.values[key] for d in self.diagnostics if key in d.values), "")

    @property
    def is_heard(self) -> bool:
        """Whether the localizer has said anything."""
        return self.status is not None or bool(self.diagnostics)

    def index(self, nodes: Sequence[str]) -> DiagnosticSeen | None:
        """What the first of these nodes that says anything says of its index."""
        entries = (self._diagnostics.get(f"{node}: index") for node in nodes)
        return next((entry for entry in entries if entry), None)

    def _on_status(self, message: LocalizationStatus) -> None:
        self.status = StatusSeen(
            STATES.get(message.state, str(message.state)),
            message.state_reason,
            STATUSES.get(message.status, str(message.status)),
            message.reason,
        )

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for item in message.status:
            # By the full name of its node, which is sent without the first slash.
            self._diagnostics[f"/{item.name.lstrip('/')}"] = DiagnosticSeen(
                item.name,
                level_number(item),
                item.message,
                {pair.key: pair.value for pair in item.values},
            )


def level_number(status: DiagnosticStatus) -> int:
    """Its level, which ROS has as a byte."""
    return int.from_bytes(bytes(status.level), "little")


class ClockEar:
    """The time: that of /clock once it was heard, else of this machine."""

    def __init__(self, node: Node) -> None:
        self.count = 0
        self._newest_ns = 0
        qos = QoSProfile(
            depth=1,
            reliability=ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.VOLATILE,
        )
        node.create_subscription(Clock, "/clock", self._hear, qos)

    def _hear(self, message: Clock) -> None:
        self.count += 1
        self._newest_ns = stamp_to_ns(message.clock)

    def now_ns(self) -> int:
        """The time now."""
        return self._newest_ns if self.count else time.time_ns()

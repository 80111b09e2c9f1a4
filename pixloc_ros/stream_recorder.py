"""Record what a localizer node says about a stream of images, with the time it took."""

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from pixloc_core.bags.trajectory import Stamps, Trajectory
from pixloc_core.evaluation.stream import FrameOutcome, StreamRun
from pixloc_core.geometry import Pose
from pixloc_ros.conversions import pose_from_message, stamp_to_ns
from pixloc_ros.diagnostics import STATUS_NAMES
from pixloc_ros.interfaces import LocalizationStatus


@dataclass(frozen=True)
class StreamTopics:
    """Outputs of the node."""

    pose: str = "pose"
    status: str = "status"
    confidence: str = "confidence"


class StreamRecorder:
    """Collects poses, statuses and a few confidence images; called from the executor's thread.

    Args:
        node: Subscribes.
        topics: Outputs of the localizer.
        confidence_period_ns: Keep one confidence image in so much time of the bag; 0: none, and
            the node is not asked for any.
    """

    def __init__(self, node: Node, topics: StreamTopics, *, confidence_period_ns: int = 0) -> None:
        self._lock = threading.Lock()
        self._sent: dict[int, float] = {}
        self._statuses: dict[int, tuple[Any, float]] = {}
        self._poses: dict[int, Pose] = {}
        self._confidence_period_ns = confidence_period_ns
        self.confidence: dict[int, np.ndarray[Any, Any]] = {}
        self._last_answer = 0.0
        # The node keeps its last pose for late subscribers; this one must not see an old run's.
        qos = QoSProfile(
            depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE
        )
        node.create_subscription(PoseWithCovarianceStamped, topics.pose, self._on_pose, qos)
        node.create_subscription(LocalizationStatus, topics.status, self._on_status, qos)
        if confidence_period_ns:
            node.create_subscription(Image, topics.confidence, self._on_confidence, qos)

    def note_sent(self, stamp_ns: int) -> None:
        """Remember when an image was published."""
        with self._lock:
            self._sent[stamp_ns] = time.monotonic()

    @property
    def newest_sent_ns(self) -> int:
        """Stamp of the newest image published; 0 before the first."""
        with self._lock:
            return max(self._sent, default=0)

    @property
    def newest_pose_ns(self) -> int:
        """Stamp of the newest image that got a pose; 0 before the first."""
        with self._lock:
            return max(self._poses, default=0)

    def wait_until_quiet(self, timeout_s: float) -> None:
        """Wait until the newest image sent was answered, at most this long."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with self._lock:
                if not self._sent or max(self._sent) in self._statuses:
                    return
            time.sleep(0.02)

    def result(self, name: str, image_stamps_ns: Stamps, truth: Trajectory) -> StreamRun:
        """All that was recorded.

        Args:
            name: Name of the stream.
            image_stamps_ns: Stamps of all images of the bag.
            truth: True poses of the base in the map.
        """
        with self._lock:
            begin = min(self._sent.values(), default=0.0)
            outcomes = [
                self._outcome(stamp, *said) for stamp, said in sorted(self._statuses.items())
            ]
            return StreamRun(
                name,
                image_stamps_ns,
                tuple(outcomes),
                Trajectory.from_samples(self._poses),
                truth,
                max(self._last_answer - begin, 0.0),
                max((said.images_taken for said, _ in self._statuses.values()), default=0),
            )

    def _outcome(self, stamp: int, message: Any, arrived: float) -> FrameOutcome:
        sent = self._sent.get(stamp)
        return FrameOutcome(
            stamp_ns=stamp,
            status=STATUS_NAMES.get(message.status, f"status {message.status}"),
            reason=message.reason,
            score=message.score,
            latency_ms=1e3 * (arrived - sent) if sent is not None else float("nan"),
            stages=dict(zip(message.stages, message.stage_ms, strict=False)),
        )

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        pose = pose_from_message(message.pose.pose)
        with self._lock:
            self._poses[stamp_to_ns(message.header.stamp)] = pose
            self._last_answer = time.monotonic()

    def _on_status(self, message: LocalizationStatus) -> None:
        with self._lock:
            arrived = time.monotonic()
            self._statuses[stamp_to_ns(message.header.stamp)] = (message, arrived)
            self._last_answer = arrived

    def _on_confidence(self, message: Image) -> None:
        stamp = stamp_to_ns(message.header.stamp)
        newest = max(self.confidence, default=-self._confidence_period_ns)
        if stamp - newest >= self._confidence_period_ns:
            flat = np.frombuffer(message.data, np.float32).copy()
            self.confidence[stamp] = flat.reshape(message.height, message.width)

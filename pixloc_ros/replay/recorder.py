"""Record what a localizer node says about a stream of images, with the time it took."""

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from pixloc_core.bags.trajectory import Stamps, Trajectory
from pixloc_core.evaluation.pose_error import FloatArray
from pixloc_core.evaluation.stream import FrameOutcome, StreamRun
from pixloc_core.geometry import Pose
from pixloc_ros.conversions import pose_from_message, stamp_to_ns
from pixloc_ros.diagnostics import STATUS_NAMES
from pixloc_ros.interfaces import LocalizationStatus

STATE_NAMES = {
    getattr(LocalizationStatus, name): name
    for name in ("UNINITIALIZED", "INITIALIZING", "TRACKING", "DEGRADED", "LOST")
}


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
        self._sent: dict[int, tuple[float, int]] = {}
        self._exposures: dict[int, int] = {}
        self._statuses: dict[int, tuple[Any, float]] = {}
        self._poses: dict[int, Pose] = {}
        self._covariances: dict[int, FloatArray] = {}
        self._first_prior_ns: int | None = None
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

    def note_sent(self, stamps_ns: Sequence[int], bag_ns: int) -> None:
        """Remember that the last image of an exposure is published now.

        Args:
            stamps_ns: Stamps of its images, that of the exposure first. A node that cannot use
                the image of the first camera answers with the stamp of another one.
            bag_ns: Now, on the clock of the bag.
        """
        with self._lock:
            self._sent[stamps_ns[0]] = (time.monotonic(), bag_ns)
            self._exposures.update(dict.fromkeys(stamps_ns, stamps_ns[0]))

    def note_prior(self, stamp_ns: int) -> None:
        """Remember for which stamp the first prior was given."""
        with self._lock:
            if self._first_prior_ns is None:
                self._first_prior_ns = stamp_ns

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
            begin = min((when for when, _ in self._sent.values()), default=0.0)
            outcomes = [
                self._outcome(stamp, *said) for stamp, said in sorted(self._statuses.items())
            ]
            order = sorted(self._covariances)
            return StreamRun(
                name,
                image_stamps_ns,
                tuple(outcomes),
                Trajectory.from_samples(self._poses),
                truth,
                max(self._last_answer - begin, 0.0),
                max((said.images_taken for said, _ in self._statuses.values()), default=0),
                np.stack([self._covariances[stamp] for stamp in order]) if order else None,
                self._first_prior_ns,
            )

    def _outcome(self, stamp: int, message: Any, arrived: float) -> FrameOutcome:
        sent, bag_ns = self._sent.get(stamp, (math.nan, stamp))
        latency_ms = 1e3 * (arrived - sent)
        return replace(outcome_of(message, latency_ms, bag_ns), stamp_ns=stamp)

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        pose = pose_from_message(message.pose.pose)
        covariance = np.array(message.pose.covariance, np.float64).reshape(6, 6)
        with self._lock:
            stamp = self._stamp_of(message)
            self._poses[stamp], self._covariances[stamp] = pose, covariance
            self._last_answer = time.monotonic()

    def _on_status(self, message: LocalizationStatus) -> None:
        with self._lock:
            arrived = time.monotonic()
            self._statuses[self._stamp_of(message)] = (message, arrived)
            self._last_answer = arrived

    def _on_confidence(self, message: Image) -> None:
        with self._lock:
            stamp = self._stamp_of(message)
        newest = max(self.confidence, default=-self._confidence_period_ns)
        if stamp - newest >= self._confidence_period_ns:
            flat = np.frombuffer(message.data, np.float32).copy()
            self.confidence[stamp] = flat.reshape(message.height, message.width)

    def _stamp_of(self, message: Any) -> int:
        """Stamp of the exposure that a message is about."""
        stamp = stamp_to_ns(message.header.stamp)
        return self._exposures.get(stamp, stamp)


def outcome_of(message: LocalizationStatus, latency_ms: float, sent_ns: int) -> FrameOutcome:
    """What a status says of its image.

    Args:
        message: The status.
        latency_ms: From the publication of the image to the status; NaN if unknown.
        sent_ns: Time of that publication on the clock of the bag.
    """
    late_ms = latency_ms if math.isfinite(latency_ms) else 0.0
    return FrameOutcome(
        stamp_ns=stamp_to_ns(message.header.stamp),
        status=STATUS_NAMES.get(message.status, f"status {message.status}"),
        reason=message.reason,
        score=message.score,
        latency_ms=latency_ms,
        answered_ns=sent_ns + round(1e6 * late_ms),
        stages=dict(zip(message.stages, map(float, message.stage_ms), strict=False)),
        state=STATE_NAMES.get(message.state, f"state {message.state}"),
        prior_source=message.prior_source,
    )

"""The localizer as a ROS 2 node: parameters to config, messages to the core, result to messages.

The executor's thread takes messages in; one worker thread opens the map and localizes the newest
image. Topics, transforms, parameters and diagnostics: docs/node.md.
"""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pixloc_core.errors import ConfigError, FrameError, PixlocError
from pixloc_core.localizer.localizer import LocalizerConfig
from pixloc_ros.conversions import (
    pose_from_initialpose,
    pose_to_stamped,
    pose_to_transform,
    stamp_to_ns,
)
from pixloc_ros.diagnostics import STATUS_NAMES, NodeState, diagnostics, status_message
from pixloc_ros.frames import TF_QOS, listen
from pixloc_ros.image_conversions import array_to_image
from pixloc_ros.image_pipeline import ImageItem, ImagePipeline, Localizes, Outcome
from pixloc_ros.interfaces import LocalizationStatus, TFMessage
from pixloc_ros.latest_worker import LatestWorker
from pixloc_ros.log_forwarding import Complaints, NodeLogHandler
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.opening import open_localizer
from pixloc_ros.parameters import declare, unknown_overrides
from pixloc_ros.pose_keeper import InitialPose, PoseKeeper
from pixloc_ros.transport import use_image_profile

LATCHED_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
DIAGNOSTICS_PERIOD_S = 1.0

Opener = Callable[[NodeConfig, LocalizerConfig], Localizes]


class LocalizerNode(Node):
    """Localizes the images of one camera in one map.

    Raises:
        ConfigError: If a parameter has the wrong type or is out of range.
    """

    def __init__(self, opener: Opener = open_localizer) -> None:
        """Start it; `opener` makes the localizer, in the worker's thread."""
        super().__init__("localizer")
        self.config = declare(self, NodeConfig)
        self._core_config = declare(self, LocalizerConfig, "localizer.")
        self._opener = opener
        self._log_handler = NodeLogHandler(self.get_logger())
        self._complaints = Complaints(self.get_logger())
        self._keeper = PoseKeeper(self.config.max_failures, self.config.prior_timeout)
        self._frames = listen(self, self.config.tf_history, self._on_refused)
        self._worker = LatestWorker(self._work, self._on_error, self._open)
        self._pipeline: ImagePipeline | None = None
        self._problem = ""
        self._outcome: Outcome | None = None
        self._latency_ms = 0.0
        self._localized = 0
        self._info: CameraInfo | None = None
        self._newest_ns = 0
        self._refused = ""
        self._reported = (time.monotonic(), 0)
        self._create_publishers()
        self._create_subscriptions()
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._report, clock=steady)
        if self.config.tf_broadcast:
            self.create_timer(1 / self.config.tf_rate, self._broadcast, clock=steady)
        for name in unknown_overrides(self):
            self.get_logger().warning(f"parameter {name} is not known and has no effect")
        self._worker.start()

    def _create_publishers(self) -> None:
        self._pose = self.create_publisher(PoseWithCovarianceStamped, "pose", LATCHED_QOS)
        self._status = self.create_publisher(LocalizationStatus, "status", 10)
        self._confidence = self.create_publisher(Image, "confidence", 1)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        if self.config.tf_broadcast:
            self._tf = self.create_publisher(TFMessage, "/tf", TF_QOS)
        edge = f"{self.config.global_frame_id} -> {self.config.odom_frame_id}"
        owner = "this node" if self.config.tf_broadcast else "somebody else (tf_broadcast is off)"
        self.get_logger().info(f"the transform {edge} is published by {owner}")

    def _create_subscriptions(self) -> None:
        compressed = self.config.image_transport == "compressed"
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self._subscribe_sensor(kind, topic, self._on_image)
        self._subscribe_sensor(CameraInfo, "camera_info", self._on_camera_info)
        self.create_subscription(
            PoseWithCovarianceStamped, "initialpose", self._on_initialpose, QoSProfile(depth=1)
        )

    def _subscribe_sensor(
        self, kind: type[Any], topic: str, callback: Callable[..., None]
    ) -> None:
        # rclpy writes overrides into the profile: each subscription needs one of its own.
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        overrides = QoSOverridingOptions.with_default_policies()
        self.create_subscription(kind, topic, callback, qos, qos_overriding_options=overrides)

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._newest_ns = stamp_to_ns(message.header.stamp)
        self._worker.put(ImageItem(message, self._info, time.monotonic()))

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._info = message

    def _on_initialpose(self, message: PoseWithCovarianceStamped) -> None:
        try:
            pose = pose_from_initialpose(message, self.config.global_frame_id)
        except FrameError as error:
            self._complaints.say("initialpose", f"{error}; ignored")
            return
        self._keeper.give(InitialPose(pose, stamp_to_ns(message.header.stamp)))
        self.get_logger().info("initialpose taken: the next image starts there")

    def _on_refused(self, reason: str) -> None:
        self._refused = reason
        self._complaints.say("transform", reason)

    def _open(self) -> None:
        started = time.monotonic()
        try:
            localizer = self._opener(self.config, self._core_config)
        except PixlocError as error:
            self._problem = str(error)
            raise
        self._pipeline = ImagePipeline(localizer, self._frames, self._keeper, self.config)
        self._problem = ""
        seconds = time.monotonic() - started
        self.get_logger().info(f"map {self.config.map} opened in {seconds:.2f} s")

    def _work(self, item: ImageItem) -> None:
        if self._pipeline is None:
            header = item.image.header
            outcome = Outcome(header, LocalizationStatus.BAD_INPUT, f"no map: {self._problem}")
        else:
            outcome = self._pipeline.run(item)
        if self.context.ok():
            self._publish(outcome, item)

    def _publish(self, outcome: Outcome, item: ImageItem) -> None:
        header, found = outcome.header, outcome.localization
        if outcome.map_from_base is not None and outcome.covariance is not None:
            frame = self.config.global_frame_id
            self._pose.publish(
                pose_to_stamped(outcome.map_from_base, outcome.covariance, frame, header.stamp)
            )
            self._localized += 1
        else:
            name = STATUS_NAMES[outcome.status]
            self._complaints.say(name, f"{name}: {outcome.reason}")
        self._outcome = outcome
        self._latency_ms = (time.monotonic() - item.arrived_s) * 1e3
        message = status_message(
            outcome,
            self._worker.counts,
            localized=self._localized,
            failures=self._keeper.failures,
            latency_ms=self._latency_ms,
        )
        self._status.publish(message)
        if found is not None and self._confidence.get_subscription_count():
            image = array_to_image(found.confidence_image(), "32FC1", header)
            self._confidence.publish(image)

    def _on_error(self, error: Exception) -> None:
        if not self.context.ok():
            return
        expected = isinstance(error, PixlocError)
        # An error nobody foresaw is ours: its name is part of the report.
        text = str(error) if expected else f"internal error: {type(error).__name__}: {error}"
        self._complaints.say(type(error).__name__, text)

    def _broadcast(self) -> None:
        map_from_odom = self._keeper.map_from_odom
        if map_from_odom is None:
            return
        date_ns = self._newest_ns + round(self.config.transform_tolerance * 1e9)
        frames = (self.config.global_frame_id, self.config.odom_frame_id)
        transform = pose_to_transform(map_from_odom, *frames, date_ns)
        self._tf.publish(TFMessage(transforms=[transform]))

    def _report(self) -> None:
        now, counts = time.monotonic(), self._worker.counts
        then, received = self._reported
        self._reported = (now, counts.received)
        state = NodeState(
            map_path=self.config.map,
            problem=self._problem,
            outcome=self._outcome,
            latency_ms=self._latency_ms,
            counts=counts,
            localized=self._localized,
            failures=self._keeper.failures,
            received_lately=counts.received - received,
            period_s=now - then,
            has_camera_info=self._info is not None,
            refused_transform=self._refused,
        )
        self._refused = ""
        message = DiagnosticArray(status=diagnostics(self.get_name(), state))
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def close(self) -> None:
        """Finish the image in work and stop."""
        self._worker.stop()
        self._log_handler.detach()
        self.destroy_node()


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; 2 if a parameter is wrong."""
    use_image_profile()
    rclpy.init(args=args)
    try:
        node = LocalizerNode()
    except ConfigError as error:
        get_logger("localizer").fatal(str(error))
        rclpy.try_shutdown()
        return 2
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)
    # Ctrl-C reaches a launched node twice: from the terminal and from ros2 launch.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    node.close()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

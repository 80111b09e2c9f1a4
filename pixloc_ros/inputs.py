"""The subscriptions of one activation: cameras, a filter's pose."""

import time
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pixloc_core.errors import FrameError
from pixloc_ros.conversions import rigid_from_initialpose, stamp_to_ns
from pixloc_ros.image_pipeline import AHEAD_NS
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.prior_poses import PoseBuffer, StampedPose
from pixloc_ros.reports import InputReport
from pixloc_ros.rig_messages import CameraMessage, RigMessage, RigSynchronizer


class Inputs:
    """Hears images and calibrations, and hands on the images of each exposure.

    Attributes:
        received: Images so far, of all cameras.
        newest_ns: Stamp of the newest image.
    """

    def __init__(
        self,
        node: Node,
        config: NodeConfig,
        prior_poses: PoseBuffer,
        on_exposure: Callable[[RigMessage], None],
        complain: Callable[[str, str], None],
    ) -> None:
        """Subscribe.

        Args:
            node: Subscribes.
            config: Names of cameras, transport.
            prior_poses: Takes in the topic prior_pose.
            on_exposure: Called with the images of each exposure, in the executor's thread.
            complain: Called with a key and a line about a message that is refused.
        """
        self._node, self._config = node, config
        self._prior_poses, self._complain = prior_poses, complain
        self._on_exposure = on_exposure
        self._synchronizer = RigSynchronizer(config.camera_names, config.sync_slop)
        self._infos: dict[str, CameraInfo] = {}
        self.newest_ns = 0
        self.received = self._reported = 0
        self._made: list[Any] = []
        for name in config.camera_names:
            self._subscribe_camera(name)
        qos = QoSProfile(depth=10)
        self._made.append(
            node.create_subscription(PoseWithCovarianceStamped, "prior_pose", self._on_prior, qos)
        )

    def close(self) -> None:
        """Take the subscriptions down."""
        for subscription in self._made:
            self._node.destroy_subscription(subscription)
        self._made.clear()

    def clear(self) -> None:
        """Forget what waits: time was set back."""
        self._synchronizer.clear()
        self._prior_poses.clear()
        self.newest_ns = 0

    def report(self) -> InputReport:
        """How it stands; the next report begins here."""
        lately, self._reported = self.received - self._reported, self.received
        rig = self._synchronizer
        return InputReport(
            *(self.received, lately, rig.given_up, self.uncalibrated, self.silent, rig.apart)
        )

    @property
    def uncalibrated(self) -> tuple[str, ...]:
        """Cameras without a camera_info so far."""
        return tuple(name for name in self._config.camera_names if name not in self._infos)

    @property
    def silent(self) -> tuple[str, ...]:
        """Cameras of a rig that deliver no images, while others do."""
        return self._synchronizer.silent if self._config.cameras else ()

    def _subscribe_camera(self, name: str) -> None:
        compressed = self._config.image_transport == "compressed"
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        prefix = f"{name}/" if name else ""

        def on_image(message: Image | CompressedImage) -> None:
            self._take(CameraMessage(name, message, self._infos.get(name)))

        def on_info(message: CameraInfo) -> None:
            self._infos[name] = message

        self._subscribe_sensor(kind, f"{prefix}{topic}", on_image)
        self._subscribe_sensor(CameraInfo, f"{prefix}camera_info", on_info)

    def _subscribe_sensor(
        self, kind: type[Any], topic: str, callback: Callable[..., None]
    ) -> None:
        # rclpy writes overrides into the profile: each subscription needs one of its own.
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        overrides = QoSOverridingOptions.with_default_policies()
        # The overrides are parameters, which stay when the subscription goes.
        made = self._node.create_subscription(
            kind, topic, callback, qos, qos_overriding_options=overrides
        )
        self._made.append(made)

    def _take(self, message: CameraMessage) -> None:
        self.received += 1
        now_ns = int(self._node.get_clock().now().nanoseconds)
        if message.stamp_ns - now_ns > AHEAD_NS:
            # It takes no part in anything but the status, which says what is wrong with it.
            self._on_exposure(RigMessage((message,), time.monotonic()))
            return
        self.newest_ns = message.stamp_ns
        exposure = self._synchronizer.add(message, time.monotonic())
        if exposure is not None:
            self._on_exposure(exposure)

    def _on_prior(self, message: PoseWithCovarianceStamped) -> None:
        try:
            pose = rigid_from_initialpose(message, self._config.global_frame_id, "prior_pose")
        except FrameError as error:
            self._complain("prior_pose", f"{error}; ignored")
            return
        self._prior_poses.add(StampedPose(stamp_to_ns(message.header.stamp), pose))

"""Everything that the node publishes about an exposure."""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseArray, PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry, Path
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header

from pixloc_core.geometry import Pose
from pixloc_core.localizer.fix import Fix
from pixloc_core.visualization.overlay import draw_evidence
from pixloc_ros.clouds import evidence_cloud, pose_array
from pixloc_ros.conversions import pose_to_stamped, pose_to_transform
from pixloc_ros.frames import TF_QOS
from pixloc_ros.image_conversions import array_to_image, message_to_array
from pixloc_ros.interfaces import LocalizationStatus, TFMessage
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.outcome import Outcome
from pixloc_ros.rig_messages import RigMessage
from pixloc_ros.twist import twist_between

LATCHED_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# A path of a thousand poses takes milliseconds to make, and is for people. In stamps.
_PATH_PERIOD_NS = 1_000_000_000
_Points = Callable[[np.ndarray], np.ndarray]


class Outputs:
    """The publishers of one activation; heavy messages are made only while somebody subscribes."""

    def __init__(self, node: Node, config: NodeConfig) -> None:
        """Create the publishers."""
        self._node, self._config = node, config
        self._made: list[Any] = []
        self._pose = self._publisher(PoseWithCovarianceStamped, "pose", LATCHED_QOS)
        self._odometry = self._publisher(Odometry, "odometry")
        self._path = self._publisher(Path, "path", LATCHED_QOS)
        self._status = self._publisher(LocalizationStatus, "status")
        self._points = self._publisher(PointCloud2, "map_points", 1)
        self._hypotheses = self._publisher(PoseArray, "hypotheses", 1)
        self._confidence, self._overlay = {}, {}
        for name in config.camera_names:
            prefix = f"{name}/" if name else ""
            self._confidence[name] = self._publisher(Image, f"{prefix}confidence", 1)
            self._overlay[name] = self._publisher(Image, f"{prefix}overlay", 1)
        self._tf = self._publisher(TFMessage, "/tf", TF_QOS) if config.tf_broadcast else None
        self._poses: deque[PoseStamped] = deque(maxlen=config.path_length)
        self._path_ns = -_PATH_PERIOD_NS
        self._last: tuple[Fix, np.ndarray] | None = None

    def _publisher(self, kind: type[Any], topic: str, qos: QoSProfile | int = 10) -> Any:
        made = self._node.create_publisher(kind, topic, qos)
        self._made.append(made)
        return made

    def close(self) -> None:
        """Take the publishers down."""
        for publisher in self._made:
            self._node.destroy_publisher(publisher)
        self._made.clear()

    def clear(self) -> None:
        """Forget the path: another map, or another time."""
        self._poses.clear()
        self._path_ns = -_PATH_PERIOD_NS
        self._last = None

    def start_again(self) -> None:
        """Another map: nobody who comes late may hear a pose of the old one."""
        self.clear()
        self._made.remove(self._pose)
        self._node.destroy_publisher(self._pose)
        self._pose = self._publisher(PoseWithCovarianceStamped, "pose", LATCHED_QOS)

    def interrupt(self) -> None:
        """An exposure has no pose: no velocity is taken across it."""
        self._last = None

    def publish_pictures(self, outcome: Outcome, item: RigMessage, points: _Points) -> None:
        """Publish what people look at, as far as somebody subscribes.

        Args:
            outcome: What became of an exposure.
            item: Its messages.
            points: Gives positions of map points.
        """
        self._publish_images(outcome, item)
        header = self._map_header(outcome)
        if outcome.published:
            self._publish_path(header, item.stamp_ns)
        found = outcome.localization
        if found is None:
            return
        if found.evidence is not None and self._points.get_subscription_count():
            positions = points(found.evidence.point_idx.numpy())
            self._points.publish(evidence_cloud(found.evidence, positions, header))
        if found.hypotheses is not None and self._hypotheses.get_subscription_count():
            assert outcome.base_from_cam is not None
            bases = found.hypotheses.inv() @ outcome.base_from_cam.inv()
            self._hypotheses.publish(pose_array(bases, header))

    def publish_status(self, message: LocalizationStatus) -> None:
        """Publish the status of an exposure."""
        self._status.publish(message)

    def broadcast(self, map_from_odom: Pose, newest_ns: int, tolerance_s: float) -> None:
        """Publish map -> odom, dated after the newest image."""
        if self._tf is None:
            return
        frames = (self._config.global_frame_id, self._config.odom_frame_id)
        stamp_ns = newest_ns + round(tolerance_s * 1e9)
        transform = pose_to_transform(map_from_odom, *frames, stamp_ns)
        self._tf.publish(TFMessage(transforms=[transform]))

    def _map_header(self, outcome: Outcome) -> Header:
        return Header(frame_id=self._config.global_frame_id, stamp=outcome.header.stamp)

    def publish_pose(self, outcome: Outcome, stamp_ns: int) -> None:
        """Publish pose and odometry of an exposure that was localized."""
        assert outcome.map_from_base is not None
        assert outcome.covariance is not None
        header = self._map_header(outcome)
        message = pose_to_stamped(
            outcome.map_from_base, outcome.covariance, header.frame_id, header.stamp
        )
        self._pose.publish(message)
        covariance = outcome.covariance.numpy()
        fix = Fix(stamp_ns, outcome.map_from_base, outcome.odom_from_base)
        if self._odometry.get_subscription_count():
            # Where it was carried to, the robot has not driven.
            last = None if outcome.decision.begins_anew else self._last
            twist = twist_between(last, (fix, covariance))
            odometry = Odometry(header=header, child_frame_id=self._config.base_frame_id)
            odometry.pose, odometry.twist = message.pose, twist
            self._odometry.publish(odometry)
        self._last = (fix, covariance)
        self._poses.append(PoseStamped(header=header, pose=message.pose.pose))

    def _publish_path(self, header: Header, stamp_ns: int) -> None:
        is_due = stamp_ns - self._path_ns >= _PATH_PERIOD_NS
        if is_due and self._path.get_subscription_count():
            self._path_ns = stamp_ns
            self._path.publish(Path(header=header, poses=list(self._poses)))

    def _publish_images(self, outcome: Outcome, item: RigMessage) -> None:
        found = outcome.localization
        if found is None:
            return
        cameras = zip(outcome.cameras, outcome.headers, found.views, strict=False)
        images = {message.name: message.image for message in item.cameras}
        for name, header, view in cameras:
            if self._confidence[name].get_subscription_count():
                picture = array_to_image(view.confidence_image(), "32FC1", header)
                self._confidence[name].publish(picture)
            if self._overlay[name].get_subscription_count():
                pixels = message_to_array(images[name])
                if view.evidence is not None:
                    pixels = draw_evidence(pixels, view.evidence)
                encoding = "rgb8" if pixels.ndim == 3 else "mono8"
                self._overlay[name].publish(array_to_image(pixels, encoding, header))

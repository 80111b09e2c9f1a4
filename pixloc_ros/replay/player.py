"""Play a rosbag2 over DDS at its own pace, with /clock; the messages themselves stay untouched.

python -m pixloc_ros.replay BAG [--rate 1.0] [--exclude /ground_truth]
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu

from pixloc_core.bags.messages import CAMERA_INFO
from pixloc_core.bags.reader import BagReader, RawMessage
from pixloc_core.config import check, setting
from pixloc_core.errors import PixlocError
from pixloc_ros.conversions import ns_to_stamp
from pixloc_ros.interfaces import TFMessage
from pixloc_ros.transport import use_image_profile

MESSAGE_TYPES: dict[str, Any] = {
    "geometry_msgs/msg/PoseStamped": PoseStamped,
    "geometry_msgs/msg/PoseWithCovarianceStamped": PoseWithCovarianceStamped,
    "nav_msgs/msg/Odometry": Odometry,
    "sensor_msgs/msg/CameraInfo": CameraInfo,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/Imu": Imu,
    "tf2_msgs/msg/TFMessage": TFMessage,
}
_LATCHED_TOPICS = ("/tf_static",)
_CLOCK_TOPIC = "/clock"
_CLOCK_PERIOD_S = 0.02
# Seconds between two looks at whether somebody listens.
_POLL_S = 0.02


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """How a bag is played."""

    rate: float = setting(1.0, doc="Speed; 2 plays in half the time.", ge=0.01, le=100.0)
    exclude: tuple[str, ...] = setting(
        ("/ground_truth",), doc="Topics that are not published: the localizer must not see them."
    )
    reliable: bool = setting(True, doc="Offer reliable delivery of images, too.")

    def __post_init__(self) -> None:
        check(self)


class Replayer:
    """Publishes a bag; sensible subscribers of either reliability match.

    Args:
        node: Publishes.
        bag: What to play. /clock is made here, one of the bag is never played.
        config: How.
    """

    def __init__(self, node: Node, bag: BagReader, config: ReplayConfig) -> None:
        self._bag, self._config, self._logger = bag, config, node.get_logger()
        self._clock = node.create_publisher(Clock, _CLOCK_TOPIC, 10)
        self._publishers: dict[str, Publisher] = {}
        for topic, kind in bag.topics.items():
            if topic in (*config.exclude, _CLOCK_TOPIC):
                continue
            message_type = MESSAGE_TYPES.get(kind)
            if message_type is None:
                self._logger.warning(f"not replayed: {topic} of type {kind}")
                continue
            self._publishers[topic] = node.create_publisher(message_type, topic, self._qos(topic))

    def wait_for_subscribers(
        self, topics: Iterable[str], timeout_s: float, alive: Callable[[], bool] = lambda: True
    ) -> str:
        """Wait until every one of these topics has a subscriber.

        Args:
            topics: Topics of the bag.
            timeout_s: Longest wait.
            alive: Ends the wait where it returns false.

        Returns:
            Nothing, or the first topic that nobody listens to.
        """
        deadline = time.monotonic() + timeout_s
        waiting = [topic for topic in topics if topic in self._publishers]
        while waiting and alive() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            waiting = [
                topic for topic in waiting if not self._publishers[topic].get_subscription_count()
            ]
        return waiting[0] if waiting else ""

    def announce(self) -> None:
        """Publish what a running robot has told already: the time, fixed transforms, calibration.

        Topics are not ordered among each other: without this the first image may come before its
        calibration.
        """
        self.publish_clock(self._bag.start_ns)
        for topic, publisher in self._publishers.items():
            if topic in _LATCHED_TOPICS or self._bag.topics[topic] == CAMERA_INFO:
                publisher.publish(next(self._bag.raw([topic])).cdr)

    def publish_clock(self, stamp_ns: int) -> None:
        """Publish the time."""
        self._clock.publish(Clock(clock=ns_to_stamp(stamp_ns)))

    def play(
        self,
        on_message: Callable[[RawMessage], None] = lambda _: None,
        stop: threading.Event | None = None,
    ) -> None:
        """Publish all messages at their time; returns at the end of the bag, or when stopped.

        Args:
            on_message: Called right before each message is published.
            stop: Ends the play.
        """
        stop = stop or threading.Event()
        begin = time.monotonic()
        for message in self._bag.raw(list(self._publishers)):
            self._wait_until(message.stamp_ns, begin, stop)
            if stop.is_set():
                return
            self.publish_clock(message.stamp_ns)
            on_message(message)
            self._publishers[message.topic].publish(message.cdr)

    def _wait_until(self, stamp_ns: int, begin: float, stop: threading.Event) -> None:
        """Let the time of the bag pass up to a stamp, telling it to everybody on the way."""
        due = begin + (stamp_ns - self._bag.start_ns) / 1e9 / self._config.rate
        while (left := due - time.monotonic()) > 0 and not stop.is_set():
            if left > _CLOCK_PERIOD_S:
                self.publish_clock(stamp_ns - round(left * 1e9 * self._config.rate))
            stop.wait(min(left, _CLOCK_PERIOD_S))

    def _qos(self, topic: str) -> QoSProfile:
        if topic in _LATCHED_TOPICS:
            return QoSProfile(
                depth=10,
                reliability=ReliabilityPolicy.RELIABLE,
                durability=DurabilityPolicy.TRANSIENT_LOCAL,
            )
        kind = self._bag.topics[topic]
        best_effort = not self._config.reliable and kind.startswith("sensor_msgs/msg/")
        reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
        return QoSProfile(depth=100 if "tf2_msgs" in kind else 10, reliability=reliability)


def main() -> int:
    """Play a bag from the command line; 0, or 2 if it cannot be read."""
    defaults = ReplayConfig()
    parser = argparse.ArgumentParser("replay", description="Play a rosbag2 over DDS, with /clock.")
    parser.add_argument("bag", type=Path, help="folder with metadata.yaml")
    parser.add_argument("--rate", type=float, default=defaults.rate)
    parser.add_argument("--exclude", nargs="*", default=list(defaults.exclude), metavar="TOPIC")
    parser.add_argument("--best-effort", action="store_true", help="as a camera driver does")
    parser.add_argument("--wait", type=float, default=10.0, help="seconds to wait for listeners")
    # A launch file adds arguments for ROS, which rclpy reads itself.
    args = parser.parse_args(remove_ros_args(sys.argv)[1:])
    try:
        config = ReplayConfig(
            rate=args.rate, exclude=tuple(args.exclude), reliable=not args.best_effort
        )
        bag = BagReader(args.bag)
    except PixlocError as error:
        sys.stderr.write(f"replay: {error}\n")
        return 2
    use_image_profile()
    rclpy.init()
    node = Node("replay")
    try:
        replayer = Replayer(node, bag, config)
        images = [topic for topic, kind in bag.topics.items() if kind.endswith("Image")]
        silent = replayer.wait_for_subscribers(images, args.wait)
        if silent:
            node.get_logger().warning(f"nobody listens to {silent}")
        replayer.announce()
        replayer.play()
    except KeyboardInterrupt:
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0

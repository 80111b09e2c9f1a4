"""What a bag tells besides images, heard up to a time: transforms, and the poses of a filter."""

from collections.abc import Callable

from rclpy.serialization import deserialize_message

from pixloc_core.bags.reader import BagReader, RawMessage
from pixloc_core.bags.topics import BagLayout
from pixloc_core.errors import FormatError, FrameError
from pixloc_core.geometry import Pose
from pixloc_ros.conversions import rigid_from_initialpose, stamp_to_ns
from pixloc_ros.frames import TreeFrames
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.prior_poses import PoseBuffer, StampedPose
from pixloc_ros.replay.player import MESSAGE_TYPES

POSE = "geometry_msgs/msg/PoseWithCovarianceStamped"


class _Stream:
    """Messages of some topics in the order of recording, each handed on once."""

    def __init__(
        self, bag: BagReader, topics: list[str], take: Callable[[RawMessage], None]
    ) -> None:
        self._take = take
        # Without a topic the reader would give all of them.
        self._coming = bag.raw(topics) if topics else iter(())
        self._next = next(self._coming, None)

    def hear_until(self, time_ns: int) -> None:
        """Hand on all messages recorded up to a time."""
        while self._next is not None and self._next.stamp_ns <= time_ns:
            self._take(self._next)
            self._next = next(self._coming, None)


class BagFrames:
    """Transforms of a bag. Those that are fixed are known from the beginning.

    Args:
        bag: The bag.
        layout: Its topics.
        history_s: How long transforms are remembered.
        complain: Told each transform that is refused.
    """

    def __init__(
        self,
        bag: BagReader,
        layout: BagLayout,
        history_s: float,
        complain: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.frames = TreeFrames(history_s, complain)
        self._static = layout.tf_static
        if self._static in bag.topics:
            for raw in bag.raw([self._static]):
                self._add(raw)
        moving = [layout.tf] if layout.tf in bag.topics else []
        self._stream = _Stream(bag, moving, self._add)

    def hear_until(self, time_ns: int) -> None:
        """Take in all transforms recorded up to a time."""
        self._stream.hear_until(time_ns)

    def _add(self, raw: RawMessage) -> None:
        message = deserialize_message(raw.cdr, MESSAGE_TYPES[raw.kind])
        self.frames.add_message(message, static=raw.topic == self._static)


class BagPriors:
    """Poses of a filter in a bag.

    Args:
        bag: The bag.
        layout: Its topics.
        config: How long poses are remembered, and their frame.
        complain: Told each pose that is refused.

    Attributes:
        poses: Those heard so far.
    """

    def __init__(
        self,
        bag: BagReader,
        layout: BagLayout,
        config: NodeConfig,
        complain: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.poses = PoseBuffer(config.tf_history)
        self._frame, self._complain = config.global_frame_id, complain
        self._topic = layout.prior_pose
        topics = [self._topic] if self._topic in bag.topics else []
        self._stream = _Stream(bag, topics, self._add)

    def hear_until(self, time_ns: int) -> None:
        """Take in all poses recorded up to a time."""
        self._stream.hear_until(time_ns)

    def _add(self, raw: RawMessage) -> None:
        message = deserialize_message(raw.cdr, MESSAGE_TYPES[raw.kind])
        try:
            rigid = rigid_from_initialpose(message, self._frame, self._topic)
        except FrameError as error:
            self._complain(str(error))
            return
        self.poses.add(StampedPose(stamp_to_ns(message.header.stamp), rigid))


def check_priors(bag: BagReader, layout: BagLayout, prior_source: str) -> None:
    """Whether the bag has the poses that the node is to hear.

    Raises:
        FormatError: If the topic is of another type, or is needed and not there.
    """
    topic = layout.prior_pose
    kind = bag.topics.get(topic)
    if kind not in (None, POSE):
        raise FormatError(f"{bag.path}: {topic} is of type {kind}, expected {POSE}")
    if prior_source == "topic" and not bag.counts.get(topic, 0):
        known = ", ".join(name for name, other in sorted(bag.topics.items()) if other == POSE)
        raise FormatError(
            f"{bag.path}: prior_source is topic, but nothing is on {topic!r} (bag.prior_pose); "
            f"topics of type {POSE}: {known or 'none'}"
        )


def find_mounting(bag: BagReader, layout: BagLayout, frame: str) -> Pose:
    """Where a camera sits, `base_from_cam`, through any chain of fixed transforms.

    Raises:
        FormatError: If there is none.
    """
    if layout.tf_static not in bag.topics:
        raise FormatError(f"{bag.path}: no topic {layout.tf_static!r} (bag.tf_static)")
    try:
        tree = BagFrames(bag, layout, 1.0).frames
        return tree.lookup(layout.base_frame, frame, None, 0.0)
    except FrameError as error:
        raise FormatError(
            f"{bag.path}: topic {layout.tf_static!r} holds no transform {layout.base_frame} <- "
            f"{frame} ({error})"
        ) from error

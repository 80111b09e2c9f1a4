"""Transforms at a stamp: from tf2_ros where it exists, else from a tree of our own.

Both answer the same two questions (`FrameSource`). The worker thread asks and may wait a bounded
time; the executor's thread feeds.
"""

import math
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import yaml
from rclpy.clock import JumpHandle, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time

from pixloc_core.errors import FrameError
from pixloc_core.geometry import Pose
from pixloc_ros.conversions import (
    pose_from_message,
    pose_from_rigid,
    rigid_from_message,
    stamp_to_ns,
)
from pixloc_ros.interfaces import TFMessage
from pixloc_ros.transform_tree import PastError, TransformTree

TF_QOS = QoSProfile(depth=100)
TF_STATIC_QOS = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# tf2 offers no event to wait for in Python; this is how often it is asked.
POLL_S = 0.005
# tf2 lists its frames as YAML only, and reading that may take longer than the rest of an image's
# preparation: a frame that is not there is not looked for again before this time.
_LIST_AGAIN_S = 0.5


class FrameSource(Protocol):
    """Where frames are, or were."""

    def lookup(self, target: str, source: str, stamp_ns: int | None, timeout_s: float) -> Pose:
        """`target_from_source` (float64) at a stamp, or the newest (None).

        Raises:
            FrameError: If it is not known within the timeout (wall time).
        """
        ...

    def knows(self, frame: str) -> bool:
        """Whether the frame has been heard of."""
        ...


class TreeFrames:
    """The stand-in: a `TransformTree` fed from /tf and /tf_static.

    Transforms that are not finite or not rotations are refused, and the refusal is part of the
    message when a lookup fails.
    """

    def __init__(self, history_s: float, on_refused: Callable[[str], None]) -> None:
        """Make one without subscriptions.

        Args:
            history_s: How long transforms are kept.
            on_refused: Told each refusal, in the executor's thread.
        """
        self._tree = TransformTree(history_s)
        self._changed = threading.Condition()
        self._on_refused = on_refused
        self._refused: dict[str, str] = {}
        self.jump_handle: JumpHandle | None = None

    def add_message(self, message: TFMessage, *, static: bool) -> None:
        """Take in a message of /tf or /tf_static."""
        with self._changed:
            for item in message.transforms:
                parent, child = item.header.frame_id, item.child_frame_id
                try:
                    rigid = rigid_from_message(item.transform)
                    self._tree.add(
                        parent, child, stamp_to_ns(item.header.stamp), rigid, static=static
                    )
                    self._refused.pop(child, None)
                except FrameError as error:
                    self._refused[child] = f"refused {parent} <- {child}: {error}"
                    self._on_refused(self._refused[child])
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget everything but the static transforms: time has been set back."""
        with self._changed:
            self._tree.clear()

    def knows(self, frame: str) -> bool:
        """See `FrameSource.knows`."""
        with self._changed:
            return self._tree.knows(frame)

    def lookup(self, target: str, source: str, stamp_ns: int | None, timeout_s: float) -> Pose:
        """See `FrameSource.lookup`."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                try:
                    return pose_from_rigid(self._tree.lookup(target, source, stamp_ns))
                except FrameError as error:
                    left = deadline - time.monotonic()
                    if left <= 0 or isinstance(error, PastError):
                        note = "".join(f"; {reason}" for reason in self._refused.values())
                        raise FrameError(f"{error}{note}") from None
                self._changed.wait(left)


class Tf2Frames:
    """tf2's own buffer behind the same interface."""

    def __init__(self, buffer: Any, listener: Any, exceptions: type[Exception]) -> None:
        """Wrap a buffer.

        Args:
            buffer: tf2_ros.Buffer.
            listener: tf2_ros.TransformListener that fills it; kept alive.
            exceptions: tf2_ros.TransformException.
        """
        self._buffer = buffer
        self._listener = listener
        self._exceptions = exceptions
        self._known: frozenset[str] = frozenset()
        self._listed_s = -math.inf
        self.jump_handle: JumpHandle | None = None

    def clear(self) -> None:
        """Forget everything but the static transforms: time has been set back."""
        self._buffer.clear()
        self._known, self._listed_s = frozenset(), -math.inf

    def knows(self, frame: str) -> bool:
        """See `FrameSource.knows`; a new frame is known after half a second at the latest."""
        now = time.monotonic()
        if frame not in self._known and now - self._listed_s >= _LIST_AGAIN_S:
            self._known, self._listed_s = self._list(), now
        return frame in self._known

    def _list(self) -> frozenset[str]:
        # By child, each with its parent; a root stands nowhere but there. A list if empty.
        edges = dict(yaml.safe_load(self._buffer.all_frames_as_yaml()) or {})
        return frozenset(edges) | {edge["parent"] for edge in edges.values()}

    def lookup(self, target: str, source: str, stamp_ns: int | None, timeout_s: float) -> Pose:
        """See `FrameSource.lookup`."""
        stamp = Time(nanoseconds=stamp_ns or 0)
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                found = self._buffer.lookup_transform(target, source, stamp)
                return pose_from_message(found.transform)
            except self._exceptions as error:
                if time.monotonic() >= deadline:
                    raise FrameError(" ".join(str(error).split())) from error
            time.sleep(POLL_S)


def listen(
    node: Node,
    history_s: float,
    on_refused: Callable[[str], None],
    on_set_back: Callable[[], None] = lambda: None,
) -> TreeFrames | Tf2Frames:
    """Frames as heard by a node from now on; forgotten when its clock is set back.

    Args:
        node: Listens.
        history_s: How long transforms are kept.
        on_refused: Told each transform that is refused, in the executor's thread.
        on_set_back: Called when the clock was set back.
    """
    try:
        import tf2_ros
    except ImportError:
        frames: TreeFrames | Tf2Frames = _listen_with_tree(node, history_s, on_refused)
    else:
        buffer = tf2_ros.Buffer(cache_time=Duration(seconds=history_s))
        listener = tf2_ros.TransformListener(buffer, node, spin_thread=False)
        frames = Tf2Frames(buffer, listener, tf2_ros.TransformException)

    def forget(jump: TimeJump) -> None:
        node.get_logger().warning("time was set back: transforms are forgotten")
        frames.clear()
        on_set_back()

    threshold = JumpThreshold(
        min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False
    )
    # The clock calls into freed memory once this handle is gone.
    frames.jump_handle = node.get_clock().create_jump_callback(threshold, post_callback=forget)
    return frames


def _listen_with_tree(
    node: Node, history_s: float, on_refused: Callable[[str], None]
) -> TreeFrames:
    frames = TreeFrames(history_s, on_refused)
    for topic, qos, static in (("/tf", TF_QOS, False), ("/tf_static", TF_STATIC_QOS, True)):

        def add(message: TFMessage, static: bool = static) -> None:
            frames.add_message(message, static=static)

        node.create_subscription(TFMessage, topic, add, qos)
    return frames

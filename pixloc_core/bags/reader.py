"""Read rosbag2 files of one camera on a robot."""

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.errors import ReaderError

from pixloc_core.bags import messages
from pixloc_core.bags.trajectory import NANOSECONDS, Stamps, Trajectory
from pixloc_core.errors import FormatError
from pixloc_core.geometry import Camera, Pose

# A header stands first in its message: encapsulation (4 bytes), then seconds and nanoseconds.
STAMP_PLACE = 4


@dataclass(frozen=True)
class RawMessage:
    """One message as it stands in the bag.

    Attributes:
        topic: Its topic.
        kind: Its type, `package/msg/Name`.
        stamp_ns: Time of recording.
        cdr: Serialized content.
    """

    topic: str
    kind: str
    stamp_ns: int
    cdr: bytes

    @property
    def header_ns(self) -> int:
        """Header stamp of a message that begins with a header; of others it means nothing."""
        seconds, rest = struct.unpack_from(stamp_format(self.cdr), self.cdr, STAMP_PLACE)
        return int(seconds) * NANOSECONDS + int(rest)


def stamp_format(cdr: bytes | bytearray) -> str:
    """How seconds and nanoseconds are packed: the second byte tells the order of bytes."""
    return "<iI" if cdr[1] & 1 else ">iI"


class BagReader:
    """A rosbag2 folder. Every method opens it anew, so that readers can be passed around.

    Args:
        path: The folder that holds `metadata.yaml`.

    Raises:
        FormatError: If it is not a readable bag.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _check_folder(path)
        try:
            with Reader(path) as reader:
                self.topics = {c.topic: c.msgtype for c in reader.connections}
                self.counts = {name: info.msgcount for name, info in reader.topics.items()}
                # The end of rosbags lies one nanosecond behind the last message.
                self.start_ns, self.end_ns = reader.start_time, reader.end_time - 1
        except (ReaderError, OSError, AssertionError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise FormatError(f"{path}: not a readable rosbag2 folder ({reason})") from error

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last message."""
        return (self.end_ns - self.start_ns) / 1e9

    def raw(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Messages of these topics (all without them) in the order of recording.

        Raises:
            FormatError: If a topic is not in the bag.
        """
        for topic in topics or ():
            if topic not in self.topics:
                known = ", ".join(sorted(self.topics))
                raise FormatError(f"{self.path}: no topic {topic!r}, the bag holds {known}")
        with Reader(self.path) as reader:
            wanted = [c for c in reader.connections if topics is None or c.topic in topics]
            for connection, stamp, cdr in reader.messages(wanted) if wanted else ():
                yield RawMessage(connection.topic, connection.msgtype, stamp, bytes(cdr))

    def messages(self, topic: str) -> Iterator[Any]:
        """Deserialized messages of one topic."""
        store = messages.typestore()
        for raw in self.raw([topic]):
            yield store.deserialize_cdr(raw.cdr, raw.kind)

    def trajectory(self, topic: str) -> Trajectory:
        """Poses of a topic by header stamp: PoseStamped, one with covariance, or Odometry.

        Raises:
            FormatError: If the topic is missing or holds something else.
        """
        try:
            samples = {messages.stamp_of(m): messages.read_pose(m) for m in self.messages(topic)}
        except AttributeError as error:
            kind = self.topics[topic]
            raise FormatError(f"{self.path}: {topic} of type {kind} holds no poses") from error
        return Trajectory.from_samples(samples)

    def transforms(self, topic: str, parent: str, child: str) -> Trajectory:
        """`parent_from_child` of a TF topic, by header stamp."""
        return Trajectory.from_samples(
            {
                messages.stamp_of(transform): messages.read_pose(transform)
                for message in self.messages(topic)
                for transform in message.transforms
                if (transform.header.frame_id, transform.child_frame_id) == (parent, child)
            }
        )

    def static_transform(self, topic: str, parent: str, child: str) -> Pose:
        """The last `parent_from_child` (batch shape ()) of a static TF topic.

        Raises:
            FormatError: If there is none.
        """
        found = self.transforms(topic, parent, child)
        if not len(found):
            raise FormatError(
                f"{self.path}: topic {topic!r} holds no transform {parent} <- {child}"
            )
        return found.poses[len(found) - 1]

    def camera(self, topic: str) -> Camera:
        """Camera of the first CameraInfo.

        Raises:
            FormatError: If there is none.
        """
        for message in self.messages(topic):
            return Camera.from_camera_info(message)
        raise FormatError(f"{self.path}: topic {topic!r} holds no camera calibration")

    def image_stamps(self, topic: str) -> Stamps:
        """Header stamps of all images, in nanoseconds, in the order of recording."""
        return np.array([raw.header_ns for raw in self.raw([topic])], dtype=np.int64)

    def images(
        self, topic: str, stamps_ns: Collection[int]
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Stamp and RGB pixels of the images with these header stamps."""
        wanted = set(stamps_ns)
        for message in self.messages(topic):
            stamp = messages.stamp_of(message)
            if stamp in wanted:
                yield stamp, messages.read_image(message)


def _check_folder(path: Path) -> None:
    metadata = path / "metadata.yaml"
    if metadata.is_file():
        return
    found = "no such folder"
    if path.is_file():
        found = "a file"
    elif path.is_dir():
        found = f"there is no {metadata}"
    raise FormatError(f"{path}: not a rosbag2 folder, {found} (expected the folder of a bag)")

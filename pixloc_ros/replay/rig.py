"""The cameras of a replay: their topics in the bag, and the exposures that their images make."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from pixloc_core.bags.messages import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE
from pixloc_core.bags.reader import BagReader, RawMessage
from pixloc_core.bags.topics import BagLayout
from pixloc_core.bags.trajectory import Stamps
from pixloc_core.errors import ConfigError, FormatError
from pixloc_core.geometry import Camera
from pixloc_ros.conversions import ns_to_stamp
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.replay.player import MESSAGE_TYPES
from pixloc_ros.rig_messages import CameraMessage, RigMessage, RigSynchronizer

NAME = "{camera}"
_DEFAULTS = BagLayout()


@dataclass(frozen=True)
class BagCamera:
    """One camera in a bag.

    Attributes:
        name: As in the parameter `cameras`; empty for a single one.
        image: Topic of its images.
        camera_info: Topic of its calibration.
        kind: Type of the images.
        frame: Its optical frame.
    """

    name: str
    image: str
    camera_info: str
    kind: str
    frame: str


@dataclass(frozen=True)
class Arrival:
    """An exposure on its way to the node.

    Attributes:
        exposure: Its images.
        last: The image that completed it, as it stands in the bag.
    """

    exposure: RigMessage
    last: RawMessage

    @property
    def arrived_ns(self) -> int:
        """When it was complete, on the clock of the bag."""
        return self.last.stamp_ns


@dataclass(frozen=True)
class BagRig:
    """The cameras of a bag; a single one is a rig, too.

    Attributes:
        cameras: At least one.
        sync_slop: Largest difference of stamps within an exposure, seconds.
    """

    cameras: tuple[BagCamera, ...]
    sync_slop: float

    @property
    def image_topics(self) -> tuple[str, ...]:
        """Topics of the images."""
        return tuple(camera.image for camera in self.cameras)

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics of images and calibrations."""
        return (*self.image_topics, *(camera.camera_info for camera in self.cameras))

    @property
    def transport(self) -> str:
        """`image_transport` of the node."""
        return "raw" if self.cameras[0].kind == IMAGE else "compressed"

    @property
    def remappings(self) -> dict[str, str]:
        """Topics of the bag by the names that the node has for them."""
        names = {}
        for camera in self.cameras:
            prefix = f"{camera.name}/" if camera.name else ""
            names[f"{prefix}image"] = names[f"{prefix}image/compressed"] = camera.image
            names[f"{prefix}camera_info"] = camera.camera_info
        return names

    def arrivals(self, bag: BagReader) -> Iterator[Arrival]:
        """Exposures in the order of their arrival, each image with the newest calibration.

        A calibration that is recorded only behind the first image holds from the beginning: a
        robot that runs has told it already.
        """
        by_topic = {camera.camera_info: camera.name for camera in self.cameras}
        infos = {by_topic[topic]: _read(next(bag.raw([topic]))) for topic in by_topic}

        def take(raw: RawMessage, name: str) -> CameraMessage | None:
            message = _read(raw)
            if raw.kind == CAMERA_INFO:
                infos[name] = message
                return None
            return CameraMessage(name, message, infos[name])

        return self._group(bag, self.topics, take)

    def stamps(self, bag: BagReader) -> Stamps:
        """Stamps of all exposures, in the order of their arrival."""
        stamps = [arrival.exposure.stamp_ns for arrival in self.outlines(bag)]
        return np.array(stamps, dtype=np.int64)

    def outlines(self, bag: BagReader) -> Iterator[Arrival]:
        """As `arrivals`, with messages that are nothing but stamps."""

        def take(raw: RawMessage, name: str) -> CameraMessage:
            header = Header(stamp=ns_to_stamp(raw.header_ns))
            return CameraMessage(name, Image(header=header), None)

        return self._group(bag, self.image_topics, take)

    def _group(
        self,
        bag: BagReader,
        topics: tuple[str, ...],
        take: Callable[[RawMessage, str], CameraMessage | None],
    ) -> Iterator[Arrival]:
        """What the node's own synchronizer makes of the images."""
        synchronizer = RigSynchronizer(tuple(c.name for c in self.cameras), self.sync_slop)
        names = {topic: c.name for c in self.cameras for topic in (c.image, c.camera_info)}
        for raw in bag.raw(topics):
            message = take(raw, names[raw.topic])
            exposure = message and synchronizer.add(message, raw.stamp_ns / 1e9)
            if exposure is not None:
                yield Arrival(exposure, raw)


def find_rig(bag: BagReader, layout: BagLayout, config: NodeConfig) -> BagRig:
    """The cameras of a bag, as parameters and layout name them.

    Args:
        bag: The bag.
        layout: Topics. `{camera}` stands for the name of each camera of a rig; where the layout
            says nothing, they are those of a node in the root namespace: `/NAME/image` or
            `/NAME/image/compressed`, and `/NAME/camera_info`.
        config: Names of the cameras, their frames and how much their stamps may differ.

    Raises:
        ConfigError: If topics of the layout do not tell the cameras apart.
        FormatError: If a camera has no images or no calibration, or the cameras do not fit
            together.
    """
    cameras = tuple(_find_camera(bag, layout, config, name) for name in config.camera_names)
    kinds = {camera.kind for camera in cameras}
    if len(kinds) > 1:
        told = ", ".join(f"{camera.image} {camera.kind}" for camera in cameras)
        raise FormatError(f"{bag.path}: {told}; expected images of one type")
    return BagRig(cameras, config.sync_slop)


def _find_camera(bag: BagReader, layout: BagLayout, config: NodeConfig, name: str) -> BagCamera:
    words = ("image", "image/compressed")
    preferred = words[::-1] if config.image_transport == "compressed" else words
    image = _find_topic(bag, name, config, "image", layout.image, preferred)
    info = _find_topic(bag, name, config, "camera_info", layout.camera_info, ("camera_info",))
    _check_kind(bag, image, (IMAGE, COMPRESSED_IMAGE))
    _check_kind(bag, info, (CAMERA_INFO,))
    try:
        rectified = config.image_is_rectified
        Camera.from_camera_info(next(bag.messages(info)), rectified=rectified)
    except FormatError as error:
        raise FormatError(f"{bag.path}: {info}: {error}") from error
    frame = layout.camera_frame.replace(NAME, name)
    if layout.camera_frame == _DEFAULTS.camera_frame:
        override = "" if config.cameras else config.camera_frame_id
        frame = override or _read(next(bag.raw([image]))).header.frame_id
    return BagCamera(name, image, info, bag.topics[image], frame)


def _find_topic(
    bag: BagReader,
    name: str,
    config: NodeConfig,
    setting: str,
    pattern: str,
    words: tuple[str, ...],
) -> str:
    """Topic of one camera, which holds something.

    Args:
        bag: The bag.
        name: The camera.
        config: Knows how many cameras there are.
        setting: Which one of the layout.
        pattern: Its value.
        words: Last parts of the topic where the layout says nothing, the preferred one first.
    """
    choices = [pattern.replace(NAME, name)]
    if config.cameras and NAME not in pattern:
        if pattern == getattr(_DEFAULTS, setting):
            choices = [f"/{name}/{word}" for word in words]
        elif len(config.cameras) > 1:
            raise ConfigError(
                f"bag.{setting} is {pattern!r} for {len(config.cameras)} cameras, expected "
                f"{NAME} in it, which stands for their names"
            )
    found = [topic for topic in choices if bag.counts.get(topic, 0)]
    if not found:
        whose = f" of camera {name}" if name else ""
        known = ", ".join(sorted(topic for topic, count in bag.counts.items() if count))
        raise FormatError(
            f"{bag.path}: no {setting}{whose}: nothing on {' or '.join(map(repr, choices))} "
            f"(bag.{setting}), the bag holds {known}"
        )
    return found[0]


def _check_kind(bag: BagReader, topic: str, kinds: tuple[str, ...]) -> None:
    if bag.topics[topic] not in kinds:
        raise FormatError(
            f"{bag.path}: {topic} is of type {bag.topics[topic]}, expected {' or '.join(kinds)}"
        )


def _read(raw: RawMessage) -> Any:
    return deserialize_message(raw.cdr, MESSAGE_TYPES[raw.kind])

"""Write rosbag2 files (MCAP) of one camera on a robot with odometry."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError

from pixloc_core.bags import messages
from pixloc_core.bags.topics import BagLayout
from pixloc_core.bags.trajectory import Trajectory
from pixloc_core.errors import FormatError
from pixloc_core.geometry import Camera, Pose

ImageSource = Path | NDArray[np.uint8]
_FOREVER = QosTime(sec=9223372036, nsec=854775807)
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class CameraFrame:
    """One exposure.

    Attributes:
        stamp_ns: Time of exposure.
        image: A JPEG file, copied as it is; another image file or RGB pixels, encoded anew.
        camera: Its intrinsics.
    """

    stamp_ns: int
    image: ImageSource
    camera: Camera


@dataclass(frozen=True)
class Recording:
    """All that goes into a bag.

    Attributes:
        frames: Exposures.
        map_from_base: Ground truth, published at its own stamps on its own topic.
        odom_from_base: Odometry.
        base_from_camera: Where the camera sits, batch shape ().
    """

    frames: tuple[CameraFrame, ...]
    map_from_base: Trajectory
    odom_from_base: Trajectory
    base_from_camera: Pose


def write_bag(path: Path, recording: Recording, layout: BagLayout | None = None) -> None:
    """Write a recording, its messages in the order of time.

    Raises:
        FormatError: If the folder exists already, or an image cannot be read.
    """
    layout = layout or BagLayout()
    with new_writer(path) as writer:
        _write(writer, recording, layout)


@contextmanager
def new_writer(path: Path) -> Iterator[Writer]:
    """An open writer of a new bag (MCAP), closed behind its `with` block.

    The bag is made in the folder `PATH.partial`, and appears under its name when all of it is
    there. What is left of one that was not finished is removed, at the latest by the next try.
    `Writer.path` is where it is made: other files may be put beside the messages.

    Raises:
        FormatError: If the folder exists already, or cannot be written.
    """
    if path.exists():
        raise FormatError(f"{path}: exists already, not overwriting")
    partial = path.with_name(f"{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        # The folder gives the files their names: it must be called as in the end.
        with Writer(partial / path.name, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            yield writer
        (partial / path.name).rename(path)
    except OSError as error:
        raise FormatError(f"{path}: cannot be written ({error.strerror or error})") from error
    except WriterError as error:
        raise FormatError(f"{path}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def encode_jpeg(image: ImageSource) -> NDArray[np.uint8]:
    """Bytes of a JPEG file: those of the file itself where it is one.

    Raises:
        FormatError: If the image cannot be read.
    """
    if isinstance(image, Path):
        try:
            stored = np.fromfile(image, np.uint8)
        except OSError as error:
            raise FormatError(f"{image}: cannot read the image ({error.strerror})") from error
        if stored[:2].tobytes() == b"\xff\xd8":
            return stored
        pixels = cv2.imdecode(stored, cv2.IMREAD_COLOR) if stored.size else None
        if pixels is None:
            raise FormatError(f"{image}: not a readable image ({stored.size} bytes)")
    else:
        pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return np.asarray(encoded, np.uint8).reshape(-1)


def _write(writer: Writer, recording: Recording, layout: BagLayout) -> None:
    types = messages.typestore()
    topics = [
        (layout.tf_static, messages.TF_MESSAGE, True),
        (layout.tf, messages.TF_MESSAGE, False),
        (layout.ground_truth, messages.POSE_STAMPED, False),
        (layout.camera_info, messages.CAMERA_INFO, False),
        (layout.image, messages.COMPRESSED_IMAGE, False),
    ]
    connections = {
        topic: writer.add_connection(
            topic, kind, typestore=types, offered_qos_profiles=[offered_qos(latched=latched)]
        )
        for topic, kind, latched in topics
    }
    kinds = {topic: kind for topic, kind, _ in topics}
    order = sorted(_schedule(recording, layout), key=lambda entry: entry[0])
    for stamp_ns, topic, build in order:
        raw = types.serialize_cdr(build(), kinds[topic])
        writer.write(connections[topic], stamp_ns, bytes(raw))


def _schedule(recording: Recording, layout: BagLayout) -> Iterator[tuple[int, str, Any]]:
    """Stamp, topic and builder of every message; equal stamps keep this order in the bag."""
    begin = min(frame.stamp_ns for frame in recording.frames)
    begin = min(begin, *(int(t.stamps_ns[0]) for t in (recording.odom_from_base,)))

    def transform(stamp: int, frames: tuple[str, str], pose: Pose) -> Any:
        return lambda: messages.transform_message(stamp, *frames, pose)

    def truth(stamp: int, pose: Pose) -> Any:
        return lambda: messages.pose_stamped(stamp, layout.map_frame, pose)

    def image(frame: CameraFrame) -> Any:
        return lambda: messages.compressed_image(
            frame.stamp_ns, layout.camera_frame, encode_jpeg(frame.image)
        )

    def calibration(frame: CameraFrame) -> Any:
        return lambda: messages.camera_info(frame.stamp_ns, layout.camera_frame, frame.camera)

    mounting = (layout.base_frame, layout.camera_frame)
    yield begin, layout.tf_static, transform(begin, mounting, recording.base_from_camera)
    for index, stamp in enumerate(recording.odom_from_base.stamps_ns.tolist()):
        pose = recording.odom_from_base.poses[index]
        yield stamp, layout.tf, transform(stamp, (layout.odom_frame, layout.base_frame), pose)
    for index, stamp in enumerate(recording.map_from_base.stamps_ns.tolist()):
        yield stamp, layout.ground_truth, truth(stamp, recording.map_from_base.poses[index])
    for frame in recording.frames:
        yield frame.stamp_ns, layout.camera_info, calibration(frame)
        yield frame.stamp_ns, layout.image, image(frame)


def offered_qos(*, latched: bool) -> Qos:
    """The reliable profile that topics are recorded with; fixed transforms are latched."""
    durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=durability,
        deadline=_FOREVER,
        lifespan=_FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_FOREVER,
        avoid_ros_namespace_conventions=False,
    )

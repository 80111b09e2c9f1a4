"""Bags of a drive in the toy room that hold more: a rig of cameras, the poses of a filter."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from toy_drive import ToyDrive
from toy_world import ToyWorld

from pixloc_core.bags import messages
from pixloc_core.bags.reader import BagReader
from pixloc_core.bags.sequence import base_from_camera
from pixloc_core.bags.topics import BagLayout
from pixloc_core.bags.writer import encode_jpeg, new_writer, offered_qos
from pixloc_core.geometry import Pose

LAYOUT = BagLayout()
POSE = "geometry_msgs/msg/PoseWithCovarianceStamped"
MS = 1_000_000
# Images of the second camera are so much later.
RIG_OFFSET_NS = 2 * MS
# Time of recording, topic, type, serialized message.
Entry = tuple[int, str, str, bytes]


def write_entries(path: Path, entries: Iterable[Entry]) -> BagReader:
    """A bag of messages, put into the order of time."""
    order = sorted(entries, key=lambda entry: entry[0])
    with new_writer(path) as writer:
        connections: dict[str, Any] = {}
        for stamp_ns, topic, kind, cdr in order:
            if topic not in connections:
                qos = offered_qos(latched=topic == LAYOUT.tf_static)
                connections[topic] = writer.add_connection(
                    topic, kind, typestore=messages.typestore(), offered_qos_profiles=[qos]
                )
            writer.write(connections[topic], stamp_ns, cdr)
    return BagReader(path)


def copied(bag: BagReader, topics: Iterable[str] | None = None) -> list[Entry]:
    """Messages of a bag."""
    chosen = None if topics is None else list(topics)
    return [(raw.stamp_ns, raw.topic, raw.kind, raw.cdr) for raw in bag.raw(chosen)]


def entry(stamp_ns: int, topic: str, kind: str, message: Any) -> Entry:
    """A message to be written."""
    return stamp_ns, topic, kind, bytes(messages.typestore().serialize_cdr(message, kind))


def mountings() -> dict[str, Pose]:
    """`base_from_cam` of the two cameras: the second one 15 cm to the left."""
    aside = torch.tensor([0.0, 0.15, 0.0], dtype=torch.float64)
    beside = Pose.from_Rt(torch.eye(3, dtype=torch.float64), aside)
    return {"cam0": base_from_camera(), "cam1": beside @ base_from_camera()}


def rig_entries(drive: ToyDrive, *, raw: bool = False, blind: str = "") -> list[Entry]:
    """The drive with two cameras on /cam0/... and /cam1/..., their frames named like them.

    Args:
        drive: Odometry and truth are its own.
        raw: Images as they are, not compressed.
        blind: A camera whose images are black.
    """
    world, entries = ToyWorld(), copied(BagReader(drive.bag), [LAYOUT.tf, LAYOUT.ground_truth])
    begin = min(stamp for stamp, *_ in entries)
    static = [
        messages.transform_message(begin, LAYOUT.base_frame, name, pose).transforms[0]
        for name, pose in mountings().items()
    ]
    both = messages.typestore().types[messages.TF_MESSAGE](transforms=static)
    entries.append(entry(begin, LAYOUT.tf_static, messages.TF_MESSAGE, both))
    truth = drive.map_from_base
    for place, (name, mounting) in enumerate(mountings().items()):
        for index, exposed_ns in enumerate(truth.stamps_ns.tolist()):
            stamp = exposed_ns + place * RIG_OFFSET_NS
            pixels = world.render((truth.poses[index] @ mounting).inv())[0]
            entries.append(_image(stamp, name, pixels * (name != blind), raw=raw))
            info = messages.camera_info(stamp, name, world.camera)
            entries.append(entry(stamp, f"/{name}/camera_info", messages.CAMERA_INFO, info))
    return entries


def _image(stamp: int, name: str, pixels: np.ndarray, *, raw: bool) -> Entry:
    if not raw:
        message = messages.compressed_image(stamp, name, encode_jpeg(pixels))
        return entry(stamp, f"/{name}/image/compressed", messages.COMPRESSED_IMAGE, message)
    height, width, _ = pixels.shape
    header = messages.pose_stamped(stamp, name, Pose.identity(dtype=torch.float64)).header
    message = messages.typestore().types[messages.IMAGE](
        header=header,
        height=height,
        width=width,
        encoding="bgr8",
        is_bigendian=0,
        step=3 * width,
        data=np.ascontiguousarray(pixels[..., ::-1]).reshape(-1),
    )
    return entry(stamp, f"/{name}/image", messages.IMAGE, message)


def prior_entries(
    drive: ToyDrive, *, ahead_ns: int, topic: str = LAYOUT.prior_pose, off_m: float = 0.03
) -> list[Entry]:
    """A filter's poses, one so much ahead of each image, off by some centimetres."""
    entries = []
    types = messages.typestore().types
    stamps = drive.map_from_base.stamps_ns - ahead_ns
    inside = stamps >= drive.map_from_base.stamps_ns[0]
    poses, known = drive.map_from_base.at(stamps[inside])
    assert bool(np.all(known))
    for index, stamp in enumerate(stamps[inside].tolist()):
        posed = messages.pose_stamped(stamp, LAYOUT.map_frame, poses[index])
        posed.pose.position.x += off_m
        body = types["geometry_msgs/msg/PoseWithCovariance"](
            pose=posed.pose, covariance=np.eye(6).reshape(-1) * off_m**2
        )
        entries.append(entry(stamp, topic, POSE, types[POSE](header=posed.header, pose=body)))
    return entries

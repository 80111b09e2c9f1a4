"""Poses, covariances, stamps and cameras: between ROS messages and the core.

Images are in `image_conversions.py`. The mathematics of the covariance is in docs/covariance.md.
"""

import logging
import math
from typing import Any

import torch
from builtin_interfaces.msg import Time
from geometry_msgs.msg import (
    Point,
    PoseWithCovarianceStamped,
    Quaternion,
    TransformStamped,
    Vector3,
)
from geometry_msgs.msg import Pose as PoseMessage
from sensor_msgs.msg import CameraInfo

from pixloc_core.errors import FormatError, FrameError
from pixloc_core.geometry import Camera, Pose
from pixloc_core.shapes import Float, Tensor
from pixloc_ros.transform_tree import RigidTransform

logger = logging.getLogger(__name__)

NANOSECONDS = 1_000_000_000


def stamp_to_ns(stamp: Time) -> int:
    """Nanoseconds of a stamp."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def ns_to_stamp(nanoseconds: int) -> Time:
    """Stamp of nanoseconds."""
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    return Time(sec=seconds, nanosec=rest)


def rigid_from_message(transform: Any) -> RigidTransform:
    """Checked transform of a geometry_msgs Transform or Pose.

    Raises:
        FrameError: If a number is not finite or the quaternion is not of length one.
    """
    t = transform.translation if hasattr(transform, "translation") else transform.position
    q = transform.rotation if hasattr(transform, "rotation") else transform.orientation
    return RigidTransform.checked((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))


def pose_from_rigid(rigid: RigidTransform) -> Pose:
    """Pose (float64, batch shape ()) of a checked transform."""
    x, y, z, w = rigid.quat_xyzw.tolist()
    quat_wxyz = torch.tensor((w, x, y, z), dtype=torch.float64)
    return Pose.from_quat_wxyz(quat_wxyz, torch.from_numpy(rigid.translation))


def pose_from_message(message: Any) -> Pose:
    """Pose (float64) of a geometry_msgs Transform or Pose; raises as `rigid_from_message`."""
    return pose_from_rigid(rigid_from_message(message))


def pose_to_message(pose: Pose) -> PoseMessage:
    """geometry_msgs/Pose of one pose."""
    x, y, z, quaternion = _numbers(pose)
    return PoseMessage(position=Point(x=x, y=y, z=z), orientation=quaternion)


def pose_to_transform(
    parent_from_child: Pose, parent: str, child: str, stamp_ns: int
) -> TransformStamped:
    """geometry_msgs/TransformStamped of one pose."""
    x, y, z, quaternion = _numbers(parent_from_child)
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = parent
    message.header.stamp = ns_to_stamp(stamp_ns)
    message.transform.translation = Vector3(x=x, y=y, z=z)
    message.transform.rotation = quaternion
    return message


def _numbers(pose: Pose) -> tuple[float, float, float, Quaternion]:
    x, y, z = pose.t.tolist()
    qw, qx, qy, qz = pose.quat_wxyz().tolist()
    return x, y, z, Quaternion(x=qx, y=qy, z=qz, w=qw)


def rigid_from_initialpose(
    message: PoseWithCovarianceStamped, global_frame: str, name: str = "initialpose"
) -> RigidTransform:
    """`map_from_base` of a pose somebody gave, checked.

    Args:
        message: The pose.
        global_frame: Frame that it must be in.
        name: What it is called in messages.

    Raises:
        FrameError: If it is in another frame, or no proper pose.
    """
    frame = message.header.frame_id.lstrip("/")
    if frame != global_frame:
        raise FrameError(f"{name} is in frame {frame!r}, expected {global_frame!r}")
    variances = list(message.pose.covariance)[::7]
    if not all(math.isfinite(variance) and variance >= 0 for variance in variances):
        raise FrameError(f"{name}: variances {variances}, expected finite numbers, none negative")
    try:
        return rigid_from_message(message.pose.pose)
    except FrameError as error:
        raise FrameError(f"{name}: {error}") from None


def pose_to_stamped(
    map_from_base: Pose, covariance: Float[Tensor, "6 6"], global_frame: str, stamp: Time
) -> PoseWithCovarianceStamped:
    """The answer of the node.

    Args:
        map_from_base: Pose of the robot.
        covariance: Of x, y, z, rotX, rotY, rotZ about the fixed axes of the map (REP-103).
        global_frame: Name of the map frame.
        stamp: Exposure of the image.
    """
    message = PoseWithCovarianceStamped()
    message.header.frame_id = global_frame
    message.header.stamp = stamp
    message.pose.pose = pose_to_message(map_from_base)
    message.pose.covariance = covariance.flatten().tolist()
    return message


class CameraReader:
    """Camera of the newest CameraInfo; parsed again only when its content changes."""

    def __init__(self, *, rectified: bool) -> None:
        self._rectified = rectified
        self._key: tuple[Any, ...] | None = None
        self._camera: Camera | None = None

    def read(self, info: CameraInfo, image_size: tuple[int, int]) -> Camera:
        """Camera of an image (float64).

        Args:
            info: Its calibration.
            image_size: Width and height in pixels of the image.

        Raises:
            FormatError: If the camera is not calibrated, its model is unknown, or the image has
                another size than the calibration.
        """
        key = _content(info)
        if self._camera is None or key != self._key:
            self._camera = Camera.from_camera_info(info, rectified=self._rectified)
            self._key = key
            if self._rectified:
                _warn_of_baseline(info)
        expected = tuple(round(size) for size in self._camera.size.tolist())
        if expected != image_size:
            raise FormatError(
                f"image is {image_size[0]}x{image_size[1]}, "
                f"but camera_info describes {expected[0]}x{expected[1]}"
            )
        return self._camera


def _warn_of_baseline(info: CameraInfo) -> None:
    """P of a pair's second camera has its offset from the first one, which is not used."""
    tx, ty = info.p[3], info.p[7]
    if tx or ty:
        logger.warning(
            "camera_info of %r: P has Tx = %g, Ty = %g, which are not used: the frame of the "
            "images must stand at the optical centre of this camera, not of the pair's first one",
            *(info.header.frame_id, tx, ty),
        )


def _content(info: CameraInfo) -> tuple[Any, ...]:
    roi = info.roi
    return (
        *(info.width, info.height, info.distortion_model, info.binning_x, info.binning_y),
        *(roi.x_offset, roi.y_offset, roi.width, roi.height),
        *(bytes(memoryview(numbers)) for numbers in (info.d, info.k, info.p)),
    )

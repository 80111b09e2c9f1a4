"""Messages of a bag, built and read without ROS, through the types of `rosbags`."""

from functools import cache
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore

from pixloc_core.bags.trajectory import NANOSECONDS
from pixloc_core.errors import FormatError
from pixloc_core.geometry import Camera, DistortionModel, Pose

COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
IMAGE = "sensor_msgs/msg/Image"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TF_MESSAGE = "tf2_msgs/msg/TFMessage"
POSE_STAMPED = "geometry_msgs/msg/PoseStamped"

# ROS model and the positions of our parameters in its coefficient vector.
_ROS_DISTORTION: dict[DistortionModel, tuple[str, int, tuple[int, ...]]] = {
    DistortionModel.NONE: ("plumb_bob", 5, ()),
    DistortionModel.RADIAL: ("plumb_bob", 5, (0, 1)),
    DistortionModel.OPENCV: ("plumb_bob", 5, (0, 1, 2, 3)),
    DistortionModel.FULL_OPENCV: ("rational_polynomial", 8, tuple(range(8))),
    DistortionModel.FISHEYE: ("equidistant", 4, tuple(range(4))),
}


@cache
def typestore() -> Any:
    """The message definitions that bags are written with."""
    return get_typestore(Stores.ROS2_KILTED)


def stamp_of(message: Any) -> int:
    """Header stamp in nanoseconds."""
    stamp = message.header.stamp
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def pose_stamped(stamp_ns: int, frame: str, pose: Pose) -> Any:
    """A PoseStamped in `frame`."""
    types = typestore().types
    x, y, z = pose.t.tolist()
    position = types["geometry_msgs/msg/Point"](x=x, y=y, z=z)
    body = types["geometry_msgs/msg/Pose"](position=position, orientation=_quaternion(pose))
    return types[POSE_STAMPED](header=_header(stamp_ns, frame), pose=body)


def transform_message(stamp_ns: int, parent: str, child: str, parent_from_child: Pose) -> Any:
    """A TFMessage with one transform."""
    types = typestore().types
    x, y, z = parent_from_child.t.tolist()
    transform = types["geometry_msgs/msg/Transform"](
        translation=types["geometry_msgs/msg/Vector3"](x=x, y=y, z=z),
        rotation=_quaternion(parent_from_child),
    )
    stamped = types["geometry_msgs/msg/TransformStamped"](
        header=_header(stamp_ns, parent), child_frame_id=child, transform=transform
    )
    return types[TF_MESSAGE](transforms=[stamped])


def compressed_image(stamp_ns: int, frame: str, jpeg: NDArray[np.uint8]) -> Any:
    """A CompressedImage of a JPEG file's bytes."""
    return typestore().types[COMPRESSED_IMAGE](
        header=_header(stamp_ns, frame), format="jpeg", data=jpeg
    )


def camera_info(stamp_ns: int, frame: str, camera: Camera) -> Any:
    """A CameraInfo of an unrectified camera (R is identity, P repeats K)."""
    types = typestore().types
    width, height = (round(side) for side in camera.size.tolist())
    (fx, fy), (cx, cy) = camera.f.tolist(), camera.c.tolist()
    model, length, places = _ROS_DISTORTION[camera.model]
    coefficients = np.zeros(length)
    coefficients[list(places)] = camera.dist.tolist()[: len(places)]
    roi = types["sensor_msgs/msg/RegionOfInterest"](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return types[CAMERA_INFO](
        header=_header(stamp_ns, frame),
        height=height,
        width=width,
        distortion_model=model,
        d=coefficients,
        k=np.array([fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]),
        r=np.eye(3).reshape(-1),
        p=np.array([fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def read_pose(message: Any) -> Pose:
    """Pose (batch shape (), float64) of a message that has one, or of a TransformStamped."""
    body = getattr(message, "pose", None)
    # With covariance (also in Odometry) the pose lies one deeper.
    body = getattr(body, "pose", body)
    if body is None:
        transform = message.transform
        position, rotation = transform.translation, transform.rotation
    else:
        position, rotation = body.position, body.orientation
    quaternion = torch.tensor([rotation.w, rotation.x, rotation.y, rotation.z]).double()
    translation = torch.tensor([position.x, position.y, position.z]).double()
    return Pose.from_quat_wxyz(quaternion, translation)


def read_image(message: Any) -> NDArray[np.uint8]:
    """RGB pixels (h, w, 3) of a CompressedImage, or of an Image in rgb8, bgr8 or mono8.

    Raises:
        FormatError: If the encoding is another one, or the data is damaged.
    """
    if hasattr(message, "format"):
        decoded = cv2.imdecode(np.asarray(message.data, np.uint8), cv2.IMREAD_COLOR)
        if decoded is None:
            raise FormatError(f"compressed image of {len(message.data)} bytes cannot be decoded")
        return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
    channels = {"rgb8": 3, "bgr8": 3, "mono8": 1}.get(message.encoding)
    if channels is None:
        raise FormatError(f"image encoding {message.encoding!r}, expected rgb8, bgr8 or mono8")
    rows = np.asarray(message.data, np.uint8).reshape(message.height, message.step)
    pixels = rows[:, : message.width * channels].reshape(message.height, message.width, channels)
    if message.encoding == "bgr8":
        pixels = pixels[..., ::-1]
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _header(stamp_ns: int, frame: str) -> Any:
    types = typestore().types
    seconds, rest = divmod(int(stamp_ns), NANOSECONDS)
    stamp = types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=rest)
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame)


def _quaternion(pose: Pose) -> Any:
    w, x, y, z = pose.quat_wxyz().tolist()
    return typestore().types["geometry_msgs/msg/Quaternion"](x=x, y=y, z=z, w=w)

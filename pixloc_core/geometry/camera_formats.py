"""Intrinsics as COLMAP and ROS write them, checked and brought to one form.

Both formats and what is asked of them are described in docs/conventions.md.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pixloc_core.errors import FormatError
from pixloc_core.geometry.distortion import DistortionModel


@dataclass(frozen=True)
class Intrinsics:
    """Numbers of one camera; the centre of the top-left pixel is (0, 0)."""

    size: tuple[float, float]
    f: tuple[float, float]
    c: tuple[float, float]
    model: DistortionModel
    dist: tuple[float, ...]


class CameraModel(Enum):
    """COLMAP's camera models that can be used."""

    SIMPLE_PINHOLE = "SIMPLE_PINHOLE"
    PINHOLE = "PINHOLE"
    SIMPLE_RADIAL = "SIMPLE_RADIAL"
    RADIAL = "RADIAL"
    OPENCV = "OPENCV"
    OPENCV_FISHEYE = "OPENCV_FISHEYE"
    FULL_OPENCV = "FULL_OPENCV"
    SIMPLE_RADIAL_FISHEYE = "SIMPLE_RADIAL_FISHEYE"
    RADIAL_FISHEYE = "RADIAL_FISHEYE"


# COLMAP model -> (focal lengths, distortion parameters it has, our model, COLMAP's number).
_COLMAP = {
    CameraModel.SIMPLE_PINHOLE: (1, 0, DistortionModel.NONE, 0),
    CameraModel.PINHOLE: (2, 0, DistortionModel.NONE, 1),
    CameraModel.SIMPLE_RADIAL: (1, 1, DistortionModel.RADIAL, 2),
    CameraModel.RADIAL: (1, 2, DistortionModel.RADIAL, 3),
    CameraModel.OPENCV: (2, 4, DistortionModel.OPENCV, 4),
    CameraModel.OPENCV_FISHEYE: (2, 4, DistortionModel.FISHEYE, 5),
    CameraModel.FULL_OPENCV: (2, 8, DistortionModel.FULL_OPENCV, 6),
    CameraModel.SIMPLE_RADIAL_FISHEYE: (1, 1, DistortionModel.FISHEYE, 8),
    CameraModel.RADIAL_FISHEYE: (1, 2, DistortionModel.FISHEYE, 9),
}
_COLMAP_NUMBER = {number: model for model, (_, _, _, number) in _COLMAP.items()}

# ROS distortion_model -> (accepted lengths of d, our model). The first length is the standard's.
_ROS = {
    "plumb_bob": ((5, 4), DistortionModel.OPENCV),
    "rational_polynomial": ((8, 12, 14), DistortionModel.FULL_OPENCV),
    "equidistant": ((4,), DistortionModel.FISHEYE),
}


def read_colmap(camera: Any) -> Intrinsics:
    """Intrinsics of a COLMAP camera: a dict, or an object with attributes of the same names.

    Raises:
        FormatError: If the model is unknown, or a number is missing or senseless.
    """
    model = _colmap_model(_field(camera, "model", "COLMAP camera"))
    where = f"COLMAP {model.value} camera"
    params = _numbers(_field(camera, "params", where), f"{where}: params")
    num_focal, num_dist, distortion, _ = _COLMAP[model]
    if len(params) != num_focal + 2 + num_dist:
        raise FormatError(
            f"{where}: {len(params)} params, expected {num_focal + 2 + num_dist}: {params}"
        )
    fx, fy = params[0], params[num_focal - 1]
    cx, cy = params[num_focal : num_focal + 2]
    dist = params[num_focal + 2 :]
    padding = (0.0,) * (distortion.num_params - num_dist)
    size = (_field(camera, "width", where), _field(camera, "height", where))
    return _checked(size, (fx, fy), (cx - 0.5, cy - 0.5), distortion, (*dist, *padding), where)


def write_colmap(intrinsics: Intrinsics) -> dict[str, Any]:
    """COLMAP dict of intrinsics: model, width, height, params, with its half pixel added.

    RADIAL becomes OPENCV if the focal lengths differ. Fractional sizes are rounded.
    """
    (fx, fy), (cx, cy), dist = intrinsics.f, intrinsics.c, intrinsics.dist
    focal: tuple[float, ...] = (fx, fy)
    match intrinsics.model:
        case DistortionModel.NONE:
            model = CameraModel.PINHOLE
        case DistortionModel.RADIAL if fx == fy:
            model, focal = CameraModel.RADIAL, (fx,)
        case DistortionModel.RADIAL:
            model, dist = CameraModel.OPENCV, (*dist, 0.0, 0.0)
        case DistortionModel.OPENCV:
            model = CameraModel.OPENCV
        case DistortionModel.FULL_OPENCV:
            model = CameraModel.FULL_OPENCV
        case DistortionModel.FISHEYE:
            model = CameraModel.OPENCV_FISHEYE
    width, height = (round(side) for side in intrinsics.size)
    params = [*focal, cx + 0.5, cy + 0.5, *dist]
    return {"model": model.value, "width": width, "height": height, "params": params}


def read_camera_info(message: Any, *, rectified: bool) -> Intrinsics:
    """Intrinsics at full resolution of a sensor_msgs/CameraInfo, before binning and region.

    The fourth column of P (offset of the second camera of a stereo pair) is not used: the camera
    stands at its own optical centre.

    Raises:
        FormatError: If the camera is not calibrated or a field is senseless.
    """
    where = "CameraInfo"
    size = (_field(message, "width", where), _field(message, "height", where))
    name, length = ("p", 12) if rectified else ("k", 9)
    matrix = _numbers(_field(message, name, where), f"{where}.{name}")
    if len(matrix) != length:
        raise FormatError(f"{where}.{name} has {len(matrix)} numbers, expected {length}")
    if not any(matrix):
        raise FormatError(f"{where}.{name} is all zero: the camera is not calibrated")
    row = length // 3
    if matrix[1] or matrix[row] or list(matrix[2 * row : 2 * row + 3]) != [0, 0, 1]:
        raise FormatError(
            f"{where}.{name} is {matrix}, expected rows (fx 0 cx ..), (0 fy cy ..), (0 0 1 ..)"
        )
    f, c = (matrix[0], matrix[row + 1]), (matrix[2], matrix[row + 2])
    model, dist = (DistortionModel.NONE, ()) if rectified else _ros_distortion(message)
    return _checked(size, f, c, model, dist, where)


def read_image_window(
    message: Any,
) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
    """Corner and size, in full resolution, of the image of a CameraInfo, and its binning.

    Raises:
        FormatError: If the region of interest does not lie in the image.
    """
    width, height = float(message.width), float(message.height)
    # Zero means one, by the definition of the message.
    binning = (
        float(getattr(message, "binning_x", 0) or 1),
        float(getattr(message, "binning_y", 0) or 1),
    )
    roi = getattr(message, "roi", None)
    if roi is None or not any((roi.x_offset, roi.y_offset, roi.width, roi.height)):
        return (0.0, 0.0), (width, height), binning
    right, bottom = roi.x_offset + roi.width, roi.y_offset + roi.height
    if not (roi.width > 0 and roi.height > 0 and right <= width and bottom <= height):
        raise FormatError(
            f"CameraInfo.roi is {roi.width}x{roi.height} at ({roi.x_offset}, {roi.y_offset}), "
            f"expected a window of the {message.width}x{message.height} image"
        )
    return (
        (float(roi.x_offset), float(roi.y_offset)),
        (float(roi.width), float(roi.height)),
        binning,
    )


def _ros_distortion(message: Any) -> tuple[DistortionModel, tuple[float, ...]]:
    name = _field(message, "distortion_model", "CameraInfo")
    if name not in _ROS:
        raise FormatError(
            f"CameraInfo.distortion_model is {name!r}, expected one of {', '.join(_ROS)}"
        )
    lengths, model = _ROS[name]
    d = _numbers(_field(message, "d", "CameraInfo"), "CameraInfo.d")
    if len(d) not in lengths:
        raise FormatError(f"CameraInfo.d has {len(d)} numbers, expected {lengths[0]} for {name}")
    if name == "plumb_bob" and any(d[4:]):
        return DistortionModel.FULL_OPENCV, (*d, 0.0, 0.0, 0.0)
    if any(d[model.num_params :]):
        raise FormatError(
            f"CameraInfo.d is {d}: thin prism or tilted sensor terms are not supported, expected 0"
        )
    return model, d[: model.num_params]


def _colmap_model(value: Any) -> CameraModel:
    name = value if isinstance(value, str) else getattr(value, "name", None)
    if isinstance(name, str) and name in CameraModel.__members__:
        return CameraModel[name]
    if name is None and value in _COLMAP_NUMBER:
        return _COLMAP_NUMBER[value]
    raise FormatError(
        f"camera model {name or value!r} is not supported, expected one of "
        f"{', '.join(CameraModel.__members__)}"
    )


def _field(source: Any, name: str, where: str) -> Any:
    try:
        return source[name] if isinstance(source, Mapping) else getattr(source, name)
    except (KeyError, AttributeError):
        raise FormatError(f"{where} has no {name}") from None


def _numbers(values: Iterable[Any], where: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise FormatError(f"{where} is {values!r}, expected numbers") from None
    if not all(math.isfinite(number) for number in numbers):
        raise FormatError(f"{where} is {numbers}, expected finite numbers")
    return numbers


def _checked(
    size: tuple[Any, Any],
    f: tuple[float, float],
    c: tuple[float, float],
    model: DistortionModel,
    dist: tuple[float, ...],
    where: str,
) -> Intrinsics:
    width, height = _numbers(size, f"{where}: width, height")
    if not (width > 0 and height > 0):
        raise FormatError(f"{where}: the image is {size[0]}x{size[1]}, expected a positive size")
    if not (f[0] > 0 and f[1] > 0):
        raise FormatError(f"{where}: the focal lengths are {f}, expected positive numbers")
    return Intrinsics((width, height), f, c, model, dist)

"""Images: between ROS messages and arrays, without a Python loop over pixels (pure functions)."""

import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from pixloc_core.errors import FormatError

Pixels = np.ndarray


@dataclass(frozen=True)
class Encoding:
    """How pixels of one encoding are laid out, and how they become RGB or grey of 8 bits."""

    channels: int
    dtype: str = "u1"
    convert: Callable[[Pixels], Pixels] | None = None


def _cvt(code: int) -> Callable[[Pixels], Pixels]:
    return lambda pixels: cv2.cvtColor(pixels, code)


def _to_8_bit(pixels: Pixels) -> Pixels:
    # The whole range of 16 bits, as cv_bridge scales it.
    return cv2.convertScaleAbs(pixels, alpha=255.0 / 65535.0)


ENCODINGS: dict[str, Encoding] = {
    "mono8": Encoding(1),
    "8UC1": Encoding(1),
    "rgb8": Encoding(3),
    "bgr8": Encoding(3, convert=_cvt(cv2.COLOR_BGR2RGB)),
    "8UC3": Encoding(3, convert=_cvt(cv2.COLOR_BGR2RGB)),
    "rgba8": Encoding(4, convert=_cvt(cv2.COLOR_RGBA2RGB)),
    "bgra8": Encoding(4, convert=_cvt(cv2.COLOR_BGRA2RGB)),
    "mono16": Encoding(1, "u2", _to_8_bit),
    "16UC1": Encoding(1, "u2", _to_8_bit),
    # OpenCV names a Bayer pattern by its second row and column, ROS by the first.
    "bayer_rggb8": Encoding(1, convert=_cvt(cv2.COLOR_BayerBG2RGB)),
    "bayer_bggr8": Encoding(1, convert=_cvt(cv2.COLOR_BayerRG2RGB)),
    "bayer_gbrg8": Encoding(1, convert=_cvt(cv2.COLOR_BayerGR2RGB)),
    "bayer_grbg8": Encoding(1, convert=_cvt(cv2.COLOR_BayerGB2RGB)),
    "yuv422": Encoding(2, convert=_cvt(cv2.COLOR_YUV2RGB_UYVY)),
    "uyvy": Encoding(2, convert=_cvt(cv2.COLOR_YUV2RGB_UYVY)),
    "yuv422_yuy2": Encoding(2, convert=_cvt(cv2.COLOR_YUV2RGB_YUY2)),
    "yuyv": Encoding(2, convert=_cvt(cv2.COLOR_YUV2RGB_YUY2)),
}


def image_to_array(message: Image) -> Pixels:
    """Pixels of an Image: RGB (h, w, 3) or grey (h, w), uint8.

    mono8 and rgb8 are views of the message (valid as long as it lives); other encodings are
    converted, by cv_bridge where a full ROS 2 has it (rows without padding, little-endian), else
    by the table above.

    Raises:
        FormatError: If the encoding is unknown or the data do not fit the size.
    """
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        # Depth and float images are no pictures; cv_bridge would scale them without a word.
        raise FormatError(
            f"image has encoding {message.encoding!r}, expected one of {', '.join(ENCODINGS)}"
        )
    pixels = _view(message, encoding)
    if encoding.convert is None:
        return pixels
    # Its rows run on over padding that is no whole number of pixels, and it cannot swap the bytes
    # of an array of NumPy 2: such images are left to the table.
    plain = len(message.data) == pixels.nbytes and not message.is_bigendian
    bridge = _cv_bridge() if plain else None
    if bridge is not None and message.encoding.startswith(("rgb", "bgr", "mono", "bayer")):
        return _by_cv_bridge(bridge, message)
    return encoding.convert(pixels)


def _view(message: Image, encoding: Encoding) -> Pixels:
    """The data as an array (h, w) or (h, w, c), rows apart by `step`, in this machine's order."""
    h, w, c = message.height, message.width, encoding.channels
    dtype = np.dtype(encoding.dtype).newbyteorder(">" if message.is_bigendian else "<")
    row = w * c * dtype.itemsize
    size = len(message.data)
    if h == 0 or w == 0 or size == 0:
        raise FormatError(f"image is empty: {w}x{h}, {size} bytes")
    if message.step < row or size < message.step * (h - 1) + row:
        raise FormatError(
            f"image of {w}x{h} {message.encoding} has step {message.step} and {size} bytes, "
            f"expected at least {row} and {row * h}"
        )
    strides = (message.step, c * dtype.itemsize, dtype.itemsize)
    pixels = np.ndarray((h, w, c), dtype, message.data, strides=strides)
    return (pixels[..., 0] if c == 1 else pixels).astype(dtype.newbyteorder("="), copy=False)


@cache
def _cv_bridge() -> Any | None:
    """The bridge of a full ROS 2, if there is one."""
    try:
        from cv_bridge import CvBridge
    except ImportError:
        return None
    return CvBridge()


def _by_cv_bridge(bridge: Any, message: Image) -> Pixels:
    mono = message.encoding == "mono16"
    try:
        return np.asarray(bridge.imgmsg_to_cv2(message, "mono8" if mono else "rgb8"))
    # Its own exception class, and those of OpenCV and NumPy underneath.
    except Exception as error:
        text = " ".join(str(error).split())
        raise FormatError(f"image {message.encoding!r}: cv_bridge says: {text}") from error


def message_to_array(message: Image | CompressedImage) -> Pixels:
    """Pixels of either; raises as `image_to_array` and `compressed_to_array`."""
    raw = isinstance(message, Image)
    return image_to_array(message) if raw else compressed_to_array(message)


def compressed_to_array(message: CompressedImage) -> Pixels:
    """Pixels of a CompressedImage (JPEG, PNG, ...): RGB (h, w, 3) or grey (h, w), uint8.

    Raises:
        FormatError: If it is empty, a depth image, or cannot be decoded.
    """
    if "compressedDepth" in message.format:
        raise FormatError(f"image has format {message.format!r}, expected a picture")
    if not message.data:
        raise FormatError(f"image is empty: 0 bytes of format {message.format!r}")
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(message.data, np.uint8), flags)
    if pixels is None:
        raise FormatError(
            f"image of format {message.format!r} and {len(message.data)} bytes cannot be decoded"
        )
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def array_to_image(pixels: Pixels, encoding: str, header: Header) -> Image:
    """Image message of an array, e.g. a float32 one as "32FC1"."""
    rows = np.ascontiguousarray(pixels)
    message = Image(header=header, encoding=encoding, height=rows.shape[0], width=rows.shape[1])
    message.step = rows.strides[0]
    # The only form of data that the message class does not walk byte by byte.
    message.data = array.array("B", rows.tobytes())
    return message

"""From an image file or message to the tensor a network takes, with intrinsics that stay exact."""

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.errors import ImageError
from pixloc_core.geometry import Camera
from pixloc_core.shapes import Float, Tensor

Image = NDArray[np.uint8]


def load_image(path: str | Path) -> Image:
    """Read an image file as RGB.

    The orientation tag of EXIF is ignored, as COLMAP does: intrinsics count stored pixels.

    Returns:
        Array (h, w, 3), uint8, RGB.

    Raises:
        ImageError: If the file is missing or is not an image.
    """
    try:
        encoded = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise ImageError(f"{path}: cannot read the image ({error.strerror})") from error
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(encoded, flags) if encoded.size else None
    if image is None:
        raise ImageError(f"{path}: not a readable image ({encoded.size} bytes)")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def prepare(image: Image, camera: Camera, max_size: int) -> tuple[Float[Tensor, "3 h w"], Camera]:
    """Shrink an image to at most `max_size` pixels a side, and its camera with it.

    Shrinking averages over the area of a pixel, since plain bilinear sampling aliases. The camera
    is scaled by the ratio of the whole numbers of pixels before and after, separately per axis,
    not by the factor that was asked for. Grey images get three equal channels.

    Args:
        image: Array (h, w, 3) in RGB or (h, w) in grey, uint8.
        camera: The camera of that image; its size must be that of the image.
        max_size: Longest side of the result in pixels; smaller images are left as they are.

    Returns:
        Image in [0, 1], and the camera whose size is exactly that of this image.

    Raises:
        ImageError: If the image is empty, is not 8 bit grey or RGB, has another size than its
            camera, or is of one single colour.
    """
    _check(image, camera)
    height, width = image.shape[:2]
    ratio = min(1.0, max_size / max(height, width))
    if ratio < 1.0:
        size = max(round(width * ratio), 1), max(round(height * ratio), 1)
        resized = cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        camera = camera.scale((size[0] / width, size[1] / height))
    else:
        resized = image.astype(np.float32)
    if resized.ndim == 2:
        resized = np.broadcast_to(resized[..., None], (*resized.shape, 3))
    channels_first = np.ascontiguousarray(resized.transpose(2, 0, 1))
    return torch.from_numpy(channels_first).div_(255.0), camera


def _check(image: Image, camera: Camera) -> None:
    is_grey_or_rgb = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if not is_grey_or_rgb or image.dtype != np.uint8:
        raise ImageError(
            f"image of shape {image.shape} and type {image.dtype}, "
            "expected (h, w, 3) RGB or (h, w) grey of type uint8"
        )
    height, width = image.shape[:2]
    if not height or not width:
        raise ImageError(f"image of {width}x{height} px is empty")
    expected = tuple(round(side) for side in camera.size.tolist())
    if (width, height) != expected:
        raise ImageError(
            f"image of {width}x{height} px, expected {expected[0]}x{expected[1]} px "
            "as its camera says"
        )
    if image.min() == image.max():
        raise ImageError(f"image of {width}x{height} px has one single value, {image.min()}")

import array
import sys
import time
from types import ModuleType

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from pixloc_core.errors import FormatError
from pixloc_ros import image_conversions
from pixloc_ros.image_conversions import (
    ENCODINGS,
    array_to_image,
    compressed_to_array,
    image_to_array,
)

RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
GREY = RGB[..., 0].copy()
# Smooth colours: what is left of them after demosaicing and chroma subsampling can be compared.
SMOOTH = np.stack(np.meshgrid(np.linspace(40, 200, 32), np.linspace(60, 180, 24)), -1)
SMOOTH = np.concatenate((SMOOTH, SMOOTH[..., :1] * 0.5 + 50), -1).astype(np.uint8)


def image(pixels: np.ndarray, encoding: str, padding: int = 0) -> Image:
    rows = pixels.reshape(pixels.shape[0], -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
    message.step = rows.shape[1]
    message.data = array.array("B", rows.tobytes())
    return message


def with_alpha(pixels: np.ndarray) -> np.ndarray:
    return np.dstack((pixels, np.full(pixels.shape[:2], 7, np.uint8)))


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "sent", "expected"),
    [
        ("rgb8", RGB, RGB),
        ("bgr8", RGB[..., ::-1].copy(), RGB),
        ("8UC3", RGB[..., ::-1].copy(), RGB),
        ("rgba8", with_alpha(RGB), RGB),
        ("bgra8", with_alpha(RGB[..., ::-1]), RGB),
        ("mono8", GREY, GREY),
        ("8UC1", GREY, GREY),
    ],
)
def test_eight_bit_images_become_rgb_or_grey(encoding, sent, expected, padding):
    np.testing.assert_array_equal(image_to_array(image(sent, encoding, padding)), expected)


@pytest.mark.parametrize("big_endian", [False, True])
def test_sixteen_bits_are_scaled_to_eight(big_endian):
    wide = GREY.astype(">u2" if big_endian else "<u2") * 257
    message = image(wide, "mono16")
    message.is_bigendian = int(big_endian)
    np.testing.assert_array_equal(image_to_array(message), GREY)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_pattern_is_named_by_its_first_row(pattern):
    mosaic = np.empty(SMOOTH.shape[:2], np.uint8)
    for place, colour in enumerate(pattern):
        row, column = divmod(place, 2)
        mosaic[row::2, column::2] = SMOOTH[row::2, column::2, "rgb".index(colour)]
    found = image_to_array(image(mosaic, f"bayer_{pattern}8"))
    difference = np.abs(found.astype(int) - SMOOTH)[2:-2, 2:-2]
    assert difference.max() <= 12


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
def test_yuv_becomes_rgb(encoding):
    y, cr, cb = np.moveaxis(cv2.cvtColor(SMOOTH, cv2.COLOR_RGB2YCrCb).astype(float), -1, 0)
    # The reduced range of BT.601, as cameras send it; pixel pairs share their chroma.
    chroma = np.where(np.arange(y.shape[1]) % 2 == 0, cb, cr)
    y, chroma = 16 + y * 219 / 255, 128 + (chroma - 128) * 224 / 255
    first = encoding in ("yuv422", "uyvy")
    packed = np.stack((chroma, y) if first else (y, chroma), -1).round().astype(np.uint8)
    found = image_to_array(image(packed, encoding)).astype(int)
    assert np.abs(found - SMOOTH).mean() < 4


@pytest.mark.parametrize(("encoding", "pixels"), [("rgb8", RGB), ("mono8", GREY)])
def test_plain_encodings_are_views_of_the_message(encoding, pixels):
    message = image(pixels, encoding)
    found = image_to_array(message)
    message.data[0] = (int(pixels.flat[0]) + 1) % 256
    assert found.flat[0] == message.data[0]


def test_large_image_is_decoded_without_walking_its_bytes():
    message = image(np.zeros((1080, 1920, 3), np.uint8), "bgr8")
    begin = time.perf_counter()
    for _ in range(5):
        image_to_array(message)
    # A loop over 6 million bytes would take a second each.
    assert time.perf_counter() - begin < 1.0


@pytest.mark.parametrize("encoding", ["32FC1", "rgb16", "jpeg", ""])
def test_wrong_encoding_is_named_with_those_that_work(encoding):
    with pytest.raises(FormatError, match=f"encoding '{encoding}', expected one of mono8"):
        image_to_array(image(GREY, encoding))


def test_empty_image_is_refused():
    with pytest.raises(FormatError, match="image is empty: 0x0, 0 bytes"):
        image_to_array(Image(encoding="rgb8"))


def test_image_with_missing_bytes_is_refused():
    message = image(RGB, "rgb8")
    message.data = message.data[:-1]
    with pytest.raises(FormatError, match="16x12 rgb8 has step 48 and 575 bytes, expected"):
        image_to_array(message)


def test_image_with_a_wrong_step_is_refused():
    message = image(RGB, "rgb8")
    message.step = 40
    with pytest.raises(FormatError, match="step 40 and 576 bytes, expected at least 48 and 576"):
        image_to_array(message)


def compressed(pixels: np.ndarray, kind: str) -> CompressedImage:
    _, data = cv2.imencode(f".{kind}", pixels)
    return CompressedImage(format=kind, data=data.tobytes())


def test_compressed_colour_is_rgb():
    found = compressed_to_array(compressed(SMOOTH[..., ::-1], "png"))
    np.testing.assert_array_equal(found, SMOOTH)
    found = compressed_to_array(compressed(SMOOTH[..., ::-1], "jpeg"))
    assert np.abs(found.astype(int) - SMOOTH).mean() < 3


def test_compressed_grey_stays_grey():
    np.testing.assert_array_equal(compressed_to_array(compressed(GREY, "png")), GREY)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (CompressedImage(format="jpeg"), "image is empty: 0 bytes of format 'jpeg'"),
        (
            CompressedImage(format="jpeg", data=b"abc"),
            "format 'jpeg' and 3 bytes cannot be decoded",
        ),
        (CompressedImage(format="16UC1; compressedDepth", data=b"abc"), "expected a picture"),
    ],
)
def test_undecodable_image_is_refused_in_one_line(message, words):
    with pytest.raises(FormatError, match=words):
        compressed_to_array(message)


def test_confidence_image_keeps_its_values_and_geometry():
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    message = array_to_image(values, "32FC1", Header(frame_id="camera"))
    assert (message.width, message.height, message.step) == (4, 3, 16)
    assert (message.encoding, message.header.frame_id) == ("32FC1", "camera")
    np.testing.assert_array_equal(np.frombuffer(message.data, np.float32).reshape(3, 4), values)


class FakeBridge:
    """Answers as a full ROS 2's bridge does, or as it fails."""

    asked: list[str]

    def __init__(self) -> None:
        FakeBridge.asked = []

    def imgmsg_to_cv2(self, message: Image, encoding: str) -> np.ndarray:
        FakeBridge.asked.append(f"{message.encoding} -> {encoding}")
        if message.width == 1:
            raise RuntimeError("two\nlines")
        return ENCODINGS[message.encoding].convert(RGB)


@pytest.fixture
def bridge(monkeypatch):
    module = ModuleType("cv_bridge")
    module.CvBridge = FakeBridge
    monkeypatch.setitem(sys.modules, "cv_bridge", module)
    image_conversions._cv_bridge.cache_clear()
    yield
    image_conversions._cv_bridge.cache_clear()


@pytest.mark.usefixtures("bridge")
def test_cv_bridge_converts_where_a_full_ros_has_it():
    found = image_to_array(image(RGB[..., ::-1].copy(), "bgr8"))
    np.testing.assert_array_equal(found, RGB[..., ::-1])
    assert FakeBridge.asked == ["bgr8 -> rgb8"]


@pytest.mark.usefixtures("bridge")
@pytest.mark.parametrize("padded", [True, False])
def test_images_that_cv_bridge_misreads_are_left_to_our_table(padded: bool):
    message = array_to_image(np.full((2, 2, 3), 7, np.uint8), "bgr8", Header())
    if padded:
        message.data = array.array(
            "B", bytes(message.data[:6]) + b"\0\0" + bytes(message.data[6:])
        )
        message.step = 8
    else:
        message.is_bigendian = 1
    assert (image_to_array(message) == 7).all()


@pytest.mark.usefixtures("bridge")
def test_failure_of_cv_bridge_is_one_line():
    with pytest.raises(FormatError, match="image 'bgr8': cv_bridge says: two lines"):
        image_to_array(image(RGB[:, :1].copy(), "bgr8"))

"""From files and arrays to network input, with a camera that stays true."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixloc_core.errors import ImageError
from pixloc_core.features.preprocessing import load_image, prepare
from pixloc_core.geometry import Camera


def pinhole(width: int, height: int) -> Camera:
    params = [0.8 * width, 0.7 * width, 0.45 * width, 0.55 * height]
    return Camera.from_colmap(
        {"model": "PINHOLE", "width": width, "height": height, "params": params}
    )


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_channels_are_red_green_blue_in_unit_range(tmp_path: Path) -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 0] = 255
    image[0, 0] = (0, 51, 0)
    cv2.imwrite(str(tmp_path / "red.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    loaded = load_image(tmp_path / "red.png")
    assert np.array_equal(loaded, image)
    tensor, _ = prepare(loaded, pinhole(6, 4), 64)
    assert tensor.shape == (3, 4, 6)
    torch.testing.assert_close(tensor[:, 0, 0], torch.tensor([0.0, 0.2, 0.0]))
    torch.testing.assert_close(tensor[:, 3, 5], torch.tensor([1.0, 0.0, 0.0]))


def test_orientation_tag_is_ignored_because_intrinsics_count_stored_pixels(
    tmp_path: Path,
) -> None:
    encoded = cv2.imencode(".jpg", noise(32, 16))[1].tobytes()
    # APP1 with one entry of EXIF: tag 0x0112 (orientation), short, value 6 (rotate by 90 deg).
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "a.jpg").write_bytes(encoded[:2] + segment + encoded[2:])
    assert cv2.imread(str(tmp_path / "a.jpg")).shape == (32, 16, 3)
    assert load_image(tmp_path / "a.jpg").shape == (16, 32, 3)


@given(width=st.integers(20, 300), height=st.integers(20, 300), max_size=st.integers(16, 320))
def test_camera_has_the_size_of_the_image_and_sees_the_same_rays(
    width: int, height: int, max_size: int
) -> None:
    camera = pinhole(width, height)
    tensor, scaled = prepare(noise(width, height), camera, max_size)
    size = torch.tensor([tensor.shape[2], tensor.shape[1]], dtype=torch.float64)
    assert size.max() <= max(max_size, 1)
    torch.testing.assert_close(scaled.size, size)
    point = torch.tensor([[0.1, -0.2, 1.0]], dtype=torch.float64)
    px, scaled_px = camera.world2image(point)[0], scaled.world2image(point)[0]
    torch.testing.assert_close(scaled_px, (px + 0.5) * size / camera.size - 0.5)


def test_content_stays_where_the_scaled_camera_expects_it() -> None:
    width, height = 333, 250
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    blob = 255 * np.exp(-((columns - 200.0) ** 2 + (rows - 90.0) ** 2) / (2 * 12.0**2))
    tensor, scaled = prepare(blob.astype(np.uint8), pinhole(width, height), 100)
    weights = tensor[0].double()
    y, x = torch.meshgrid(*map(torch.arange, weights.shape), indexing="ij")
    centre = torch.stack([(weights * x).sum(), (weights * y).sum()]) / weights.sum()
    expected = (torch.tensor([200.5, 90.5]) * scaled.size / torch.tensor([width, height])) - 0.5
    torch.testing.assert_close(centre, expected.double(), rtol=0, atol=0.01)


def test_shrinking_does_not_alias() -> None:
    stripes = np.zeros((64, 512), np.uint8)
    stripes[:, ::2] = 255
    tensor, _ = prepare(stripes, pinhole(512, 64), 64)
    torch.testing.assert_close(tensor, torch.full_like(tensor, 0.5), rtol=0, atol=0.01)


def test_grey_image_equals_a_colour_image_of_equal_channels() -> None:
    grey = noise(60, 40)[..., 0]
    for max_size in (30, 64):
        a, camera_a = prepare(grey, pinhole(60, 40), max_size)
        b, camera_b = prepare(np.stack([grey] * 3, -1), pinhole(60, 40), max_size)
        assert torch.equal(a, b)
        assert torch.equal(camera_a.data, camera_b.data)


def test_small_images_are_not_enlarged() -> None:
    camera = pinhole(60, 40)
    tensor, same = prepare(noise(60, 40), camera, 1024)
    assert tensor.shape == (3, 40, 60)
    assert torch.equal(same.data, camera.data)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 0, 3), np.uint8), "0x0 px is empty"),
        (np.zeros((40, 60, 3), np.uint8), "one single value, 0"),
        (noise(64, 48), "64x48 px, expected 60x40 px as its camera says"),
        (noise(60, 40).astype(np.uint16), "type uint16"),
        (noise(60, 40)[..., :2], r"shape \(40, 60, 2\)"),
    ],
)
def test_unusable_images_are_refused_in_one_line(image: np.ndarray, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        prepare(image, pinhole(60, 40), 1024)
    assert "\n" not in str(caught.value)


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.png: cannot read the image \(No such file"):
        load_image(tmp_path / "none.png")
    for content in (b"", b"not an image"):
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(ImageError, match=r"bad\.png: not a readable image"):
            load_image(tmp_path / "bad.png")

from types import SimpleNamespace

import pytest
import torch
from sample_cameras import make_camera, points_in_view

from pixloc_core.errors import FormatError
from pixloc_core.geometry import Camera, CameraModel, DistortionModel

K = [500.0, 0, 320, 0, 510, 240, 0, 0, 1]
P = [480.0, 0, 318, -24.0, 0, 480, 241, 0, 0, 0, 1, 0]
D = {
    "plumb_bob": [-0.3, 0.08, -5e-3, 4e-3, 0.0],
    "rational_polynomial": [0.3, -0.1, 1e-3, -2e-3, 0.02, 0.5, -0.05, 0.01],
    "equidistant": [-0.02, 0.01, -0.03, 0.004],
}


def roi(x=0, y=0, width=0, height=0):
    return SimpleNamespace(x_offset=x, y_offset=y, width=width, height=height, do_rectify=False)


def camera_info(model="plumb_bob", **changes):
    """What a driver publishes, with some fields changed."""
    fields = {"width": 640, "height": 480, "distortion_model": model, "d": D.get(model, []),
              "k": K, "p": P, "binning_x": 0, "binning_y": 0, "roi": roi()}  # fmt: skip
    return SimpleNamespace(**{**fields, **changes})


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("plumb_bob", DistortionModel.OPENCV),
        ("rational_polynomial", DistortionModel.FULL_OPENCV),
        ("equidistant", DistortionModel.FISHEYE),
    ],
)
def test_camera_info_is_taken_without_half_pixel(model, expected):
    camera = Camera.from_camera_info(camera_info(model))
    assert camera.model is expected
    assert camera.dtype == torch.float64
    assert camera.data[:6].tolist() == [640, 480, 500, 510, 320, 240]
    assert camera.dist.tolist() == D[model][: expected.num_params]


def test_third_radial_term_of_plumb_bob_is_kept():
    camera = Camera.from_camera_info(camera_info(d=[-0.3, 0.08, -5e-3, 4e-3, 0.01]))
    assert camera.model is DistortionModel.FULL_OPENCV
    assert camera.dist.tolist() == [-0.3, 0.08, -5e-3, 4e-3, 0.01, 0, 0, 0]


def test_four_values_of_plumb_bob_and_zero_extra_terms_are_taken():
    assert Camera.from_camera_info(camera_info(d=[0.1, 0, 0, 0])).dist.tolist() == [0.1, 0, 0, 0]
    long = [*D["rational_polynomial"], 0, 0, 0, 0]
    camera = Camera.from_camera_info(camera_info("rational_polynomial", d=long))
    assert camera.dist.tolist() == D["rational_polynomial"]


def test_rectified_images_use_P_and_no_distortion():
    message = camera_info("", k=[0.0] * 9, d=[])
    camera = Camera.from_camera_info(message, rectified=True)
    assert camera.model is DistortionModel.NONE
    assert camera.data.tolist() == [640, 480, 480, 480, 318, 241]


def test_region_of_interest_and_binning_give_the_camera_of_the_image():
    full = Camera.from_camera_info(camera_info())
    window = camera_info(roi=roi(100, 60, 400, 300), binning_x=2, binning_y=3)
    camera = Camera.from_camera_info(window)
    assert camera.size.tolist() == [200, 100]
    points = points_in_view(full)
    shifted = full.world2image(points)[0] - torch.tensor([100, 60])
    expected = (shifted + 0.5) / torch.tensor([2, 3]) - 0.5
    torch.testing.assert_close(camera.world2image(points)[0], expected)
    del window.roi
    assert Camera.from_camera_info(window).size.tolist() == [320, 160]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": [0.0] * 9}, "CameraInfo.k is all zero: the camera is not calibrated"),
        ({"k": K[:8]}, "CameraInfo.k has 8 numbers, expected 9"),
        ({"k": [500, 3, 320, 0, 510, 240, 0, 0, 1]}, "expected rows"),
        ({"k": [-500, 0, 320, 0, 510, 240, 0, 0, 1]}, "focal lengths .* expected positive"),
        ({"k": [float("nan")] * 9}, "CameraInfo.k is .*expected finite"),
        ({"model": ""}, "distortion_model is '', expected one of plumb_bob, rational_polynomial"),
        ({"model": "radtan"}, "distortion_model is 'radtan'"),
        ({"d": []}, "CameraInfo.d has 0 numbers, expected 5 for plumb_bob"),
        ({"d": [0.1] * 8}, "CameraInfo.d has 8 numbers, expected 5 for plumb_bob"),
        ({"d": [0.1, 0, 0, 0, float("inf")]}, "CameraInfo.d is .*expected finite"),
        ({"model": "rational_polynomial", "d": [0.1] * 12}, "thin prism"),
        ({"width": 0}, "the image is 0x480, expected a positive size"),
        ({"roi": roi(600, 0, 100, 100)}, r"roi is 100x100 at \(600, 0\), expected a window"),
        ({"roi": roi(10, 10, 0, 0)}, r"roi is 0x0 at \(10, 10\)"),
    ],
)
def test_camera_infos_that_cannot_be_used_are_refused_in_one_line(changes, message):
    with pytest.raises(FormatError, match=message) as error:
        Camera.from_camera_info(camera_info(**changes))
    assert "\n" not in str(error.value)


def test_missing_rectified_matrix_is_refused():
    with pytest.raises(FormatError, match=r"CameraInfo.p is all zero"):
        Camera.from_camera_info(camera_info(p=[0.0] * 12), rectified=True)
    with pytest.raises(FormatError, match="CameraInfo has no k"):
        Camera.from_camera_info(SimpleNamespace(width=1, height=1))


def colmap(**changes):
    return {"model": "PINHOLE", "width": 640, "height": 480, "params": [1, 1, 1, 1], **changes}


@pytest.mark.parametrize("model", ["SIMPLE_RADIAL", CameraModel.SIMPLE_RADIAL, 2])
def test_colmap_models_are_known_by_name_enum_and_number(model):
    camera = Camera.from_colmap(colmap(model=model, params=[500, 320, 240, 0.1]))
    assert camera.data.tolist() == [640, 480, 500, 500, 319.5, 239.5, 0.1, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "FOV"}, "camera model 'FOV' is not supported, expected one of SIMPLE_PINHOLE"),
        ({"model": 77}, "camera model 77 is not supported"),
        ({"params": [1, 2, 3]}, "COLMAP PINHOLE camera: 3 params, expected 4"),
        ({"params": [1, 2, "a", 4]}, "expected numbers"),
        ({"params": [0, 0, 3, 4]}, "focal lengths"),
        ({"height": -3}, "the image is 640x-3"),
    ],
)
def test_colmap_cameras_that_cannot_be_used_are_refused(changes, message):
    with pytest.raises(FormatError, match=message):
        Camera.from_colmap(colmap(**changes))


def test_colmap_cameras_without_a_field_are_refused():
    with pytest.raises(FormatError, match="COLMAP PINHOLE camera has no params"):
        Camera.from_colmap({"model": "PINHOLE", "width": 3, "height": 3})


def test_ros_and_colmap_name_the_same_lenses():
    ros = Camera.from_camera_info(camera_info("rational_polynomial"))
    theirs = make_camera("FULL_OPENCV")
    torch.testing.assert_close(ros.dist, theirs.dist)

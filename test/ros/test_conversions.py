import math

import pytest
import torch
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose as PoseMessage
from geometry_msgs.msg import PoseWithCovarianceStamped, Transform
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CameraInfo

from pixloc_core.errors import FormatError, FrameError
from pixloc_core.geometry import Pose, so3
from pixloc_ros.conversions import (
    CameraReader,
    ns_to_stamp,
    pose_from_message,
    pose_from_rigid,
    pose_to_message,
    pose_to_stamped,
    pose_to_transform,
    rigid_from_initialpose,
    stamp_to_ns,
)


def random_pose(seed: int) -> Pose:
    generator = torch.Generator().manual_seed(seed)
    aa, t = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    return Pose.from_aa(aa, 10 * t)


def camera_info(**changes) -> CameraInfo:
    info = CameraInfo(width=640, height=480, distortion_model="plumb_bob")
    info.d = [-0.1, 0.02, 0.001, -0.001, 0.0]
    info.k = [500.0, 0.0, 319.5, 0.0, 510.0, 239.5, 0.0, 0.0, 1.0]
    info.p = [450.0, 0.0, 310.0, 0.0, 0.0, 460.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in changes.items():
        setattr(info, name, value)
    return info


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_stamp_keeps_every_nanosecond(nanoseconds):
    assert stamp_to_ns(ns_to_stamp(nanoseconds)) == nanoseconds


@pytest.mark.parametrize("seed", range(5))
def test_pose_survives_the_way_through_messages(seed):
    pose = random_pose(seed)
    through_pose = pose_from_message(pose_to_message(pose))
    through_transform = pose_from_message(pose_to_transform(pose, "map", "odom", 5).transform)
    torch.testing.assert_close(through_pose.data, pose.data, atol=1e-12, rtol=0)
    torch.testing.assert_close(through_transform.data, pose.data, atol=1e-12, rtol=0)


def test_transform_carries_its_frames_and_stamp():
    message = pose_to_transform(random_pose(1), "map", "odom", 3_000_000_007)
    assert (message.header.frame_id, message.child_frame_id) == ("map", "odom")
    assert message.header.stamp == Time(sec=3, nanosec=7)


def test_quaternion_of_ros_is_read_with_w_last():
    message = PoseMessage()
    message.orientation.z, message.orientation.w = math.sin(0.25), math.cos(0.25)
    expected = so3.exp(torch.tensor([0.0, 0.0, 0.5], dtype=torch.float64))
    torch.testing.assert_close(pose_from_message(message).R, expected)


def test_transform_without_rotation_is_refused():
    message = Transform()
    message.rotation.w = 0.0
    with pytest.raises(FrameError, match="length 0, expected 1"):
        pose_from_message(message)


def initialpose(frame: str) -> PoseWithCovarianceStamped:
    message = PoseWithCovarianceStamped()
    message.header.frame_id = frame
    message.pose.pose = pose_to_message(random_pose(3))
    return message


def test_initial_pose_in_the_map_frame_is_taken():
    torch.testing.assert_close(
        pose_from_rigid(rigid_from_initialpose(initialpose("map"), "map")).data,
        random_pose(3).data,
    )


def test_initial_pose_in_another_frame_is_refused():
    with pytest.raises(FrameError, match="initialpose is in frame 'odom', expected 'map'"):
        rigid_from_initialpose(initialpose("odom"), "map")


def test_initial_pose_that_is_not_finite_is_refused():
    message = initialpose("map")
    message.pose.pose.position.x = math.nan
    with pytest.raises(FrameError, match=r"initialpose: translation \(nan, .*not finite"):
        rigid_from_initialpose(message, "map")


def test_answer_is_stamped_with_the_exposure_and_keeps_the_covariance():
    covariance = torch.arange(36, dtype=torch.float64).reshape(6, 6)
    message = pose_to_stamped(random_pose(2), covariance, "map", Time(sec=7, nanosec=9))
    assert message.header.frame_id == "map"
    assert message.header.stamp == Time(sec=7, nanosec=9)
    assert list(message.pose.covariance) == list(range(36))


def test_camera_has_the_numbers_of_its_calibration():
    camera = CameraReader(rectified=False).read(camera_info(), (640, 480))
    assert camera.f.tolist() == [500.0, 510.0]
    assert camera.c.tolist() == [319.5, 239.5]


def test_rectified_camera_has_the_projection_matrix_and_no_distortion():
    camera = CameraReader(rectified=True).read(camera_info(), (640, 480))
    assert camera.f.tolist() == [450.0, 460.0]
    assert camera.dist.numel() == 0


def test_unchanged_calibration_is_parsed_once_and_a_changed_one_again():
    reader = CameraReader(rectified=False)
    first = reader.read(camera_info(), (640, 480))
    assert reader.read(camera_info(), (640, 480)) is first
    changed = camera_info(k=[600.0, 0.0, 319.5, 0.0, 510.0, 239.5, 0.0, 0.0, 1.0])
    assert reader.read(changed, (640, 480)).f.tolist() == [600.0, 510.0]


STEREO = [450.0, 0.0, 319.5, -45.0, 0.0, 460.0, 239.5, 0.0, 0.0, 0.0, 1.0, 0.0]


def test_the_baseline_of_a_rectified_stereo_camera_is_told_once_for_each_calibration(caplog):
    reader = CameraReader(rectified=True)
    for _ in range(3):
        assert reader.read(camera_info(p=STEREO), (640, 480)).f.tolist() == [450.0, 460.0]
    assert len(caplog.messages) == 1
    assert "Tx = -45, Ty = 0, which are not used" in caplog.messages[0]
    reader.read(camera_info(p=[*STEREO[:3], -50.0, *STEREO[4:]]), (640, 480))
    assert len(caplog.messages) == 2
    assert "Tx = -50" in caplog.messages[1]


@pytest.mark.parametrize(("rectified", "p"), [(False, STEREO), (True, None)])
def test_no_baseline_is_told_where_there_is_none_or_it_plays_no_part(caplog, rectified, p):
    info = camera_info() if p is None else camera_info(p=p)
    CameraReader(rectified=rectified).read(info, (640, 480))
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("changes", "size", "words"),
    [
        ({"k": [0.0] * 9}, (640, 480), "k|calibrat"),
        ({"distortion_model": "mushroom"}, (640, 480), "mushroom"),
        ({}, (1280, 960), "image is 1280x960, but camera_info describes 640x480"),
        ({}, (320, 240), "image is 320x240, but camera_info describes 640x480"),
    ],
)
def test_unusable_calibration_is_refused_and_a_good_one_taken_next(changes, size, words):
    reader = CameraReader(rectified=False)
    with pytest.raises(FormatError, match=words) as caught:
        reader.read(camera_info(**changes), size)
    assert "\n" not in str(caught.value)
    assert reader.read(camera_info(), (640, 480)).f.tolist() == [500.0, 510.0]

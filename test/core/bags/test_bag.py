"""Bags that are written can be read again, and say what they were given."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pixloc_core.bags import messages
from pixloc_core.bags.odometry import OdometryConfig, simulate_odometry
from pixloc_core.bags.reader import BagReader
from pixloc_core.bags.sequence import base_from_camera, map_from_base, read_sequence
from pixloc_core.bags.topics import BagLayout
from pixloc_core.bags.trajectory import Trajectory
from pixloc_core.bags.writer import CameraFrame, Recording, encode_jpeg, write_bag
from pixloc_core.errors import FormatError
from pixloc_core.geometry import Camera, Pose

SECOND = 1_000_000_000
LAYOUT = BagLayout()


def camera(model: str = "PINHOLE", *distortion: float) -> Camera:
    params = [300.0, 310.0, 80.0, 60.0, *distortion]
    return Camera.from_colmap({"model": model, "width": 160, "height": 120, "params": params})


def textured(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (15, 20, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (160, 120), interpolation=cv2.INTER_CUBIC))


def recording(count: int = 4, cam: Camera | None = None) -> Recording:
    stamps = [5 * SECOND + index * SECOND // 10 for index in range(count)]
    frames = tuple(CameraFrame(s, textured(i), cam or camera()) for i, s in enumerate(stamps))
    steps = torch.linspace(0, 1, count, dtype=torch.float64)[:, None]
    twist = torch.tensor([0.5, 0.1, 0.0, 0.0, 0.0, 0.3], dtype=torch.float64)
    truth = Trajectory(np.array(stamps), Pose.exp(steps * twist))
    return Recording(frames, truth, simulate_odometry(truth, OdometryConfig()), base_from_camera())


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bags") / "bag"
    write_bag(path, recording())
    return path


def test_a_bag_gives_back_truth_odometry_mounting_camera_and_images(bag: Path) -> None:
    given, reader = recording(), BagReader(bag)
    truth = reader.trajectory(LAYOUT.ground_truth)
    odometry = reader.transforms(LAYOUT.tf, "odom", "base_link")
    mounting = reader.static_transform(LAYOUT.tf_static, "base_link", "camera_optical")
    assert truth.stamps_ns.tolist() == given.map_from_base.stamps_ns.tolist()
    torch.testing.assert_close(truth.poses.data, given.map_from_base.poses.data)
    torch.testing.assert_close(odometry.poses.data, given.odom_from_base.poses.data)
    torch.testing.assert_close(mounting.data, base_from_camera().data)
    torch.testing.assert_close(reader.camera(LAYOUT.camera_info).data[:6], camera().data)
    stamps = reader.image_stamps(LAYOUT.image)
    assert stamps.tolist() == truth.stamps_ns.tolist()
    ((stamp, pixels),) = reader.images(LAYOUT.image, [int(stamps[2])])
    assert stamp == stamps[2]
    assert np.abs(pixels.astype(int) - textured(2)).mean() < 4


def test_messages_come_in_the_order_of_time_with_transforms_before_images(bag: Path) -> None:
    raw = list(BagReader(bag).raw())
    stamps = [message.stamp_ns for message in raw]
    assert stamps == sorted(stamps)
    assert (BagReader(bag).start_ns, BagReader(bag).end_ns) == (stamps[0], stamps[-1])
    assert raw[0].topic == LAYOUT.tf_static
    first_image = next(i for i, message in enumerate(raw) if message.topic == LAYOUT.image)
    assert LAYOUT.tf in {message.topic for message in raw[:first_image]}


@pytest.mark.parametrize(
    ("model", "distortion", "ros_model"),
    [
        ("PINHOLE", (), "plumb_bob"),
        ("OPENCV", (-0.1, 0.01, 1e-3, -2e-3), "plumb_bob"),
        ("FULL_OPENCV", (0.1, 0.02, 1e-3, 2e-3, 0.01, 0.02, 0.03, 0.04), "rational_polynomial"),
        ("OPENCV_FISHEYE", (0.01, 0.02, -0.03, 0.004), "equidistant"),
    ],
)
def test_every_lens_survives_the_way_through_camera_info(
    model: str, distortion: tuple[float, ...], ros_model: str
) -> None:
    given = camera(model, *distortion)
    message = messages.camera_info(SECOND, "camera_optical", given)
    assert message.distortion_model == ros_model
    back = Camera.from_camera_info(message)
    points = torch.tensor([[0.1, -0.05, 1.0], [-0.2, 0.1, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(back.world2image(points)[0], given.world2image(points)[0])


def test_the_body_looks_along_x_with_y_left_and_z_up() -> None:
    optical = torch.eye(3, dtype=torch.float64)
    right, down, forward = base_from_camera() * optical
    assert right.tolist() == [0, -1, 0]
    assert down.tolist() == [0, 0, -1]
    assert forward.tolist() == [1, 0, 0]


def test_jpeg_files_are_copied_as_they_are(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), textured(0))
    assert encode_jpeg(tmp_path / "a.jpg").tobytes() == (tmp_path / "a.jpg").read_bytes()
    cv2.imwrite(str(tmp_path / "a.png"), textured(0))
    assert encode_jpeg(tmp_path / "a.png")[:2].tobytes() == b"\xff\xd8"


def test_bad_images_folders_and_topics_are_named(tmp_path: Path, bag: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    for name in ("broken.png", "missing.png"):
        with pytest.raises(FormatError, match=name):
            encode_jpeg(tmp_path / name)
    with pytest.raises(FormatError, match="exists already"):
        write_bag(bag, recording())
    for path, what in (
        (tmp_path, f"there is no {tmp_path}/metadata.yaml"),
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path / "broken.png", "a file"),
    ):
        with pytest.raises(FormatError, match=f"{path}: not a rosbag2 folder, {what} "):
            BagReader(path)
    with pytest.raises(FormatError, match="no topic '/nowhere'"):
        BagReader(bag).image_stamps("/nowhere")
    with pytest.raises(FormatError, match="no transform odom <- camera"):
        BagReader(bag).static_transform(LAYOUT.tf_static, "odom", "camera")


def test_a_sequence_keeps_only_images_with_intrinsics_and_pose_in_order(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(
        "# time image\n0.30 c.jpg query\n\n0.10 a.jpg\n0.20 b.jpg\n0.4 d.jpg\n"
    )
    cameras = {name: camera() for name in ("a.jpg", "b.jpg", "c.jpg")}
    frames = read_sequence(tmp_path / "list.txt", tmp_path, cameras, ["c.jpg", "a.jpg", "d.jpg"])
    assert [frame.image for frame in frames] == [tmp_path / "a.jpg", tmp_path / "c.jpg"]
    # Time zero means "no time" to ROS.
    assert [frame.stamp_ns for frame in frames] == [1_100_000_000, 1_300_000_000]


def test_the_true_path_of_the_base_follows_from_the_camera_poses() -> None:
    path = Path("a.jpg")
    cam_from_map = Pose.exp(torch.tensor([0.1, 0.2, 0.3, 0.4, -0.5, 0.6], dtype=torch.float64))
    frames = [CameraFrame(SECOND, path, camera())]
    truth = map_from_base(frames, {path: cam_from_map})
    torch.testing.assert_close(truth.poses.t[0], cam_from_map.center)
    back = (truth.poses[0] @ base_from_camera()).inv()
    torch.testing.assert_close(back.data, cam_from_map.data)


@pytest.mark.parametrize("line", ["0.1", "now a.jpg", "-3 a.jpg"])
def test_a_malformed_line_of_a_list_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "list.txt").write_text(f"0.0 z.jpg\n{line}\n")
    with pytest.raises(FormatError, match=r"list\.txt:2"):
        read_sequence(tmp_path / "list.txt", tmp_path, {}, [])

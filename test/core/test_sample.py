"""The sample world: is what ships with the repository what its README says?"""

from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
import torch
import yaml

from pixloc_core.bags.reader import BagReader
from pixloc_core.geometry import Camera, Pose

SAMPLE = Path(__file__).resolve().parents[2] / "sample"
DRIVES = ("day", "evening")
IMAGES, INFO = "/camera/image/compressed", "/camera/camera_info"
TOPICS = {
    IMAGES: "sensor_msgs/msg/CompressedImage",
    INFO: "sensor_msgs/msg/CameraInfo",
    "/tf": "tf2_msgs/msg/TFMessage",
    "/tf_static": "tf2_msgs/msg/TFMessage",
    "/ground_truth": "geometry_msgs/msg/PoseStamped",
}


@pytest.fixture(scope="module")
def model() -> pycolmap.Reconstruction:
    return pycolmap.Reconstruction(SAMPLE / "map" / "sfm")


@pytest.fixture(params=DRIVES, scope="module")
def bag(request: pytest.FixtureRequest) -> BagReader:
    return BagReader(SAMPLE / request.param)


def test_the_sample_stays_below_30_megabytes() -> None:
    size = sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file())
    assert 1e6 < size < 30e6


def test_the_model_holds_every_map_image(model: pycolmap.Reconstruction) -> None:
    files = {path.name for path in (SAMPLE / "map" / "images").iterdir()}
    assert {image.name for image in model.images.values()} == files
    assert len(files) >= 45


def test_points_reproject_to_their_observations(model: pycolmap.Reconstruction) -> None:
    errors = []
    for image in model.images.values():
        for point in image.get_observation_points2D():
            pixel = image.project_point(model.points3D[point.point3D_id].xyz)
            errors.append(np.linalg.norm(pixel - point.xy))
    assert len(errors) > 10_000
    assert np.median(errors) < 1.0
    assert np.quantile(errors, 0.99) < 4.0


def test_points_lie_inside_the_room(model: pycolmap.Reconstruction) -> None:
    points = np.array([point.xyz for point in model.points3D.values()])
    inside = (np.abs(points[:, 0]) < 4.1) & (np.abs(points[:, 1]) < 3.1)
    inside &= (points[:, 2] > -0.1) & (points[:, 2] < 3.5)
    assert inside.mean() > 0.99


def test_topics_have_the_documented_types(bag: BagReader) -> None:
    assert bag.topics == TOPICS
    assert bag.counts["/tf_static"] == 1


def test_images_come_at_5_hz_with_calibration_and_truth_of_the_same_stamps(
    bag: BagReader,
) -> None:
    stamps = bag.image_stamps(IMAGES)
    assert len(stamps) == 100
    np.testing.assert_allclose(np.diff(stamps) / 1e9, 0.2, atol=1e-3)
    np.testing.assert_array_equal(bag.image_stamps(INFO), stamps)
    np.testing.assert_array_equal(bag.trajectory("/ground_truth").stamps_ns, stamps)


def test_images_have_the_size_of_their_calibration(bag: BagReader) -> None:
    camera = bag.camera(INFO)
    stamps = bag.image_stamps(IMAGES)
    for _, image in bag.images(IMAGES, stamps[::25].tolist()):
        assert image.shape[1::-1] == tuple(int(side) for side in camera.size)
        assert image.std() > 10


def test_the_true_motion_is_that_of_a_robot_on_the_floor(bag: BagReader) -> None:
    truth = bag.trajectory("/ground_truth")
    up = truth.poses.R[:, 2, 2]
    torch.testing.assert_close(truth.poses.t[:, 2], torch.zeros_like(up))
    torch.testing.assert_close(up, torch.ones_like(up))
    turn_deg, way = (truth.poses[:-1].inv() @ truth.poses[1:]).magnitude()
    assert way.max() / 0.2 < 0.6
    assert way.min() / 0.2 > 0.2
    assert turn_deg.max() / 0.2 < 30


def test_odometry_surrounds_the_images_and_drifts_a_little(bag: BagReader) -> None:
    odometry = bag.transforms("/tf", "odom", "base_link")
    truth = bag.trajectory("/ground_truth")
    assert np.diff(odometry.stamps_ns).max() < 1e9 / 30
    measured, covered = odometry.at(truth.stamps_ns)
    assert covered.all()
    drift = (truth.poses[:1].inv() @ truth.poses[-1:]).inv() @ (measured[:1].inv() @ measured[-1:])
    turn_deg, distance = drift.magnitude()
    way = float((truth.poses.t[1:] - truth.poses.t[:-1]).norm(dim=-1).sum())
    assert 0.005 * way < float(distance) < 0.10 * way
    assert 0.5 < float(turn_deg) < 3.0 * way
    assert float((measured.t[0] - truth.poses.t[0]).norm()) > 1.0


def test_no_bag_tells_where_the_odometry_frame_is_in_the_map(bag: BagReader) -> None:
    frames = {
        (transform.header.frame_id, transform.child_frame_id)
        for topic in ("/tf", "/tf_static")
        for message in bag.messages(topic)
        for transform in message.transforms
    }
    assert frames == {("odom", "base_link"), ("base_link", "camera_optical")}


def test_the_first_guess_is_near_the_truth_but_not_the_truth(bag: BagReader) -> None:
    guess = yaml.safe_load((bag.path / "initial_pose.yaml").read_text())
    x, y, z, w = guess["orientation_xyzw"]
    rotation = torch.tensor([w, x, y, z], dtype=torch.float64)
    position = torch.tensor(guess["position"], dtype=torch.float64)
    first = bag.trajectory("/ground_truth").poses[0]
    turn_deg, distance = (first.inv() @ Pose.from_quat_wxyz(rotation, position)).magnitude()
    assert 0.1 < float(distance) < 0.35
    assert 2.0 < float(turn_deg) < 7.0


def test_ground_truth_puts_map_points_where_the_images_show_them(
    bag: BagReader, model: pycolmap.Reconstruction
) -> None:
    camera = bag.camera(INFO)
    truth = bag.trajectory("/ground_truth")
    mount = bag.static_transform("/tf_static", "base_link", "camera_optical")
    errors = []
    for index in (10, 60):
        cam_from_map = (truth.poses[index] @ mount).inv()
        ((_, pixels),) = bag.images(IMAGES, [int(truth.stamps_ns[index])])
        errors.append(_matching_errors(pixels, camera, cam_from_map, model))
    close = np.concatenate(errors)
    close = close[close < 8.0]
    assert len(close) > 30
    assert np.median(close) < 1.5


def _matching_errors(
    pixels: np.ndarray, camera: Camera, cam_from_map: Pose, model: pycolmap.Reconstruction
) -> np.ndarray:
    """Pixels between SIFT features and the projections of the map points that they match."""
    sift = cv2.SIFT_create(contrastThreshold=0.02)
    seen, found = sift.detectAndCompute(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), None)
    direction = cam_from_map.R[2].numpy()
    images = sorted(model.images.values(), key=lambda i: -i.viewing_direction() @ direction)
    points, descriptors = [], []
    for image in images[:3]:
        observed = image.get_observation_points2D()
        grey = cv2.imread(str(SAMPLE / "map" / "images" / image.name), cv2.IMREAD_GRAYSCALE)
        keys, stored = sift.detectAndCompute(grey, None)
        # COLMAP puts (0, 0) at the corner of the first pixel, OpenCV at its centre.
        places = np.array([key.pt for key in keys]) + 0.5
        for point in observed:
            gaps = np.linalg.norm(places - point.xy, axis=1)
            if gaps.min() < 1.0:
                points.append(model.points3D[point.point3D_id].xyz)
                descriptors.append(stored[gaps.argmin()])
    pairs = cv2.BFMatcher(crossCheck=True).match(np.array(descriptors), found)
    matched = torch.from_numpy(np.array([points[pair.queryIdx] for pair in pairs]))
    projected, valid = camera.to(torch.float64).world2image(cam_from_map * matched)
    there = np.array([seen[pair.trainIdx].pt for pair in pairs])
    return np.linalg.norm(projected.numpy() - there, axis=1)[valid.numpy()]

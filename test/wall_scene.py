"""A small COLMAP model with exact observations, made by pycolmap."""

import numpy as np
import pycolmap


def wall_scene(
    num_images: int = 6,
    *,
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
    model: str = "OPENCV",
    num_points: int = 300,
) -> pycolmap.Reconstruction:
    """Cameras in a row, 0.5 apart, in front of a bumpy wall 4 to 6 away; no noise."""
    params = {
        "OPENCV": [300.0, 310.0, 160.25, 119.5, 0.05, -0.02, 1e-3, -5e-4],
        "PINHOLE": [300.0, 310.0, 160.25, 119.5],
        "FOV": [300.0, 310.0, 160.0, 120.0, 0.1],
    }
    camera = pycolmap.Camera(camera_id=3, model=model, width=320, height=240, params=params[model])
    scene = pycolmap.Reconstruction()
    scene.add_camera_with_trivial_rig(camera)
    rng = np.random.default_rng(5)
    points = rng.uniform([-2.5, -1.8, 4], [2.5 + 0.5 * num_images, 1.8, 6], (num_points, 3))
    tracks = [pycolmap.Track() for _ in points]
    for image in range(num_images):
        rotation = pycolmap.Rotation3d(np.array([0.01 * image, -0.02, 0.03, 1.0]))
        rotation.normalize()
        center = np.array([0.5 * image, 0.02 * image, 0.0])
        shift = -(rotation.matrix() @ (center + offset))
        observed, ids = _observe(camera, points @ rotation.matrix().T - rotation * center)
        # The first point of every image is seen by no other.
        keypoints = [pycolmap.Point2D(np.array([1.5, 2.5]))]
        keypoints += [pycolmap.Point2D(xy) for xy in observed]
        scene.add_image_with_trivial_frame(
            pycolmap.Image(
                name=f"row/{image:02d}.jpg",
                camera_id=3,
                image_id=image + 11,
                points2D=pycolmap.Point2DList(keypoints),
            ),
            pycolmap.Rigid3d(rotation, shift),
        )
        for index, point in enumerate(ids):
            tracks[point].add_element(image + 11, index + 1)
    for point, track in zip(points, tracks, strict=True):
        if track.length() >= 2:
            scene.add_point3D(point + offset, track)
    return scene


def _observe(
    camera: pycolmap.Camera, points_cam: np.ndarray
) -> tuple[list[np.ndarray], list[int]]:
    pixels = [camera.img_from_cam(point) for point in points_cam]
    seen = [
        index
        for index, xy in enumerate(pixels)
        if xy is not None and 0 < xy[0] < camera.width and 0 < xy[1] < camera.height
    ]
    return [pixels[index] for index in seen], seen

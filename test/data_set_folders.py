"""Small data sets in the layouts of Extended CMU Seasons and of MegaDepth, and PixLoc's files."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import torch
from painted_wall import DEPTH, photograph, write_image

from pixloc_core.geometry import Camera, Pose
from pixloc_core.training.collections.cmu import CAMERAS


def wall_model(
    folder: Path, cameras: list[dict[str, Any]], names: list[str], poses: list[Pose]
) -> None:
    """Write a COLMAP model of points of the painted wall."""
    rng = np.random.default_rng(3)
    points = rng.uniform([-2.5, -2, DEPTH], [2.5, 2, DEPTH], (400, 3))
    scene = pycolmap.Reconstruction()
    tracks: list[list[tuple[int, int]]] = [[] for _ in points]
    for number, (camera, name, pose) in enumerate(zip(cameras, names, poses, strict=True), 1):
        scene.add_camera_with_trivial_rig(pycolmap.Camera(camera_id=number, **camera))
        ours = Camera.from_colmap(camera)
        px, visible = ours.world2image(pose * torch.from_numpy(points))
        shown = np.flatnonzero(visible.numpy())
        keypoints = [pycolmap.Point2D(px[point].numpy() + 0.5) for point in shown]
        quat = pose.quat_wxyz().numpy()[[1, 2, 3, 0]]
        scene.add_image_with_trivial_frame(
            pycolmap.Image(
                name=name,
                camera_id=number,
                image_id=number,
                points2D=pycolmap.Point2DList(keypoints),
            ),
            pycolmap.Rigid3d(pycolmap.Rotation3d(quat), pose.t.numpy()),
        )
        for place, point in enumerate(shown):
            tracks[point].append((number, place))
    for point, track in zip(points, tracks, strict=True):
        if len(track) > 1:
            elements = pycolmap.Track()
            for image, place in track:
                elements.add_element(image, place)
            scene.add_point3D(point, elements)
    folder.mkdir(parents=True, exist_ok=True)
    scene.write_binary(str(folder))


def cmu_names(count: int, season: int) -> list[str]:
    """File names as in the data set."""
    return [f"img_{i:05d}_c{i % 2}_12{season}8792{i:03d}us.jpg" for i in range(count)]


def cmu_camera(name: str) -> dict[str, Any]:
    """COLMAP's description of the camera of an image."""
    params = list(CAMERAS[name.split("_")[2]])
    return {"model": "OPENCV", "width": 1024, "height": 768, "params": params}


def write_slice(root: Path, poses: list[Pose], queries: list[Pose], scene: str = "slice8") -> None:
    """A slice with references at some poses and queries at others."""
    names = cmu_names(len(poses), 1)
    wall_model(root / scene / "sparse", [cmu_camera(name) for name in names], names, poses)
    lines = []
    for name, pose in zip(cmu_names(len(queries), 2), queries, strict=True):
        numbers = [*pose.quat_wxyz().tolist(), *pose.center.tolist()]
        lines.append(" ".join([name, *map(repr, numbers)]))
        camera = Camera.from_colmap(cmu_camera(name))
        write_image(root / scene / "query" / name, photograph(camera, pose))
    for name, pose in zip(names, poses, strict=True):
        camera = Camera.from_colmap(cmu_camera(name))
        write_image(root / scene / "database" / name, photograph(camera, pose))
    (root / scene / "camera-poses").mkdir()
    (root / scene / "camera-poses" / "run1.txt").write_text("\n".join(lines[:2]))
    (root / scene / "camera-poses" / "run2.txt").write_text("\n".join(lines[2:]))


def write_pickle(path: Path, entries: dict[str, Any], protocol: int = 4) -> Path:
    """Entries as PixLoc stores them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(entries, protocol=protocol))
    return path


def poses_entry(poses: Pose) -> list[tuple[np.ndarray, np.ndarray]]:
    """Poses as PixLoc stores them: pairs of R and t, world to camera."""
    return [poses[image].numpy() for image in range(len(poses))]

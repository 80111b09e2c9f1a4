"""The SfM model of the map: SIFT tracks triangulated by pycolmap from the known poses."""

import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap

from tools.make_sample import frames
from tools.make_sample.cameras import MAP_LENS, Array

MAX_POINTS = 12_000
_MAX_ERROR_PX = 1.5
_MIN_TRACK = 3
_MIN_COMMON_VIEW_DEG = 75.0


def make(work: Path, out: Path) -> None:
    """Copy the map images to `out`/map/images and write `out`/map/sfm."""
    shots = [shot for shot in frames.map_series(work).shots if shot.path.exists()]
    images, model = out / "map" / "images", out / "map" / "sfm"
    for folder in (images, model):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for shot in shots:
        shutil.copyfile(shot.path, images / shot.path.name)
    poses = {shot.path.name: np.linalg.inv(shot.poses[0]) for shot in shots}
    database = work / "map.db"
    database.unlink(missing_ok=True)
    _match(database, images, poses)
    triangulated = work / "triangulated"
    triangulated.mkdir(exist_ok=True)
    dense = pycolmap.triangulate_points(
        _known_poses(database, poses), database, images, triangulated
    )
    model_kept = _thin_out(dense)
    model_kept.write_binary(model)
    print(model_kept.summary())


def _match(database: Path, images: Path, poses: dict[str, Array]) -> None:
    reader = pycolmap.ImageReaderOptions(camera_model="PINHOLE", camera_params=_parameters())
    extraction = pycolmap.FeatureExtractionOptions(num_threads=2)
    extraction.sift.max_num_features = 4000
    extraction.sift.peak_threshold = 0.004
    pycolmap.extract_features(
        database,
        images,
        camera_mode=pycolmap.CameraMode.SINGLE,
        reader_options=reader,
        extraction_options=extraction,
        device=pycolmap.Device.cpu,
    )
    pairs = database.with_suffix(".pairs.txt")
    close = [
        f"{a} {b}\n" for a, b in combinations(sorted(poses), 2) if _overlap(poses[a], poses[b])
    ]
    pairs.write_text("".join(close))
    pycolmap.match_image_pairs(
        database,
        matching_options=pycolmap.FeatureMatchingOptions(num_threads=2, guided_matching=True),
        pairing_options=pycolmap.ImportedPairingOptions(match_list_path=pairs),
        device=pycolmap.Device.cpu,
    )


def _overlap(one: Array, other: Array) -> bool:
    """Do the two cameras (`cam_from_map`) look in similar directions?"""
    return bool(one[2, :3] @ other[2, :3] > np.cos(np.radians(_MIN_COMMON_VIEW_DEG)))


def _parameters() -> str:
    # COLMAP puts (0, 0) at the corner of the top left pixel.
    lens = MAP_LENS
    return f"{lens.fx},{lens.fy},{lens.cx + 0.5},{lens.cy + 0.5}"


def _known_poses(database: Path, poses: dict[str, Array]) -> pycolmap.Reconstruction:
    known = pycolmap.Reconstruction()
    with pycolmap.Database.open(database) as stored:
        for camera in stored.read_all_cameras():
            known.add_camera_with_trivial_rig(camera)
        for image in stored.read_all_images():
            keypoints = stored.read_keypoints(image.image_id)
            posed = pycolmap.Image(
                name=image.name,
                keypoints=np.asarray(keypoints)[:, :2].astype(np.float64),
                camera_id=image.camera_id,
                image_id=image.image_id,
            )
            known.add_image_with_trivial_frame(
                posed, pycolmap.Rigid3d(np.ascontiguousarray(poses[image.name][:3]))
            )
    return known


def _thin_out(dense: pycolmap.Reconstruction) -> pycolmap.Reconstruction:
    """Keep good points with long tracks, spread over space, and only their observations."""
    kept = _select(dense)
    rows: dict[int, list[tuple[int, Array]]] = {image_id: [] for image_id in dense.images}
    for point_id in kept:
        for element in dense.points3D[point_id].track.elements:
            pixel = dense.images[element.image_id].points2D[element.point2D_idx].xy
            rows[element.image_id].append((point_id, pixel))
    thin = pycolmap.Reconstruction()
    for camera in dense.cameras.values():
        thin.add_camera_with_trivial_rig(camera)
    tracks: dict[int, list[pycolmap.TrackElement]] = {point_id: [] for point_id in kept}
    for image_id, image in sorted(dense.images.items()):
        pixels = np.array([pixel for _, pixel in rows[image_id]]).reshape(-1, 2)
        copy = pycolmap.Image(
            name=image.name, keypoints=pixels, camera_id=image.camera_id, image_id=image_id
        )
        thin.add_image_with_trivial_frame(copy, image.cam_from_world())
        for index, (point_id, _) in enumerate(rows[image_id]):
            tracks[point_id].append(pycolmap.TrackElement(image_id, index))
    for point_id in kept:
        point = dense.points3D[point_id]
        thin.add_point3D(point.xyz, pycolmap.Track(tracks[point_id]), point.color)
    thin.update_point_3d_errors()
    return thin


def _select(dense: pycolmap.Reconstruction) -> list[int]:
    """Points by track length, taken in turns from cells of 25 cm so that no place is bare."""
    good = {
        point_id: point
        for point_id, point in dense.points3D.items()
        if point.error < _MAX_ERROR_PX and point.track.length() >= _MIN_TRACK
    }
    ranked = sorted(good, key=lambda i: (-good[i].track.length(), good[i].error))
    turn: dict[tuple[int, ...], int] = {}
    order = []
    for point_id in ranked:
        cell = tuple(np.floor(good[point_id].xyz / 0.25).astype(int))
        turn[cell] = turn.get(cell, 0) + 1
        order.append((turn[cell], point_id))
    return sorted(point_id for _, point_id in sorted(order)[:MAX_POINTS])

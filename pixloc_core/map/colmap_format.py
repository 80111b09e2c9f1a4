"""COLMAP models, binary or text, with or without rigs: half pixel and grid origin removed here."""

import hashlib
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import torch
from numpy.typing import NDArray

from pixloc_core.errors import FormatError, MapError
from pixloc_core.geometry import Camera, Pose
from pixloc_core.map.colmap_binary import NO_POINT, ModelArrays, read_arrays
from pixloc_core.map.reprojection import point_errors
from pixloc_core.map.sparse_map import SparseMap

logger = logging.getLogger(__name__)

_NEEDED = ("cameras", "images", "points3D")
_OPTIONAL = ("frames", "rigs")


def from_colmap(folder: str | Path) -> SparseMap:
    """Read a COLMAP model.

    Images without a pose or without points, and points that no other image sees, are left out
    with a warning. Pixels count from the centre of the top-left one: half a pixel is taken off
    COLMAP's. Poses and points are relative to the median camera centre, rounded to whole units.

    Args:
        folder: Folder with cameras, images and points3D (and rigs, frames) as .bin or .txt.

    Raises:
        MapError: In one line naming the file: nothing there, truncated or damaged files, a camera
            model that is not supported, or nothing usable in the model.
    """
    folder = Path(folder)
    suffix = _suffix(folder)
    if suffix == ".txt":
        _check_camera_lines(folder / "cameras.txt")
        model = _load(folder)
        with tempfile.TemporaryDirectory() as scratch:
            # Text models take the same way as binary ones from here on.
            model.write_binary(scratch)
            arrays = read_arrays(Path(scratch), folder, suffix)
    else:
        arrays = read_arrays(folder, folder)
        model = _load(folder)
    return _to_sparse(folder, model, arrays, fingerprint(folder))


def fingerprint(folder: str | Path) -> str:
    """sha256 over the files of a COLMAP model.

    Raises:
        MapError: If there is no model in the folder, or a file cannot be read.
    """
    folder = Path(folder)
    suffix = _suffix(folder)
    digest = hashlib.sha256()
    for stem in (*_NEEDED, *_OPTIONAL):
        path = folder / f"{stem}{suffix}"
        if stem in _OPTIONAL and not path.exists():
            continue
        try:
            content = hashlib.sha256(path.read_bytes()).digest()
        except OSError as error:
            raise MapError(f"{path}: {error.strerror or error}") from error
        digest.update(stem.encode() + content)
    return digest.hexdigest()


def _suffix(folder: Path) -> str:
    """Format of the model in a folder; COLMAP prefers binary too."""
    if not folder.is_dir():
        raise MapError(f"{folder}: no such folder, expected a COLMAP model")
    for suffix in (".bin", ".txt"):
        found = [stem for stem in _NEEDED if (folder / f"{stem}{suffix}").is_file()]
        missing = [f"{stem}{suffix}" for stem in _NEEDED if stem not in found]
        if found and missing:
            raise MapError(f"{folder}: incomplete COLMAP model, {', '.join(missing)} missing")
        if found:
            return suffix
    raise MapError(
        f"{folder}: no COLMAP model, expected cameras, images and points3D as .bin or .txt"
    )


def _check_camera_lines(path: Path) -> None:
    """Name the line of an unknown camera model, which pycolmap does not."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) < 4 or fields[1] not in pycolmap.CameraModelId.__members__:
            raise MapError(
                f"{path}:{number}: expected 'CAMERA_ID MODEL WIDTH HEIGHT PARAMS...', "
                f"found {line.strip()[:60]!r}"
            )


def _load(folder: Path) -> Any:
    """The model as pycolmap sees it."""
    try:
        return pycolmap.Reconstruction(str(folder))
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        # The first line says what was checked; it begins with a place in COLMAP's source.
        reason = str(error).strip().splitlines()[0].split("Check failed: ")[-1]
        raise MapError(f"{folder}: damaged COLMAP model ({reason})") from error


def _to_sparse(folder: Path, model: Any, arrays: ModelArrays, digest: str) -> SparseMap:
    images = _usable_images(folder, model, arrays)
    cameras, camera_index = _cameras(folder, model, images)
    pose_in_model = _poses(images)
    # Adding zero turns -0 into 0.
    origin = pose_in_model.center.median(dim=0).values.round() + 0.0
    cam_from_map = Pose.from_Rt(
        pose_in_model.R, pose_in_model.t + (pose_in_model.R @ origin[:, None])[..., 0]
    )
    points2d = [arrays.points2d[image.image_id] for image in images]
    seen = [entries[entries["point"] != NO_POINT] for entries in points2d]
    offsets = np.concatenate([[0], np.cumsum([len(entries) for entries in seen])])
    all_seen = np.concatenate(seen)
    obs_point = np.searchsorted(arrays.point_ids, all_seen["point"])
    track_length = np.bincount(obs_point, minlength=len(arrays.point_ids))
    used = track_length > 0
    renumbered = np.cumsum(used) - 1
    sparse = SparseMap(
        image_names=tuple(image.name for image in images),
        cameras=cameras,
        image_camera=camera_index,
        cam_from_map=cam_from_map,
        points_map=torch.from_numpy(arrays.points[used]) - origin,
        track_length=_tensor(track_length[used]),
        point_error=torch.from_numpy(arrays.errors[used]),
        obs_offsets=_tensor(offsets),
        obs_point=_tensor(renumbered[obs_point]),
        obs_px=torch.from_numpy((all_seen["xy"] - 0.5).astype(np.float32)),
        origin=origin,
        fingerprint=digest,
    )
    if bool((sparse.point_error < 0).any()):
        return replace(sparse, point_error=point_errors(sparse))
    return sparse


def _usable_images(folder: Path, model: Any, arrays: ModelArrays) -> list[Any]:
    """Images with pose and points, by name; the others are reported."""
    usable, unposed, unseen = [], [], []
    for image in sorted(model.images.values(), key=lambda image: str(image.name)):
        points2d = arrays.points2d.get(image.image_id)
        if points2d is None or not image.has_pose or not _is_finite(image):
            unposed.append(image.name)
        elif not (points2d["point"] != NO_POINT).any():
            unseen.append(image.name)
        else:
            usable.append(image)
    for what, names in (("without a pose", unposed), ("without points", unseen)):
        if names:
            logger.warning(
                "%s: %d images %s are left out (first: %s)", folder, len(names), what, names[0]
            )
    if not usable:
        raise MapError(f"{folder}: empty COLMAP model, no image has a pose and points")
    return usable


def _poses(images: Sequence[Any]) -> Pose:
    """`cam_from_world` of images, from normalized quaternions: pycolmap's matrices are not."""
    rigids = [_rigid(image) for image in images]
    # Eigen's order is x, y, z, w.
    quat_xyzw = torch.tensor(np.array([rigid.rotation.quat for rigid in rigids]))
    shift = torch.tensor(np.array([rigid.translation for rigid in rigids]))
    return Pose.from_quat_wxyz(quat_xyzw[:, [3, 0, 1, 2]], shift)


def _is_finite(image: Any) -> bool:
    rigid = _rigid(image)
    length = np.linalg.norm(rigid.rotation.quat)
    return bool(length > 0 and np.isfinite(length) and np.isfinite(rigid.translation).all())


def _rigid(image: Any) -> Any:
    """`cam_from_world`, a property in pycolmap before 3.12 and a method since."""
    rigid = image.cam_from_world
    return rigid() if callable(rigid) else rigid


def _cameras(
    folder: Path, model: Any, images: Sequence[Any]
) -> tuple[tuple[Camera, ...], torch.Tensor]:
    """The cameras that are used, and the index of that of each image."""
    ids = sorted({image.camera_id for image in images})
    cameras = tuple(_camera(folder, model.cameras[camera_id]) for camera_id in ids)
    index = {camera_id: position for position, camera_id in enumerate(ids)}
    return cameras, torch.tensor([index[image.camera_id] for image in images])


def _camera(folder: Path, camera: Any) -> Camera:
    try:
        return Camera.from_colmap(camera)
    except FormatError as error:
        raise MapError(f"{folder}: camera {camera.camera_id}: {error}") from error


def _tensor(index: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(index.astype(np.int64))

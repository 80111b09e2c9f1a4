"""Layout of the feature map file (HDF5) and of the sparse map in it; described in docs/maps.md."""

import json
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.errors import MapError
from pixloc_core.geometry import Camera, DistortionModel, Pose
from pixloc_core.map.point_views import PointViews
from pixloc_core.map.sparse_map import SparseMap
from pixloc_core.shapes import Tensor

FORMAT = "pixloc_feature_map"
# To be raised with every change that an older or newer program would misread.
VERSION = 1

# Dataset and type in the file of the plain arrays of a SparseMap and of its PointViews.
_ARRAYS = {
    "image_camera": ("images/camera", np.int32),
    "points_map": ("points/xyz", np.float64),
    "track_length": ("points/track_length", np.int32),
    "point_error": ("points/error_px", np.float64),
    "obs_offsets": ("observations/offsets", np.int64),
    "obs_point": ("observations/point", np.int32),
    "obs_px": ("observations/px", np.float32),
    "origin": ("origin", np.float64),
}
_VIEWS = {
    "direction": "points/view_direction",
    "cos_spread": "points/view_cos_spread",
    "min_footprint": "points/view_min_footprint",
    "max_footprint": "points/view_max_footprint",
}


def level_path(level: int, kind: str) -> str:
    """Name of the dataset of a level: `kind` is "descriptors" or "confidence"."""
    return f"levels/{level}/{kind}"


def write_sparse(file: h5py.File, sparse: SparseMap) -> None:
    """Store a sparse map in an open file."""
    file.attrs["sfm_fingerprint"] = sparse.fingerprint
    names = np.array(sparse.image_names, dtype=object)
    file.create_dataset("images/name", data=names, dtype=h5py.string_dtype("utf-8"))
    file.create_dataset("images/cam_from_map", data=sparse.cam_from_map.data.numpy())
    cameras = [
        {"distortion": camera.model.name, "numbers": camera.data.tolist()}
        for camera in sparse.cameras
    ]
    file.create_dataset("cameras", data=json.dumps(cameras))
    for name, (path, dtype) in _ARRAYS.items():
        file.create_dataset(path, data=getattr(sparse, name).numpy().astype(dtype))
    for name, path in _VIEWS.items():
        file.create_dataset(path, data=getattr(sparse.views, name).numpy())


def read_sparse(file: h5py.File) -> SparseMap:
    """Read the sparse map of an open file.

    Raises:
        KeyError, ValueError, MapError: If something is missing or senseless; `FeatureMap.open`
            puts the name of the file in front.
    """
    arrays = {name: _tensor(file[path][()]) for name, (path, _) in _ARRAYS.items()}
    sparse = SparseMap(
        image_names=tuple(file["images/name"].asstr()[()].tolist()),
        cameras=tuple(_camera(entry) for entry in json.loads(file["cameras"].asstr()[()])),
        cam_from_map=Pose(_tensor(file["images/cam_from_map"][()])),
        fingerprint=str(file.attrs["sfm_fingerprint"]),
        **arrays,
    )
    views = PointViews(**{name: _tensor(file[path][()]) for name, path in _VIEWS.items()})
    return sparse.with_views(views)


def _tensor(array: NDArray[Any]) -> Tensor:
    """Tensor with the index type and number types that `SparseMap` promises."""
    tensor = torch.from_numpy(array)
    return tensor.long() if not tensor.is_floating_point() else tensor


def _camera(entry: dict[str, Any]) -> Camera:
    if entry["distortion"] not in DistortionModel.__members__:
        raise MapError(f"unknown distortion model {entry['distortion']!r}")
    numbers = torch.tensor(entry["numbers"], dtype=torch.float64)
    return Camera(numbers, DistortionModel[entry["distortion"]])

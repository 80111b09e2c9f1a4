"""File of an image collection (HDF5); described in docs/training_data.md."""

import json
import os
from pathlib import Path

import h5py
import numpy as np
import torch

from pixloc_core.errors import MapError
from pixloc_core.geometry import Camera, DistortionModel, Pose
from pixloc_core.shapes import Tensor
from pixloc_core.training.collections.image_collection import ImageCollection

FORMAT = "pixloc_image_collection"
# To be raised with every change that an older or newer program would misread.
VERSION = 1
SUFFIX = ".h5"

# Dataset and type in the file of the plain arrays of an ImageCollection.
_ARRAYS = {
    "image_camera": ("images/camera", np.int32),
    "is_reference": ("images/is_reference", np.bool_),
    "is_query": ("images/is_query", np.bool_),
    "quarter_turns": ("images/quarter_turns", np.uint8),
    "points_world": ("points/xyz", np.float64),
    "obs_offsets": ("observations/offsets", np.int64),
    "obs_point": ("observations/point", np.int32),
}


def write_collection(path: str | Path, collection: ImageCollection) -> None:
    """Store a collection; the folder of its images is not stored.

    A file of this name is replaced once the new one is complete.

    Raises:
        MapError: If the file cannot be written.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with h5py.File(unfinished, "w") as file:
            _write(file, collection)
        os.replace(unfinished, path)
    except OSError as error:
        raise MapError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        unfinished.unlink(missing_ok=True)


def read_collection(path: str | Path, images: str | Path) -> ImageCollection:
    """Read a collection.

    Args:
        path: The file.
        images: Folder that the names of the images are relative to.

    Raises:
        MapError: If the file is missing, damaged, of another kind or version.
    """
    path = Path(path)
    if not path.is_file():
        raise MapError(f"{path}: no such file, expected an image collection")
    try:
        with h5py.File(path, "r") as file:
            _check_version(path, file)
            return _read(file, path.stem, Path(images))
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise MapError(f"{path}: not an image collection ({reason})") from error
    except MapError as error:
        message = str(error)
        raise MapError(
            message if message.startswith(str(path)) else f"{path}: {message}"
        ) from error


def _write(file: h5py.File, collection: ImageCollection) -> None:
    file.attrs["format"] = FORMAT
    file.attrs["version"] = VERSION
    names = np.array(collection.image_names, dtype=object)
    file.create_dataset("images/name", data=names, dtype=h5py.string_dtype("utf-8"))
    file.create_dataset("images/cam_from_world", data=collection.cam_from_world.data.numpy())
    cameras = [
        {"distortion": camera.model.name, "numbers": camera.data.tolist()}
        for camera in collection.cameras
    ]
    file.create_dataset("cameras", data=json.dumps(cameras))
    for name, (where, dtype) in _ARRAYS.items():
        array = getattr(collection, name).numpy().astype(dtype)
        file.create_dataset(where, data=array, compression="gzip", compression_opts=4)


def _check_version(path: Path, file: h5py.File) -> None:
    found = file.attrs.get("format"), file.attrs.get("version")
    if found[0] != FORMAT:
        raise MapError(f"{path}: not an image collection, expected a file of pixloc preprocess")
    if found[1] != VERSION:
        raise MapError(
            f"{path}: version {found[1]} of the format, expected {VERSION}: preprocess again"
        )


def _read(file: h5py.File, name: str, images: Path) -> ImageCollection:
    arrays = {entry: _tensor(file[where][()]) for entry, (where, _) in _ARRAYS.items()}
    return ImageCollection(
        name=name,
        folder=images,
        image_names=tuple(file["images/name"].asstr()[()].tolist()),
        cameras=tuple(_camera(entry) for entry in json.loads(file["cameras"].asstr()[()])),
        cam_from_world=Pose(_tensor(file["images/cam_from_world"][()])),
        **arrays,
    )


def _tensor(array: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor if tensor.is_floating_point() or tensor.dtype == torch.bool else tensor.long()


def _camera(entry: dict[str, object]) -> Camera:
    name = entry["distortion"]
    if not isinstance(name, str) or name not in DistortionModel.__members__:
        raise MapError(f"unknown distortion model {name!r}")
    numbers = torch.tensor(entry["numbers"], dtype=torch.float64)
    return Camera(numbers, DistortionModel[name])

"""The file of an image collection."""

from dataclasses import fields, replace
from pathlib import Path

import h5py
import pytest
import torch
from painted_wall import wall_collection

from pixloc_core.errors import MapError
from pixloc_core.geometry import Pose
from pixloc_core.training.collections.collection_file import read_collection, write_collection
from pixloc_core.training.collections.image_collection import ImageCollection


@pytest.fixture
def wall(tmp_path: Path) -> ImageCollection:
    plain = wall_collection(tmp_path / "images", count=4, models=("OPENCV", "PINHOLE"))
    return replace(plain, quarter_turns=torch.tensor([0, 3, 2, 1]), is_query=torch.arange(4) > 1)


def test_a_collection_comes_back_from_its_file(wall: ImageCollection, tmp_path: Path) -> None:
    write_collection(tmp_path / "wall.h5", wall)
    found = read_collection(tmp_path / "wall.h5", wall.folder)
    for field in fields(wall):
        a, b = getattr(found, field.name), getattr(wall, field.name)
        if isinstance(b, torch.Tensor):
            assert torch.equal(a, b), field.name
        elif isinstance(b, Pose):
            assert torch.equal(a.data, b.data)
        elif field.name == "cameras":
            assert [(c.model, c.data.tolist()) for c in a] == [
                (c.model, c.data.tolist()) for c in b
            ]
        else:
            assert a == b, field.name


def test_files_of_another_kind_version_or_state_are_refused(
    wall: ImageCollection, tmp_path: Path
) -> None:
    path = tmp_path / "wall.h5"
    with pytest.raises(MapError, match="no such file"):
        read_collection(path, tmp_path)
    path.write_bytes(b"text")
    with pytest.raises(MapError, match=r"wall\.h5: not an image collection"):
        read_collection(path, tmp_path)
    write_collection(path, wall)
    with h5py.File(path, "r+") as file:
        file["observations/point"][0] = 100_000
    with pytest.raises(MapError, match=r"wall.*obs_point has entries outside"):
        read_collection(path, tmp_path)
    write_collection(path, wall)
    with h5py.File(path, "r+") as file:
        file["observations/point"][1] = file["observations/point"][0]
    with pytest.raises(MapError, match=r"wall.*not in ascending order"):
        read_collection(path, tmp_path)
    write_collection(path, wall)
    with h5py.File(path, "r+") as file:
        del file["points/xyz"]
    with pytest.raises(MapError, match=r"wall\.h5: not an image collection"):
        read_collection(path, tmp_path)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 99
    with pytest.raises(MapError, match="version 99 of the format, expected 1"):
        read_collection(path, tmp_path)


def test_a_folder_that_cannot_be_written_is_named(wall: ImageCollection, tmp_path: Path) -> None:
    with pytest.raises(MapError, match=r"none/wall\.h5: cannot be written"):
        write_collection(tmp_path / "none" / "wall.h5", wall)

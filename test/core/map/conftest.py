"""Small maps as files and as objects."""

from collections.abc import Callable
from pathlib import Path

import pycolmap
import pytest
import torch
from wall_scene import wall_scene

from pixloc_core.map.colmap_format import from_colmap
from pixloc_core.map.sparse_map import SparseMap

Write = Callable[..., Path]


@pytest.fixture
def write_model(tmp_path: Path) -> Write:
    """Write a scene (by default the wall) as binary or text and return the folder."""

    def write(
        scene: pycolmap.Reconstruction | None = None,
        *,
        text: bool = False,
        rigs: bool = True,
        name: str = "sfm",
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        scene = scene or wall_scene()
        if text:
            scene.write_text(str(folder))
        else:
            scene.write_binary(str(folder))
        if not rigs:
            for path in [*folder.glob("rigs.*"), *folder.glob("frames.*")]:
                path.unlink()
        return folder

    return write


@pytest.fixture(scope="session")
def wall(tmp_path_factory: pytest.TempPathFactory) -> SparseMap:
    """The wall scene as a sparse map."""
    folder = tmp_path_factory.mktemp("wall")
    wall_scene().write_binary(str(folder))
    return from_colmap(folder)


@pytest.fixture
def features(wall: SparseMap) -> list[list[torch.Tensor]]:
    """Random descriptors (two levels) and confidences of all observations of the wall."""
    generator = torch.Generator().manual_seed(3)
    count = wall.num_observations
    return [
        [torch.randn(count, width, generator=generator) for width in (16, 8)],
        [torch.rand(count, generator=generator) for _ in range(2)],
    ]

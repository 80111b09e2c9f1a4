"""A localizer in the toy room, with the training-free features."""

from pathlib import Path

import pytest
from toy_world import ToyWorld

from pixloc_core.features.extractor import ExtractorConfig, create_extractor
from pixloc_core.features.reference import build_feature_map
from pixloc_core.localizer.localizer import Localizer
from pixloc_core.map.colmap_format import from_colmap


@pytest.fixture(scope="session")
def world() -> ToyWorld:
    return ToyWorld()


@pytest.fixture(scope="session")
def map_path(world: ToyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    sfm, images = world.write(folder)
    extractor = create_extractor(ExtractorConfig(kind="gradients"))
    build_feature_map(from_colmap(sfm), images, extractor, folder / "map.h5")
    return folder / "map.h5"


@pytest.fixture(scope="session")
def localizer(map_path: Path) -> Localizer:
    return Localizer.open(map_path)

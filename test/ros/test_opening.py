import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from toy_world import ToyWorld

from pixloc_core.errors import CheckpointError, ConfigError, MapError, PixlocError
from pixloc_core.features.extractor import create_extractor
from pixloc_core.features.reference import build_feature_map
from pixloc_core.features.shipped_weights import SHIPPED
from pixloc_core.geometry import Pose
from pixloc_core.localizer.localizer import LocalizerConfig
from pixloc_core.map.colmap_format import from_colmap
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.opening import OpenMap, open_map


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def opened(**parameters: object) -> OpenMap:
    config = NodeConfig(**parameters)
    return open_map(config, config.map)


def refused(kind: type[PixlocError], **parameters: object) -> str:
    with pytest.raises(kind) as caught:
        opened(**parameters)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_map_is_opened_with_the_features_it_was_made_with(map_path):
    localizer = opened(map=str(map_path)).localizer(LocalizerConfig())
    assert localizer.feature_map.path == map_path
    assert localizer.feature_map.num_levels > 1


def test_number_of_threads_is_that_of_the_parameter(map_path):
    opened(map=str(map_path), num_threads=1)
    assert torch.get_num_threads() == 1


def test_node_without_a_map_asks_for_one():
    assert "parameter map is empty" in refused(ConfigError)


def test_missing_map_is_named(tmp_path):
    path = str(tmp_path / "none.h5")
    assert path in refused(MapError, map=path)


def test_truncated_map_is_named(map_path, tmp_path):
    path = tmp_path / "cut.h5"
    path.write_bytes(map_path.read_bytes()[:5000])
    assert str(path) in refused(MapError, map=str(path))


def test_map_made_with_other_weights_is_refused(map_path, tmp_path):
    path = Path(shutil.copy(map_path, tmp_path / "other.h5"))
    with h5py.File(path, "r+") as file:
        file.attrs["extractor_fingerprint"] = "0123456789abcdef"
    assert "0123456789ab" in refused(MapError, map=str(path))


def test_weights_that_do_not_exist_are_named_with_those_that_ship(map_path):
    told = refused(CheckpointError, map=str(map_path), weights="none.safetensors")
    assert "none.safetensors" in told
    assert "light (default)" in told


@pytest.fixture(scope="module")
def learned_map_path(world: ToyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map with the default features."""
    folder = tmp_path_factory.mktemp("learned")
    sfm, images = world.write(folder)
    build_feature_map(from_colmap(sfm), images, create_extractor({}), folder / "map.h5")
    return folder / "map.h5"


@pytest.mark.parametrize("weights", ["", "light", str(SHIPPED["light"])])
def test_map_of_the_default_features_opens_with_the_shipped_weights(learned_map_path, weights):
    found = opened(map=str(learned_map_path), weights=weights)
    localizer = found.localizer(LocalizerConfig())
    assert localizer.feature_map.extractor_fingerprint == create_extractor({}).fingerprint


def test_training_free_map_is_refused_with_weights_of_a_network(map_path):
    assert "build it again" in refused(MapError, map=str(map_path), weights="light")


def test_checkpoint_with_pickled_code_is_refused(map_path, tmp_path):
    path = tmp_path / "evil.tar"
    torch.save({"model": Path}, path)
    assert str(path) in refused(CheckpointError, map=str(map_path), weights=str(path))


def test_device_that_does_not_exist_is_named(map_path):
    assert "'teapot'" in refused(ConfigError, map=str(map_path), device="teapot")


def test_poses_far_outside_the_map_are_refused_with_the_distance(map_path):
    found = opened(map=str(map_path))
    center = Pose.from_aa(torch.zeros(3).double(), torch.tensor([0.5, 0.0, 0.2]).double())
    far = Pose.from_aa(torch.zeros(3).double(), torch.tensor([500.0, 0.0, 0.0]).double())
    assert found.refuse(center) == ""
    assert re.search(r"\(500.00, 0.00, 0.00\) lies 49\d.\d m outside the map", found.refuse(far))


def test_points_are_in_the_coordinates_of_the_model(map_path, world):
    found = opened(map=str(map_path))
    points = found.points(np.arange(20))
    distances = np.linalg.norm(world.points[None] - points[:, None], axis=-1).min(1)
    np.testing.assert_allclose(distances, 0.0, atol=1e-9)

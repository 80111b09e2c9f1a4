import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest
import torch

from pixloc_core.errors import CheckpointError, ConfigError, MapError, PixlocError
from pixloc_core.localizer.localizer import LocalizerConfig
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.opening import open_localizer


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def refused(kind: type[PixlocError], **parameters: object) -> str:
    with pytest.raises(kind) as caught:
        open_localizer(NodeConfig(**parameters), LocalizerConfig())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_map_is_opened_with_the_features_it_was_made_with(map_path):
    localizer = open_localizer(NodeConfig(map=str(map_path)), LocalizerConfig())
    assert localizer.feature_map.path == map_path
    assert localizer.feature_map.num_levels > 1


def test_number_of_threads_is_that_of_the_parameter(map_path):
    open_localizer(NodeConfig(map=str(map_path), num_threads=1), LocalizerConfig())
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


def test_weights_that_do_not_exist_are_named(map_path):
    assert "none.safetensors" in refused(
        CheckpointError, map=str(map_path), weights="none.safetensors"
    )


def test_checkpoint_with_pickled_code_is_refused(map_path, tmp_path):
    path = tmp_path / "evil.tar"
    torch.save({"model": Path}, path)
    assert str(path) in refused(CheckpointError, map=str(map_path), weights=str(path))


def test_device_that_does_not_exist_is_named(map_path):
    assert "'teapot'" in refused(ConfigError, map=str(map_path), device="teapot")

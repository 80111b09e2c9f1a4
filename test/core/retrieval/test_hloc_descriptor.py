"""hloc's files of global descriptors, and its networks, of which a small stand-in is enough."""

import sys
import types
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from toy_world import ToyWorld

from pixloc_core.errors import ConfigError, ImageError, MapError
from pixloc_core.features.preprocessing import load_image
from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.retrieval.descriptor import DescriptorConfig
from pixloc_core.retrieval.hloc_descriptor import HlocConfig, HlocDescriptor, read_hloc_vectors
from pixloc_core.retrieval.index import RetrievalIndex, SearchConfig

TINY = DescriptorConfig(kind="hloc", hloc=HlocConfig(model="tiny"))


class TinyNetwork(torch.nn.Module):
    """Mean colours of the cells of a grid, called as hloc calls its networks."""

    def __init__(self, conf: dict) -> None:
        super().__init__()
        self.key = conf.get("key", "global_descriptor")

    def forward(self, data: dict) -> dict:
        image = data["image"]
        assert image.shape[:2] == (1, 3)
        assert 0 <= float(image.min()) <= float(image.max()) <= 1
        cells = torch.nn.functional.adaptive_avg_pool2d(image, (12, 16)).flatten(1)
        return {self.key: cells - cells.mean()}


@pytest.fixture
def hloc(monkeypatch: pytest.MonkeyPatch) -> dict:
    """A package named hloc with the entries that are used of it; its confs can be changed."""
    confs = {"tiny": {"model": {"name": "tiny"}, "preprocessing": {"resize_max": 160}}}
    names = ("hloc", "hloc.extract_features", "hloc.extractors", "hloc.utils")
    modules = {name: types.ModuleType(name) for name in (*names, "hloc.utils.base_model")}
    modules["hloc.extract_features"].confs = confs
    modules["hloc"].extract_features = modules["hloc.extract_features"]
    modules["hloc"].extractors = modules["hloc.extractors"]
    modules["hloc.utils.base_model"].dynamic_load = lambda root, name: TinyNetwork
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return confs


def write_vectors(path: Path, vectors: dict[str, np.ndarray]) -> Path:
    """A file in hloc's layout: a group for each image, other entries beside the descriptor."""
    with h5py.File(path, "w") as file:
        for name, vector in vectors.items():
            group = file.create_group(name)
            group.create_dataset("global_descriptor", data=vector.astype(np.float16))
            group.create_dataset("image_size", data=np.array([320, 240]))
    return path


def test_vectors_are_read_by_name_and_have_unit_length(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    vectors = {f"map/{index}.png": 3 * rng.normal(size=16) for index in range(4)}
    names = ["map/2.png", "map/0.png"]
    found = read_hloc_vectors(write_vectors(tmp_path / "g.h5", vectors), names)
    assert (found.shape, found.dtype) == ((2, 16), np.float32)
    expected = np.stack([vectors[name] / np.linalg.norm(vectors[name]) for name in names])
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        ({"a": np.ones(4)}, r"no global_descriptor of image 'b' \(1 of 2 images"),
        ({"a": np.ones(4), "b": np.ones(5)}, "expected one length"),
        ({"a": np.ones(4), "b": np.zeros(4)}, "zero or not finite"),
        ({"a": np.ones(4), "b": np.full(4, np.nan)}, "zero or not finite"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(tmp_path: Path, vectors: dict, said: str) -> None:
    path = write_vectors(tmp_path / "g.h5", vectors)
    with pytest.raises(MapError, match=rf"g\.h5: .*{said}"):
        read_hloc_vectors(path, ["a", "b"])


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MapError, match=r"g\.h5: no HDF5 file of global descriptors"):
        read_hloc_vectors(tmp_path / "g.h5", ["a"])


def test_an_index_of_hlocs_file_answers_with_hlocs_network(
    hloc: dict, world: ToyWorld, feature_map: FeatureMap, images: Path, tmp_path: Path
) -> None:
    pytest.importorskip("faiss")
    network = HlocDescriptor(TINY.hloc)
    names = feature_map.sparse.image_names
    vectors = {name: 5 * network.describe(load_image(images / name)) for name in names}
    path = write_vectors(tmp_path / "g.h5", vectors)
    every = SearchConfig(min_motion=0.0)
    made = RetrievalIndex.from_hloc(feature_map, path, TINY, every)
    again = RetrievalIndex.open(feature_map, made.save(tmp_path / "i.h5"), every)
    assert (again.descriptor.kind, again.descriptor.dim) == ("hloc", 3 * 12 * 16)
    image, _ = world.render(world.cam_from_map[5])
    assert again.query(image, world.camera)[0].name == world.names[5]
    built = RetrievalIndex.build(feature_map, images, TINY, every)
    assert built.query(image)[0].name == world.names[5]


def test_without_hloc_a_file_is_indexed_all_the_same_and_a_query_says_what_is_missing(
    world: ToyWorld,
    feature_map: FeatureMap,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setitem(sys.modules, "hloc", None)
    rng = np.random.default_rng(1)
    vectors = {name: rng.normal(size=16) for name in feature_map.sparse.image_names}
    path = write_vectors(tmp_path / "g.h5", vectors)
    index = RetrievalIndex.from_hloc(feature_map, path, TINY)
    image, _ = world.render(world.cam_from_map[0])
    with pytest.raises(ConfigError, match="'tiny' needs the package hloc, which is not installed"):
        index.query(image)
    with pytest.raises(ConfigError, match="needs the package hloc"):
        RetrievalIndex.build(feature_map, images, TINY)


def test_a_model_that_hloc_does_not_have_or_that_is_no_global_descriptor_is_refused(
    hloc: dict, world: ToyWorld
) -> None:
    with pytest.raises(ConfigError, match="'other', unknown to hloc"):
        HlocDescriptor(HlocConfig(model="other")).load()
    hloc["tiny"]["model"]["key"] = "keypoints"
    image, _ = world.render(world.cam_from_map[0])
    with pytest.raises(ConfigError, match="gives no global_descriptor"):
        HlocDescriptor(TINY.hloc).describe(image)
    with pytest.raises(ImageError, match="expected"):
        HlocDescriptor(TINY.hloc).describe(image.astype(np.float32))


def test_a_file_made_with_another_network_is_told_by_its_length(
    hloc: dict, world: ToyWorld, feature_map: FeatureMap, tmp_path: Path
) -> None:
    pytest.importorskip("faiss")
    vectors = {name: np.ones(16) for name in feature_map.sparse.image_names}
    path = write_vectors(tmp_path / "g.h5", vectors)
    index = RetrievalIndex.from_hloc(feature_map, path, TINY)
    image, _ = world.render(world.cam_from_map[0])
    with pytest.raises(MapError, match=r"\(576,\), expected \(16,\) as in the index"):
        index.query(image)

"""Images find their neighbours in the map; index files come back, or are refused in one line."""

import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from toy_world import ToyWorld

from pixloc_core.errors import ConfigError, ImageError, MapError
from pixloc_core.features.preprocessing import load_image
from pixloc_core.geometry import Pose
from pixloc_core.localizer.localizer import Localizer
from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.retrieval.descriptor import DescriptorConfig
from pixloc_core.retrieval.index import RetrievalIndex, SearchConfig
from pixloc_core.retrieval.index_file import index_path
from pixloc_core.retrieval.vlad import VladConfig

SHIFT = torch.tensor([0.05, -0.02, 0.02, 0.01, 0.008, -0.006], dtype=torch.float64)
SIFT_ONLY = DescriptorConfig(vlad=VladConfig(features=("sift",), sift_words=8))


def near(world: ToyWorld, image: int) -> Pose:
    """A pose near that of a map image."""
    return world.cam_from_map[image].retract(SHIFT)


@pytest.fixture
def index_file(index: RetrievalIndex, tmp_path: Path) -> Path:
    return index.save(tmp_path / "index.h5")


def test_every_query_finds_its_neighbour(world: ToyWorld, index: RetrievalIndex) -> None:
    for image, name in enumerate(world.names):
        pixels, _ = world.render(near(world, image))
        found = index.query(pixels, world.camera, k=3)
        assert [found[0].name, len(found)] == [name, 3]
        assert 1 >= found[0].score > found[1].score > found[2].score
        torch.testing.assert_close(found[0].cam_from_map.data, world.cam_from_map[image].data)


def test_grey_queries_find_their_place_in_a_map_in_colour(
    world: ToyWorld, index: RetrievalIndex
) -> None:
    # In this room half of the structure is colour alone.
    for image, name in enumerate(world.names):
        pixels = world.render(near(world, image))[0].mean(-1).round().astype(np.uint8)
        assert name in [candidate.name for candidate in index.query(pixels, k=2)]


@pytest.mark.parametrize("features", [("network",), ("sift",)])
def test_each_kind_of_features_does_alone(
    world: ToyWorld, feature_map: FeatureMap, images: Path, features: tuple[str, ...]
) -> None:
    pytest.importorskip("faiss")
    config = DescriptorConfig(vlad=VladConfig(features=features))
    index = RetrievalIndex.build(feature_map, images, config)
    for image in (0, 3, 7):
        assert index.query(world.render(near(world, image))[0])[0].name == world.names[image]


def test_a_map_image_is_most_like_itself(index: RetrievalIndex, images: Path) -> None:
    names = index.feature_map.sparse.image_names
    best = index.query(load_image(images / names[2]))[0]
    assert best.name == names[2]
    assert best.score == pytest.approx(1.0, abs=1e-3)


def test_what_is_found_is_where_the_localizer_begins(
    world: ToyWorld, index: RetrievalIndex
) -> None:
    localizer = Localizer.open(index.feature_map.path)
    truth = near(world, 4)
    image, _ = world.render(truth)
    result = localizer.localize(image, world.camera, index.prior(image, world.camera))
    assert result.cam_from_map is not None
    assert float((result.cam_from_map.center - truth.center).norm()) < 0.01


def test_an_index_comes_back_from_its_file(
    world: ToyWorld, index: RetrievalIndex, index_file: Path
) -> None:
    again = RetrievalIndex.open(index.feature_map, index_file, SearchConfig(min_motion=0.0))
    assert again.descriptor.fingerprint == index.descriptor.fingerprint
    assert again.descriptor.dim == index.descriptor.dim
    image, _ = world.render(near(world, 5))
    one, other = index.query(image, k=8), again.query(image, k=8)
    assert [c.name for c in one] == [c.name for c in other]
    np.testing.assert_allclose([c.score for c in one], [c.score for c in other], atol=1e-3)


def test_the_index_lies_beside_its_map(index: RetrievalIndex) -> None:
    path = index.save()
    assert (
        path
        == index.feature_map.path.with_suffix(".retrieval.h5")
        == index_path(index.feature_map.path)
    )
    assert len(RetrievalIndex.open(index.feature_map)) == 8
    path.unlink()


def test_near_duplicates_are_one_candidate(world: ToyWorld, index: RetrievalIndex) -> None:
    content = index._content
    image, _ = world.render(near(world, 4))
    every = [c.name for c in RetrievalIndex(index.feature_map, content).query(image, k=8)]
    assert every[0] == world.names[4]
    # Between neighbours the points move by about 0.15 of the width, to the next ones by 0.3.
    wide = RetrievalIndex(index.feature_map, content, SearchConfig(min_motion=0.25))
    apart = [world.names.index(c.name) for c in wide.query(image, k=8)]
    assert apart[0] == 4
    assert min(np.abs(np.subtract.outer(apart, apart))[~np.eye(len(apart), dtype=bool)]) >= 2
    alone = RetrievalIndex(index.feature_map, content, SearchConfig(min_motion=1.0))
    assert len(alone.query(image, k=8)) < len(apart) < 8


def test_an_index_of_another_map_is_refused(index: RetrievalIndex, index_file: Path) -> None:
    feature_map = index.feature_map
    sparse = replace(feature_map.sparse, fingerprint="0" * 64)
    extractor = (feature_map.extractor_fingerprint, feature_map.extractor_config)
    other = FeatureMap(feature_map.path, sparse, extractor, [], None)
    with pytest.raises(MapError, match=r"index\.h5: index of another map .* expected 0{12}"):
        RetrievalIndex.open(other, index_file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file.attrs.modify("version", 99), "version 99, this program reads 1"),
        (lambda file: file.attrs.modify("format", "x"), "but not a retrieval index"),
        (lambda file: file.attrs.modify("descriptor_fingerprint", "x"), "other weights"),
        (lambda file: file.attrs.modify("descriptor_kind", "x"), "is 'x', expected one of vlad"),
        (lambda file: file.attrs.modify("descriptor_config", "{"), "damaged retrieval index"),
        (lambda file: file.pop("images/vector"), "damaged retrieval index"),
        (lambda file: file.pop("learned/sift/centres"), "vocabulary without centres"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(
    index: RetrievalIndex, index_file: Path, change, said: str
) -> None:
    with h5py.File(index_file, "r+") as file:
        change(file)
    with pytest.raises((MapError, ConfigError)) as error:
        RetrievalIndex.open(index.feature_map, index_file)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_index_is_refused(feature_map: FeatureMap, tmp_path: Path) -> None:
    with pytest.raises(MapError, match=r"no such retrieval index; make it with `pixloc map"):
        RetrievalIndex.open(feature_map, tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no index")
    with pytest.raises(MapError, match=r"text\.h5: not a retrieval index"):
        RetrievalIndex.open(feature_map, tmp_path / "text.h5")
    with pytest.raises(MapError, match="an HDF5 file, but not a retrieval index"):
        RetrievalIndex.open(feature_map, feature_map.path)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((240, 320, 3), np.uint8), "one single value"),
        (np.zeros((0, 0), np.uint8), "image of shape"),
        (np.zeros((240, 320, 4), np.uint8), "expected"),
        (np.zeros((240, 320, 3), np.float32), "float32"),
        (np.random.default_rng(1).integers(0, 255, (8, 9, 3), np.uint8), "at least 32 px"),
    ],
)
def test_an_unusable_image_is_refused(index: RetrievalIndex, image, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        index.query(image)


def test_an_image_of_another_size_than_its_camera_is_refused(
    world: ToyWorld, index: RetrievalIndex
) -> None:
    image, _ = world.render(near(world, 1))
    with pytest.raises(ImageError, match=r"image of 320x120 px, expected 320x240"):
        index.query(image[:120], world.camera)


def test_a_missing_or_broken_map_image_is_named(
    feature_map: FeatureMap, images: Path, tmp_path: Path
) -> None:
    pytest.importorskip("faiss")
    with pytest.raises(MapError, match=r"map/00\.png: no such image \(8 of the 8"):
        RetrievalIndex.build(feature_map, tmp_path, SIFT_ONLY)
    (tmp_path / "map").mkdir()
    for path in (images / "map").iterdir():
        (tmp_path / "map" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "map" / "03.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"map/03\.png: not a readable image"):
        RetrievalIndex.build(feature_map, tmp_path, SIFT_ONLY)


def test_images_that_show_nothing_teach_nothing(feature_map: FeatureMap, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("faiss")
    (tmp_path / "map").mkdir()
    ramp = np.tile(np.linspace(100, 104, 320).astype(np.uint8), (240, 1))
    for name in feature_map.sparse.image_names:
        cv2.imwrite(str(tmp_path / name), ramp)
    with pytest.raises(MapError, match="show nothing that a vocabulary"):
        RetrievalIndex.build(feature_map, tmp_path, SIFT_ONLY)


def test_without_faiss_the_extra_is_named(
    feature_map: FeatureMap, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"pixloc_ros\[retrieval\]"):
        RetrievalIndex.build(feature_map, images)


def test_progress_is_reported_for_learning_and_for_describing(
    feature_map: FeatureMap, images: Path
) -> None:
    pytest.importorskip("faiss")
    seen: list[tuple[int, int]] = []
    RetrievalIndex.build(
        feature_map, images, SIFT_ONLY, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(done, 8) for done in range(1, 9)] * 2


@pytest.mark.parametrize("features", [(), ("sift", "sift")])
def test_features_are_named_once_and_at_all(features: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"VladConfig\.features"):
        VladConfig(features=features)

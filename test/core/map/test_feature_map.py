"""The feature map file: what goes in comes out, and what does not fit is refused."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from pixloc_core.errors import MapError
from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.map.sparse_map import SparseMap

Features = list[list[torch.Tensor]]
CONFIG = {"kind": "gradients", "strides": [4, 16], "nested": {"a": 1.5}}


def build(
    path: Path, sparse: SparseMap, features: Features, *, skip: int | None = None
) -> FeatureMap:
    descriptors, confidences = features
    with FeatureMap.create(path, sparse, "f" * 64, CONFIG, (16, 8)) as writer:
        for image in reversed(range(sparse.num_images)):
            rows = sparse.observations_of(image)
            if image != skip:
                writer.write_image(
                    image, [d[rows] for d in descriptors], [c[rows] for c in confidences]
                )
    return FeatureMap.open(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "map.h5"


def test_the_sparse_map_comes_back_exactly(
    path: Path, wall: SparseMap, features: Features
) -> None:
    found = build(path, wall, features).sparse
    assert found.image_names == wall.image_names
    assert found.fingerprint == wall.fingerprint
    arrays = "image_camera points_map track_length point_error obs_offsets obs_point obs_px origin"
    for name in arrays.split():
        one, other = getattr(found, name), getattr(wall, name)
        assert one.dtype == other.dtype, name
        assert torch.equal(one, other), name
    assert torch.equal(found.cam_from_map.data, wall.cam_from_map.data)
    for one, other in zip(found.cameras, wall.cameras, strict=True):
        assert one.model is other.model
        assert torch.equal(one.data, other.data)
    for name in ("direction", "cos_spread", "min_footprint", "max_footprint"):
        assert torch.equal(getattr(found.views, name), getattr(wall.views, name)), name


def test_features_come_back_in_half_precision(
    path: Path, wall: SparseMap, features: Features
) -> None:
    feature_map = build(path, wall, features)
    assert (feature_map.num_levels, feature_map.channels) == (2, (16, 8))
    assert feature_map.extractor_config == CONFIG
    index = torch.randint(
        wall.num_observations, (200,), generator=torch.Generator().manual_seed(1)
    )
    for level in range(2):
        descriptors = feature_map.descriptors(level, index)
        assert descriptors.dtype == torch.float32
        assert torch.equal(descriptors, features[0][level][index].half().float())
        confidences = feature_map.confidences(level, index)
        assert torch.equal(confidences, features[1][level][index].half().float())


def test_the_content_is_known_by_model_and_features(
    tmp_path: Path, wall: SparseMap, features: Features
) -> None:
    found = build(tmp_path / "a.h5", wall, features).content_id
    assert re.fullmatch("[0-9a-f]{16}", found)
    assert build(tmp_path / "b.h5", wall, features).content_id == found
    other = replace(wall, fingerprint="0" * 64)
    assert build(tmp_path / "c.h5", other, features).content_id != found


def test_the_memory_map_equals_what_hdf5_reads(
    path: Path, wall: SparseMap, features: Features
) -> None:
    feature_map = build(path, wall, features)
    every = torch.arange(wall.num_observations)
    with h5py.File(path) as file:
        for level in range(2):
            dataset = file[f"levels/{level}/descriptors"]
            assert dataset.chunks is None
            assert dataset.compression is None
            expected = dataset[()].astype(np.float32)
            assert np.array_equal(feature_map.descriptors(level, every).numpy(), expected)


def test_the_same_features_give_the_same_file(
    tmp_path: Path, wall: SparseMap, features: Features
) -> None:
    """No time stamps or addresses in it: files can be compared by their hash."""
    build(tmp_path / "a.h5", wall, features)
    # HDF5 counts seconds.
    time.sleep(1.1)
    build(tmp_path / "b.h5", wall, features)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_an_open_map_outlives_the_replacement_of_its_file(
    path: Path, wall: SparseMap, features: Features
) -> None:
    feature_map = build(path, wall, features)
    build(path, wall, [[-d for d in features[0]], features[1]])
    index = torch.arange(5)
    assert torch.equal(feature_map.descriptors(0, index), features[0][0][index].half().float())


def test_global_descriptors_are_optional(path: Path, wall: SparseMap, features: Features) -> None:
    assert build(path, wall, features).global_descriptors is None
    vectors = torch.arange(wall.num_images * 3.0).reshape(-1, 3)
    with FeatureMap.create(path, wall, "f", {}, (1,)) as writer:
        for image in range(wall.num_images):
            count = wall.observations_of(image).stop - wall.observations_of(image).start
            writer.write_image(image, [torch.zeros(count, 1)], [torch.zeros(count)])
        writer.write_global_descriptors(vectors)
    found = FeatureMap.open(path).global_descriptors
    assert found is not None
    assert torch.equal(found, vectors)


def leftovers(path: Path) -> list[Path]:
    return [other for other in path.parent.iterdir() if other != path]


def test_a_map_that_lacks_an_image_never_appears(
    path: Path, wall: SparseMap, features: Features
) -> None:
    with pytest.raises(MapError, match=r"features of 1 images were never written.*row/02\.jpg"):
        build(path, wall, features, skip=2)
    assert not path.exists()
    assert not leftovers(path)


def test_a_failure_leaves_the_old_map_as_it_was(
    path: Path, wall: SparseMap, features: Features
) -> None:
    build(path, wall, features)
    before = path.read_bytes()
    with (
        pytest.raises(RuntimeError, match="lightning"),
        FeatureMap.create(path, wall, "other", {}, (16, 8)),
    ):
        raise RuntimeError("lightning")
    assert path.read_bytes() == before
    assert not leftovers(path)


def test_features_of_another_shape_are_refused(
    path: Path, wall: SparseMap, features: Features
) -> None:
    wide = [torch.cat((d, d), 1) for d in features[0]]
    with pytest.raises(MapError, match=r"features of row/05\.jpg have shapes"):
        build(path, wall, [wide, features[1]])
    few = [d[:-1] for d in features[0]]
    with pytest.raises(MapError, match=r"features of row/05\.jpg have shapes"):
        build(path, wall, [few, features[1]])


def test_a_folder_that_does_not_exist_is_named(
    tmp_path: Path, wall: SparseMap, features: Features
) -> None:
    with pytest.raises(MapError, match=r"nowhere/map\.h5: cannot be written"):
        build(tmp_path / "nowhere" / "map.h5", wall, features)


def edit(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return apply


def rewrite_in_chunks(file: h5py.File) -> None:
    values = file["levels/1/descriptors"][()]
    del file["levels/1/descriptors"]
    file.create_dataset("levels/1/descriptors", data=values, chunks=True)


def cut(share: float) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return apply


def into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def into_bag(path: Path) -> None:
    into_folder(path)
    (path / "metadata.yaml").touch()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (Path.unlink, "no such feature map"),
        (into_folder, "a folder, expected a feature map file"),
        (into_bag, "the folder of a bag, expected a feature map file"),
        (lambda path: path.write_text("hello"), "not an HDF5 file"),
        (lambda path: path.write_bytes(b""), "not an HDF5 file"),
        (cut(0.5), "truncated feature map"),
        (cut(0.99), "truncated feature map"),
        (edit(lambda file: file.attrs.pop("format")), "but not a feature map"),
        (edit(lambda file: file.attrs.modify("version", 0)), "feature map of version 0"),
        (edit(lambda file: file.attrs.modify("version", 99)), "feature map of version 99"),
        (edit(lambda file: file.attrs.modify("complete", False)), "incomplete feature map"),
        (edit(lambda file: file.pop("points/xyz")), "damaged feature map"),
        (edit(lambda file: file.pop("levels/0")), "damaged feature map"),
        (edit(lambda file: file["observations/point"].__setitem__(0, 10**6)), "obs_point"),
        (edit(lambda file: file.__delitem__("images/name")), "damaged feature map"),
        (edit(rewrite_in_chunks), "not a contiguous float16 dataset"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    path: Path,
    wall: SparseMap,
    features: Features,
    damage: Callable[[Path], None],
    complaint: str,
) -> None:
    build(path, wall, features)
    damage(path)
    with pytest.raises(MapError, match=re.escape(complaint)) as caught:
        FeatureMap.open(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


def test_a_map_from_other_weights_is_refused(
    path: Path, wall: SparseMap, features: Features
) -> None:
    build(path, wall, features)
    assert FeatureMap.open(path, "f" * 64).extractor_fingerprint == "f" * 64
    with pytest.raises(
        MapError, match=r"made with other weights.*ffffffffffff.*expected 0123456789ab"
    ):
        FeatureMap.open(path, "0123456789abcdef")

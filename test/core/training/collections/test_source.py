"""Pairs of real images: what is said about a view is what it shows."""

import logging
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from painted_wall import colour, look_up, wall_collection
from wall_scene import wall_scene

from pixloc_core.errors import ConfigError, ImageError, MapError
from pixloc_core.training.collections.colmap import open_colmap
from pixloc_core.training.collections.image_collection import ImageCollection
from pixloc_core.training.collections.pair_table import find_pairs, held_out
from pixloc_core.training.collections.source import CollectionSource, PairSamplingConfig
from pixloc_core.training.pairs import PairBatch
from pixloc_core.training.photometric import PhotometricConfig

SAMPLING = PairSamplingConfig(min_common=30)


@pytest.fixture(scope="module")
def wall(tmp_path_factory: pytest.TempPathFactory) -> ImageCollection:
    return wall_collection(tmp_path_factory.mktemp("wall"))


def make_source(
    collection: ImageCollection,
    sampling: PairSamplingConfig = SAMPLING,
    photometric: PhotometricConfig | None = None,
    **settings: object,
) -> CollectionSource:
    shape: dict[str, object] = {"size": (120, 80), "num_points": 100, **settings}
    return CollectionSource([collection], sampling, photometric, **shape)


def projections(batch: PairBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    in_reference = batch.reference.camera.world2image(batch.points_ref)
    in_query = batch.query.camera.world2image(batch.query_from_ref * batch.points_ref)
    return *in_reference, *in_query


def assert_same(first: PairBatch, second: PairBatch) -> None:
    assert first.names == second.names
    for a, b in (
        (first.reference.image, second.reference.image),
        (first.query.image, second.query.image),
        (first.points_ref, second.points_ref),
        (first.is_seen, second.is_seen),
        (first.query_from_ref.data, second.query_from_ref.data),
        (first.query.camera.data, second.query.camera.data),
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "models", [("PINHOLE", "OPENCV"), ("SIMPLE_RADIAL",), ("OPENCV_FISHEYE",)]
)
@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("size", [(120, 80), (80, 120)])
def test_views_show_the_points_where_their_cameras_say(
    tmp_path: Path, models: tuple[str, ...], share: float, size: tuple[int, int]
) -> None:
    collection = wall_collection(tmp_path, models=models, count=5)
    sampling = replace(SAMPLING, rotation_share=share, rotation_deg=(40.0, 10.0, 10.0))
    batch = make_source(collection, sampling, size=size).batch(range(4))
    reference_px, inside_reference, query_px, inside_query = projections(batch)
    assert bool((inside_reference | ~batch.is_point).all())
    assert bool((inside_query | ~batch.is_seen).all())
    assert int(batch.is_seen.sum(-1).min()) >= SAMPLING.min_seen
    # The wall has the same colours in both views, and those are known at its points.
    shown = look_up(batch.reference.image, reference_px)
    again = look_up(batch.query.image, query_px)
    assert float((shown - again).abs()[batch.is_seen].max()) < 0.03
    assert batch.query_from_ref.dtype == batch.points_ref.dtype == torch.float64
    assert batch.reference.camera.size.tolist() == [list(size)] * 4


def test_turned_views_show_the_colours_of_the_wall_itself(wall: ImageCollection) -> None:
    sampling = replace(SAMPLING, rotation_share=1.0)
    batch = make_source(wall, sampling).batch(range(3))
    for pair, name in enumerate(batch.names):
        image = wall.image_names.index(name.split()[1])
        wanted = colour(wall.points_world[wall.points_of(image)])
        found = look_up(batch.reference.image, projections(batch)[0])[pair][batch.is_point[pair]]
        nearest = torch.cdist(found.double(), wanted).min(-1).values
        assert float(nearest.max()) < 0.03


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_images_smaller_than_the_window_are_enlarged_exactly(
    wall: ImageCollection, share: float
) -> None:
    sampling = replace(SAMPLING, rotation_share=share)
    batch = make_source(wall, sampling, size=(480, 400)).batch([0, 1])
    reference_px, _, query_px, _ = projections(batch)
    shown = look_up(batch.reference.image, reference_px)
    assert float((shown - look_up(batch.query.image, query_px)).abs()[batch.is_seen].max()) < 0.03


def test_a_pair_does_not_depend_on_its_batch_or_on_what_was_made_before(
    wall: ImageCollection,
) -> None:
    source = make_source(wall, photometric=PhotometricConfig())
    joint = source.batch([7, 2, 5])
    alone = make_source(wall, photometric=PhotometricConfig()).batch([2])
    assert joint.names[1] == alone.names[0]
    assert torch.equal(joint.points_ref[1], alone.points_ref[0])
    assert torch.allclose(joint.reference.image[1], alone.reference.image[0], atol=1e-5)
    assert torch.allclose(joint.query.image[1], alone.query.image[0], atol=1e-5)
    assert_same(source.batch([7, 2, 5]), joint)


def test_seeds_and_indices_give_different_pairs(wall: ImageCollection) -> None:
    source = make_source(wall)
    other = make_source(wall, seed=1)
    assert len({source.batch([index]).names for index in range(8)}) > 3
    assert any(source.batch([i]).names != other.batch([i]).names for i in range(8))


def test_photometric_changes_touch_the_images_alone(wall: ImageCollection) -> None:
    plain = make_source(wall).batch([3])
    changed = make_source(wall, photometric=PhotometricConfig()).batch([3])
    assert not torch.equal(plain.reference.image, changed.reference.image)
    assert torch.equal(plain.points_ref, changed.points_ref)
    assert torch.equal(plain.query.camera.data, changed.query.camera.data)


def test_a_source_survives_the_way_to_another_process(wall: ImageCollection) -> None:
    source = make_source(wall, replace(SAMPLING, cache_images=3))
    before = source.batch([1, 2])
    copy = pickle.loads(pickle.dumps(source))
    assert_same(copy.batch([1, 2]), before)


def test_points_are_taken_once_and_the_rest_is_padding(wall: ImageCollection) -> None:
    batch = make_source(wall, num_points=700).batch([0])
    count = int(batch.is_point.sum())
    assert 30 <= count < 400
    real = batch.points_ref[0][batch.is_point[0]]
    assert len(torch.unique(real, dim=0)) == count
    padding = batch.points_ref[0][~batch.is_point[0]]
    assert bool(padding.isfinite().all())
    assert bool((padding[:, 2] > 0).all())
    assert not bool(batch.is_seen[~batch.is_point].any())


def test_few_points_of_many_still_have_seen_ones_among_them(wall: ImageCollection) -> None:
    # Every query shows few of the reference's points.
    few = torch.rand(len(wall.obs_point), generator=torch.Generator().manual_seed(1)) < 0.12
    images = torch.repeat_interleave(torch.arange(wall.num_images), wall.obs_offsets.diff())
    keep = few | (images % 2 == 0)
    offsets = torch.zeros(wall.num_images + 1, dtype=torch.int64)
    offsets[1:] = torch.bincount(images[keep], minlength=wall.num_images).cumsum(0)
    is_even = torch.arange(wall.num_images) % 2 == 0
    collection = replace(wall, obs_point=wall.obs_point[keep], obs_offsets=offsets,
                         is_reference=is_even, is_query=~is_even)  # fmt: skip
    sampling = PairSamplingConfig(min_common=10, min_seen=8, min_overlap=0.02, max_zoom=1.0)
    batch = make_source(collection, sampling, num_points=24).batch(range(6))
    assert bool(batch.is_point.all())
    assert bool((batch.is_seen.sum(-1) >= 8).all())


def test_points_that_the_query_was_not_found_to_show_are_not_seen(wall: ImageCollection) -> None:
    hidden = wall.obs_point % 2 == 0
    images = torch.repeat_interleave(torch.arange(wall.num_images), wall.obs_offsets.diff())
    keep = ~(hidden & (images % 2 == 0))
    offsets = torch.zeros(wall.num_images + 1, dtype=torch.int64)
    offsets[1:] = torch.bincount(images[keep], minlength=wall.num_images).cumsum(0)
    collection = replace(wall, obs_point=wall.obs_point[keep], obs_offsets=offsets,
                         is_query=torch.arange(wall.num_images) % 2 == 0)  # fmt: skip
    batch = make_source(collection, replace(SAMPLING, min_overlap=0.0)).batch(range(4))
    _, _, _, inside = projections(batch)
    assert bool((inside & batch.is_point & ~batch.is_seen).any())


def test_no_image_of_validation_is_trained_on(wall: ImageCollection) -> None:
    sampling = replace(SAMPLING, validation_every=3)
    kept = held_out(wall, 3)
    train = find_pairs(wall, sampling, "train")
    validation = find_pairs(wall, sampling, "validation")
    assert kept.sum() == 3
    assert not kept[train.queries].any()
    assert not kept[train.references].any()
    assert kept[validation.queries].all()
    assert len(train) > 0
    assert len(validation) > 0


def test_scenes_can_be_kept_for_validation(wall: ImageCollection) -> None:
    sampling = replace(SAMPLING, validation_scenes=("b",))
    both = [replace(wall, name="a"), replace(wall, name="b")]
    settings = {"size": (120, 80), "num_points": 50}
    for split, name in (("train", "a"), ("validation", "b")):
        batch = CollectionSource(both, sampling, split=split, **settings).batch(range(4))
        assert all(line.startswith(f"{name}: ") for line in batch.names)
    with pytest.raises(MapError, match="'c' is not among the 2"):
        CollectionSource(both, replace(sampling, validation_scenes=("c",)), **settings)


def test_overlap_and_baseline_are_kept_to(wall: ImageCollection) -> None:
    sampling = replace(SAMPLING, min_overlap=0.5, max_overlap=0.95, max_baseline=1.1)
    table = find_pairs(wall, sampling, "train")
    assert len(table) > 0
    queries = np.repeat(table.queries, np.diff(table.offsets))
    for reference, query in zip(table.references, queries, strict=True):
        points = wall.points_of(reference), wall.points_of(query)
        overlap = float(torch.isin(*points).double().mean())
        assert 0.5 <= overlap <= 0.95
        centers = wall.cam_from_world.center
        assert float((centers[reference] - centers[query]).norm()) <= 1.1


def test_a_model_without_such_pairs_says_what_it_has(wall: ImageCollection) -> None:
    sampling = replace(SAMPLING, min_common=3000)
    with pytest.raises(MapError, match=r"wall: no pairs for train.*3000 common.*9 images"):
        make_source(wall, sampling)


def test_too_few_images_to_hold_one_out_are_told_by_the_setting(tmp_path: Path) -> None:
    collection = wall_collection(tmp_path, count=4)
    with pytest.raises(MapError, match=r"validation_every=8 keeps 0 of 4 queries"):
        make_source(collection, split="validation")
    make_source(collection, replace(SAMPLING, validation_every=3), split="validation")


def test_missing_images_are_counted_before_training(wall: ImageCollection, tmp_path: Path) -> None:
    with pytest.raises(MapError, match="no such folder"):
        make_source(replace(wall, folder=tmp_path / "none"))
    partly = wall_collection(tmp_path / "partly", count=4)
    (partly.folder / "01.png").unlink()
    with pytest.raises(MapError, match=r"1 of the 4 images.*first: 01\.png"):
        make_source(partly)


def test_a_corrupt_image_is_reported_once_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collection = wall_collection(tmp_path, count=6)
    (tmp_path / "02.png").write_bytes(b"no image")
    source = make_source(collection)
    with caplog.at_level(logging.WARNING):
        batch = source.batch(range(16))
    assert not any("02.png" in name for name in batch.names)
    assert [record.getMessage().count("02.png") for record in caplog.records] == [1]
    # A fresh source, which has not met the image yet, makes the same pairs.
    assert_same(make_source(collection).batch([9]), source.batch([9]))


def test_an_image_of_another_size_than_its_camera_is_left_out(
    wall: ImageCollection, caplog: pytest.LogCaptureFixture
) -> None:
    cameras = (wall.cameras[0], wall.cameras[0].crop((0, 0), (330, 240)))
    batch = make_source(
        replace(wall, cameras=cameras, image_camera=(torch.arange(9) == 3).long())
    ).batch(range(10))
    assert not any("03.png" in name for name in batch.names)
    assert "03.png: image of 320x240 px, expected 330x240 px" in caplog.text


def test_images_kept_in_memory_change_nothing(wall: ImageCollection) -> None:
    cached = make_source(wall, replace(SAMPLING, cache_images=2))
    assert_same(cached.batch([1, 2, 1]), make_source(wall).batch([1, 2, 1]))


def test_turned_views_differ_and_stay_in_their_range(wall: ImageCollection) -> None:
    sampling = replace(SAMPLING, rotation_share=0.5, rotation_deg=(20.0, 0.0, 0.0))
    batch = make_source(wall, sampling).batch(range(24))
    turned = []
    for pair, name in enumerate(batch.names):
        images = [wall.image_names.index(name.split()[place]) for place in (1, 3)]
        plain = wall.cam_from_world[images[1]] @ wall.cam_from_world[images[0]].inv()
        angle, _ = (batch.query_from_ref[pair] @ plain.inv()).magnitude()
        turned.append(float(angle))
    assert max(turned) <= 41
    assert sum(angle > 0.5 for angle in turned) >= 8
    assert sum(angle < 1e-3 for angle in turned) >= 2


def test_nothing_but_corrupt_images_ends_in_one_clear_error(tmp_path: Path) -> None:
    collection = wall_collection(tmp_path, count=4)
    for name in collection.image_names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(
        ImageError, match=r"wall: no pair can be made.*\.png: not a readable image"
    ):
        make_source(collection).batch([0])


def test_fisheye_and_other_cameras_do_not_share_a_source(tmp_path: Path) -> None:
    collection = wall_collection(tmp_path, count=4, models=("PINHOLE", "OPENCV_FISHEYE"))
    with pytest.raises(ConfigError, match="fisheye and other cameras"):
        make_source(collection)


@pytest.mark.parametrize("crop", ["random", "center"])
def test_windows_can_be_laid_anywhere_or_in_the_middle(wall: ImageCollection, crop: str) -> None:
    sampling = replace(SAMPLING, crop=crop, max_zoom=1.0, min_seen=1)
    batch = make_source(wall, sampling).batch(range(3))
    reference_px, _, query_px, _ = projections(batch)
    shown = look_up(batch.reference.image, reference_px)
    assert float((shown - look_up(batch.query.image, query_px)).abs()[batch.is_seen].max()) < 0.03


def test_a_colmap_model_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(MapError, match="none: no such folder, expected a COLMAP model"):
        open_colmap(tmp_path / "none", tmp_path)
    pycolmap.Reconstruction().write_binary(str(tmp_path))
    with pytest.raises(MapError, match="empty COLMAP model"):
        open_colmap(tmp_path, tmp_path)
    wall_scene().write_binary(str(tmp_path))
    with pytest.raises(MapError, match=r"6 of the 6 images .*first: row/00\.jpg"):
        open_colmap(tmp_path, tmp_path)


@pytest.mark.parametrize("name", ["fox", "tum_fr1_rpy", "kitti06_start"])
def test_real_pairs_look_alike_where_they_see_the_same_points(shared_dir: Path, name: str) -> None:
    folder = shared_dir / "data" / name
    source = CollectionSource(
        [open_colmap(folder / "sfm", folder / "images")],
        PairSamplingConfig(),
        size=(160, 120),
        num_points=128,
    )
    batch = source.batch(range(8))
    reference_px, inside, query_px, inside_query = projections(batch)
    assert bool((inside | ~batch.is_point).all())
    assert bool((inside_query | ~batch.is_seen).all())
    shown, again = (
        look_up(batch.reference.image, reference_px),
        look_up(batch.query.image, query_px),
    )
    shuffled = again[:, torch.randperm(128, generator=torch.Generator().manual_seed(0))]
    right = float((shown - again).abs()[batch.is_seen].mean())
    wrong = float((shown - shuffled).abs()[batch.is_seen].mean())
    assert right < 0.6 * wrong
    assert name in source.description

"""From settings to pairs: every kind of data that a config may name."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from painted_wall import wall_collection

from pixloc_core.config import load
from pixloc_core.errors import ConfigError, PixlocError
from pixloc_core.training.collections.collection_file import write_collection
from pixloc_core.training.data import DataConfig, create_source

REPOSITORY = Path(__file__).resolve().parents[3]
SMALL = (
    "size=[96,64]",
    "num_points=64",
    "synthetic.texture_size=64",
    "synthetic.num_procedural=8",
    f"sfm={REPOSITORY / 'sample' / 'map' / 'sfm'}",
    f"images={REPOSITORY / 'sample' / 'map' / 'images'}",
)


def create_config(*overrides: str) -> DataConfig:
    return load(DataConfig, overrides=(*SMALL, *overrides))


def test_a_colmap_model_gives_pairs_for_training_and_others_for_validation() -> None:
    config = create_config("kind=colmap")
    names = {}
    for split in ("train", "validation"):
        batch = create_source(config, split, seed=0).batch(range(4))
        assert batch.query.image.shape == (4, 3, 64, 96)
        assert batch.points_ref.shape == (4, 64, 3)
        assert int(batch.is_seen.sum(-1).min()) > 8
        names[split] = set(batch.names)
    assert not names["train"] & names["validation"]


def test_synthetic_pairs_are_mixed_into_those_of_a_map_for_training_only() -> None:
    config = create_config("kind=colmap", "synthetic_share=0.5")
    source = create_source(config, "train", seed=0)
    assert "synthetic" in source.description
    names = source.batch(range(12)).names
    synthetic = [name for name in names if name.split()[0] in config.synthetic.places]
    assert 2 <= len(synthetic) <= 10
    assert "synthetic" not in create_source(config, "validation", seed=0).description


def test_fisheye_images_are_not_mixed_with_synthetic_ones(tmp_path: Path) -> None:
    wall = wall_collection(tmp_path, count=9, models=("OPENCV_FISHEYE",))
    write_collection(tmp_path / "wall.h5", wall)
    overrides = ("kind=megadepth", f"pairs={tmp_path}", f"images={tmp_path}")
    mixed = create_config(*overrides, "synthetic_share=0.3")
    with pytest.raises(ConfigError, match=r"data\.synthetic_share is 0\.3 .*expected 0 .*fisheye"):
        create_source(mixed, "train", seed=0)
    assert len(create_source(create_config(*overrides), "train", seed=0).batch([0, 1])) == 2


@pytest.mark.parametrize("shares", [(0.9, 0.1), (0.67, 0.33)])
def test_shares_may_leave_nothing_to_the_images_of_a_map(
    tmp_path: Path, shares: tuple[float, float]
) -> None:
    """In floating point 1 - 0.9 - 0.1 is less than nothing."""
    write_collection(tmp_path / "wall.h5", wall_collection(tmp_path, count=9))
    photo = np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), photo)
    config = create_config(
        "kind=megadepth", f"pairs={tmp_path}", f"images={tmp_path}",
        f"synthetic_share={shares[0]}", f"photo_share={shares[1]}",
        f"synthetic.photos={tmp_path / 'photos'}",
    )  # fmt: skip
    assert len(create_source(config, "train", seed=0).batch([0, 1])) == 2


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("kind=colmap", "images=''"), r"data\.images is empty, expected a folder for .*colmap"),
        (("kind=cmu",), r"data\.pairs is empty, expected a folder for data\.kind=cmu"),
        (("kind=megadepth", "pairs=nowhere"), "nowhere: no such folder"),
        (("kind=colmap", "sfm=nowhere"), "nowhere"),
        (("kind=colmap", "sampling.min_overlap=1.0"), "overlap"),
    ],
)
def test_data_that_is_not_there_is_named(overrides: tuple[str, ...], expected: str) -> None:
    with pytest.raises(PixlocError, match=expected):
        create_source(create_config(*overrides), "train", seed=0)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected one of synthetic, colmap, cmu, megadepth"):
        create_config("kind=imagenet")

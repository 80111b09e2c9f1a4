"""Photos as walls: form, repeatability, and that the geometry is that of the pictures."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pixloc_core.config import load
from pixloc_core.errors import ConfigError
from pixloc_core.geometry import sample
from pixloc_core.training.data import DataConfig, create_source
from pixloc_core.training.photometric import PhotometricConfig
from pixloc_core.training.synthetic.photo_walls import PhotoWallSource
from pixloc_core.training.synthetic.synthetic_config import SyntheticConfig

SIZE = (96, 72)
Create = Callable[..., PhotoWallSource]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(1)
    for index, (height, width) in enumerate(((300, 400), (400, 260), (200, 900))):
        # Smooth: what is compared is not the interpolation.
        noise = rng.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
        image = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{index}.png"), image)
    return folder


@pytest.fixture(scope="module")
def create(photos: Path) -> Create:
    def make(seed: int = 3, strength: float = 1.0, **settings: float) -> PhotoWallSource:
        config = SyntheticConfig(photos=str(photos), **settings)
        photometric = PhotometricConfig(strength=strength)
        return PhotoWallSource(
            config, size=SIZE, num_points=64, photometric=photometric, seed=seed
        )

    return make


def test_pairs_have_the_promised_form(create: Create) -> None:
    batch = create().batch(range(12))
    for view in (batch.reference, batch.query):
        assert view.image.shape == (12, 3, SIZE[1], SIZE[0])
        assert view.image.dtype == torch.float32
        assert 0 <= float(view.image.min()) <= float(view.image.max()) <= 1
        assert view.camera.dtype == torch.float64
    assert batch.points_ref.dtype == batch.query_from_ref.dtype == torch.float64
    assert (batch.points_ref[batch.is_point][:, 2] > 0).all()
    assert not (batch.is_seen & ~batch.is_point).any()
    assert float(batch.is_point.double().mean()) > 0.95
    assert float(batch.is_seen.double().mean()) > 0.3


def test_an_index_gives_the_same_pair_in_any_batch_and_another_seed_another(
    create: Create,
) -> None:
    together, alone = create().batch([4, 9, 2]), create().batch([2])
    assert torch.equal(together.query.image[2:], alone.query.image)
    assert torch.equal(together.points_ref[2:], alone.points_ref)
    other = create(seed=4).batch([2])
    assert not torch.equal(other.query.image, alone.query.image)


@pytest.mark.parametrize("distorted", [0.0, 1.0])
def test_both_views_show_the_same_at_the_points(create: Create, distorted: float) -> None:
    batch = create(strength=0.0, distorted=distorted).batch(range(8))
    in_ref, _ = batch.reference.camera.world2image(batch.points_ref)
    in_query, _ = batch.query.camera.world2image(batch.query_from_ref * batch.points_ref)
    colours = [
        sample(view.image.movedim(1, -1).contiguous(), points_px.float())
        for view, points_px in ((batch.reference, in_ref), (batch.query, in_query))
    ]
    difference = (colours[0] - colours[1]).abs().mean(-1)[batch.is_seen]
    assert float(difference.median()) < 0.01
    # A wrong pose is noticed: shifted by 3 px the colours differ several times as much.
    shifted = sample(batch.query.image.movedim(1, -1).contiguous(), in_query.float() + 3)
    wrong = (colours[0] - shifted).abs().mean(-1)[batch.is_seen]
    assert float(wrong.median()) > 4 * float(difference.median())


def test_views_differ_in_direction_distance_and_lens(create: Create) -> None:
    batch = create().batch(range(12))
    angle = batch.query_from_ref.log()[:, 3:].norm(dim=-1).rad2deg()
    assert float(angle.max()) > 15
    focal = batch.query.camera.f[:, 0] / batch.reference.camera.f[:, 0]
    assert float(focal.max()) > 1.2
    assert float(focal.min()) < 1 / 1.2


def test_walls_and_places_share_a_run(photos: Path) -> None:
    settings = [
        f"synthetic.photos={photos}",
        "photo_share=0.5",
        "synthetic.num_procedural=8",
        "synthetic.texture_size=64",
        "size=[96,72]",
        "num_points=64",
    ]
    source = create_source(load(DataConfig, None, settings), "train", seed=0)
    names = [name.split()[0] for name in source.batch(range(10)).names]
    assert "photo" in names
    assert set(names) != {"photo"}
    assert "50% 3 photos as walls" in source.description


def test_walls_without_photos_are_refused() -> None:
    config = load(DataConfig, None, ["photo_share=0.5"])
    with pytest.raises(ConfigError, match=r"data.synthetic.photos is empty, .*photo_share=0.5"):
        create_source(config, "train", seed=0)


def test_shares_of_more_than_everything_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"0\.6 and 0\.5, expected a sum of at most 1"):
        load(DataConfig, None, ["photo_share=0.5", "synthetic_share=0.6"])

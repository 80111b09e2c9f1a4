import dataclasses
from collections.abc import Callable

import pytest
import torch

from pixloc_core.errors import ConfigError
from pixloc_core.geometry import DistortionModel, sample
from pixloc_core.training.pairs import PairBatch
from pixloc_core.training.photometric import PhotometricConfig
from pixloc_core.training.synthetic import SyntheticConfig, SyntheticSource, view_drawing
from pixloc_core.training.synthetic.synthetic_config import PLACE_NAMES

SIZE = (100, 72)  # no multiple of the tiles
CONFIG = SyntheticConfig(num_procedural=8, texture_size=64)
PLAIN = dataclasses.replace(CONFIG, light=0.0)
Create = Callable[..., SyntheticSource]


@pytest.fixture(scope="module")
def create() -> Create:
    def make(
        config: SyntheticConfig = CONFIG, *, strength: float = 1.0, num_points: int = 64,
        seed: int = 3, size: tuple[int, int] = SIZE,
    ) -> SyntheticSource:  # fmt: skip
        return SyntheticSource(config, size=size, num_points=num_points, seed=seed,
                               photometric=PhotometricConfig(strength=strength))  # fmt: skip

    return make


def tensors(batch: PairBatch) -> dict[str, torch.Tensor]:
    return {
        "reference": batch.reference.image,
        "query": batch.query.image,
        "reference camera": batch.reference.camera.data[:, :6],
        "query camera": batch.query.camera.data[:, :6],
        "points_ref": batch.points_ref,
        "is_point": batch.is_point,
        "is_seen": batch.is_seen,
        "query_from_ref": batch.query_from_ref.data,
    }


def test_pairs_have_the_promised_form(create: Create) -> None:
    batch = create().batch([0, 5, 7])
    width, height = SIZE
    for view in (batch.reference, batch.query):
        assert view.image.shape == (3, 3, height, width)
        assert view.image.dtype == torch.float32
        assert 0 <= float(view.image.min()) <= float(view.image.max()) <= 1
        assert view.camera.dtype == torch.float64
        assert (view.camera.size == torch.tensor(SIZE)).all()
    assert batch.points_ref.dtype == batch.query_from_ref.dtype == torch.float64
    assert batch.points_ref.shape == (3, 64, 3)
    assert (batch.points_ref[..., 2] > 0).all()
    assert not (batch.is_seen & ~batch.is_point).any()
    assert len({*batch.names}) == 3


def test_the_same_index_gives_the_same_pair_in_any_batch_and_source(create: Create) -> None:
    together = tensors(create().batch([4, 11, 2, 30]))
    alone = tensors(create().batch([2]))
    for name, value in together.items():
        assert torch.equal(value[2:3], alone[name]), name


def test_other_indices_and_seeds_give_other_pairs(create: Create) -> None:
    images = create().batch([0, 1]).reference.image
    other = create(seed=4).batch([0]).reference.image
    assert (images[0] - images[1]).abs().mean() > 0.02
    assert (images[0] - other[0]).abs().mean() > 0.02


@pytest.mark.parametrize("place", PLACE_NAMES)
def test_points_lie_where_the_images_agree(create: Create, place: str) -> None:
    config = dataclasses.replace(PLAIN, places=(place,))
    batch = create(config, strength=0.0, num_points=200).batch(range(2))
    ref_px, in_ref = batch.reference.camera.world2image(batch.points_ref)
    assert (in_ref | ~batch.is_point).all()
    torch.testing.assert_close(ref_px[batch.is_point], ref_px[batch.is_point].round(),
                               atol=1e-6, rtol=0)  # fmt: skip
    query_px, in_query = batch.query.camera.world2image(batch.query_from_ref * batch.points_ref)
    assert (in_query | ~batch.is_seen).all()
    in_reference, in_the_query = (
        sample(image.movedim(1, -1).contiguous(), px.float())
        for image, px in ((batch.reference.image, ref_px), (batch.query.image, query_px))
    )
    difference = (in_reference - in_the_query).abs().mean(-1)
    wrong = (difference > 0.12) & batch.is_seen
    # Fine textures are sampled by pixels of different size, and shapes end between pixels.
    assert float(difference[batch.is_seen].median()) < 0.03
    assert float(wrong.sum()) < 0.12 * float(batch.is_seen.sum())
    mixed = in_the_query.roll(1, 1)
    assert float(difference[batch.is_seen].median()) < 0.5 * float(
        (in_reference - mixed).abs().mean(-1)[batch.is_seen].median()
    )


def test_the_query_sees_what_the_config_promises(create: Create) -> None:
    batch = create(num_points=128).batch(range(8))
    share = batch.is_seen.sum(1) / batch.is_point.sum(1)
    assert float(share.min()) >= CONFIG.min_overlap
    assert float(share.median()) > 0.7
    assert float(share.median()) < 0.98


def test_views_move_turn_and_zoom(create: Create) -> None:
    source = create(dataclasses.replace(CONFIG, distorted=0.0))
    views = [source.draw(index).views for index in range(40)]
    relative = [view.poses[1] @ view.poses[0].inv() for view in views]
    baseline = torch.stack([pose.center.norm() for pose in relative])
    assert float((baseline > 0.3).float().mean()) > 0.4
    ahead = torch.stack([pose.R[2, 2].clamp(-1, 1).acos().rad2deg() for pose in relative])
    assert 12 < float(ahead.max()) <= CONFIG.yaw_deg + 1e-3
    zoom = torch.stack([v.cameras[1].f[0] / v.cameras[0].f[0] for v in views]).log().abs().exp()
    assert 1.3 < float(zoom.max()) <= CONFIG.zoom + 0.05
    hfov = torch.stack([2 * (SIZE[0] / 2 / v.cameras[0].f[0]).atan().rad2deg() for v in views])
    assert CONFIG.hfov_min_deg - 1e-6 <= float(hfov.min()) < 60
    assert 90 < float(hfov.max()) <= CONFIG.hfov_max_deg + 1e-6


@pytest.mark.parametrize("yaw_deg", [0.0, 4.0])
def test_views_turn_no_further_than_is_allowed_and_still_move(
    create: Create, yaw_deg: float
) -> None:
    source = create(dataclasses.replace(CONFIG, yaw_deg=yaw_deg))
    views = [source.draw(index).views for index in range(12)]
    relative = [view.poses[1] @ view.poses[0].inv() for view in views]
    ahead = torch.stack([pose.R[2, 2].clamp(-1, 1).acos().rad2deg() for pose in relative])
    assert 0.9 * yaw_deg <= float(ahead.max()) <= yaw_deg + 1e-4
    assert max(float(pose.center.norm()) for pose in relative) > 0.3


def test_an_overlap_that_no_views_reach_ends_in_one_clear_error(
    create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_drawing, "REDRAWS", 3)
    narrow = {"hfov_min_deg": 10.0, "hfov_max_deg": 10.0, "zoom": 1.0, "places": ("table",)}
    source = create(dataclasses.replace(CONFIG, min_overlap=0.9, **narrow))
    with pytest.raises(ConfigError, match=r"min_overlap is 0\.9.* table .*yaw_deg 40") as caught:
        source.begin(range(40))
    assert "\n" not in str(caught.value)


def test_distorting_lenses_are_inverted_exactly(create: Create) -> None:
    config = dataclasses.replace(PLAIN, distorted=1.0, places=("room",))
    batch = create(config, strength=0.0).batch(range(6))
    assert batch.reference.camera.model is DistortionModel.OPENCV
    assert float(batch.reference.camera.dist[:, 0].abs().max()) > 0.05
    pixels, valid = batch.reference.camera.world2image(batch.points_ref)
    assert valid[batch.is_point].all()
    torch.testing.assert_close(pixels, pixels.round(), atol=1e-6, rtol=0)


def test_a_batch_may_mix_lenses(create: Create) -> None:
    config = dataclasses.replace(CONFIG, distorted=0.5)
    source = create(config)
    single = [source.draw(i).views.cameras[1].model for i in range(5)]
    assert len(set(single)) > 1
    batch = source.batch(range(5))
    assert batch.is_point.all()
    assert batch.query.camera.model is max(single, key=lambda model: model.num_params)


def test_light_differs_between_the_views_unless_it_is_switched_off(create: Create) -> None:
    def contrast(config: SyntheticConfig) -> float:
        batch = create(config, strength=0.0).batch(range(5))
        means = batch.reference.image.mean((2, 3)) - batch.query.image.mean((2, 3))
        return float(means.abs().mean())

    still = dataclasses.replace(CONFIG, baseline=0.0, yaw_deg=0.0, zoom=1.0, distorted=0.0)
    assert contrast(still) > 3 * contrast(dataclasses.replace(still, light=0.0))


def test_missing_points_are_filled_up(create: Create) -> None:
    batch = create(num_points=400, size=(18, 16)).batch([0])
    assert batch.points_ref.shape == (1, 400, 3)
    assert 0 < int(batch.is_point.sum()) <= 18 * 16
    assert (batch.points_ref[~batch.is_point][:, 2] > 0).all()
    assert batch.points_ref.isfinite().all()


def test_no_point_lies_in_the_sky(create: Create) -> None:
    config = dataclasses.replace(CONFIG, places=("field",))
    batch = create(config).batch(range(2))
    assert float(batch.points_ref[batch.is_point][:, 2].max()) < 3000


def test_gradients_can_pass_through_what_is_made_of_the_images(create: Create) -> None:
    batch = create().batch([0])
    weight = torch.ones(1, requires_grad=True)
    (batch.query.image * weight).mean().backward()
    assert weight.grad is not None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"texture_size": 100}, "power of two"),
        ({"hfov_min_deg": 90.0, "hfov_max_deg": 60.0}, "hfov_max_deg"),
        ({"places": ()}, "places is empty"),
        ({"places": ("moon",)}, "moon"),
        ({"min_overlap": 1.5}, "min_overlap"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SyntheticConfig(**values)  # type: ignore[arg-type]


def test_description_tells_places_and_photos(create: Create) -> None:
    assert "street" in create().description
    assert "0 photos" in create().description

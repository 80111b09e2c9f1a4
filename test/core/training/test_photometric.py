import pytest
import torch

from pixloc_core.errors import ConfigError
from pixloc_core.training.jpeg import compress
from pixloc_core.training.pairs import generator_for
from pixloc_core.training.photometric import PhotometricConfig, _Dice, change_appearance


def smooth_images(number: int, size: tuple[int, int] = (50, 66)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(number, 3, 6, 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear")


def generators(number: int, first: int = 0) -> list[torch.Generator]:
    return [generator_for(1, first + i, "test") for i in range(number)]


def test_images_stay_images() -> None:
    images = smooth_images(20)
    changed = change_appearance(images, generators(20), PhotometricConfig(strength=2.0))
    assert changed.shape == images.shape
    assert changed.isfinite().all()
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1


def test_strength_zero_changes_nothing() -> None:
    images = smooth_images(2)
    assert change_appearance(images, generators(2), PhotometricConfig(strength=0.0)) is images


def test_an_image_depends_on_its_own_generator_alone() -> None:
    images = smooth_images(7)
    together = change_appearance(images, generators(7), PhotometricConfig())
    for i in range(7):
        alone = change_appearance(images[i : i + 1], generators(1, i), PhotometricConfig())
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-6, rtol=0)


def test_arguments_are_left_as_they_are() -> None:
    images = smooth_images(6)
    before = images.clone()
    change_appearance(images, generators(6), PhotometricConfig(strength=2.0))
    assert torch.equal(images, before)


def test_equal_images_come_to_differ() -> None:
    images = smooth_images(1).expand(12, -1, -1, -1)
    changed = change_appearance(images, generators(12), PhotometricConfig())
    pairwise = (changed[:, None] - changed[None]).abs().mean((2, 3, 4))
    assert float(pairwise[~torch.eye(12, dtype=torch.bool)].min()) > 0.005


def test_less_strength_changes_less() -> None:
    images = smooth_images(24)
    change = [
        float((change_appearance(images, generators(24), PhotometricConfig(strength=s)) - images)
              .abs().mean())
        for s in (0.1, 0.4, 1.0)
    ]  # fmt: skip
    assert change[0] < 0.5 * change[1] < 0.5 * change[2]
    assert change[0] < 0.04


def test_a_spread_is_bounded_as_it_says() -> None:
    dice = _Dice(generators(2000), torch.zeros(()), strength=0.5)
    spread = torch.stack([dice.spread(2.0) for _ in range(20)])
    assert 2.2 < float(spread.abs().max()) <= 2.85
    assert 0.7 < float(spread.std()) < 1.1
    assert "at most 2.85 of it" in (_Dice.spread.__doc__ or "")


def test_some_images_lose_their_colour() -> None:
    images = smooth_images(6)
    config = PhotometricConfig(grey=1.0, noise=0.0, jpeg=0.0, occluders=0.0, low_light=0.0)
    changed = change_appearance(images, generators(6), config)
    assert float((changed.amax(1) - changed.amin(1)).max()) < 1e-5


@pytest.mark.parametrize("name", ["shading", "occluders", "low_light", "blur", "jpeg"])
def test_every_effect_acts(name: str) -> None:
    quiet = {"shading": 0.0, "occluders": 0.0, "low_light": 0.0, "blur": 0.0, "jpeg": 0.0,
             "grey": 0.0, "noise": 0.0}  # fmt: skip
    detail = torch.rand(4, 3, 48, 64, generator=torch.Generator().manual_seed(5))
    images = 0.5 * smooth_images(4, (48, 64)) + 0.5 * detail
    without = change_appearance(images, generators(4), PhotometricConfig(**quiet))
    acting = PhotometricConfig(**{**quiet, name: 1.0}, max_blur=30.0)
    assert float((change_appearance(images, generators(4), acting) - without).abs().mean()) > 0.01


def test_blur_keeps_what_is_plain() -> None:
    plain = torch.full((3, 3, 40, 40), 0.5)
    config = PhotometricConfig(blur=1.0, noise=0.0, jpeg=0.0, occluders=0.0, shading=0.0,
                               low_light=0.0)  # fmt: skip
    changed = change_appearance(plain, generators(3), config)
    # Vignetting alone remains: the same on both sides.
    torch.testing.assert_close(changed, changed.flip(-1), atol=1e-4, rtol=0)


def test_good_jpeg_keeps_smooth_images_and_bad_jpeg_makes_blocks() -> None:
    images = smooth_images(2, (40, 56))
    good = compress(images, torch.tensor([98.0, 98.0]))
    bad = compress(images, torch.tensor([5.0, 5.0]))
    assert float((good - images).abs().mean()) < 0.01
    assert float((bad - images).abs().mean()) > 2 * float((good - images).abs().mean())


def test_jpeg_of_each_image_has_its_own_quality() -> None:
    images = smooth_images(2)
    both = compress(images, torch.tensor([10.0, 90.0]))
    torch.testing.assert_close(both[1:], compress(images[1:], torch.tensor([90.0])))


def test_strange_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="strength"):
        PhotometricConfig(strength=-1.0)
    with pytest.raises(ConfigError, match="jpeg"):
        PhotometricConfig(jpeg=2.0)


def test_no_images_are_no_images() -> None:
    assert change_appearance(smooth_images(0), [], PhotometricConfig()).shape[0] == 0

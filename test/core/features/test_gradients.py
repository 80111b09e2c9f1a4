"""The training-free extractor."""

import math

import cv2
import numpy as np
import pytest
import torch

from pixloc_core.errors import ConfigError, ImageError
from pixloc_core.features.gradients import GradientConfig, GradientExtractor
from pixloc_core.geometry import Camera


def camera_of(width: int, height: int) -> Camera:
    params = [200.0, 200.0, width / 2, height / 2]
    return Camera.from_colmap(
        {"model": "PINHOLE", "width": width, "height": height, "params": params}
    ).double()


def texture(width: int, height: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return (127 + 40 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(96, 64), (97, 61), (33, 40)])
def test_levels_have_the_size_and_camera_of_their_stride(size: tuple[int, int]) -> None:
    extractor = GradientExtractor(GradientConfig(strides=(1, 4, 8)))
    camera = camera_of(*size)
    pyramid = extractor.extract(texture(*size), camera)
    ahead = torch.tensor([[0.1, -0.05, 1.0]]).double()
    full, _ = camera.world2image(ahead)
    for level, channels in zip(pyramid, extractor.channels, strict=True):
        assert level.size == tuple(math.ceil(side / level.stride) for side in size)
        assert level.channels == channels
        assert level.features.is_contiguous()
        cell, _ = level.camera.world2image(ahead)
        torch.testing.assert_close((cell + 0.5) * level.stride - 0.5, full)


def test_confidence_is_the_squared_length_of_a_descriptor() -> None:
    pyramid = GradientExtractor().extract(texture(128, 96), camera_of(128, 96))
    for level in pyramid:
        squared = level.features.square().sum(-1)
        torch.testing.assert_close(squared, level.confidence, rtol=0, atol=1e-4)
        assert 0 <= float(level.confidence.min()) <= float(level.confidence.max()) <= 1


def test_an_even_image_has_no_confidence_and_no_nan() -> None:
    even = np.full((48, 64, 3), 90, np.uint8)
    for level in GradientExtractor().extract(even, camera_of(64, 48)):
        assert float(level.confidence.abs().max()) == 0
        assert bool(torch.isfinite(level.features).all())


def test_structure_is_more_confident_than_a_flat_wall() -> None:
    image = texture(128, 96)
    image[:, :64] = 100
    level = GradientExtractor().extract(image, camera_of(128, 96))[0]
    assert float(level.confidence[:, 80:].mean()) > 5 * float(level.confidence[:, :48].mean())


def test_a_change_of_contrast_and_brightness_changes_little() -> None:
    image = texture(128, 96)
    darker = (image * 0.6 + 20).astype(np.uint8)
    extractor, camera = GradientExtractor(), camera_of(128, 96)
    for one, other in zip(
        extractor.extract(image, camera), extractor.extract(darker, camera), strict=True
    ):
        difference = (one.features - other.features).norm(dim=-1)
        assert float(difference.median()) < 0.2


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
@pytest.mark.parametrize("neighbours", [0, 3, 6])
def test_turned_descriptors_are_those_of_the_turned_image(
    quarter_turns: int, neighbours: int
) -> None:
    """At whole quarter turns pixels map to pixels; only the ring is interpolated."""
    extractor = GradientExtractor(GradientConfig(strides=(1,), neighbours=(neighbours,)))
    image = texture(65, 65)
    camera = camera_of(65, 65)
    upright = extractor.extract(image, camera)[0].features
    # numpy turns from the first axis (y) towards the second (x) when k is negative: x to y.
    turned_image = np.ascontiguousarray(np.rot90(image, -quarter_turns))
    turned = extractor.extract(turned_image, camera)[0].features
    back = torch.rot90(turned, quarter_turns, (0, 1))[8:-8, 8:-8].reshape(-1, turned.shape[-1])
    inner = upright[8:-8, 8:-8].reshape(-1, upright.shape[-1])
    angle = torch.full((len(inner),), quarter_turns * math.pi / 2)
    predicted = extractor.rotate(inner, angle, 0)
    wrong = (inner - back).norm(dim=-1).median()
    right = (predicted - back).norm(dim=-1).median()
    assert float(right) < (1e-3 if neighbours == 0 else 0.5 * float(wrong))


def test_turning_there_and_back_is_no_change() -> None:
    extractor = GradientExtractor()
    descriptors = extractor.extract(texture(64, 48), camera_of(64, 48))[1].features.flatten(0, 1)
    angle = torch.linspace(-3, 3, len(descriptors))
    once = extractor.rotate(descriptors, angle, 1)
    full_circle = extractor.rotate(descriptors, torch.full_like(angle, 2 * math.pi), 1)
    torch.testing.assert_close(full_circle, descriptors, rtol=0, atol=1e-5)
    assert float((once - descriptors).abs().max()) > 0.1


def test_grey_and_equal_colours_give_the_same_features() -> None:
    grey = texture(64, 48)
    extractor, camera = GradientExtractor(), camera_of(64, 48)
    colour = np.repeat(grey[..., None], 3, 2)
    for one, other in zip(
        extractor.extract(grey, camera), extractor.extract(colour, camera), strict=True
    ):
        torch.testing.assert_close(one.features, other.features, rtol=0, atol=2e-2)


def test_settings_change_the_fingerprint() -> None:
    default = GradientExtractor()
    assert default.fingerprint == GradientExtractor().fingerprint
    assert default.fingerprint != GradientExtractor(GradientConfig(noise=(0.03,))).fingerprint


@pytest.mark.parametrize("strides", [(), (4, 2), (1, 3), (2, 2)])
def test_strides_that_do_not_rise_by_powers_of_two_are_refused(strides: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="rising powers of two"):
        GradientConfig(strides=strides)


def test_an_image_of_another_size_than_its_camera_is_refused() -> None:
    with pytest.raises(ImageError, match=r"64x48 px, expected 32x24 px"):
        GradientExtractor().extract(texture(64, 48), camera_of(32, 24))

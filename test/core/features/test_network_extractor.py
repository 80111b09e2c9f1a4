"""A network as an extractor: geometry of the levels, normalization, identity."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pixloc_core.config import to_dict
from pixloc_core.errors import CheckpointError, ConfigError, ImageError
from pixloc_core.features.extractor import ExtractorConfig, RawExtractor, create_extractor
from pixloc_core.features.network_extractor import (
    NetworkExtractor,
    NetworkExtractorConfig,
    create_pyramid,
)
from pixloc_core.features.weights import Weights, write_weights
from pixloc_core.geometry import Camera


@pytest.fixture
def extractor(small_weights: Weights) -> NetworkExtractor:
    return NetworkExtractor(small_weights, NetworkExtractorConfig())


def test_levels_have_the_announced_strides_and_channels(
    extractor: NetworkExtractor, image: np.ndarray, camera: Camera
) -> None:
    pyramid = extractor.extract(image, camera)
    assert tuple(level.stride for level in pyramid) == extractor.strides == (1, 4, 16)
    assert tuple(level.channels for level in pyramid) == extractor.channels == (4, 6, 8)
    for level in pyramid:
        assert level.features.is_contiguous()
        assert level.features.dtype == torch.float32
        assert ((level.confidence >= 0) & (level.confidence <= 1)).all()


def test_query_descriptors_have_unit_length_and_those_of_references_their_own(
    extractor: NetworkExtractor, image: np.ndarray, camera: Camera
) -> None:
    assert isinstance(extractor, RawExtractor)
    pyramid = extractor.extract(image, camera)
    for unit, raw in zip(pyramid, extractor.extract_reference(image, camera), strict=True):
        length = raw.features.norm(dim=-1, keepdim=True)
        assert length.std() > 1e-3
        torch.testing.assert_close(unit.features, raw.features / length)
        assert torch.equal(unit.confidence, raw.confidence)


@pytest.mark.parametrize("size", [(96, 64), (83, 67), (111, 79)])
def test_camera_of_each_level_projects_onto_its_grid(
    extractor: NetworkExtractor, size: tuple[int, int]
) -> None:
    width, height = size
    camera = Camera.from_colmap(
        {"model": "SIMPLE_RADIAL", "width": width, "height": height,
         "params": [70.0, width / 2, height / 2, -0.05]}
    )  # fmt: skip
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    point = torch.tensor([[0.05, -0.1, 2.0]], dtype=torch.float64)
    px = camera.world2image(point)[0]
    for level in extractor.extract(image, camera):
        assert tuple(level.camera.size.tolist()) == level.size
        level_px, valid = level.camera.world2image(point)
        assert valid.all()
        torch.testing.assert_close(level_px, (px + 0.5) / level.stride - 0.5)


def test_large_images_are_shrunk_with_their_camera(
    small_weights: Weights, image: np.ndarray, camera: Camera
) -> None:
    config = NetworkExtractorConfig(max_size=50)
    finest = NetworkExtractor(small_weights, config).extract(image, camera)[0]
    assert finest.size == (50, 33)
    expected = camera.f * torch.tensor([50 / 96, 33 / 64], dtype=torch.float64)
    torch.testing.assert_close(finest.camera.f, expected)


def test_pyramid_of_a_batch_is_that_of_each_image_and_lets_gradients_pass(
    small_weights: Weights, camera: Camera
) -> None:
    network = small_weights.create_network()
    images = torch.rand(2, 3, 64, 96)
    cameras = torch.stack([camera, camera.scale(1.0)])
    strides = small_weights.config.strides
    together = create_pyramid(network(images), cameras, strides)
    for index in range(2):
        alone = create_pyramid(network(images[index : index + 1]), cameras[index], strides)
        for a, b in zip(together, alone, strict=True):
            assert a.features[index].shape == b.features.shape
            torch.testing.assert_close(a.features[index], b.features, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(a.confidence[index], b.confidence, rtol=1e-4, atol=1e-5)
            assert torch.equal(a.camera[index].data, b.camera.data)
    sum(level.features.sum() for level in together).backward()
    assert network.adaptation[0][0].weight.grad.abs().sum() > 0


def test_fingerprint_follows_weights_and_resolution_only(
    small_weights: Weights, extractor: NetworkExtractor
) -> None:
    renamed = NetworkExtractor(
        small_weights, NetworkExtractorConfig(weights="elsewhere.safetensors")
    )
    assert renamed.fingerprint == extractor.fingerprint
    smaller = NetworkExtractor(small_weights, NetworkExtractorConfig(max_size=512))
    assert smaller.fingerprint != extractor.fingerprint
    changed = {name: value * 1 for name, value in small_weights.network.items()}
    changed["adaptation.0.0.bias"] += 1
    other = NetworkExtractor(Weights(small_weights.config, changed), NetworkExtractorConfig())
    assert other.fingerprint != extractor.fingerprint


def test_config_dictionary_of_a_map_makes_the_extractor_again(
    tmp_path: Path, small_weights: Weights, image: np.ndarray, camera: Camera
) -> None:
    path = tmp_path / "w.safetensors"
    write_weights(small_weights, path)
    config = ExtractorConfig(
        kind="network", network=NetworkExtractorConfig(weights=str(path), max_size=64)
    )
    first = create_extractor(config)
    again = create_extractor(first.config_dict)
    assert again.fingerprint == first.fingerprint
    assert create_extractor(to_dict(config)).fingerprint == first.fingerprint
    a, b = first.extract(image, camera)[0], again.extract(image, camera)[0]
    assert torch.equal(a.features, b.features)


def test_learned_damping_comes_with_the_extractor(
    small_weights: Weights, extractor: NetworkExtractor
) -> None:
    assert torch.equal(extractor.damping, small_weights.damping)


def test_features_carry_no_gradient_graph(
    extractor: NetworkExtractor, image: np.ndarray, camera: Camera
) -> None:
    assert torch.is_grad_enabled()
    assert not any(level.features.requires_grad for level in extractor.extract(image, camera))


def test_images_too_small_for_the_network_are_refused(extractor: NetworkExtractor) -> None:
    camera = Camera.from_colmap(
        {"model": "PINHOLE", "width": 200, "height": 12, "params": [90.0, 90.0, 100.0, 6.0]}
    )
    image = np.random.default_rng(0).integers(0, 256, (12, 200, 3), dtype=np.uint8)
    with pytest.raises(ImageError, match=r"200x12 px, expected at least 16 px a side"):
        extractor.extract(image, camera)


def test_half_precision_needs_a_cuda_device(small_weights: Weights) -> None:
    with pytest.raises(ConfigError, match="half is True on cpu, expected a CUDA device"):
        NetworkExtractor(small_weights, NetworkExtractorConfig(half=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_half_precision_on_a_gpu_stays_near_the_cpu(
    small_weights: Weights, extractor: NetworkExtractor, image: np.ndarray, camera: Camera
) -> None:
    half = NetworkExtractor(small_weights, NetworkExtractorConfig(half=True), "cuda")
    for a, b in zip(extractor.extract(image, camera), half.extract(image, camera), strict=True):
        torch.testing.assert_close(a.features, b.features.cpu(), rtol=0, atol=0.05)
        assert b.camera.device.type == "cuda"


def test_missing_weights_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "none.tar"
    with pytest.raises(CheckpointError, match=r"none\.tar: cannot read the weights"):
        create_extractor({"kind": "network", "network": {"weights": str(path)}})


def test_smaller_images_give_the_coarser_levels_that_the_network_lacks(
    small_weights: Weights, image: np.ndarray, camera: Camera
) -> None:
    config = NetworkExtractorConfig(octaves=3)
    extractor = NetworkExtractor(small_weights, config)
    # Strides 1, 4, 16 of the image itself; 2, 8, 32 of the half; 64 of the quarter.
    assert extractor.strides == (1, 2, 4, 8, 16, 32, 64)
    assert extractor.channels == (4, 4, 6, 6, 8, 8, 8)
    assert extractor.damping is not None
    assert small_weights.damping is not None
    assert torch.equal(extractor.damping, small_weights.damping[[0, 0, 1, 1, 2, 2, 2]])
    large = np.kron(image, np.ones((2, 2, 1), dtype=np.uint8))
    pyramid = extractor.extract(large, camera.scale(2.0))
    halved = NetworkExtractor(small_weights, NetworkExtractorConfig()).extract(image, camera)
    for ours, half in ((pyramid[1], halved[0]), (pyramid[3], halved[1]), (pyramid[5], halved[2])):
        torch.testing.assert_close(ours.features, half.features, rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.camera.data, half.camera.data)


def test_an_image_too_small_for_its_last_octave_is_refused_with_a_way_out(
    small_weights: Weights, image: np.ndarray, camera: Camera
) -> None:
    extractor = NetworkExtractor(small_weights, NetworkExtractorConfig(octaves=4))
    way_out = "128 px a side with octaves=4, 16 px with octaves=1"
    with pytest.raises(ImageError, match=f"96x64 px, expected at least {way_out}"):
        extractor.extract(image, camera)


def test_octaves_change_what_a_map_remembers(
    small_weights: Weights, extractor: NetworkExtractor
) -> None:
    two = NetworkExtractor(small_weights, NetworkExtractorConfig(octaves=2))
    assert two.fingerprint != extractor.fingerprint
    assert two.config_dict["network"]["octaves"] == 2

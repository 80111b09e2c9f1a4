"""What every network has in common, whatever its kind."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pixloc_core.config import load, to_dict
from pixloc_core.errors import CheckpointError, ConfigError
from pixloc_core.features.feature_network import fuse_for_inference
from pixloc_core.features.gaussian import GaussianConfig, GaussianNet
from pixloc_core.features.light import LightConfig
from pixloc_core.features.network_extractor import NetworkExtractor, NetworkExtractorConfig
from pixloc_core.features.networks import (
    NETWORKS,
    Architecture,
    FeatureNetwork,
    NetworkConfig,
    create_network,
    kind_of,
)
from pixloc_core.features.s2dnet import S2DNetConfig
from pixloc_core.features.unet import UNetConfig
from pixloc_core.features.weights import Weights, read_weights, write_weights
from pixloc_core.geometry import Camera

SMALL: dict[str, Architecture] = {
    "unet": UNetConfig(encoder="resnet18", decoder=(8, 8, 8, 8), output_dim=(4, 6, 8)),
    "light": LightConfig(
        widths=(4, 6, 8), blocks=(1, 1, 0), decoder=(4, 5, 6), output_scales=(1, 3),
        output_dim=(3, 4),
    ),
    "s2dnet": S2DNetConfig(output_dim=(4, 6, 8)),
    "gaussian": GaussianConfig(output_scales=(0, 3), output_dim=(4, 6)),
}  # fmt: skip
KINDS = pytest.mark.parametrize("kind", SMALL)


def make_network(kind: str) -> FeatureNetwork:
    """With batch statistics and normalizations that are not the initial ones."""
    torch.manual_seed(0)
    network = create_network(SMALL[kind]).train()
    with torch.no_grad():
        network(torch.rand(2, 3, 64, 64))
    return network.eval()


def test_every_kind_is_tested_here() -> None:
    assert SMALL.keys() == NETWORKS.keys()


@KINDS
def test_outputs_are_those_that_the_config_announces(kind: str) -> None:
    config = SMALL[kind]
    with torch.inference_mode():
        outputs = make_network(kind)(torch.rand(2, 3, 64, 96))
    for output, stride, channels in zip(outputs, config.strides, config.channels, strict=True):
        assert output.features.shape == (2, channels, 64 // stride, 96 // stride)
        assert output.confidence.shape == (2, 1, 64 // stride, 96 // stride)
        assert ((output.confidence >= 0) & (output.confidence <= 1)).all()


@KINDS
def test_smallest_image_that_the_config_announces_is_enough(kind: str) -> None:
    side = SMALL[kind].smallest_side
    with torch.inference_mode():
        outputs = make_network(kind)(torch.rand(1, 3, side, side))
    assert all(output.features.numel() and output.features.isfinite().all() for output in outputs)


@KINDS
def test_a_network_learns_through_every_parameter(kind: str) -> None:
    network = make_network(kind).train()
    target = torch.Generator().manual_seed(1)
    loss = torch.zeros(())
    for features, confidence in network(torch.rand(2, 3, 64, 64)):
        unit = torch.nn.functional.normalize(features, dim=1)
        loss = loss + (unit * torch.randn(unit.shape, generator=target)).mean() + confidence.mean()
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    moved = [p.grad.abs().max() > 0 for p in network.parameters()]
    # Biases just before a batch normalization have no effect.
    assert sum(moved) > 0.7 * len(moved)


@KINDS
def test_fused_network_computes_the_same(kind: str) -> None:
    network = make_network(kind)
    image = torch.rand(1, 3, 64, 64)
    for a, b in zip(network(image), fuse_for_inference(network)(image), strict=True):
        torch.testing.assert_close(a.features, b.features, rtol=1e-3, atol=1e-4)
        assert not b.features.requires_grad


@KINDS
def test_weights_of_every_kind_survive_their_file(tmp_path: Path, kind: str) -> None:
    network, config = make_network(kind), SMALL[kind]
    damping = torch.arange(6 * len(config.strides)).reshape(-1, 6) / 10
    weights = Weights(config, network.state_dict(), damping)
    write_weights(weights, tmp_path / "w.safetensors")
    back = read_weights(tmp_path / "w.safetensors")
    assert back.config == config
    assert back.fingerprint == weights.fingerprint
    assert torch.equal(back.damping, damping)
    image = torch.rand(1, 3, 64, 64)
    for a, b in zip(network(image), back.create_network()(image), strict=True):
        assert torch.equal(a.features, b.features)


@KINDS
def test_every_kind_is_an_extractor(kind: str, image: np.ndarray, camera: Camera) -> None:
    network, config = make_network(kind), SMALL[kind]
    extractor = NetworkExtractor(
        Weights(config, network.state_dict()), NetworkExtractorConfig(octaves=1)
    )
    pyramid = extractor.extract(image, camera)
    assert tuple(level.stride for level in pyramid) == extractor.strides == config.strides
    assert tuple(level.channels for level in pyramid) == extractor.channels
    for level in pyramid:
        lengths = level.features.norm(dim=-1)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))
        assert tuple(level.camera.size.tolist()) == level.size


def test_config_chooses_the_section_of_its_kind() -> None:
    config = load(NetworkConfig, overrides=["kind=light", "light.output_dim=[8,8,8]"])
    assert config.chosen == LightConfig(output_dim=(8, 8, 8))
    assert isinstance(create_network(config), NETWORKS["light"].create)
    assert load(NetworkConfig, **to_dict(config)) == config
    assert kind_of(config.chosen) == "light"


def test_config_of_something_else_is_refused() -> None:
    with pytest.raises(ConfigError, match="NetworkExtractorConfig, expected that of a network"):
        create_network(NetworkExtractorConfig())
    with pytest.raises(ConfigError, match=r"NetworkConfig\.kind is 'resnet'"):
        NetworkConfig(kind="resnet")


def test_weights_of_another_kind_do_not_fit() -> None:
    state = make_network("gaussian").state_dict()
    with pytest.raises(CheckpointError, match=r"do not fit network light .*missing"):
        Weights(SMALL["light"], state)


def test_pyramid_of_the_image_is_its_colours_at_first() -> None:
    """Means over blocks, smoothed: a ramp stays what it is away from the border."""
    ramp = torch.linspace(0, 1, 128).expand(1, 3, 128, 128)
    with torch.inference_mode():
        outputs = GaussianNet(GaussianConfig())(ramp)
    for (features, _), stride in zip(outputs, (1, 4, 16), strict=True):
        cells = features.shape[-1]
        colour, constant = features[0, 1, 0], features[0, 3]
        torch.testing.assert_close(constant, torch.ones_like(constant))
        centre = (torch.arange(cells) * stride + (stride - 1) / 2) / 127 * 2 - 1
        inner = slice(3, cells - 3)
        torch.testing.assert_close(colour[inner], centre[inner], rtol=0, atol=1e-5)


@pytest.mark.parametrize("dims", [(128, 128), (128, 0, 128)])
def test_s2dnet_that_cannot_be_is_refused(dims: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"S2DNetConfig\.output_dim is"):
        S2DNetConfig(output_dim=dims)

"""The light network: its cost, its geometry, and the equality of its two forms."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pixloc_core.errors import ConfigError
from pixloc_core.features import light
from pixloc_core.features.feature_network import fuse_for_inference
from pixloc_core.features.light import LightConfig, LightNet
from pixloc_core.features.reparameterized import BranchedBlock
from pixloc_core.features.unet import UNet, UNetConfig

DOCS = Path(__file__).resolve().parents[3] / "docs"

SMALL = LightConfig(
    widths=(4, 6, 8), blocks=(1, 1, 0), decoder=(4, 5, 6), output_scales=(0, 1, 3),
    output_dim=(3, 4, 5),
)  # fmt: skip


def make_network(config: LightConfig = SMALL) -> LightNet:
    """In evaluation mode, with batch statistics of images that are not the initial ones."""
    torch.manual_seed(0)
    network = LightNet(config).train()
    with torch.no_grad():
        for _ in range(20):
            network(torch.rand(4, 3, 32, 32) ** 2)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.bias.normal_(std=0.2)
    return network.eval()


def multiplications(network: nn.Module) -> float:
    """Of one image of 640x480."""
    with FlopCounterMode(display=False) as counter:
        network.to("meta")(torch.empty(1, 3, 480, 640, device="meta"))
    return counter.get_total_flops() / 2


def test_default_network_keeps_to_the_budget_of_a_robot() -> None:
    """At most 3 GMAC at 640x480 and 6 MB of weights."""
    network = LightNet(LightConfig())
    assert sum(value.numel() for value in network.parameters()) <= 1_500_000
    stored = network.state_dict().values()
    assert sum(value.numel() * value.element_size() for value in stored) <= 6e6
    assert multiplications(fuse_for_inference(network)) <= 3e9


def test_documents_tell_the_cost_of_the_default_network() -> None:
    network = LightNet(LightConfig())
    cost = multiplications(fuse_for_inference(network))
    assert f"About {cost / 1e9:.1f} billion multiplications" in (light.__doc__ or "")
    vgg19 = multiplications(UNet(UNetConfig(encoder="vgg19")).eval())
    assert 48 < vgg19 / cost < 58  # a fiftieth
    weights = (DOCS / "weights.md").read_text()
    parameters = sum(value.numel() for value in network.parameters())
    assert f"{cost / 1e9:.1f} GMAC for 640x480, {parameters / 1e6:.1f} M parameters" in weights
    assert f"light, {cost / 1e9:.1f} GMAC at 640x480" in (DOCS / "training.md").read_text()


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (65, 83), (47, 111)])
def test_maps_of_any_size_keep_their_strides_and_cover_the_image(size: tuple[int, int]) -> None:
    config = LightConfig()
    with torch.inference_mode():
        outputs = LightNet(config).eval()(torch.rand(2, 3, *size))
    assert config.strides == (2, 4, 16)
    for output, stride, channels in zip(outputs, config.strides, config.channels, strict=True):
        rows, columns = (-(-side // stride) for side in size)
        assert output.features.shape == (2, channels, rows, columns)
        assert output.confidence.shape == (2, 1, rows, columns)
        assert ((output.confidence > 0) & (output.confidence < 1)).all()


def test_odd_sizes_leave_the_first_cells_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cut off at the right and bottom does not move the rest."""
    # Mean and variance change with the cut, but here only geometry is to tell the two apart.
    monkeypatch.setattr(light, "_remove_light", lambda image: image - 0.5)
    network, image = make_network(), torch.rand(1, 3, 160, 160)
    with torch.inference_mode():
        whole, cut = network(image), network(image[..., :149, :157])
    for a, b, stride in zip(whole, cut, SMALL.strides, strict=True):
        inner = slice(0, 64 // stride)
        torch.testing.assert_close(
            a.features[..., inner, inner], b.features[..., inner, inner], rtol=0, atol=1e-5
        )


def test_image_moved_by_the_stride_moves_the_features_by_one_cell() -> None:
    network = make_network()
    image, step = torch.rand(1, 3, 160, 160), SMALL.strides[-1]
    # Rolled, so that mean and variance of the image stay.
    with torch.inference_mode():
        before, after = network(image), network(image.roll((step, step), dims=(-2, -1)))
    for a, b, stride in zip(before, after, SMALL.strides, strict=True):
        margin, moved = 64 // stride, step // stride
        inner, cells = slice(margin, -margin), a.features.shape[-1]
        shifted = slice(margin + moved, cells - margin + moved)
        torch.testing.assert_close(
            a.features[..., inner, inner], b.features[..., shifted, shifted], rtol=0, atol=1e-5
        )
        assert a.features[..., inner, inner].std() > 1e-2


@pytest.mark.parametrize("is_fused", [False, True])
def test_cells_lie_evenly_about_their_pixels(is_fused: bool) -> None:
    """With mirrored kernels a mirrored image gives mirrored maps: no cell is off its block."""
    network = make_network()
    network = fuse_for_inference(network) if is_fused else network
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data += module.weight.data.flip(-1, -2)
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        forwards, mirrored = network(image), network(image.flip(-1, -2))
    for a, b in zip(forwards, mirrored, strict=True):
        assert a.features.std() > 1e-2
        torch.testing.assert_close(a.features.flip(-1, -2), b.features, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("stride", "kernel"), [(1, (3, 3)), (2, (4, 4))])
@pytest.mark.parametrize("channels", [(4, 4), (4, 6)])
def test_block_becomes_one_convolution(
    channels: tuple[int, int], stride: int, kernel: tuple[int, int]
) -> None:
    torch.manual_seed(1)
    block = BranchedBlock(*channels, stride)
    x = torch.randn(8, 4, 11, 14) + 1
    with torch.no_grad():
        for _ in range(10):
            block(x)
        block.eval()
        fused = block.fused()
        expected = block(x)
    assert [tuple(p.shape[2:]) for p in fused.parameters() if p.ndim == 4] == [kernel]
    torch.testing.assert_close(fused(x), expected, rtol=1e-4, atol=1e-5)
    assert (expected > 0).any()


def test_fused_network_computes_the_same_with_plain_convolutions() -> None:
    network = make_network()
    fused = fuse_for_inference(network)
    image = torch.rand(1, 3, 65, 83)
    for a, b in zip(network(image), fused(image), strict=True):
        assert a.features.requires_grad
        assert not b.features.requires_grad
        torch.testing.assert_close(a.features, b.features, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(a.confidence, b.confidence, rtol=1e-4, atol=1e-5)
    kinds = {type(module) for module in fused.modules()}
    assert not kinds & {nn.BatchNorm2d, BranchedBlock}


def test_exposure_white_balance_and_haze_change_next_to_nothing() -> None:
    network = make_network()
    image = torch.rand(1, 3, 64, 64)
    cast = torch.tensor([0.9, 0.5, 0.4])[:, None, None]
    with torch.inference_mode():
        before, after = network(image), network(image * cast + 0.05)
    for a, b in zip(before, after, strict=True):
        similarity = torch.cosine_similarity(a.features, b.features, dim=1)
        assert similarity.mean() > 0.98


def test_other_images_of_a_batch_have_no_say() -> None:
    network = make_network()
    images = torch.rand(3, 3, 64, 64) * torch.tensor([1.0, 0.2, 0.5])[:, None, None, None]
    with torch.inference_mode():
        together, alone = network(images), network(images[1:2])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a.features[1:2], b.features, rtol=1e-4, atol=1e-5)


def test_image_of_one_colour_gives_finite_features_and_gradients() -> None:
    network = LightNet(SMALL).train()
    outputs = network(torch.full((2, 3, 32, 32), 0.5))
    sum(o.features.square().mean() + o.confidence.mean() for o in outputs).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("scales", [(1, 3, 5), (0, 2), (3,), (2, 4)])
def test_there_is_no_parameter_without_a_gradient(scales: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = LightNet(LightConfig(output_scales=scales, output_dim=(8,) * len(scales)))
    outputs = network(torch.rand(2, 3, 64, 64))
    sum(o.features.square().mean() + o.confidence.mean() for o in outputs).backward()
    still = [name for name, p in network.named_parameters() if p.grad is None]
    assert not still
    # A bias just before a batch normalization has none; the decoder needs none either way.
    zero = [n for n, p in network.named_parameters() if not p.grad.any()]
    assert all(name.endswith("top_down.bias") for name in zero)


def test_confidence_begins_alike_everywhere() -> None:
    torch.manual_seed(0)
    for output in LightNet(LightConfig()).eval()(torch.rand(1, 3, 64, 64)):
        torch.testing.assert_close(
            output.confidence, torch.full_like(output.confidence, 0.5), rtol=0, atol=0.02
        )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("output_scales", (3, 1, 5)),
        ("output_scales", (1, 3, 6)),
        ("output_dim", (32, 32)),
        ("blocks", (1, 2)),
        ("decoder", (8,)),
        ("widths", (16, 0, 64, 96, 128)),
    ],
)
def test_impossible_architectures_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"LightConfig\.{field} is "):
        LightConfig(**{field: value})


@pytest.mark.parametrize("side", [3, 9, 33])
@pytest.mark.parametrize("size", [(40, 64), (7, 100), (5, 5)])
def test_running_sums_are_means_over_squares_that_end_at_the_border(
    side: int, size: tuple[int, int]
) -> None:
    image = torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(0))
    expected = image
    for axis, length in ((-1, size[1]), (-2, size[0])):
        lines = expected.movedim(axis, -1)
        means = [
            lines[..., max(i - side // 2, 0) : i + side // 2 + 1].mean(-1) for i in range(length)
        ]
        expected = torch.stack(means, -1).movedim(-1, axis)
    torch.testing.assert_close(light._box_mean(image, side), expected, atol=1e-5, rtol=0)

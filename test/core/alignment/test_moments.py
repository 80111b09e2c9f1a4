"""The innermost loop samples as the geometry layer does, and reduces without loss."""

import pytest
import torch
from torch.nn.functional import normalize

from pixloc_core.alignment import moments
from pixloc_core.alignment.moments import POLYNOMIALS, MomentSampler
from pixloc_core.geometry import sample_with_gradient
from pixloc_core.geometry.interpolation import Mode

WIDTH, HEIGHT = 17, 13


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def inner_points(*shape: int) -> torch.Tensor:
    """Points at least one pixel from the border, some of them on pixels and on that line."""
    room = torch.tensor([WIDTH - 3, HEIGHT - 3])
    points = 1 + torch.rand(*shape, 2, generator=torch.Generator().manual_seed(1)).double() * room
    points[..., 0, :] = torch.tensor([1.0, 1.0])
    points[..., 1, :] = torch.tensor([WIDTH - 2.0, HEIGHT - 2.0])
    points[..., 2, :] = torch.tensor([4.0, 7.0])
    return points


def expected(value: torch.Tensor, gradient: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    r, (x, y) = value - reference, gradient.unbind(-1)
    pairs = ((r, r), (x, r), (y, r), (x, x), (x, y), (y, y))
    return torch.stack([(a * b).sum(-1) for a, b in pairs])


@pytest.mark.parametrize("channels", [3, moments.MANY_CHANNELS])
@pytest.mark.parametrize("mode", POLYNOMIALS)
def test_moments_are_those_of_the_sampled_map(mode: Mode, channels: int) -> None:
    features, confidence = draw(HEIGHT, WIDTH, channels), draw(HEIGHT, WIDTH, seed=1).sigmoid()
    points, reference = inner_points(4, 30), draw(30, channels, seed=2)
    found = MomentSampler(features, confidence, mode=mode)(points, reference)
    value, gradient = sample_with_gradient(features, points, mode)
    torch.testing.assert_close(torch.stack(found[:6]), expected(value, gradient, reference))
    seen, _ = sample_with_gradient(confidence[..., None], points, mode)
    torch.testing.assert_close(found.confidence, seen[..., 0])


@pytest.mark.parametrize("mode", POLYNOMIALS)
def test_a_batch_of_maps_is_sampled_map_by_map(mode: Mode) -> None:
    features, confidence = draw(3, HEIGHT, WIDTH, 4), draw(3, HEIGHT, WIDTH)
    points, reference = inner_points(3, 20), draw(3, 20, 4, seed=2)
    together = MomentSampler(features, confidence, mode=mode)(points, reference)
    for i in range(3):
        alone = MomentSampler(features[i], confidence[i], mode=mode)(points[i], reference[i])
        for mine, its in zip(together, alone, strict=True):
            torch.testing.assert_close(mine[i], its)


def test_normalized_moments_are_those_of_the_normalized_value() -> None:
    """The gradient follows by the chain rule: here by differences of the normalized value."""
    features, confidence = draw(HEIGHT, WIDTH, 5), draw(HEIGHT, WIDTH)
    points, reference = inner_points(30)[3:] + 0.01, draw(27, 5, seed=2)

    def value(x: float, y: float) -> torch.Tensor:
        moved = points + torch.tensor([x, y], dtype=torch.float64)
        return normalize(sample_with_gradient(features, moved, "cubic")[0], dim=-1)

    step = 1e-5
    slopes = (value(step, 0) - value(-step, 0), value(0, step) - value(0, -step))
    gradient = torch.stack(slopes, -1) / (2 * step)
    sampler = MomentSampler(features, confidence, mode="cubic", normalize=True)
    found = torch.stack(sampler(points, reference)[:6])
    want = expected(value(0, 0), gradient, reference)
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-5)


def test_many_hypotheses_in_parts_equal_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = MomentSampler(draw(HEIGHT, WIDTH, 6), draw(HEIGHT, WIDTH))
    points, reference = inner_points(7, 20), draw(20, 6, seed=2)
    whole = sampler(points, reference)
    monkeypatch.setattr(moments, "CACHED_NUMBERS", 2 * reference.numel())
    for mine, its in zip(sampler(points, reference), whole, strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=0)


def test_points_beyond_the_border_see_its_outermost_pixels() -> None:
    features = draw(HEIGHT, WIDTH, 3)
    reference = torch.zeros(4, 3, dtype=torch.float64)
    far = torch.tensor([[-50.0, 5.0], [1e12, 5.0], [4.0, -1e30], [4.0, 99.0]]).double()
    found = MomentSampler(features, features[..., 0])(far, reference)
    corner = features[[5, 5, 0, HEIGHT - 1], [0, WIDTH - 1, 4, 4]]
    torch.testing.assert_close(found.rr, corner.square().sum(-1))
    assert torch.isfinite(torch.stack(found)).all()

"""What the benchmarks measure, on cases whose answer is known."""

import time

import numpy as np
import pytest
import torch

from benchmarks.confidence import Pulls, residual_displacement, summarize
from benchmarks.random_starts import remember_last_image, starts_at
from benchmarks.speed import measure_in_turns
from pixloc_core.evaluation.pose_error import median_displacement_px
from pixloc_core.features.gradients import GradientExtractor
from pixloc_core.features.pyramid import FeatureLevel
from pixloc_core.geometry import Camera, Pose, sample

CAMERA = Camera.from_colmap(
    {"model": "PINHOLE", "width": 64, "height": 48, "params": [60.0, 60.0, 32.0, 24.0]}
)


def level_of_noise():
    features = torch.randn(48, 64, 8, generator=torch.Generator().manual_seed(0))
    return FeatureLevel(features, torch.ones(48, 64), CAMERA, 2)


def test_the_residual_displacement_is_how_far_the_level_was_moved():
    level = level_of_noise()
    places = torch.tensor([[20.0, 20.0], [30.0, 25.0], [40.0, 12.0]])
    offset = torch.tensor([[3.0, -4.0], [0.0, 0.0], [-2.5, 0.3]])
    descriptors = sample(level.features, places + offset)
    found = residual_displacement(level, descriptors, places)
    torch.testing.assert_close(found, offset.norm(dim=-1), atol=0.06, rtol=0)


def test_nothing_outside_the_level_is_found():
    x, y = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="xy")
    level = FeatureLevel((1 + x + y)[..., None], torch.ones(48, 64), CAMERA, 2)
    # Beyond the border the samples fade to zero, which is just this descriptor.
    found = residual_displacement(level, torch.zeros(1, 1), torch.tensor([[2.0, 1.0]]))
    assert float(found) == pytest.approx(5**0.5)


def test_halves_are_made_by_confidence_within_each_query():
    bright = Pulls(np.array([0.1, 2.0, 0.3, 3.0]), np.array([0.9, 0.7, 0.8, 0.6]))
    dark = Pulls(np.array([4.0, 0.2]), np.array([0.1, 0.2]))
    row = summarize([bright, dark], stride=2)
    assert row["points"] == 6
    assert row["top_px"] == pytest.approx(2 * 0.2)
    assert row["bottom_px"] == pytest.approx(2 * 3.0)
    assert (row["top_within"], row["bottom_within"]) == (1.0, 0.0)


def test_starts_lie_at_the_distance_asked_for_in_the_same_directions():
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(200, 3, generator=generator, dtype=torch.float64)
    points = points * torch.tensor([4.0, 3.0, 2.0]) + torch.tensor([-2.0, -1.5, 4.0])
    truth = Pose.identity(dtype=torch.float64)
    camera = CAMERA.double()
    for distance in (20, 60):
        starts = list(starts_at(points, camera, truth, distance, 3, seed=5))
        for start in starts:
            moved = median_displacement_px(points, camera, start, truth)
            assert moved == pytest.approx(distance, abs=1e-3)
    again = list(starts_at(points, camera, truth, 60, 3, seed=5))
    assert all(torch.equal(a.data, b.data) for a, b in zip(starts, again, strict=True))


def test_an_image_is_extracted_once_as_long_as_it_is_the_last_one():
    extractor = GradientExtractor()
    remember_last_image(extractor)
    image, other = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8)
    first = extractor.extract(image, CAMERA)
    assert extractor.extract(image, CAMERA) is first
    assert extractor.extract(other, CAMERA) is not first
    again = extractor.extract(image, CAMERA)
    assert again is not first
    torch.testing.assert_close(again[0].features, first[0].features)


def test_what_is_timed_takes_turns():
    calls = []
    times = measure_in_turns([lambda: calls.append("a"), lambda: calls.append("b")], 2)
    assert calls == ["a", "b"] * 3
    assert [cost.wall_ms >= 0 for cost in times] == [True, True]


def test_waiting_takes_wall_time_and_no_time_of_the_cpu():
    (cost,) = measure_in_turns([lambda: time.sleep(0.02)], 1)
    assert cost.wall_ms >= 20
    assert cost.cpu_ms < cost.wall_ms

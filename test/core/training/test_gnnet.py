"""The objective of GN-Net: reference numbers, and what it asks of features."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from pixloc_core.alignment.aligner_config import AlignerConfig
from pixloc_core.alignment.coarse_to_fine import align
from pixloc_core.features.feature_network import NetworkOutput
from pixloc_core.features.network_extractor import create_pyramid
from pixloc_core.features.pyramid import FeaturePyramid
from pixloc_core.features.reference import PointFeatures
from pixloc_core.geometry import Camera, DistortionModel, Pose, inside, sample
from pixloc_core.training.gnnet import (
    GnNetConfig,
    GnNetDraws,
    GnNetLoss,
    correspondence_loss,
    gnnet_loss,
    level_losses,
)
from pixloc_core.training.pairs import PairBatch, View

Arrays = dict[str, torch.Tensor]
STRIDES = (1, 4, 16)
CONFIG = GnNetConfig()


@pytest.fixture(scope="module")
def arrays(shared_dir: Path) -> Arrays:
    with np.load(shared_dir / "fixtures" / "h_gnnet.npz") as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}


def fixture_pyramid(arrays: Arrays, side: str) -> FeaturePyramid:
    maps = [arrays[f"{side}_feature_{level}"] for level in range(3)]
    camera = Camera(arrays[f"{side}_camera"].double(), DistortionModel.RADIAL)
    return create_pyramid(
        [NetworkOutput(m, torch.ones_like(m[:, :1])) for m in maps], camera, STRIDES
    )


def fixture_draws(arrays: Arrays) -> GnNetDraws:
    """Recorded in the order of levels, and in each of directions."""
    offset, negative = 2 * arrays["draws_rand"] - 1, arrays["draws_randint"]
    return GnNetDraws(offset.unflatten(0, (3, 2)), negative.unflatten(0, (3, 2)))


def fixture_loss(arrays: Arrays) -> GnNetLoss:
    points = arrays["points3D_ref"].double()
    used = torch.ones(points.shape[:2], dtype=torch.bool)
    maps = fixture_pyramid(arrays, "ref"), fixture_pyramid(arrays, "query")
    truth = Pose(arrays["T_r2q_gt"].double())
    return correspondence_loss(maps, points, truth, used, CONFIG, fixture_draws(arrays))


def test_losses_and_gradients_equal_the_reference(arrays: Arrays) -> None:
    arrays = dict(arrays)
    maps = []
    for level in range(3):
        maps.append(arrays[f"query_feature_{level}"].clone().requires_grad_())
        arrays[f"query_feature_{level}"] = maps[-1]
    loss = fixture_loss(arrays)
    torch.testing.assert_close(loss.total, arrays["loss/total"])
    torch.testing.assert_close(loss.contrastive, arrays["loss/contrastive_loss"])
    torch.testing.assert_close(loss.gauss_newton, arrays["loss/gauss_newton_loss"])
    loss.total.mean().backward()
    for level, map_ in enumerate(maps):
        expected = arrays[f"grad_query_feature_{level}_norm"]
        torch.testing.assert_close(map_.grad.norm(), expected, rtol=1e-4, atol=0)
        expected = arrays[f"grad_query_feature_{level}_sum_c"]
        torch.testing.assert_close(map_.grad.sum((-2, -1)), expected, rtol=1e-4, atol=1e-6)


def test_losses_of_every_point_equal_the_reference(arrays: Arrays) -> None:
    reference, query = fixture_pyramid(arrays, "ref"), fixture_pyramid(arrays, "query")
    points = arrays["points3D_ref"].double()
    both = points, Pose(arrays["T_r2q_gt"].double()) * points
    used, draws = torch.ones(points.shape[:2], dtype=torch.bool), fixture_draws(arrays)
    for level in range(3):
        levels = reference[level], query[level]
        terms = level_losses(levels, both, used, CONFIG, draws.of_level(level))
        for direction, term in enumerate(terms):
            row = 2 * level + direction
            # That of the fixture tells only where a step starts.
            assert torch.equal(term.reached, term.both & arrays["gn_mask"][row])
            expected = arrays["contrastive"][row]
            torch.testing.assert_close(
                term.contrastive[term.both], expected[term.both], rtol=1e-4, atol=1e-4
            )
            # What the ridge adds to a nearly singular matrix is rounded there.
            expected = arrays["gn_nll"][row]
            torch.testing.assert_close(
                term.gauss_newton[term.reached], expected[term.reached], rtol=1e-4, atol=1e-4
            )


def test_aligner_ends_on_these_features_where_the_reference_ends(arrays: Arrays) -> None:
    """Its plain optimizer: fixed damping, 15 steps, 3 cells of border, no confidence."""
    reference, query = fixture_pyramid(arrays, "ref"), fixture_pyramid(arrays, "query")
    points = arrays["points3D_ref"].double()
    descriptors, weights = [], []
    for level in reference:
        px, visible = level.camera.world2image(points)
        descriptors.append(normalize(sample(level.features, px), dim=-1))
        weights.append((visible & inside(px, level.size, 3)).float())
    index = torch.arange(points.shape[1]).expand(points.shape[:2])
    query = FeaturePyramid(
        tuple(replace(level, features=normalize(level.features, dim=-1)) for level in query)
    )
    result = align(
        query,
        PointFeatures(points, tuple(descriptors), tuple(weights), index),
        Pose(arrays["T_r2q_init"].double()),
        replace(AlignerConfig.reference(15), pad=(3.0,)),
    )
    truth = Pose(arrays["T_r2q_gt"].double())
    for step, pose in enumerate(result.pose_per_level):
        angle_deg, distance = (pose @ truth.inv()).magnitude()
        expected = arrays[f"metric/R_error/{step}"].double()
        torch.testing.assert_close(angle_deg, expected, rtol=0, atol=1e-3)
        baseline = truth.magnitude()[1]
        expected = arrays[f"metric/t_error/{step}"].double()
        torch.testing.assert_close(distance / baseline, expected, rtol=0, atol=1e-3)


def make_batch(count: int = 2) -> PairBatch:
    """Random pairs; the last points are hidden in the query, the very last one is padding."""
    generator = torch.Generator().manual_seed(0)
    camera = Camera.from_colmap(
        {"model": "PINHOLE", "width": 64, "height": 48, "params": [60.0, 60.0, 32.0, 24.0]}
    )
    cameras = torch.stack([camera] * count)
    points = torch.rand(count, 30, 3, generator=generator, dtype=torch.float64) - 0.5
    points[..., 2] += 2
    is_point = torch.ones(count, 30, dtype=torch.bool)
    is_point[:, -1] = False
    is_seen = is_point.clone()
    is_seen[:, -10:] = False
    shift = torch.tensor([[0.05, 0.0, 0.0, 0.0, 0.02, 0.0]], dtype=torch.float64)
    truth = Pose.identity(count, dtype=torch.float64).retract(shift.expand(count, 6))
    view = View(torch.zeros(count, 3, 48, 64), cameras)
    return PairBatch(view, view, points, is_point, is_seen, truth, ("pair",) * count)


def make_pyramid(maps: list[torch.Tensor], batch: PairBatch) -> FeaturePyramid:
    outputs = [NetworkOutput(m, torch.ones_like(m[:, :1])) for m in maps]
    return create_pyramid(outputs, batch.reference.camera, (2, 8))


def make_maps(seed: int, count: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, 8, *size, generator=generator) for size in ((24, 32), (6, 8))]


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


SMALL = GnNetConfig(pad=1.0)


def test_a_pair_has_the_same_loss_in_any_batch() -> None:
    batch = make_batch()
    reference, query = make_maps(1), make_maps(2)
    both = gnnet_loss(
        make_pyramid(reference, batch), make_pyramid(query, batch), batch, SMALL, generators(4, 5)
    )
    single = make_batch(1)
    second = PairBatch(
        single.reference, single.query, batch.points_ref[1:], batch.is_point[1:],
        batch.is_seen[1:], batch.query_from_ref[1:], ("pair",),
    )  # fmt: skip
    alone = gnnet_loss(
        make_pyramid([m[1:] for m in reference], second),
        make_pyramid([m[1:] for m in query], second),
        second, SMALL, generators(5),
    )  # fmt: skip
    torch.testing.assert_close(both.total[1:], alone.total)
    assert abs(both.total[0] - both.total[1]) > 1e-4


@pytest.mark.parametrize("only_seen", [True, False])
def test_hidden_points_count_only_if_asked_for_and_padding_never(only_seen: bool) -> None:
    batch, config = make_batch(), replace(SMALL, only_seen=only_seen)
    maps = make_pyramid(make_maps(1), batch), make_pyramid(make_maps(2), batch)
    before = gnnet_loss(*maps, batch, config, generators(1, 2))
    for first, counts in ((-1, False), (-10, not only_seen)):
        points = batch.points_ref.clone()
        points[:, first:] += 0.05
        after = gnnet_loss(*maps, replace(batch, points_ref=points), config, generators(1, 2))
        assert bool((after.total != before.total).all()) is counts


def test_pairs_without_any_point_have_no_loss_and_no_gradient() -> None:
    batch = make_batch()
    batch = replace(batch, is_seen=torch.zeros_like(batch.is_seen))
    maps = [m.requires_grad_() for m in make_maps(1)]
    pyramid = make_pyramid(maps, batch)
    loss = gnnet_loss(pyramid, pyramid, batch, SMALL, generators(1, 2))
    assert loss.total.tolist() == [0.0, 0.0]
    loss.total.sum().backward()
    assert all(not m.grad.any() for m in maps)


def test_maps_without_structure_have_finite_loss_and_gradient() -> None:
    """Equal descriptors: distance 0 has no direction, and the matrix of a step is the ridge."""
    batch = make_batch()
    maps = [torch.ones(2, 8, *m.shape[2:]).requires_grad_() for m in make_maps(1)]
    pyramid = make_pyramid(maps, batch)
    loss = gnnet_loss(pyramid, pyramid, batch, SMALL, generators(1, 2))
    loss.total.sum().backward()
    assert loss.total.isfinite().all()
    assert all(m.grad.isfinite().all() for m in maps)


def test_places_within_the_window_are_no_negatives() -> None:
    """With a window of the whole image there are none, and equal images have nothing to lose."""
    batch = make_batch()
    still = replace(batch, query_from_ref=Pose.identity(2, dtype=torch.float64))
    pyramid = make_pyramid(make_maps(1), batch)
    loss = gnnet_loss(pyramid, pyramid, still, replace(SMALL, window=1.0), generators(1, 2))
    torch.testing.assert_close(loss.contrastive, torch.zeros(2), rtol=0, atol=1e-6)
    some = gnnet_loss(pyramid, pyramid, still, replace(SMALL, window=0.1), generators(1, 2))
    assert (some.contrastive > 0).all()


def test_its_descent_lets_steps_end_at_the_truth() -> None:
    batch = make_batch()
    reference = [m.requires_grad_() for m in make_maps(1)]
    query = [m.requires_grad_() for m in make_maps(2)]
    optimizer = torch.optim.Adam([*reference, *query], lr=0.05)
    losses = []
    for step in range(60):
        maps = make_pyramid(reference, batch), make_pyramid(query, batch)
        loss = gnnet_loss(*maps, batch, SMALL, generators(step, step + 1000))
        optimizer.zero_grad()
        loss.total.sum().backward()
        optimizer.step()
        losses.append(loss)
    assert losses[-1].contrastive.max() < 0.3 * losses[0].contrastive.min()
    assert (losses[-1].gauss_newton < losses[0].gauss_newton - 0.5).all()


def test_negatives_are_searched_among_fewer_places_evenly_taken() -> None:
    """Positives and steps stay as they are; a quarter of the places has less hard negatives."""
    batch = make_batch()
    maps = make_maps(1), make_maps(2)
    config = replace(SMALL, max_places=maps[0][0].shape[-1] * maps[0][0].shape[-2] // 4)
    all_places = gnnet_loss(
        *(make_pyramid(side, batch) for side in maps), batch, SMALL, generators(4, 5)
    )
    fewer = gnnet_loss(
        *(make_pyramid(side, batch) for side in maps), batch, config, generators(4, 5)
    )
    torch.testing.assert_close(fewer.gauss_newton, all_places.gauss_newton)
    assert not torch.equal(fewer.contrastive, all_places.contrastive)
    assert (fewer.contrastive > 0.5 * all_places.contrastive).all()


def test_fewer_points_are_taken_evenly() -> None:
    batch = make_batch()
    maps = (make_pyramid(make_maps(1), batch), make_pyramid(make_maps(2), batch))
    every_third = PairBatch(
        batch.reference, batch.query, batch.points_ref[:, ::3], batch.is_point[:, ::3],
        batch.is_seen[:, ::3], batch.query_from_ref, batch.names,
    )  # fmt: skip
    some = gnnet_loss(*maps, batch, replace(SMALL, max_points=10), generators(4, 5))
    same = gnnet_loss(*maps, every_third, SMALL, generators(4, 5))
    torch.testing.assert_close(some.total, same.total)

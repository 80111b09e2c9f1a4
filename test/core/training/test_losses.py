"""The reprojection loss: its values, where it counts, and where its gradient ends."""

import pytest
import torch
from toy_pairs import PlanePairs

from pixloc_core.geometry import Pose
from pixloc_core.training.losses import (
    ReprojectionLossConfig,
    TruePoints,
    masked_mean,
    reprojection_loss,
)
from pixloc_core.training.metrics import pose_errors, summarize
from pixloc_core.training.pairs import PairBatch

STRIDES = (16, 4, 1)


@pytest.fixture(scope="module")
def batch() -> PairBatch:
    return PlanePairs(num_points=40).batch([0, 1, 2])


def true_points(batch: PairBatch, start: Pose, is_point: torch.Tensor | None = None) -> TruePoints:
    return TruePoints.of(
        batch.query.camera,
        batch.points_ref,
        batch.is_point if is_point is None else is_point,
        batch.query_from_ref,
        start,
    )


def shifted(batch: PairBatch, pixels: float) -> Pose:
    """The true poses moved sideways by so many pixels of the plane's image, on average."""
    meters = pixels * 4.0 / (0.9 * 96)
    xi = torch.tensor([meters, 0, 0, 0, 0, 0], dtype=torch.float64)
    return batch.query_from_ref.retract(xi.expand(len(batch), 6))


def test_a_mean_takes_nothing_from_beyond_its_mask() -> None:
    values = torch.tensor([[1.0, 3.0, torch.nan], [torch.inf, 5.0, 5.0]], requires_grad=True)
    mean = masked_mean(values, torch.tensor([[True, True, False], [False, False, False]]))
    assert mean.tolist() == [2.0, 0.0]
    mean.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]


def test_the_true_pose_has_no_error(batch: PairBatch) -> None:
    truth = batch.query_from_ref
    loss = reprojection_loss(
        true_points(batch, truth), truth, [truth] * 3, STRIDES, ReprojectionLossConfig()
    )
    assert float(loss.total.abs().max()) < 1e-9
    assert loss.success.all()


def test_errors_are_quadratic_near_the_truth_and_linear_far_from_it(batch: PairBatch) -> None:
    truth = batch.query_from_ref
    points = true_points(batch, truth)
    near, far = shifted(batch, 0.2), shifted(batch, 30.0)
    squared = points.displacement(near).square().nanmean(-1)
    torch.testing.assert_close(points.error(near), squared / 4, rtol=1e-2, atol=0)
    distance = points.displacement(far).nanmean(-1)
    torch.testing.assert_close(points.error(far), distance - 2, rtol=1e-2, atol=0.1)


def test_a_level_counts_only_where_the_coarser_one_came_within_its_range(
    batch: PairBatch,
) -> None:
    truth = batch.query_from_ref
    points = true_points(batch, truth)
    config = ReprojectionLossConfig(success=0.5)
    # About 20 px is more than half a cell of 16 px: the finer levels do not count.
    lost = reprojection_loss(points, truth, [shifted(batch, 20.0)] * 3, STRIDES, config)
    assert not lost.success[0].any()
    torch.testing.assert_close(lost.total, lost.errors[0] / 3)
    # About 5 px is less, and too much for the level after the next.
    found = reprojection_loss(points, truth, [shifted(batch, 6.5)] * 3, STRIDES, config)
    assert found.success[0].all()
    assert not found.success[1].any()
    torch.testing.assert_close(found.total, found.errors[:2].sum(0) / 3)


def test_a_lost_pose_has_no_gradient_and_the_others_keep_theirs(batch: PairBatch) -> None:
    truth = batch.query_from_ref
    xi = torch.zeros(3, 6, dtype=torch.float64)
    xi[0, 0], xi[1:, 0] = 20.0, 0.1
    xi.requires_grad_()
    pose = truth.retract(xi)
    points = true_points(batch, truth)
    loss = reprojection_loss(points, truth, [pose], (16,), ReprojectionLossConfig())
    assert loss.total.tolist()[0] == 50.0
    loss.total.sum().backward()
    assert xi.grad is not None
    assert float(xi.grad[0].abs().max()) == 0.0
    assert float(xi.grad[1:].norm(dim=-1).min()) > 0.0


def test_pairs_with_few_points_in_sight_do_not_count(batch: PairBatch) -> None:
    few = torch.zeros_like(batch.is_point)
    few[:, :9] = True
    start = shifted(batch, 2.0)
    points = true_points(batch, start, few)
    loss = reprojection_loss(points, start, [start], (16,), ReprojectionLossConfig())
    assert loss.too_few.all()
    assert float(loss.total.abs().max()) == 0.0
    numbers = summarize(loss, points, batch.query_from_ref, start, [start])
    assert all(value.isnan().all() for value in numbers.values())


def test_numbers_tell_how_far_each_level_came(batch: PairBatch) -> None:
    truth, start = batch.query_from_ref, shifted(batch, 8.0)
    poses = [shifted(batch, 2.0), truth]
    points = true_points(batch, start)
    loss = reprojection_loss(points, start, poses, (4, 1), ReprojectionLossConfig())
    numbers = summarize(loss, points, truth, start, poses)
    assert (numbers["reprojection/start"] > numbers["reprojection/0"]).all()
    assert float(numbers["reprojection/1"].max()) < 1e-9
    assert numbers["localized"].tolist() == [1.0, 1.0, 1.0]
    assert numbers["success/0"].tolist() == [1.0, 1.0, 1.0]


def test_pose_errors_are_angles_and_distances_over_the_baseline() -> None:
    truth = Pose.exp(torch.tensor([[3.0, 0, 4.0, 0, 0, 0]], dtype=torch.float64))
    turned = truth.retract(torch.tensor([[0, 0, 0, 0, 0.1, 0]], dtype=torch.float64))
    errors = pose_errors(turned, truth)
    assert float(errors.rotation_deg) == pytest.approx(5.7296, rel=1e-4)
    moved = truth.retract(torch.tensor([[0, 2.0, 0, 0, 0, 0]], dtype=torch.float64))
    assert float(pose_errors(moved, truth).translation) == pytest.approx(2.0)
    assert float(pose_errors(moved, truth, normalize=True).translation) == pytest.approx(0.4)

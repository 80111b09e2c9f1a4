"""Several cameras as one: derivatives of the joint cost, and what it finds that one does not."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from synthetic import Scene, make_scene, perturb

from pixloc_core.alignment.aligner_config import AlignerConfig
from pixloc_core.alignment.coarse_to_fine import align, align_rig, level_cost
from pixloc_core.alignment.rig_cost import Sight, increment_of_camera
from pixloc_core.errors import ShapeError
from pixloc_core.features.pyramid import FeaturePyramid
from pixloc_core.features.reference import PointFeatures
from pixloc_core.geometry import Pose, sample
from pixloc_core.optim.levenberg_marquardt import LmStatus
from pixloc_core.optim.normal_equations import quadratic_form

# Two cameras on a robot: turned by 60 degrees, half a metre apart.
SECOND_FROM_FIRST = Pose.from_aa(
    torch.tensor([0.05, 1.05, -0.02]).double(), torch.tensor([0.5, -0.1, 0.2]).double()
)
CUBIC = AlignerConfig(interpolation=("cubic",), robust_scale=(0.5,))


def moved(scene: Scene, cam_from_map: Pose) -> Scene:
    """The same query, taken from another place of the map: the points move along."""
    points_map = cam_from_map.inv() * (scene.cam_from_map * scene.points.points_map)
    points = replace(scene.points, points_map=points_map)
    return replace(scene, points=points, cam_from_map=cam_from_map)


def make_rig(noise: float = 0.05, dtype: torch.dtype = torch.float32) -> list[Scene]:
    first = make_scene(1, noise=noise, dtype=dtype)
    second = make_scene(2, noise=noise, dtype=dtype)
    return [first, moved(second, SECOND_FROM_FIRST @ first.cam_from_map)]


def sights_of(scenes: Sequence[Scene], poses: Sequence[Pose | None]) -> list[Sight]:
    pairs = zip(scenes, poses, strict=True)
    return [Sight(scene.pyramid, scene.points, pose) for scene, pose in pairs]


@pytest.fixture(scope="module")
def rig() -> list[Scene]:
    return make_rig()


@pytest.fixture(scope="module")
def sights(rig: list[Scene]) -> list[Sight]:
    return sights_of(rig, [None, SECOND_FROM_FIRST])


def some_points(scene: Scene, keep: slice) -> Scene:
    points = scene.points
    some = PointFeatures(
        points.points_map[keep],
        tuple(x[keep] for x in points.descriptors),
        tuple(x[keep] for x in points.confidences),
        points.point_idx[keep],
    )
    return replace(scene, points=some)


def test_the_increment_of_a_camera_is_the_derivative_of_its_pose() -> None:
    first = Pose.exp(torch.tensor([1.0, -2, 0.5, 0.3, 0.2, -0.4]).double())
    point = torch.tensor([3.0, 1.0, 5.0]).double()

    def through_first(xi: torch.Tensor) -> torch.Tensor:
        return (SECOND_FROM_FIRST @ first.retract(xi)) * point

    def direct(xi: torch.Tensor) -> torch.Tensor:
        return (SECOND_FROM_FIRST @ first).retract(xi) * point

    zero = torch.zeros(6).double()
    J_first = torch.autograd.functional.jacobian(through_first, zero)
    J_cam = torch.autograd.functional.jacobian(direct, zero)
    torch.testing.assert_close(J_cam @ increment_of_camera(SECOND_FROM_FIRST), J_first)


def test_g_is_the_gradient_of_the_cost_of_the_rig() -> None:
    """By differences of the cost; of one confidence everywhere, whose change is left out of g."""
    scenes = [replace(scene, pyramid=_sure(scene)) for scene in make_rig(0.1, torch.float64)]
    sights = sights_of(scenes, [None, SECOND_FROM_FIRST])
    config = replace(CUBIC, outside_residual=0.0)
    cost, pose = level_cost(sights, config, 1), perturb(scenes[0], 5.0, 3)
    here, step = cost.linearize(pose), 1e-6
    for k, xi in enumerate(step * torch.eye(6).double()):
        ahead, behind = cost.linearize(pose.retract(xi)), cost.linearize(pose.retract(-xi))
        assert (ahead.num_valid == behind.num_valid).all()
        slope = (ahead.cost - behind.cost) * here.normalizer / 2 / (2 * step)
        torch.testing.assert_close(slope, here.g[:, k], rtol=1e-4, atol=1e-4)


def _sure(scene: Scene) -> FeaturePyramid:
    levels = [replace(x, confidence=torch.full_like(x.confidence, 0.7)) for x in scene.pyramid]
    return FeaturePyramid(tuple(levels))


def test_the_system_adds_up_over_the_cameras(rig: list[Scene], sights: list[Sight]) -> None:
    """Each camera moved as its pose on the rig says, found here from the poses alone."""
    pose = perturb(rig[0], 5.0, 3)
    both = level_cost(sights, CUBIC, 1).linearize(pose)
    alone = [level_cost([Sight(scene.pyramid, scene.points)], CUBIC, 1) for scene in rig]
    systems = [alone[0].linearize(pose), alone[1].linearize(SECOND_FROM_FIRST @ pose)]
    count = systems[0].num_valid + systems[1].num_valid
    assert both.num_valid.tolist() == count.tolist()
    for k, xi in enumerate(1e-6 * torch.eye(6).double()):
        before, after = SECOND_FROM_FIRST @ pose, SECOND_FROM_FIRST @ pose.retract(xi)
        moves = [xi.expand(3, 6), (after @ before.inv()).log()]
        pairs = list(zip(systems, moves, strict=True))
        curvature = sum(quadratic_form(system.H, move) for system, move in pairs)
        motion = sum(
            system.num_valid * quadratic_form(system.motion, move) for system, move in pairs
        )
        torch.testing.assert_close(curvature * 1e12, both.H[:, k, k], rtol=1e-4, atol=0)
        torch.testing.assert_close(motion / count * 1e12, both.motion[:, k, k], rtol=1e-4, atol=0)


def test_scores_of_a_rig_add_up_to_its_gradient(rig: list[Scene], sights: list[Sight]) -> None:
    cost, pose = level_cost(sights, CUBIC, 0), perturb(rig[0], 3.0, 2)
    points = cost.points(pose)
    assert points.scores.shape == (2, 600, 6)
    torch.testing.assert_close(points.scores.sum(-2), cost.linearize(pose).g)


def test_one_camera_is_a_rig_of_one(rig: list[Scene]) -> None:
    start = perturb(rig[0], 20.0, 3)
    alone = align(rig[0].pyramid, rig[0].points, start, AlignerConfig())
    together = align_rig(sights_of(rig[:1], [None]), start, AlignerConfig())
    assert torch.equal(alone.cam_from_map.data, together.cam_from_map.data)
    # The same, said to be a camera that sits where the first one does.
    posed = align_rig(sights_of(rig[:1], [Pose.identity()]), start, AlignerConfig())
    torch.testing.assert_close(posed.cam_from_map.data, alone.cam_from_map.data)
    torch.testing.assert_close(posed.covariance.matrix, alone.covariance.matrix)


@pytest.mark.parametrize("motion_px", [5, 20, 60])
def test_a_rig_recovers_its_pose(rig: list[Scene], sights: list[Sight], motion_px: float) -> None:
    result = align_rig(sights, perturb(rig[0], motion_px, 1), AlignerConfig())
    assert rig[0].motion_px(result.cam_from_map)[0] < 0.2
    assert rig[1].motion_px(SECOND_FROM_FIRST @ result.cam_from_map)[0] < 0.2
    assert bool(result.covariance.determined)


def test_a_second_camera_makes_the_pose_surer(rig: list[Scene], sights: list[Sight]) -> None:
    start = perturb(rig[0], 5.0, 1)
    one = align_rig(sights[:1], start, AlignerConfig()).covariance.matrix
    two = align_rig(sights, start, AlignerConfig()).covariance.matrix
    # Of every degree of freedom; along some mixed direction the cells may say otherwise by chance.
    assert bool((two.diagonal() < one.diagonal()).all())


def test_two_cameras_that_cannot_tell_alone_can_tell_together(rig: list[Scene]) -> None:
    """Eight points each: no camera has enough of them, both together do."""
    few = [some_points(scene, slice(0, 8)) for scene in rig]
    sights = sights_of(few, [None, SECOND_FROM_FIRST])
    start = perturb(rig[0], 4.0, 1)
    for camera in (0, 1):
        alone = align_rig(sights[camera : camera + 1], start, AlignerConfig())
        assert not LmStatus(alone.status[0].item()).has_pose
        assert alone.level.tolist() == [-1]
    result = align_rig(sights, start, AlignerConfig())
    assert rig[0].motion_px(result.cam_from_map)[0] < 1.0
    assert bool(result.covariance.determined)


def test_what_one_camera_leaves_open_the_other_determines(rig: list[Scene]) -> None:
    """Points on a line leave the turn about it open; two lines leave nothing open."""
    lines = [_on_a_line(scene) for scene in rig]
    sights = sights_of(lines, [None, SECOND_FROM_FIRST])
    start = perturb(rig[0], 2.0, 1)
    for camera in (0, 1):
        alone = align_rig(sights[camera : camera + 1], start, AlignerConfig())
        assert not bool(alone.covariance.determined)
    result = align_rig(sights, start, AlignerConfig())
    assert bool(result.covariance.determined)
    assert rig[0].motion_px(result.cam_from_map)[0] < 0.3


def _on_a_line(scene: Scene) -> Scene:
    first, second = scene.points.points_map[0], scene.points.points_map[1]
    along = torch.linspace(0.1, 0.9, 100).double()[:, None]
    points_map = first + along * (second - first)
    level = scene.pyramid[0]
    px = level.camera.world2image(scene.cam_from_map * points_map)[0]
    seen = sample(level.features, px)
    points = PointFeatures(points_map, (seen,), (torch.ones(100),), torch.arange(100))
    return replace(scene, pyramid=FeaturePyramid((level,)), points=points)


def test_a_camera_that_sees_nothing_of_the_map_adds_nothing(rig: list[Scene]) -> None:
    blind = some_points(rig[1], slice(0, 0))
    sights = sights_of([rig[0], blind], [None, SECOND_FROM_FIRST])
    start = perturb(rig[0], 20.0, 2)
    result = align_rig(sights, start, AlignerConfig())
    alone = align_rig(sights[:1], start, AlignerConfig())
    torch.testing.assert_close(result.cam_from_map.data, alone.cam_from_map.data)
    torch.testing.assert_close(result.covariance.matrix, alone.covariance.matrix)


def test_the_order_of_the_other_cameras_does_not_matter(rig: list[Scene]) -> None:
    third_from_first = Pose.exp(torch.tensor([-0.4, 0.1, 0.0, 0.1, -0.9, 0.0]).double())
    third = moved(make_scene(3, noise=0.05), third_from_first @ rig[0].cam_from_map)
    sights = sights_of([*rig, third], [None, SECOND_FROM_FIRST, third_from_first])
    start = perturb(rig[0], 20.0, 3)
    one_way = align_rig(sights, start, AlignerConfig())
    other_way = align_rig([sights[0], sights[2], sights[1]], start, AlignerConfig())
    torch.testing.assert_close(
        one_way.cam_from_map.data, other_way.cam_from_map.data, rtol=0, atol=1e-6
    )


def test_many_poses_share_the_points_of_all_cameras(rig: list[Scene], sights: list[Sight]) -> None:
    config = AlignerConfig(keep=(8,), max_rows=8 * 200)
    result = align_rig(sights, perturb(rig[0], 10.0, 8), config)
    assert (result.num_valid <= 200).all()
    assert (rig[0].motion_px(result.cam_from_map) < 0.3).all()


def test_all_hypotheses_of_the_last_level_are_there_to_be_shown(rig: list[Scene]) -> None:
    starts = perturb(rig[0], 150.0, 6, seed=3)
    result = align(rig[0].pyramid, rig[0].points, starts, AlignerConfig(keep=(1, 4)))
    assert len(result.cam_from_map) == 1
    assert 1 < len(result.candidates) <= 4
    torch.testing.assert_close(result.candidates[0].data, result.cam_from_map[0].data)


def test_points_that_do_not_fit_the_pyramid_are_a_shape_error(rig: list[Scene]) -> None:
    short = replace(rig[0].points, descriptors=rig[0].points.descriptors[:2])
    with pytest.raises(ShapeError, match="descriptors for 2 levels, expected 3"):
        Sight(rig[0].pyramid, short)

"""Coarse-to-fine alignment of images to map points, from one or many initial poses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from pixloc_core.alignment.aligner_config import AlignerConfig, at_level
from pixloc_core.alignment.cost import FeatureMetricCost, PointResiduals
from pixloc_core.alignment.rig_cost import RigCost, Sight, rig_cost
from pixloc_core.alignment.uncertainty import (
    CELLS,
    PoseCovariance,
    energy_curvature,
    image_cells,
    pose_covariance,
)
from pixloc_core.errors import ConfigError, ShapeError
from pixloc_core.features.pyramid import FeaturePyramid
from pixloc_core.features.reference import PointFeatures
from pixloc_core.geometry import Pose
from pixloc_core.optim.damping import Damping
from pixloc_core.optim.levenberg_marquardt import LmResult, LmStatus, optimize
from pixloc_core.optim.normal_equations import NormalEquations, quadratic_form
from pixloc_core.optim.trace import Trace
from pixloc_core.shapes import Bool, Float, Int, Tensor

# Two hypotheses are one if they differ by less than this mean motion of the points, in pixels of
# the level: the better one stays.
SAME_POSE_PX = 0.5

# Two runs that end in the same minimum differ by less than this part of their cost.
SAME_COST = 1e-3

# Not even very many hypotheses are compared by fewer points.
FEWEST_POINTS = 128


@dataclass(frozen=True)
class AlignmentResult:
    """The hypotheses that were followed to the finest level, best first.

    Attributes:
        cam_from_map: Their poses, R orthonormal.
        hypothesis: Index of each among the initial poses.
        status: `LmStatus` of the finest level that gave a pose, else of the last level.
        level: Pyramid level that the pose comes from; -1 if it is still the initial one.
        equations: System at the pose at that level, undamped.
        cost_per_level: Mean robust cost at the end of each level, coarse to fine; NaN where
            the level failed.
        pose_per_level: Poses at the end of each level, coarse to fine; where a level failed, the
            pose that it began with.
        candidates: Poses `(c)` of all hypotheses that reached the last level, best first, before
            the last ones were dropped.
        num_iterations: Steps tried, all levels together.
        points_level: Pyramid level of `points`.
        points: How the points fit at the best pose, camera after camera.
        covariance: Of the best pose.
    """

    cam_from_map: Pose
    hypothesis: Int[Tensor, " k"]
    status: Int[Tensor, " k"]
    level: Int[Tensor, " k"]
    equations: NormalEquations
    cost_per_level: Float[Tensor, "k l"]
    pose_per_level: tuple[Pose, ...]
    candidates: Pose
    num_iterations: Int[Tensor, " k"]
    points_level: int
    points: PointResiduals
    covariance: PoseCovariance

    @property
    def cost(self) -> Float[Tensor, " k"]:
        """Mean robust cost at the end."""
        return self.equations.cost

    @property
    def num_valid(self) -> Int[Tensor, " k"]:
        """Points in the image at the end."""
        return self.equations.num_valid

    @property
    def H(self) -> Float[Tensor, "k 6 6"]:
        """Gauss-Newton matrices at the end."""
        return self.equations.H


class _Followed(NamedTuple):
    """What goes from level to level, per hypothesis."""

    pose: Pose
    equations: NormalEquations
    hypothesis: Int[Tensor, " k"]
    status: Int[Tensor, " k"]
    level: Int[Tensor, " k"]
    num_iterations: Int[Tensor, " k"]
    cost_per_level: tuple[Float[Tensor, " k"], ...]
    pose_per_level: tuple[Pose, ...]

    def select(self, index: Int[Tensor, " s"]) -> "_Followed":
        """Some of the hypotheses, in the order given."""
        return _Followed(
            self.pose[index],
            NormalEquations(*(part[index] for part in self.equations)),
            self.hypothesis[index],
            self.status[index],
            self.level[index],
            self.num_iterations[index],
            tuple(cost[index] for cost in self.cost_per_level),
            tuple(pose[index] for pose in self.pose_per_level),
        )


def align(
    pyramid: FeaturePyramid,
    points: PointFeatures,
    cam_from_map: Pose,
    config: AlignerConfig,
    *,
    damping: Sequence[Damping] | None = None,
    trace: Trace | None = None,
) -> AlignmentResult:
    """Find the poses from which one camera sees the points as the map remembers them.

    Args:
        pyramid: Features of the query; also of a batch of queries (training), then with a batch
            of points and one pose each: nothing is dropped or sorted, and each level takes the
            pose of the one before it as given, without its gradient.
        points: Map points and their descriptors, with the levels of the pyramid.
        cam_from_map: Initial poses `(k)`, float64.
        config: All settings.
        damping: See `align_rig`.
        trace: See `align_rig`.

    Raises:
        ShapeError: If points and pyramid do not fit each other, or poses are not a vector.
        ConfigError: If the config names levels that the pyramid does not have.
    """
    sights = (Sight(pyramid, points),)
    return align_rig(sights, cam_from_map, config, damping=damping, trace=trace)


def align_rig(
    sights: Sequence[Sight],
    cam_from_map: Pose,
    config: AlignerConfig,
    *,
    damping: Sequence[Damping] | None = None,
    trace: Trace | None = None,
) -> AlignmentResult:
    """Find the poses from which all cameras of a rig see their points as the map remembers them.

    Every hypothesis is optimized at every level from coarse to fine; after each level only the
    best ones are followed on. A level that fails for a hypothesis leaves its pose as it was; one
    that leads it astray is overtaken by its initial pose, which starts again at the next level.

    Args:
        sights: What each camera is aligned by, with the same levels; at least one.
        cam_from_map: Initial poses `(k)` of the first camera, float64.
        config: All settings; numbers of points are per camera.
        damping: Damping policies, one per pyramid level, in place of that of the config.
        trace: Records all iterations, labelled by the stride of the level.

    Raises:
        ShapeError: If poses are not a vector.
        ConfigError: If the config names levels that the pyramids do not have.
    """
    pyramid = sights[0].pyramid
    levels = _levels(pyramid, cam_from_map, config)
    is_batch = pyramid[0].features.ndim > 3
    followed: _Followed | None = None
    for level in levels:
        again = config.restart and not is_batch and level not in (levels[0], levels[-1])
        if followed is not None and again:
            followed = _with_starts(followed, cam_from_map)
        poses = cam_from_map if followed is None else followed.pose
        poses = poses.detach() if is_batch else poses
        some = None if is_batch else len(poses)
        if trace is not None:
            trace.label = f"stride {pyramid[level].stride}"
        result = optimize(
            level_cost(sights, config, level, some),
            poses,
            config.damping if damping is None else damping[level],
            config.optimizer,
            max_iterations=at_level(config.max_iterations, level),
            trace=trace,
        )
        followed = _merge(followed, cam_from_map, result, level)
        if again:
            followed = _better_half(followed, level)
        if not is_batch:
            followed = _best_first(followed, level)
            candidates = followed.pose
            followed = _prune(followed, at_level(config.keep, level))
    assert followed is not None
    return _finish(followed, sights, config, candidates=None if is_batch else candidates)


def _levels(pyramid: FeaturePyramid, poses: Pose, config: AlignerConfig) -> list[int]:
    if poses.ndim != 1 or len(poses) == 0:
        raise ShapeError(f"initial poses have shape {tuple(poses.shape)}, expected (k,), k > 0")
    levels = sorted(set(config.levels) or range(len(pyramid)), reverse=True)
    if levels[0] >= len(pyramid):
        raise ConfigError(
            f"AlignerConfig.levels is {config.levels!r}, expected levels below {len(pyramid)}"
        )
    return levels


def level_cost(
    sights: Sequence[Sight], config: AlignerConfig, level: int, num_poses: int | None = None
) -> FeatureMetricCost | RigCost:
    """Cost of a rig at a level.

    Args:
        sights: The cameras.
        config: All settings.
        level: Pyramid level.
        num_poses: How many poses will be tried together, which says how many of the points are
            used, the most useful ones; None: all of them.
    """
    counts = [len(sight.points) for sight in sights]
    every = 1
    if num_poses is not None:
        counts = [min(count, at_level(config.num_points, level)) for count in counts]
        # Of many poses every m-th point.
        wanted = math.ceil(num_poses * sum(counts) / config.max_rows)
        every = max(1, min(wanted, sum(counts) // FEWEST_POINTS))
    costs = []
    for sight, count in zip(sights, counts, strict=True):
        some, points = slice(0, count, every), sight.points
        cost = FeatureMetricCost(
            sight.pyramid[level],
            points.points_map[..., some, :],
            points.descriptors[level][..., some, :],
            points.confidences[level][..., some],
            config.level_loss(level),
            config.level_cost(level),
        )
        costs.append(cost)
    return rig_cost(costs, sights)


def _merge(before: _Followed | None, initial: Pose, result: LmResult, level: int) -> _Followed:
    """Take over the result where it is one, otherwise keep what the coarser levels found."""
    has_pose = (result.status == LmStatus.CONVERGED) | (result.status == LmStatus.MAX_ITERATIONS)
    new_cost = torch.where(has_pose, result.equations.cost, torch.nan)
    new_level = torch.where(has_pose, level, -1)
    if before is None:
        pose = Pose(torch.where(has_pose[..., None], result.pose.data, initial.data))
        every = torch.arange(len(initial), device=initial.device)
        iterations = result.num_iterations
        return _Followed(
            pose,
            result.equations,
            every,
            result.status,
            new_level,
            iterations,
            (new_cost,),
            (pose,),
        )
    replace = has_pose | (before.level < 0)
    pose = Pose(torch.where(has_pose[..., None], result.pose.data, before.pose.data))
    return _Followed(
        pose,
        result.equations.where(replace, before.equations),
        before.hypothesis,
        torch.where(replace, result.status, before.status),
        torch.where(has_pose, level, before.level),
        before.num_iterations + result.num_iterations,
        (*before.cost_per_level, new_cost),
        (*before.pose_per_level, pose),
    )


def _with_starts(followed: _Followed, initial: Pose) -> _Followed:
    """Twice the hypotheses: where they came to, and where each began."""
    each = torch.arange(len(followed.hypothesis), device=initial.device)
    twice = followed.select(torch.cat([each, each]))
    again = torch.cat([each < 0, each >= 0])
    starts = torch.cat([followed.pose.data, initial[followed.hypothesis].data])
    return twice._replace(
        pose=Pose(starts),
        level=torch.where(again, -1, twice.level),
        num_iterations=torch.where(again, 0, twice.num_iterations),
        cost_per_level=tuple(torch.where(again, torch.nan, c) for c in twice.cost_per_level),
    )


def _better_half(followed: _Followed, level: int) -> _Followed:
    """Of each hypothesis that ran twice, the run of lower cost; the first if they are alike."""
    half = len(followed.hypothesis) // 2
    cost = torch.where(followed.level == level, followed.equations.cost, torch.inf)
    again = cost[half:] < (1 - SAME_COST) * cost[:half]
    return followed.select(torch.arange(half, device=cost.device) + half * again)


def _best_first(followed: _Followed, level: int) -> _Followed:
    """The hypotheses by cost; those that failed at this level last."""
    cost = torch.where(followed.level == level, followed.equations.cost, torch.inf)
    return followed.select(cost.sort(stable=True).indices)


def _prune(followed: _Followed, keep: int) -> _Followed:
    """The first of hypotheses in order; doubles of better ones go first."""
    if len(followed.hypothesis) <= keep:
        return followed
    return followed.select(_doubles(followed).sort(stable=True).indices[:keep])


def _doubles(followed: _Followed) -> Bool[Tensor, " k"]:
    """Which hypotheses, sorted by cost, stand where a better one does (eq. 5.8)."""
    pose = followed.pose
    increment = (pose.unsqueeze(0) @ pose.inv().unsqueeze(1)).log()
    motion = quadratic_form(followed.equations.motion[:, None], increment)
    worse = torch.ones_like(motion, dtype=torch.bool).triu(diagonal=1)
    # Of a pose that sees nothing no motion is known.
    known = followed.equations.num_valid[:, None] > 0
    return ((motion < SAME_POSE_PX**2) & worse & known).any(0)


def _finish(
    followed: _Followed, sights: Sequence[Sight], config: AlignerConfig, candidates: Pose | None
) -> AlignmentResult:
    """The result; candidates are None of a training batch."""
    is_batch = candidates is None
    best = slice(None) if is_batch else 0
    finest = min(config.levels, default=0)
    level = finest if is_batch else max(int(followed.level[0]), finest)
    pose = followed.pose if followed.pose.requires_grad else followed.pose.normalized()
    # Of a training batch the evidence is looked at only: it needs no gradient.
    with torch.set_grad_enabled(torch.is_grad_enabled() and not is_batch):
        cost = level_cost(sights, config, level)
        residuals = cost.points(pose[best])
        cells = _cells(sights, residuals.points_px, level)
        here = cost.linearize(pose[best])
        curvature = None if is_batch else energy_curvature(cost, pose[0], here)
        covariance = pose_covariance(here.H, residuals.scores, cells, curvature)
    return AlignmentResult(
        cam_from_map=pose,
        hypothesis=followed.hypothesis,
        status=followed.status,
        level=followed.level,
        equations=followed.equations,
        cost_per_level=torch.stack(followed.cost_per_level, -1),
        pose_per_level=followed.pose_per_level,
        candidates=pose if candidates is None else candidates.normalized(),
        num_iterations=followed.num_iterations,
        points_level=level,
        points=residuals,
        covariance=covariance,
    )


def _cells(
    sights: Sequence[Sight], points_px: Float[Tensor, "*b n 2"], level: int
) -> Int[Tensor, "*b n"]:
    """Cells of the points of all cameras; no two cameras share one."""
    counts = [sight.points.points_map.shape[-2] for sight in sights]
    parts = torch.split(points_px, counts, dim=-2)
    sizes = [sight.pyramid[level].camera.size.to(points_px) for sight in sights]
    cells = [
        index * CELLS**2 + image_cells(part, size)
        for index, (part, size) in enumerate(zip(parts, sizes, strict=True))
    ]
    return torch.cat(cells, -1)

"""Evidence for a pose that does not come from the cost that it minimizes.

How well each of it tells right poses from wrong ones, and where to draw the line: docs/checks.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pixloc_core.alignment.aligner_config import AlignerConfig
from pixloc_core.alignment.coarse_to_fine import AlignmentResult, level_cost
from pixloc_core.alignment.rig_cost import Sight
from pixloc_core.config import check, setting
from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.result import Checks
from pixloc_core.localizer.verification import VerificationConfig, count_agreeing, find_evidence
from pixloc_core.optim.levenberg_marquardt import LmStatus, optimize
from pixloc_core.optim.normal_equations import quadratic_form
from pixloc_core.shapes import Bool, Float, Tensor

# The same disturbances for every query: an answer depends on nothing but its input.
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """What is looked at beside the cost; distances in pixels of the image fed to the features."""

    heldout_every: int = setting(
        8, doc="Every so many points one is kept out of the alignment; 0: none.", ge=0
    )
    min_heldout: int = setting(
        20, doc="Held-out points of a camera that say something; no fewer are held out.", ge=1
    )
    restarts: int = setting(4, doc="Disturbed poses that are refined anew; 0: none.", ge=0, le=32)
    restart_px: float = setting(
        12.0, doc="Mean motion of the points by a disturbance.", unit="px", ge=0.5
    )
    return_px: float = setting(
        3.0, doc="Mean motion of the points below which a disturbed pose came back.", unit="px",
        ge=0.1,
    )  # fmt: skip
    restart_level: int = setting(
        1, doc="Pyramid level at which disturbed poses are refined, 0 = finest.", ge=0
    )
    restart_points: int = setting(
        256, doc="Points of all cameras together by which they are refined.", ge=10
    )
    restart_iterations: int = setting(10, doc="Steps to come back in.", ge=1)
    confidence: float = setting(
        0.5, doc="Confidence of a pixel that the features rely on.", ge=0.0, le=1.0
    )

    def __post_init__(self) -> None:
        check(self)

    def kept_points(self, count: int) -> Bool[Tensor, " n"]:
        """Which of so many points of a camera are used in the alignment."""
        every = self.heldout_every
        if every == 0 or count // every < self.min_heldout:
            return torch.ones(count, dtype=torch.bool)
        return torch.arange(count) % every != every - 1


def find_checks(
    sights: Sequence[Sight],
    heldout: Sequence[Sight],
    cameras: Sequence[Camera],
    result: AlignmentResult,
    configs: tuple[CheckConfig, VerificationConfig, AlignerConfig],
) -> Checks:
    """Look at the best pose of an alignment from other sides.

    Args:
        sights: What it was aligned by.
        heldout: The same cameras with points that it was not aligned by.
        cameras: The cameras in pixels of the images given.
        result: The alignment, of which the best hypothesis has a pose.
        configs: Settings of the checks, of when a point agrees, and of the alignment.
    """
    config, _, aligner = configs
    agreement, spread_px = _restart(sights, cameras[0], result.cam_from_map[:1], config, aligner)
    return Checks(
        heldout_score=_heldout_score(heldout, cameras, result, configs),
        restart_agreement=agreement,
        restart_spread_px=spread_px,
        level_spread_px=_level_spread_px(sights[0], cameras[0], result),
        confident_share=_confident_share(sights, config.confidence),
    )


def _heldout_score(
    heldout: Sequence[Sight],
    cameras: Sequence[Camera],
    result: AlignmentResult,
    configs: tuple[CheckConfig, VerificationConfig, AlignerConfig],
) -> float:
    config, limits, aligner = configs
    pose = result.cam_from_map[0]
    evidence = [
        find_evidence(sight, camera, pose, (limits, aligner))
        for sight, camera in zip(heldout, cameras, strict=True)
        if len(sight.points)
    ]
    num_points, num_agreeing = count_agreeing(evidence, limits)
    return num_agreeing / num_points if num_points >= config.min_heldout else math.nan


def _restart(
    sights: Sequence[Sight],
    camera: Camera,
    pose: Pose,
    config: CheckConfig,
    aligner: AlignerConfig,
) -> tuple[float, float]:
    """Share of disturbed poses (batch shape (1,)) that come back, and how far they end from it."""
    level = min(config.restart_level, len(sights[0].pyramid) - 1)
    some = slice(0, math.ceil(config.restart_points / len(sights)))
    few = [Sight(one.pyramid, one.points.select(some), one.cam_from_first) for one in sights]
    cost = level_cost(few, aligner, level)
    here = cost.linearize(pose)
    enough = int(here.num_valid) >= aligner.optimizer.min_points
    if not config.restarts or not enough:
        return math.nan, math.nan
    stride = sights[0].pyramid[level].stride
    away = _disturbances(sights[0], pose, config.restarts)
    length = quadratic_form(here.motion, away).clamp(min=1e-30).sqrt() * stride
    starts = pose.retract(away * (config.restart_px / length)[:, None])
    # The pose itself is refined alike: at this level, by these points, it ends elsewhere.
    poses = Pose(torch.cat((pose.data, starts.data)))
    end = optimize(
        cost,
        poses,
        aligner.damping,
        aligner.optimizer,
        max_iterations=config.restart_iterations,
    )
    found = (end.status == LmStatus.CONVERGED) | (end.status == LmStatus.MAX_ITERATIONS)
    increments = (end.pose[1:] @ end.pose[:1].inv()).log()
    cells = quadratic_form(end.equations.motion[:1], increments).clamp(min=0).sqrt()
    cells = torch.where(found[1:] & found[:1], cells, torch.inf)
    agreement = (cells * stride < config.return_px).double().mean()
    return float(agreement), float(cells.median()) * _image_px(sights[0], camera, level)


def _disturbances(sight: Sight, pose: Pose, count: int) -> Float[Tensor, "k 6"]:
    """Directions to move the camera in, in opposite pairs; of any length.

    A translation by the distance of the points counts as much as a turn by a radian.
    """
    generator = torch.Generator().manual_seed(_SEED)
    half = torch.randn((count + 1) // 2, 6, generator=generator, dtype=torch.float64)
    points_cam = sight.cam_from_map(pose[0]) * sight.points.points_map
    distance = float(points_cam.norm(dim=-1).median())
    pairs = torch.stack((half, -half), 1).reshape(-1, 6)[:count]
    scale = torch.tensor([distance] * 3 + [1.0] * 3, dtype=torch.float64)
    return (pairs * scale).to(pose.data)


def _level_spread_px(sight: Sight, camera: Camera, result: AlignmentResult) -> float:
    """Mean motion of the points from the last level but one to the last one."""
    if len(result.pose_per_level) < 2 or bool(result.cost_per_level[0, -2:].isnan().any()):
        return math.nan
    before, after = (poses[0] for poses in result.pose_per_level[-2:])
    moved = quadratic_form(result.equations.motion[0], (after @ before.inv()).log())
    level = int(result.level[0])
    return float(moved.clamp(min=0).sqrt()) * _image_px(sight, camera, level)


def _image_px(sight: Sight, camera: Camera, level: int) -> float:
    """Pixels of the image per cell of a level."""
    cells = sight.pyramid[level].camera.f.double().cpu()
    return float((camera.f.double().cpu() / cells).mean())


def _confident_share(sights: Sequence[Sight], limit: float) -> float:
    finest = [sight.pyramid[0] for sight in sights]
    # Masked pixels have no features.
    usable = [~level.features[..., 0].isnan() for level in finest]
    sure = sum(int((level.confidence > limit).sum()) for level in finest)
    return sure / max(1, sum(int(one.sum()) for one in usable))

"""Initial poses of training pairs: how far from the truth the alignment has to start."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pixloc_core.config import check, setting
from pixloc_core.errors import ConfigError
from pixloc_core.geometry import Pose
from pixloc_core.shapes import Bool, Float, Tensor
from pixloc_core.training.pairs import PairBatch, generator_for

_BISECTION_STEPS = 24
# Scale of the increment that bisection begins with, in radians or depths of the scene.
_LARGEST = math.pi / 2


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """Where the alignment of a training pair begins."""

    kind: str = setting(
        "displacement",
        doc="'displacement': the true pose moved until the points lie a random distance away; "
        "'reference': the pose of the reference view; 'between': on the way from there.",
        choices=("displacement", "reference", "between"),
    )
    smallest: float = setting(
        0.005, doc="Smallest median displacement, as a share of the image width.", ge=1e-5
    )
    largest: float = setting(
        0.2, doc="Largest median displacement, as a share of the image width.", ge=1e-5
    )
    ramp_pairs: int = setting(
        0,
        doc="Pairs over which the largest displacement grows from the smallest one to its value.",
        ge=0,
    )
    between: tuple[float, float] = setting(
        (0.75, 1.0), doc="Range of the share of the way, 0 = reference, 1 = truth.", ge=0.0, le=1.0
    )

    def __post_init__(self) -> None:
        check(self)
        if self.smallest > self.largest:
            raise ConfigError(
                f"StartConfig.smallest is {self.smallest}, expected at most largest, "
                f"which is {self.largest}"
            )


def draw_starts(
    batch: PairBatch, indices: Sequence[int], config: StartConfig, *, seed: int
) -> Pose:
    """Initial `query_from_ref` of each pair; those of an index are always the same.

    Args:
        batch: The pairs.
        indices: Index of each.
        config: How to draw.
        seed: Seed of the run.
    """
    truth = batch.query_from_ref
    if config.kind == "reference":
        return Pose.identity(len(batch), device=truth.device)
    generators = [generator_for(seed, index, "start") for index in indices]
    if config.kind == "between":
        low, high = config.between
        share = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in generators])
        share = low + (high - low) * share
        # Rotation vector and translation are shortened separately, as PixLoc does.
        return Pose.exp(truth.log() * share[:, None].to(truth.device))
    numbers = torch.stack([torch.randn(7, generator=g, dtype=torch.float64) for g in generators])
    uniform = torch.special.ndtr(numbers[:, 6])
    ramp = torch.tensor([min(1.0, (i + 1) / max(config.ramp_pairs, 1)) for i in indices])
    reach = math.log(config.largest / config.smallest) * ramp.double()
    share = config.smallest * torch.exp(reach * uniform)
    direction = _directions(numbers[:, :6], batch).to(truth.device)
    width = batch.query.image.shape[-1]
    return _displaced(batch, direction, (share * width).to(truth.device))


def _directions(numbers: Float[Tensor, "b 6"], batch: PairBatch) -> Float[Tensor, "b 6"]:
    """Increments of length about one, in radians and in depths of the scene."""
    points = batch.query_from_ref * batch.points_ref
    depth = torch.where(batch.is_point, points[..., 2], torch.nan).nanmedian(-1).values
    depth = depth.nan_to_num(1.0).clamp(min=1e-3).cpu()
    # Motion along the axis moves the middle of the image least, and turns about it likewise.
    direction = numbers / numbers.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    return torch.cat((direction[:, :3] * depth[:, None], direction[:, 3:]), -1)


def _displaced(
    batch: PairBatch, direction: Float[Tensor, "b 6"], target_px: Float[Tensor, " b"]
) -> Pose:
    """The true pose moved along a direction until the median displacement is that wanted."""
    camera, truth = batch.query.camera, batch.query_from_ref
    true_px, seen = camera.world2image(truth * batch.points_ref)
    seen = seen & batch.is_point
    low = torch.zeros_like(target_px)
    high = torch.full_like(target_px, _LARGEST)
    for _ in range(_BISECTION_STEPS):
        middle = (low + high) / 2
        pose = truth.retract(direction * middle[:, None])
        too_far = _median_displacement(batch, pose, true_px, seen) > target_px
        high = torch.where(too_far, middle, high)
        low = torch.where(too_far, low, middle)
    return truth.retract(direction * low[:, None])


def _median_displacement(
    batch: PairBatch, pose: Pose, true_px: Float[Tensor, "b n 2"], seen: Bool[Tensor, "b n"]
) -> Float[Tensor, " b"]:
    """Median over the points; a point behind the camera has gone infinitely far."""
    points = pose * batch.points_ref
    points_px, _ = batch.query.camera.world2image(points)
    distance = (points_px - true_px).norm(dim=-1)
    distance = torch.where(points[..., 2] > 0, distance, torch.inf)
    # Of a pair without points nothing is known: it stays at the truth.
    median = torch.where(seen, distance, torch.nan).nanmedian(-1).values
    return median.nan_to_num(torch.inf, posinf=torch.inf)

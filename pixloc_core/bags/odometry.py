"""Odometry as a wheeled robot would report it: the true motion, slowly going astray."""

from dataclasses import dataclass

import numpy as np
import torch

from pixloc_core.bags.trajectory import NANOSECONDS, Stamps, Trajectory
from pixloc_core.config import check, setting
from pixloc_core.geometry import Pose


@dataclass(frozen=True, kw_only=True)
class OdometryConfig:
    """How far the odometry of a bag strays, and how often it is published."""

    drift: float = setting(
        0.02,
        doc="Error of each step as a share of the distance and of the angle moved.",
        ge=0,
        le=1,
    )
    heading_drift_deg: float = setting(
        0.2, doc="Rotation error per metre travelled.", unit="deg", ge=0
    )
    rate_hz: float = setting(50.0, doc="Transforms per second.", unit="Hz", ge=0.1, le=1000)
    seed: int = setting(0, doc="Seed of the errors.", ge=0)

    def __post_init__(self) -> None:
        check(self)


def simulate_odometry(truth: Trajectory, config: OdometryConfig) -> Trajectory:
    """Integrate the true motion with errors proportional to it.

    Half of the error is systematic (one scale error and one turn rate for the whole run, as of a
    wrong wheel radius), half is random from step to step. The odometry frame starts at the first
    pose, as that of a robot does that has just been switched on.

    Args:
        truth: `map_from_base`.
        config: Size of the errors.

    Returns:
        `odom_from_base` at `rate_hz`, from the first stamp to one period after the last.
    """
    stamps = _regular_stamps(truth, config.rate_hz)
    map_from_base, _ = truth.at(stamps)
    step = map_from_base[:-1].inv() @ map_from_base[1:]
    noisy = step @ Pose.exp(_step_errors(step, config))
    poses = [Pose.identity(dtype=torch.float64)]
    for index in range(len(stamps) - 1):
        poses.append((poses[-1] @ noisy[index]).normalized())
    return Trajectory(stamps, Pose(torch.stack([pose.data for pose in poses])))


def _regular_stamps(truth: Trajectory, rate_hz: float) -> Stamps:
    period = round(NANOSECONDS / rate_hz)
    first, last = int(truth.stamps_ns[0]), int(truth.stamps_ns[-1])
    return np.arange(first, last + 2 * period, period, dtype=np.int64)


def _step_errors(step: Pose, config: OdometryConfig) -> torch.Tensor:
    """Tangent errors (n, 6) in the order (v, w) for steps (n,)."""
    generator = torch.Generator().manual_seed(config.seed)
    count = step.shape[0]

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    distance = step.t.norm(dim=-1, keepdim=True)
    angle = torch.deg2rad(step.magnitude()[0])[:, None]
    direction = 0.5 * (draw(1, 6).sign() + draw(count, 6))
    along = config.drift * distance * direction[:, :3]
    turn = config.drift * angle + np.deg2rad(config.heading_drift_deg) * distance
    return torch.cat([along, turn * direction[:, 3:]], dim=-1)

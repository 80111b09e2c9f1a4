"""A robot in the small synthetic room: feature map and bag for tests of the whole node."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from toy_world import ToyWorld

from pixloc_core.bags.odometry import OdometryConfig, simulate_odometry
from pixloc_core.bags.sequence import base_from_camera
from pixloc_core.bags.trajectory import Trajectory
from pixloc_core.bags.writer import CameraFrame, Recording, write_bag
from pixloc_core.evaluation.assembly import open_or_build_map
from pixloc_core.features.extractor import ExtractorConfig, create_extractor
from pixloc_core.geometry import Pose

IMAGE_RATE_HZ = 5
START_NS = 100_000_000_000


@dataclass(frozen=True)
class ToyDrive:
    """Where everything lies, and the truth."""

    bag: Path
    map_path: Path
    sfm: Path
    images: Path
    map_from_base: Trajectory


def make_drive(folder: Path, seconds: float) -> ToyDrive:
    """A slow drive sideways past the boxes, with odometry that drifts by 5 %."""
    world = ToyWorld()
    sfm, images = world.write(folder)
    count = round(seconds * IMAGE_RATE_HZ)
    stamps = START_NS + np.arange(count) * (1_000_000_000 // IMAGE_RATE_HZ)
    shares = torch.linspace(0, 1, count, dtype=torch.float64)[:, None]
    first, last = world.cam_from_map[1], world.cam_from_map[4]
    path = Pose.exp(shares * (last @ first.inv()).log()) @ first
    frames = tuple(
        CameraFrame(int(stamp), world.render(path[index])[0], world.camera)
        for index, stamp in enumerate(stamps)
    )
    truth = Trajectory(stamps, path.inv() @ base_from_camera().inv())
    odometry = simulate_odometry(truth, OdometryConfig(drift=0.05))
    write_bag(folder / "bag", Recording(frames, truth, odometry, base_from_camera()))
    extractor = create_extractor(ExtractorConfig(kind="gradients"))
    open_or_build_map(folder / "map.h5", sfm, images, extractor)
    return ToyDrive(folder / "bag", folder / "map.h5", sfm, images, truth)

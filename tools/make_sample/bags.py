"""The two recorded drives as rosbag2 folders, with wheel odometry that drifts.

Runs in the environment of the project itself (`pixloc_core`), without Mitsuba.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
import yaml

from pixloc_core.bags.trajectory import NANOSECONDS, Trajectory
from pixloc_core.bags.writer import CameraFrame, Recording, write_bag
from pixloc_core.geometry import Camera, Pose
from tools.make_sample import paths
from tools.make_sample.cameras import STREAM_LENS, Array, Lens
from tools.make_sample.frames import stream_series

ODOMETRY_RATE_HZ = 50.0
_SCALE_ERROR = 0.02
_YAW_ERROR_DEG_PER_M = 0.8
_JITTER = 0.02
_START = {"day": (12.4, -7.3, 140.0), "evening": (-3.1, 5.8, -70.0)}
_PRIOR_OFFSET = {"day": (0.20, -0.15, 5.0), "evening": (-0.18, 0.17, -5.0)}


def make(work: Path, out: Path) -> None:
    """Write `out`/<drive>: metadata, MCAP and the first guess of the robot's pose."""
    for drive in paths.DRIVES.values():
        shots = stream_series(work, drive).shots
        files = [shot.path for shot in shots if shot.path.exists()]
        if len(files) > 1:
            folder = out / drive.name
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            write_bag(folder, _recording(drive, files))
            _write_prior(folder / "initial_pose.yaml", drive)


def _recording(drive: paths.Drive, files: list[Path]) -> Recording:
    camera, stamps = _camera(STREAM_LENS), _nanoseconds(drive, drive.stamps())
    frames = [CameraFrame(int(stamps[int(path.stem)]), path, camera) for path in files]
    seen = drive.stamps()[: len(files)]
    times = np.arange(0.0, float(seen[-1]) + 0.5, 1.0 / ODOMETRY_RATE_HZ)
    truth = Trajectory(_nanoseconds(drive, seen), _stacked([drive.map_from_base(t) for t in seen]))
    odometry = Trajectory(_nanoseconds(drive, times), _stacked(_odometry(drive, times)))
    mount = Pose.from_4x4(torch.from_numpy(paths.base_from_cam()))
    return Recording(tuple(frames), truth, odometry, mount)


def _odometry(drive: paths.Drive, times: Array) -> list[Array]:
    """odom_from_base: true steps with scale and yaw errors that vary slowly, and some jitter."""
    rng = np.random.default_rng(drive.start_s)
    x, y, yaw = _START[drive.name]
    poses = [paths.rigid(paths.rotation(yaw), np.array([x, y, 0.0]))]
    truth = [drive.map_from_base(float(t)) for t in times]
    scale = _SCALE_ERROR * _slow(rng, len(times))
    bend = _YAW_ERROR_DEG_PER_M * _slow(rng, len(times))
    for i in range(len(times) - 1):
        step = np.linalg.inv(truth[i]) @ truth[i + 1]
        length = float(np.linalg.norm(step[:2, 3]))
        step[:2, 3] *= 1.0 + scale[i] + _JITTER * rng.standard_normal()
        turn = bend[i] * length + np.degrees(_JITTER * length * rng.standard_normal())
        poses.append(poses[-1] @ step @ paths.rigid(paths.rotation(float(turn)), np.zeros(3)))
    return poses


def _slow(rng: np.random.Generator, count: int) -> Array:
    """A bias of size 1 and either sign, with swings of some seconds."""
    knots = rng.normal(0.0, 0.5, 2 + count // 150) + rng.choice([-1.0, 1.0])
    return np.interp(np.linspace(0, len(knots) - 1, count), np.arange(len(knots)), knots)


def _write_prior(path: Path, drive: paths.Drive) -> None:
    """A first guess, as a person would click it: 25 cm and 5 degrees beside the truth."""
    first = drive.map_from_base(float(drive.stamps()[0]))
    dx, dy, turn = _PRIOR_OFFSET[drive.name]
    yaw = np.arctan2(first[1, 0], first[0, 0]) + np.radians(turn)
    guess = {
        "frame_id": "map",
        "position": [round(float(first[0, 3] + dx), 4), round(float(first[1, 3] + dy), 4), 0.0],
        "orientation_xyzw": [
            0.0,
            0.0,
            round(float(np.sin(yaw / 2)), 6),
            round(float(np.cos(yaw / 2)), 6),
        ],
        "covariance_diagonal": [
            0.0625,
            0.0625,
            0.0,
            0.0,
            0.0,
            round(float(np.radians(5) ** 2), 6),
        ],
    }
    path.write_text("# base_link in map at the first image: a guess 0.25 m and 5 deg off.\n")
    with path.open("a") as file:
        yaml.safe_dump(guess, file, sort_keys=False, default_flow_style=None)


def _nanoseconds(drive: paths.Drive, seconds: Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return drive.start_s * NANOSECONDS + np.rint(seconds * 1e6).astype(np.int64) * 1000


def _stacked(matrices: list[Array]) -> Pose:
    return Pose.from_4x4(torch.from_numpy(np.stack(matrices)))


def _camera(lens: Lens) -> Camera:
    half = 0.5
    k1, k2, p1, p2, k3 = lens.distortion
    if k3:
        raise ValueError("the sample's lens has no k3")
    params = [lens.fx, lens.fy, lens.cx + half, lens.cy + half, k1, k2, p1, p2]
    return Camera.from_colmap(
        {"model": "OPENCV", "width": lens.width, "height": lens.height, "params": params}
    )

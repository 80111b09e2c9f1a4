"""Sequence mode, without any image processing: a scripted localizer behind it."""

import numpy as np
import torch

from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.prior import Prior
from pixloc_core.localizer.result import Localization, LocalizationStatus
from pixloc_core.localizer.tracker import Tracker, TrackerConfig

IMAGE = np.zeros((4, 6), np.uint8)
CAMERA = Camera.from_colmap({"model": "PINHOLE", "width": 6, "height": 4, "params": [5, 5, 3, 2]})


def pose_at(x: float) -> Pose:
    return Pose.exp(torch.tensor([x, 0, 0, 0, 0, 0], dtype=torch.float64))


class Scripted:
    """Answers a script of positions (None: not localized) and notes the priors."""

    def __init__(self, *positions: float | None) -> None:
        self.positions = list(positions)
        self.priors: list[float] = []

    def localize(self, image: np.ndarray, camera: Camera, prior: Prior) -> Localization:
        assert prior.cam_from_map is not None
        self.priors.append(round(float(prior.cam_from_map.t[0, 0]), 9))
        position = self.positions.pop(0)
        if position is None:
            return Localization(LocalizationStatus.LOW_SCORE, "scripted")
        return Localization(LocalizationStatus.LOCALIZED, "scripted", pose_at(position))


def test_nothing_is_answered_before_a_prior_is_given() -> None:
    result = Tracker(Scripted()).localize(IMAGE, CAMERA)
    assert result.status is LocalizationStatus.NO_PRIOR
    assert result.image_size == (6, 4)


def test_the_last_pose_carries_over() -> None:
    scripted = Scripted(1.0, 2.0, 3.0)
    tracker = Tracker(scripted)
    tracker.localize(IMAGE, CAMERA, Prior.from_pose(pose_at(0.9)))
    tracker.localize(IMAGE, CAMERA)
    tracker.localize(IMAGE, CAMERA)
    assert scripted.priors == [0.9, 1.0, 2.0]


def test_motion_moves_the_prior_also_across_failures() -> None:
    scripted = Scripted(1.0, None, 2.0)
    tracker = Tracker(scripted)
    tracker.localize(IMAGE, CAMERA, Prior.from_pose(pose_at(1.0)))
    tracker.localize(IMAGE, CAMERA, cam_from_last=pose_at(0.5))
    tracker.localize(IMAGE, CAMERA, cam_from_last=pose_at(0.5))
    assert scripted.priors == [1.0, 1.5, 2.0]


def test_the_pose_is_forgotten_after_too_many_failures() -> None:
    tracker = Tracker(Scripted(1.0, None, None), TrackerConfig(max_failures=2))
    tracker.localize(IMAGE, CAMERA, Prior.from_pose(pose_at(1.0)))
    tracker.localize(IMAGE, CAMERA)
    assert tracker.cam_from_map is not None
    tracker.localize(IMAGE, CAMERA)
    assert tracker.cam_from_map is None
    assert tracker.localize(IMAGE, CAMERA).status is LocalizationStatus.NO_PRIOR


def test_a_new_prior_replaces_what_was_known() -> None:
    scripted = Scripted(1.0, 7.0)
    tracker = Tracker(scripted)
    tracker.localize(IMAGE, CAMERA, Prior.from_pose(pose_at(1.0)))
    tracker.localize(IMAGE, CAMERA, Prior.from_pose(pose_at(6.5)))
    assert scripted.priors == [1.0, 6.5]

"""Blurred, covered and half black images with the real core: right or silent, never wrong."""

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fake_localizer import BASE_FROM_CAM, SECOND, camera_info
from std_msgs.msg import Header
from toy_world import ToyWorld

from pixloc_core.geometry import Pose
from pixloc_core.localizer.fix import difference
from pixloc_core.localizer.localizer import Localizer
from pixloc_core.localizer.supervisor import State
from pixloc_ros.conversions import ns_to_stamp, pose_to_transform
from pixloc_ros.frames import TreeFrames
from pixloc_ros.image_conversions import array_to_image
from pixloc_ros.image_pipeline import ImagePipeline
from pixloc_ros.interfaces import LocalizationStatus, TFMessage
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.outcome import Outcome
from pixloc_ros.prior_poses import InitialPose
from pixloc_ros.rig_messages import CameraMessage, RigMessage

pytestmark = pytest.mark.slow
# What counts as right in a room of ten metres: the bar for indoor scenes.
RIGHT_M, RIGHT_DEG = 0.1, 3.0
Damage = Callable[[np.ndarray], np.ndarray]


class Room:
    """A robot that drives slowly, with odometry that is 2 % too long, and its localizer."""

    def __init__(self, world: ToyWorld, localizer: Localizer) -> None:
        self.world = world
        self.frames = TreeFrames(30.0, print)
        static = pose_to_transform(BASE_FROM_CAM, "base_link", "camera", 0)
        self.frames.add_message(TFMessage(transforms=[static]), static=True)
        self.pipeline = ImagePipeline(localizer, self.frames, NodeConfig())
        first, last = world.cam_from_map[1], world.cam_from_map[4]
        steps = torch.linspace(0, 1, 30, dtype=torch.float64)[:, None]
        self.cam_from_map = Pose.exp(steps * (last @ first.inv()).log()) @ first
        self.map_from_base = self.cam_from_map.inv() @ BASE_FROM_CAM.inv()
        fx, fy, cx, cy = world.colmap_camera["params"]
        k = [fx, 0.0, cx - 0.5, 0.0, fy, cy - 0.5, 0.0, 0.0, 1.0]
        self.info = camera_info(width=320, height=240, k=k)
        for index in range(30):
            stamp = self._stamp(index)
            true = (self.map_from_base[0].inv() @ self.map_from_base[index]).log()
            moved = pose_to_transform(Pose.exp(1.02 * true), "odom", "base_link", stamp)
            self.frames.add_message(TFMessage(transforms=[moved]), static=False)
        self.pipeline.give(InitialPose(self.map_from_base[0], self._stamp(0)))
        self.index = -1

    @staticmethod
    def _stamp(index: int) -> int:
        return 10 * SECOND + index * SECOND // 5

    def see(self, damage: Damage = lambda image: image) -> Outcome:
        self.index += 1
        noise = np.random.default_rng(self.index).integers(-2, 3, (240, 320, 1))
        pixels = self.world.render(self.cam_from_map[self.index])[0]
        pixels = (damage(pixels).astype(int) + noise).clip(0, 255).astype(np.uint8)
        header = Header(frame_id="camera", stamp=ns_to_stamp(self._stamp(self.index)))
        image = CameraMessage("", array_to_image(pixels, "rgb8", header), self.info)
        return self.pipeline.run(RigMessage((image,), time.monotonic()))

    def is_right(self, found: Pose) -> bool:
        distance, angle = difference(found, self.map_from_base[self.index])
        return distance < RIGHT_M and np.rad2deg(angle) < RIGHT_DEG


@pytest.fixture(scope="module")
def localizer(map_path: Path) -> Localizer:
    return Localizer.open(map_path)


@pytest.fixture
def room(world: ToyWorld, localizer: Localizer) -> Room:
    room = Room(world, localizer)
    for _ in range(2):
        assert room.see().published
        assert room.is_right(room.pipeline.fix.map_from_base)
    return room


def blurred(sigma: float) -> Damage:
    return lambda image: cv2.GaussianBlur(image, (0, 0), sigma)


def smeared(length: int) -> Damage:
    """As a fast turn smears it."""
    return lambda image: cv2.blur(image, (length, 1))


def covered(side: str, value: int) -> Damage:
    def cover(image: np.ndarray) -> np.ndarray:
        image = image.copy()
        part = {
            "left": np.s_[:, :160],
            "right": np.s_[:, 160:],
            "top": np.s_[:120],
            "bottom": np.s_[120:],
        }[side]
        image[part] = value
        return image

    return cover


def stranger(image: np.ndarray) -> np.ndarray:
    """Somebody in a patterned coat stands before half of the image."""
    image = image.copy()
    coat = np.random.default_rng(5).integers(0, 255, (24, 16, 3), np.uint8)
    image[:, 80:240] = cv2.resize(coat, (160, 240), interpolation=cv2.INTER_CUBIC)
    return image


def half_of_before(image: np.ndarray) -> np.ndarray:
    """A transmission that broke off: the lower half is shifted."""
    image = image.copy()
    image[120:] = np.roll(image[120:], 40, axis=1)
    return image


DAMAGES = {
    "blurred a little": blurred(2.0),
    "blurred": blurred(5.0),
    "blurred beyond recognition": blurred(20.0),
    "smeared": smeared(25),
    "left half black": covered("left", 0),
    "right half grey": covered("right", 128),
    "top half white": covered("top", 255),
    "bottom half black": covered("bottom", 0),
    "somebody before it": stranger,
    "lower half shifted": half_of_before,
    "upside down": lambda image: image[::-1, ::-1].copy(),
    "noise": lambda image: np.random.default_rng(1).integers(0, 255, image.shape, np.uint8),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_image_is_answered_right_or_not_at_all(room, damage):
    outcomes = []
    for _ in range(3):
        outcome = room.see(DAMAGES[damage])
        outcomes.append(outcome)
        if outcome.published:
            assert room.is_right(outcome.map_from_base), (damage, outcome.localization.score)
        else:
            assert outcome.reason
            assert outcome.status == LocalizationStatus.NOT_LOCALIZED
    # Two good ones later all is well again.
    for _ in range(3):
        outcome = room.see()
    assert outcome.published, outcome.reason
    assert outcome.decision.state is State.TRACKING
    assert room.is_right(outcome.map_from_base)


@pytest.mark.parametrize("damage", ["blurred beyond recognition", "noise"])
def test_what_shows_nothing_of_the_map_ends_in_silence(room, damage):
    states = []
    for _ in range(7):
        outcome = room.see(DAMAGES[damage])
        states.append(outcome.decision.state)
        assert not outcome.published
    assert states[-1] is State.LOST
    assert room.pipeline.map_from_odom is None


@pytest.mark.parametrize("damage", ["left half black", "somebody before it"])
def test_half_of_an_image_is_enough(room, damage):
    published = [room.see(DAMAGES[damage]).published for _ in range(3)]
    assert any(published)

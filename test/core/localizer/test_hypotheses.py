"""The fan of poses around those of a prior."""

import torch

from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.hypotheses import FanConfig, fan_out

CAMERA = Camera.from_colmap(
    {"model": "PINHOLE", "width": 640, "height": 480, "params": [500.0, 500.0, 320.0, 240.0]}
).double()
POSES = Pose.exp(
    torch.tensor([[0.1, 0.2, 0.3, 0.1, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.4, 0.0]]).double()
)


def test_the_poses_given_come_first_and_unchanged() -> None:
    fan = fan_out(POSES, CAMERA, FanConfig(steps=3, max_fans=1))
    assert fan.shape == (2 + 8,)
    torch.testing.assert_close(fan[:2].data, POSES.data)


def test_the_fan_turns_the_camera_on_the_spot() -> None:
    fan = fan_out(POSES[:1], CAMERA, FanConfig(steps=5))
    assert fan.shape == (25,)
    torch.testing.assert_close(fan.center, POSES[:1].center.expand(25, 3))


def test_the_outermost_shift_the_image_by_the_reach() -> None:
    fan = fan_out(POSES[:1], CAMERA, FanConfig(steps=3, reach=0.3))
    ahead = POSES[0].inv() * torch.tensor([0.0, 0.0, 5.0]).double()
    pixels, _ = CAMERA.world2image(fan * ahead[None])
    shift = (pixels[:, 0] - pixels[0, 0]).abs()
    torch.testing.assert_close(shift.amax(), torch.tensor(0.3 * 640).double(), rtol=0.1, atol=0)


def test_one_step_is_no_fan() -> None:
    assert fan_out(POSES, CAMERA, FanConfig(steps=1)) is POSES

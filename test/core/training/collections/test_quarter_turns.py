"""Quarter turns move pixels, cameras and poses alike."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from painted_wall import CAMERAS, camera_of, look_up, wall_collection, write_image

from pixloc_core.geometry import Camera, DistortionModel
from pixloc_core.training.collections.quarter_turns import turned_camera, turned_from_cam
from pixloc_core.training.collections.source import CollectionSource, PairSamplingConfig
from pixloc_core.training.preprocess.megadepth import turned_upright, upright_turns

FULL = Camera(
    torch.tensor([320, 240, 300, 310, 161, 118, 0.1, -0.02, 3e-3, -2e-3, 0.01, 0.05, 0.01, 0.002])
    .double(),
    DistortionModel.FULL_OPENCV,
)  # fmt: skip


@pytest.mark.parametrize("model", [*CAMERAS, "FULL_OPENCV"])
@pytest.mark.parametrize("turns", [1, 2, 3, 4])
def test_points_project_where_rot90_takes_their_pixels(model: str, turns: int) -> None:
    camera = FULL if model == "FULL_OPENCV" else camera_of(model)
    points = torch.tensor([[0.3, -0.2, 1.0], [-0.4, 0.25, 1.1], [0.1, 0.3, 0.9]]).double()
    width, height = camera.size.tolist()
    x, y = camera.world2image(points)[0].unbind(-1)
    for _ in range(turns):
        # numpy.rot90: the first row becomes the first column, read from below.
        x, y, width, height = y, width - 1 - x, height, width
    turned = turned_camera(camera, turns)
    found, _ = turned.world2image(turned_from_cam(turns) * points)
    assert torch.allclose(found, torch.stack((x, y), -1), atol=1e-9)
    assert turned.size.tolist() == [width, height]


def test_images_lying_on_their_side_are_turned_upright(tmp_path: Path) -> None:
    upright = wall_collection(tmp_path, count=9, models=("OPENCV",))
    # Image i as from a camera rolled by `turns` quarter turns to the right.
    turns = torch.tensor([0, 3, 0, 1, 0, 2, 0, 0, 0])
    cameras, poses = [], []
    for image, turn in enumerate(turns.tolist()):
        stored = cv2.imread(str(upright.path_of(image)))[..., ::-1]
        write_image(upright.path_of(image), np.rot90(stored, -turn))
        cameras.append(turned_camera(upright.camera_of(image), -turn % 4))
        poses.append(turned_from_cam(-turn % 4) @ upright.cam_from_world[image])
    lying = replace(
        upright,
        cameras=tuple(cameras),
        image_camera=torch.arange(9),
        cam_from_world=torch.stack(poses),
    )
    assert upright_turns(lying.cam_from_world).tolist() == turns.tolist()
    turned = turned_upright(lying)
    assert torch.allclose(turned.cam_from_world.data, upright.cam_from_world.data, atol=1e-12)
    settings = {"size": (120, 80), "num_points": 60}
    sampling = PairSamplingConfig(min_common=30)
    batch = CollectionSource([turned], sampling, **settings).batch(range(6))
    shown = look_up(batch.reference.image, batch.reference.camera.world2image(batch.points_ref)[0])
    points_query = batch.query_from_ref * batch.points_ref
    again = look_up(batch.query.image, batch.query.camera.world2image(points_query)[0])
    assert float((shown - again).abs()[batch.is_seen].max()) < 0.03

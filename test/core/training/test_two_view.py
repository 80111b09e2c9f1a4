"""The model that is trained: reference losses and gradients, and laws of its alignment."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pixloc_core.alignment.aligner_config import AlignerConfig
from pixloc_core.features.unet import UNet, UNetConfig
from pixloc_core.geometry import Camera, DistortionModel, Pose
from pixloc_core.optim.levenberg_marquardt import LmConfig
from pixloc_core.training.losses import (
    ReprojectionLossConfig,
    TruePoints,
    reprojection_loss,
)
from pixloc_core.training.metrics import pose_errors
from pixloc_core.training.pairs import PairBatch, View
from pixloc_core.training.two_view import TwoViewModel

Arrays = dict[str, np.ndarray]
STRIDES = (16, 4, 1)


@pytest.fixture(scope="module")
def arrays(shared_dir: Path) -> Arrays:
    with np.load(shared_dir / "fixtures" / "g_two_view_cmu.npz") as file:
        return dict(file)


def read_view(arrays: Arrays, which: str) -> View:
    images = torch.from_numpy(arrays[f"{which}_image_u8"]).permute(0, 3, 1, 2) / 255.0
    numbers = torch.from_numpy(arrays[f"{which}_camera"]).double()
    return View(images, Camera(numbers, DistortionModel.RADIAL))


def read_pose(arrays: Arrays, name: str) -> Pose:
    return Pose(torch.from_numpy(arrays[name]).double())


@pytest.fixture(scope="module")
def batch(arrays: Arrays) -> PairBatch:
    points = torch.from_numpy(arrays["points3D_ref"]).double()
    every = torch.ones(points.shape[:2], dtype=torch.bool)
    return PairBatch(
        read_view(arrays, "ref"),
        read_view(arrays, "query"),
        points,
        every,
        every,
        read_pose(arrays, "T_r2q_gt"),
        ("easy", "medium", "far", "few"),
    )


@pytest.fixture(scope="module")
def tensors(official_tensors: Callable[[str], dict]) -> dict[str, torch.Tensor]:
    return official_tensors("cmu")


def create_model(tensors: dict[str, torch.Tensor], optimizer: LmConfig) -> TwoViewModel:
    network = UNet(UNetConfig(encoder="vgg16"))
    network.load_state_dict(
        {k.removeprefix("extractor."): v for k, v in tensors.items() if k.startswith("extr")}
    )
    config = replace(AlignerConfig.reference(15), pad=(3.0,), optimizer=optimizer)
    damping = [tensors[f"optimizer.{level}.dampingnet.const"] for level in range(3)]
    return TwoViewModel(network, config, torch.stack(damping))


@pytest.mark.parametrize(
    ("mode", "optimizer"), [("eval", LmConfig.reference()), ("train", LmConfig.training())]
)
def test_losses_poses_and_gradients_are_those_of_the_reference(
    arrays: Arrays,
    batch: PairBatch,
    tensors: dict[str, torch.Tensor],
    mode: str,
    optimizer: LmConfig,
) -> None:
    model = create_model(tensors, optimizer).train(mode == "train")
    start = read_pose(arrays, "T_r2q_init")
    output = model(batch, start)
    points = TruePoints.of(
        batch.query.camera, batch.points_ref, batch.is_point, batch.query_from_ref, start
    )
    loss = reprojection_loss(points, start, output.poses, STRIDES, ReprojectionLossConfig())

    # The reference keeps poses in float32, we do not: that is the difference.
    assert_near(loss.total, arrays[f"{mode}/loss/total"], 2e-5)
    assert_near(loss.initial, arrays[f"{mode}/loss/reprojection_error/init"], 2e-5)
    for i, pose in enumerate(output.poses):
        assert_near(loss.errors[i], arrays[f"{mode}/loss/reprojection_error/{i}"], 1e-4)
        assert output.failed[i].tolist() == arrays[f"{mode}/failed_{i}"].tolist()
        assert loss.success[i].tolist() == arrays[f"{mode}/success_{i}"].tolist()
        # The lost pair wanders chaotically far away, where rounding decides.
        found = pose.data[[0, 1, 3]]
        assert_near(found, arrays[f"{mode}/T_r2q_opt_{i}"][[0, 1, 3]], 1e-5)
        errors = pose_errors(pose, batch.query_from_ref)
        assert_near(errors.rotation_deg[:2], arrays[f"{mode}/metric/R_error/{i}"][:2], 3e-2)
        assert_near(errors.translation[:2], arrays[f"{mode}/metric/t_error/{i}"][:2], 1e-3)
    assert loss.too_few.tolist() == [False, False, False, True]

    loss.total.mean().backward()
    for name, parameter in model.network.named_parameters():
        assert_gradient(arrays, mode, f"extractor.{name}", parameter)
    for level in range(3):
        name = f"optimizer.{level}.dampingnet.const"
        assert_gradient(
            arrays, mode, name, dict(model.named_parameters())[f"damping.{level}.const"]
        )


def assert_near(found: torch.Tensor, expected: np.ndarray, relative: float) -> None:
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=relative, atol=relative)


def assert_gradient(arrays: Arrays, mode: str, name: str, parameter: torch.nn.Parameter) -> None:
    assert parameter.grad is not None
    # Float32 through 45 steps of an optimizer: the coarse damping differs most, by 0.14 %.
    norm = float(arrays[f"{mode}/gradnorm/{name}"])
    assert float(parameter.grad.norm()) == pytest.approx(norm, rel=3e-3, abs=1e-6)
    if f"{mode}/grad/{name}" in arrays:
        expected = torch.from_numpy(arrays[f"{mode}/grad/{name}"])
        assert float((parameter.grad - expected).norm()) <= 3e-3 * norm + 1e-6

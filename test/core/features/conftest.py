"""Networks with random weights, official checkpoints made up from them, and a tiny map."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pixloc_core.features.unet import UNet, UNetConfig
from pixloc_core.features.weights import Weights
from pixloc_core.geometry import Camera, Pose
from pixloc_core.map.sparse_map import SparseMap


@pytest.fixture(scope="session")
def small_config() -> UNetConfig:
    return UNetConfig(encoder="resnet18", decoder=(8, 8, 8, 8), output_dim=(4, 6, 8))


@pytest.fixture(scope="session")
def small_weights(small_config: UNetConfig) -> Weights:
    """A small network with random weights and batch statistics that are not the initial ones."""
    generator = torch.Generator().manual_seed(7)
    network = UNet(small_config)
    state = network.state_dict()
    for name, value in state.items():
        if name.endswith("running_var"):
            state[name] = torch.rand(value.shape, generator=generator) + 0.5
        elif value.is_floating_point():
            # Gains below one keep the sums along the shortcuts small.
            scale = (1 / value[0].numel()) ** 0.5 if value.ndim == 4 else 0.1
            offset = 0.5 if value.ndim == 1 and name.endswith("weight") else 0.0
            state[name] = torch.randn(value.shape, generator=generator) * scale + offset
    return Weights(small_config, state, torch.randn(3, 6, generator=generator))


@pytest.fixture
def official_contents(small_weights: Weights) -> dict[str, Any]:
    """What an official trainer would save of the small network."""
    tensors = OrderedDict((f"extractor.{k}", v.clone()) for k, v in small_weights.network.items())
    assert small_weights.damping is not None
    for level, row in enumerate(small_weights.damping):
        tensors[f"optimizer.{level}.dampingnet.const"] = row.clone()
    parameter = torch.nn.Parameter(torch.zeros(3))
    parameter.grad = torch.ones(3)
    adam = torch.optim.Adam([parameter])
    adam.step()
    schedule = torch.optim.lr_scheduler.ExponentialLR(adam, 0.9)
    extractor = {
        "name": "unet", "encoder": "resnet18", "decoder": [8, 8, 8, 8],
        "output_scales": [0, 2, 4], "output_dim": [4, 6, 8], "compute_uncertainty": True,
        "freeze_batch_normalization": False, "do_average_pooling": False, "checkpointed": True,
    }  # fmt: skip
    optimizer = {
        "name": "learned_optimizer", "num_iters": 15, "pad": 3, "lambda_": 0.01,
        "loss_fn": "scaled_barron(0, 0.1)", "jacobi_scaling": False, "learned_damping": True,
    }  # fmt: skip
    model = {"name": "two_view_refiner", "extractor": extractor, "optimizer": optimizer}
    return {
        "model": tensors,
        "optimizer": adam.state_dict(),
        "lr_scheduler": schedule.state_dict(),
        "conf": {"data": {"name": "cmu"}, "model": model, "train": {"lr": 1e-5}},
        "epoch": 12,
        "losses": None,
        "eval": {"loss/total": np.float64(1.5), "R_error/2": 0.25},
    }


@pytest.fixture
def image() -> np.ndarray:
    """A smooth random picture of 96x64 pixels."""
    noise = np.random.default_rng(3).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    return cv2.resize(noise, (96, 64), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def camera() -> Camera:
    params = [80.0, 82.0, 47.0, 33.0]
    return Camera.from_colmap({"model": "PINHOLE", "width": 96, "height": 64, "params": params})


@pytest.fixture
def tiny_map(tmp_path: Path, image: np.ndarray, camera: Camera) -> tuple[SparseMap, Path]:
    """Three images that observe some of ten points, and the folder of the images."""
    folder = tmp_path / "images"
    folder.mkdir()
    names = ("a.png", "b.png", "c.png")
    for shift, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.roll(image, 5 * shift, axis=1))
    points = [list(range(10)), [1, 3, 5, 7], [0, 1, 2, 9]]
    generator = torch.Generator().manual_seed(0)
    obs_point = torch.tensor([point for seen in points for point in seen])
    px = torch.rand(len(obs_point), 2, generator=generator) * torch.tensor([65.0, 33.0]) + 15
    sparse = SparseMap(
        image_names=names,
        cameras=(camera,),
        image_camera=torch.zeros(3, dtype=torch.int64),
        cam_from_map=Pose.identity(3, dtype=torch.float64),
        points_map=torch.randn(10, 3, generator=generator, dtype=torch.float64),
        track_length=torch.bincount(obs_point, minlength=10),
        point_error=torch.zeros(10, dtype=torch.float64),
        obs_offsets=torch.tensor([0, 10, 14, 18]),
        obs_point=obs_point,
        obs_px=px,
        origin=torch.zeros(3, dtype=torch.float64),
        fingerprint="tiny",
    )
    return sparse, folder

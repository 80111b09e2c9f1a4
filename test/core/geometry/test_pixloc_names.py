"""What users of PixLoc write must go on working, whatever the implementation."""

import pytest
import torch

from pixloc_core.geometry import Camera, Pose


@pytest.fixture
def cuda_or_cpu(monkeypatch):
    """Let `.cuda()` stay on the CPU where there is no GPU, so that the text runs unchanged."""
    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.Tensor, "cuda", lambda self, *_: self)


@pytest.mark.usefixtures("cuda_or_cpu")
def test_the_snippet_of_the_readme_runs_unchanged():
    R = torch.eye(3).expand(2, 3, 3)
    t = torch.tensor([[0.0, 0, 1], [1, 0, 2]])
    p3D = torch.rand(2, 5, 3) + torch.tensor([0.0, 0, 4])
    camera = {"model": "OPENCV", "width": 64, "height": 48,
              "params": [50.0, 51, 32, 24, -0.1, 0.01, 1e-3, 1e-3]}  # fmt: skip
    pinhole = {"model": "PINHOLE", "width": 64, "height": 48, "params": [50.0, 51, 32, 24]}

    T_w2c = Pose.from_Rt(R, t)
    T_w2c = T_w2c.cuda()
    p3D_c = T_w2c * p3D.to(T_w2c.device)
    T_A2C = T_w2c @ T_w2c.inv()
    T_A2C = T_A2C.to(torch.float64)

    cam1 = Camera.from_colmap(camera)
    cam2 = Camera.from_colmap(pinhole)
    cam = torch.stack([cam1, cam2]).to(p3D_c.device, p3D_c.dtype)
    p2D, mask = cam.world2image(p3D_c)
    J, mask_J = cam.J_world2image(p3D_c)
    half = cam.scale(0.5)

    assert p3D_c.shape == (2, 5, 3)
    torch.testing.assert_close(T_A2C.data, Pose.identity(2).data.to(T_A2C.device))
    assert p2D.shape == (2, 5, 2)
    assert mask.shape == mask_J.shape == (2, 5)
    assert J.shape == (2, 5, 2, 3)
    assert half.size.tolist() == [[32, 24]] * 2
    expected = (half.world2image(p3D_c)[0] + 0.5) * 2 - 0.5
    torch.testing.assert_close(expected, p2D)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_geometry_gives_the_same_numbers_on_the_gpu():
    camera = Camera.from_colmap(
        {"model": "RADIAL", "width": 64, "height": 48, "params": [50.0, 32, 24, -0.1, 0.01]}
    )
    pose = Pose.exp(torch.randn(3, 6, generator=torch.Generator().manual_seed(0)).double())
    points = torch.randn(7, 3, generator=torch.Generator().manual_seed(1)).double()
    here = camera.project_with_jacobian(pose * points)
    there = camera.cuda().project_with_jacobian(pose.cuda() * points.cuda())
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a, b.cpu())

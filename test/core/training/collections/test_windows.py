"""Windows of images: as sharp as their pixels allow."""

import cv2
import numpy as np
import torch

from pixloc_core.geometry import Camera, DistortionModel
from pixloc_core.training.collections.sampling import PairSamplingConfig
from pixloc_core.training.collections.windows import Window, WindowCutter

SIZE = (96, 72)
CAMERA = Camera(
    torch.tensor([640, 480, 500, 500, 319.5, 239.5], dtype=torch.float64), DistortionModel.NONE
)


def grainy_image() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def averaged(image: np.ndarray, window: Window, parts: int = 8) -> np.ndarray:
    """What a window shows if each pixel is the mean of the image over its area."""
    width, height = SIZE
    x, y = ((torch.arange(side * parts) + 0.5) / parts - 0.5 for side in SIZE)
    pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2).double()
    rays, _ = window.camera.image2world(pixels)
    source_px, _ = CAMERA.world2image(window.view_from_cam.inv() * rays)
    grid = source_px.float().numpy().reshape(height * parts, width * parts, 2)
    fine = cv2.remap(image, grid, np.empty(0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return fine.reshape(height, parts, width, parts, 3).mean((1, 3))


def test_turned_windows_are_as_sharp_as_their_zoom_allows() -> None:
    """A window laid closer, so that it shows the image alone, has the detail of that zoom."""
    config = PairSamplingConfig(rotation_share=1.0, rotation_deg=(30.0, 0.0, 0.0), max_zoom=1.0)
    cutter, image = WindowCutter(SIZE, config), grainy_image()
    anchor = torch.tensor([0.1, 0.05, 1.0], dtype=torch.float64)
    zooms, contrasts = [], []
    for seed in range(12):
        window = cutter.cut(image, CAMERA, anchor, torch.Generator().manual_seed(seed))
        zooms.append(float(window.camera.f[0] / CAMERA.f[0]) * 640 / SIZE[0])
        contrasts.append(window.image.std() / averaged(image, window).std())
    closest = int(np.argmax(zooms))
    assert zooms[closest] > 1.7
    assert contrasts[closest] > 0.75

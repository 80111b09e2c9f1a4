"""Masks reach every level of a pyramid, and hide no more than they must."""

import numpy as np
import pytest
import torch

from pixloc_core.features.extractor import ExtractorConfig, create_extractor
from pixloc_core.features.gradients import GradientConfig
from pixloc_core.features.masking import mask_pyramid
from pixloc_core.features.pyramid import FeatureLevel
from pixloc_core.geometry import Camera


def camera_of(width: int, height: int) -> Camera:
    params = [0.8 * width, 0.9 * width, width / 2 + 3, height / 2 - 2]
    data = {"model": "PINHOLE", "width": width, "height": height, "params": params}
    return Camera.from_colmap(data).double()


def covers_masked(level: FeatureLevel, camera: Camera, mask: np.ndarray) -> np.ndarray:
    """Cell by cell: whether its rectangle in the image holds a masked pixel."""
    width, height = level.size
    hidden = np.zeros((height, width), bool)
    for row in range(height):
        for column in range(width):
            corners = torch.tensor([[column - 0.5, row - 0.5], [column + 0.5, row + 0.5]]).double()
            rays = (corners - level.camera.c.double()) / level.camera.f.double()
            low, high = (rays * camera.f + camera.c).numpy()
            # Pixel i reaches from i - 0.5 to i + 0.5.
            first = np.maximum(np.floor(low + 0.5 + 1e-3), 0).astype(int)
            last = np.maximum(np.ceil(high + 0.5 - 1e-3), 0).astype(int)
            hidden[row, column] = (mask[first[1] : last[1], first[0] : last[0]] == 0).any()
    return hidden


@pytest.mark.parametrize("size", [(64, 48), (75, 53)])
@pytest.mark.parametrize("max_size", [1024, 50])
def test_a_cell_is_hidden_if_and_only_if_it_covers_a_masked_pixel(
    size: tuple[int, int], max_size: int
) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    mask = np.full((size[1], size[0]), 255, np.uint8)
    for x, y in rng.integers(0, (size[0], size[1]), (3, 2)):
        mask[y : y + 2, x : x + 3] = 0
    camera = camera_of(*size)
    config = ExtractorConfig(kind="gradients", gradients=GradientConfig(max_size=max_size))
    pyramid = create_extractor(config).extract(image, camera)
    masked = mask_pyramid(pyramid, mask, camera)
    for before, after in zip(pyramid, masked, strict=True):
        hidden = torch.from_numpy(covers_masked(before, camera, mask))
        assert hidden.any()
        assert torch.equal(after.features.isnan().all(-1), hidden)
        assert not after.confidence[hidden].any()
        assert torch.equal(after.features[~hidden], before.features[~hidden])
        assert torch.equal(after.confidence[~hidden], before.confidence[~hidden])
    assert not torch.from_numpy(covers_masked(pyramid[0], camera, mask)).all()

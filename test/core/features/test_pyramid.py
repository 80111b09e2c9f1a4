"""What a pyramid promises about its levels."""

import pytest
import torch

from pixloc_core.errors import ShapeError
from pixloc_core.features.pyramid import FeatureLevel, FeaturePyramid
from pixloc_core.geometry import Camera


def make_level(camera: Camera, stride: int) -> FeatureLevel:
    width, height = 96 // stride, 64 // stride
    return FeatureLevel(
        torch.zeros(height, width, 5), torch.ones(height, width), camera.scale(1 / stride), stride
    )


def test_level_knows_its_size_and_channels(camera: Camera) -> None:
    level = make_level(camera, 4)
    assert level.size == (24, 16)
    assert level.channels == 5
    assert level.camera.size.tolist() == [24, 16]


def test_levels_are_ordered_from_fine_to_coarse(camera: Camera) -> None:
    fine, coarse = make_level(camera, 1), make_level(camera, 4)
    pyramid = FeaturePyramid((fine, coarse))
    assert len(pyramid) == 2
    assert list(pyramid) == [fine, coarse]
    assert pyramid[1] is coarse
    with pytest.raises(ShapeError, match=r"strides \[4, 1\]"):
        FeaturePyramid((coarse, fine))
    with pytest.raises(ShapeError, match="expected rising strides"):
        FeaturePyramid(())


def test_confidence_of_another_size_is_refused(camera: Camera) -> None:
    with pytest.raises(ShapeError, match=r"features \(64, 96, 5\) do not fit confidence \(32,"):
        FeatureLevel(torch.zeros(64, 96, 5), torch.zeros(32, 96), camera, 1)

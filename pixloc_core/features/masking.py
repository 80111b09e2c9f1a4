"""Parts of an image that must not be looked at: the robot itself, a watermark, a dirty lens."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.features.pyramid import FeatureLevel, FeaturePyramid
from pixloc_core.geometry import Camera
from pixloc_core.shapes import Bool, Tensor

# A cell ends where the next one begins, whatever the rounding of the cameras.
_ROUNDING_PX = 1e-3


def mask_pyramid(
    pyramid: FeaturePyramid, mask: NDArray[np.bool_] | NDArray[np.uint8], camera: Camera
) -> FeaturePyramid:
    """Features without those of masked pixels.

    A cell of a level counts only if none of the pixels that it covers is masked; otherwise its
    confidence is 0 and its features are NaN, a hole: points that touch it do not count.

    Args:
        pyramid: Features of one image.
        mask: Pixels (h, w) of the image that may be used, nonzero.
        camera: Camera of the image.
    """
    # Sums over all rectangles that begin in the corner: any rectangle is a difference of four.
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    sums[1:, 1:] = (mask == 0).cumsum(0).cumsum(1)
    return FeaturePyramid(tuple(_mask_level(level, sums, camera) for level in pyramid))


def _mask_level(level: FeatureLevel, sums: NDArray[np.int64], camera: Camera) -> FeatureLevel:
    hole = _touched_cells(level, sums, camera).to(level.confidence.device)
    return replace(
        level,
        features=level.features.masked_fill(hole[..., None], torch.nan),
        confidence=level.confidence.masked_fill(hole, 0.0),
    )


def _touched_cells(
    level: FeatureLevel, sums: NDArray[np.int64], camera: Camera
) -> Bool[Tensor, "h w"]:
    """Cells that cover at least one masked pixel."""
    edges = []
    for axis, cells in enumerate(level.size):
        pixels = sums.shape[1 - axis] - 1
        scale = float(camera.f[axis]) / float(level.camera.f[axis])
        # Borders of the cells, counted from the outer edge of the first pixel of the image.
        border = np.arange(cells + 1) - 0.5 - float(level.camera.c[axis])
        border = border * scale + float(camera.c[axis]) + 0.5
        first = np.floor(border[:-1] + _ROUNDING_PX).clip(0, pixels).astype(int)
        last = np.ceil(border[1:] - _ROUNDING_PX).clip(0, pixels).astype(int)
        edges.append((first, last))
    (left, right), (top, bottom) = edges
    masked = sums[np.ix_(bottom, right)] - sums[np.ix_(top, right)]
    masked = masked - sums[np.ix_(bottom, left)] + sums[np.ix_(top, left)]
    return torch.from_numpy(masked > 0)

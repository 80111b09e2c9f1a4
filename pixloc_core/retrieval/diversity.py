"""Ranked map images without those that stand where a better one stands."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.map.sparse_map import SparseMap

_POINTS = 64


def choose_distinct(
    sparse: SparseMap, ranked: Sequence[int], count: int, min_motion: float
) -> list[int]:
    """The first images of a ranking, each apart from all before it.

    Args:
        sparse: The map.
        ranked: Indices of images, best first.
        count: Number wanted at most.
        min_motion: Images between whose poses the points of the better one move by less than this
            share of its longest side (`pose_motion`) count as one; 0: no two do.
    """
    left = list(ranked)
    chosen: list[int] = []
    while left and len(chosen) < count:
        best = left.pop(0)
        chosen.append(best)
        if min_motion > 0 and left:
            apart = pose_motion(sparse, best, left) >= min_motion
            left = [image for image, keep in zip(left, apart, strict=True) if keep]
    return chosen


def pose_motion(sparse: SparseMap, image: int, others: Sequence[int]) -> NDArray[np.float64]:
    """How far the points of an image move when its camera goes to the poses of others.

    It is free of scale, unlike distances in maps that are not metric, and it is what the alignment
    has to bridge.

    Returns:
        Median over points of the image (64 at most), per pose, as a share of its longest side (n).
        Points that come to lie behind the camera have moved infinitely far.
    """
    rows = sparse.observations_of(image)
    points = sparse.obs_point[rows]
    points = sparse.points_map[points[:: max(1, len(points) // _POINTS)]]
    if not len(points):
        return np.full(len(others), np.inf)
    index = torch.tensor([image, *others])
    points_cam = (sparse.cam_from_map[index] * points).numpy()
    depth = points_cam[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = points_cam[..., :2] / depth[..., None] * float(sparse.focal_px[image])
        motion = np.linalg.norm(pixels[1:] - pixels[0], axis=-1)
    motion[(depth[1:] <= 0) | (depth[0] <= 0)] = np.inf
    side = float(sparse.camera_of(image).size.max())
    return np.asarray(np.median(motion, axis=1) / side)

"""How alike a surface looks in a map image and in a new view of it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.config import check, setting
from pixloc_core.geometry import Pose
from pixloc_core.map.covisibility import Visible
from pixloc_core.map.sparse_map import SparseMap


@dataclass(frozen=True, kw_only=True)
class SimilarityConfig:
    """What change of view descriptors bear."""

    angle_deg: float = setting(
        8.0, doc="Change of viewing direction that makes a view count 1/e.", unit="deg", ge=1.0
    )
    max_angle_deg: float = setting(
        60.0, doc="Change of viewing direction beyond which a view is useless.", unit="deg",
        ge=1.0, le=180.0,
    )  # fmt: skip
    scale_ratio: float = setting(
        1.2, doc="Ratio of pixel sizes on the surface that makes a view count 1/e.", ge=1.01
    )
    max_scale_ratio: float = setting(
        5.0, doc="Ratio of pixel sizes on the surface beyond which a view is useless.", ge=1.01
    )
    roll_deg: float = setting(
        35.0,
        doc="Rotation about the viewing axis that makes a view count 1/e.",
        unit="deg",
        ge=1.0,
    )

    def __post_init__(self) -> None:
        check(self)


def view_similarity(
    sparse: SparseMap,
    cam_from_map: Pose,
    view: Visible,
    observations: tuple[NDArray[np.int64], NDArray[np.int64]],
    config: SimilarityConfig,
) -> NDArray[np.float32]:
    """Weights in [0, 1] of observations as descriptions of what a new view sees.

    The product of three bell curves: of the angle between both rays to the point, of the logarithm
    of the ratio of their footprints, and of the roll between both cameras. Zero beyond a limit.

    Args:
        sparse: The map.
        cam_from_map: The new view (one pose relative to the origin of the map).
        view: The points as the new view sees them.
        observations: Indices of observations, and for each the position of its point in `view`.
        config: Widths and limits.
    """
    index, slot = observations
    rays, footprints = (array.numpy() for array in sparse.obs_views)
    cosine = np.einsum("ij,ij->i", rays[index], view.ray[slot])
    octaves = np.log2(footprints[index] / view.footprint[slot])
    roll = image_rolls(sparse, cam_from_map)[sparse.obs_image.numpy()[index]]
    # 2 (1 - cos a) is a^2 up to fourth order, without the arc cosine.
    exponent = (1 - cosine) * np.float32(2 / np.deg2rad(config.angle_deg) ** 2)
    exponent += np.square(octaves * np.float32(1 / np.log2(config.scale_ratio)))
    exponent += np.square(roll * np.float32(1 / np.deg2rad(config.roll_deg)))
    useful = cosine >= np.cos(np.deg2rad(config.max_angle_deg))
    useful &= np.abs(octaves) <= np.log2(config.max_scale_ratio)
    return np.asarray(np.where(useful, np.exp(-exponent), 0), np.float32)


def image_rolls(sparse: SparseMap, cam_from_map: Pose) -> NDArray[np.float32]:
    """By how much each map image must be turned to be held like a new view, radians.

    Positive from the x towards the y axis of the image. It is the twist about z of the rotation
    from the map image to the new view, after which their axes differ by a swing only.

    Args:
        sparse: The map.
        cam_from_map: The new view (one pose).
    """
    refs, query = sparse.cam_from_map.R, cam_from_map.detach().cpu().R.double()
    # Entries of query @ refs^T.
    xx, yy = (refs[:, 0] @ query[0]), (refs[:, 1] @ query[1])
    yx, xy = (refs[:, 0] @ query[1]), (refs[:, 1] @ query[0])
    return np.asarray(torch.atan2(yx - xy, xx + yy).float().numpy())

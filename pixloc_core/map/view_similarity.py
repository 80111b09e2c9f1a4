"""How alike a surface looks in a map image and in a new view of it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.config import check, setting
from pixloc_core.geometry import Pose
from pixloc_core.map.covisibility import Visible
from pixloc_core.map.point_views import view_rays
from pixloc_core.map.sparse_map import SparseMap
from pixloc_core.shapes import Float, Tensor


@dataclass(frozen=True, kw_only=True)
class SimilarityConfig:
    """What change of view descriptors bear."""

    angle_deg: float = setting(
        25.0, doc="Change of viewing direction that makes a view count 1/e.", unit="deg", ge=1.0
    )
    max_angle_deg: float = setting(
        60.0, doc="Change of viewing direction beyond which a view is useless.", unit="deg",
        ge=1.0, le=180.0,
    )  # fmt: skip
    scale_ratio: float = setting(
        2.5, doc="Ratio of pixel sizes on the surface that makes a view count 1/e.", ge=1.01
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
    index, slot = (torch.from_numpy(array) for array in observations)
    image, point = sparse.obs_image[index], sparse.obs_point[index]
    # Single precision suffices: coordinates count from the origin of the map.
    rays, footprints = view_rays(
        sparse.points_single[:, point].T, sparse.centers_map[image].float(), sparse.focal_px[image]
    )
    cosine = (rays * torch.from_numpy(view.ray)[slot]).sum(-1)
    octaves = torch.log2(footprints / torch.from_numpy(view.footprint)[slot])
    roll = _roll(sparse, cam_from_map)
    # 2 (1 - cos a) is a^2 up to fourth order, without the arc cosine.
    exponent = 2 * (1 - cosine) / np.deg2rad(config.angle_deg) ** 2
    exponent += (octaves / np.log2(config.scale_ratio)).square_()
    exponent += (roll / np.deg2rad(config.roll_deg)).square_()[image]
    useful = cosine >= np.cos(np.deg2rad(config.max_angle_deg))
    useful &= octaves.abs() <= np.log2(config.max_scale_ratio)
    weights = torch.where(useful, torch.exp(-exponent), torch.zeros(()))
    return np.asarray(weights.numpy(), np.float32)


def _roll(sparse: SparseMap, cam_from_map: Pose) -> Float[Tensor, " m"]:
    """Rotation of each map image about the optical axis against the new view, radians.

    It is the twist of the relative rotation about z, after which the axes differ by a swing only.
    """
    relative = cam_from_map.detach().cpu().R.double() @ sparse.cam_from_map.R.mT
    sine = relative[:, 1, 0] - relative[:, 0, 1]
    return torch.atan2(sine, relative[:, 0, 0] + relative[:, 1, 1]).float()

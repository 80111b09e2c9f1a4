"""How well the final system determines the pose (docs/math.md, section 6)."""

from dataclasses import dataclass

import torch

from pixloc_core.shapes import Bool, Float, Int, Tensor

# Ratio of the smallest to the largest eigenvalue of the system, scaled to unit diagonal, below
# which a direction counts as undetermined: features in float32 give seven digits.
SINGULAR_RATIO = 1e-7
NUM_PARAMETERS = 6
# Cells along the longer side of an image, in each of which points are taken to err together.
CELLS = 8


@dataclass(frozen=True)
class PoseCovariance:
    """Uncertainty of a pose.

    Attributes:
        matrix: Covariance of the left increment xi = (v, w) of `cam_from_map`, in the camera
            frame, square metres and radians; infinite on the diagonal where not determined.
        determined: Whether the points fix all six degrees of freedom.
    """

    matrix: Float[Tensor, "*b 6 6"]
    determined: Bool[Tensor, "*b"]


def pose_covariance(
    H: Float[Tensor, "*b 6 6"],
    scores: Float[Tensor, "*b n 6"],
    cells: Int[Tensor, "*b n"] | None = None,
) -> PoseCovariance:
    """Sandwich covariance `H^-1 (sum_c s_c s_c^T) H^-1`, times a factor (eq. 6.3).

    The spread of the gradients that the points contribute stands for the noise: no noise level
    has to be known, residuals of different size and channels that err together are taken as they
    are. Errors of points in one cell may depend on each other in any way, those of different
    cells are taken to be independent; bias (map errors, a wrong minimum) is not seen.

    Args:
        H: Gauss-Newton matrix at the minimum, undamped.
        scores: Gradient of the energy of each point by xi; zero for points that do not count.
        cells: Index of the cell of each point, see `image_cells`; without it every point is one.
    """
    diagonal = H.diagonal(dim1=-2, dim2=-1)
    scale = diagonal.clamp(min=torch.finfo(H.dtype).tiny).rsqrt()
    scaled = H * scale[..., :, None] * scale[..., None, :]
    count = (scores != 0).any(-1).sum(-1)
    usable = torch.isfinite(scaled).all(-1).all(-1) & torch.isfinite(scores).all(-1).all(-1)
    usable = usable & (diagonal > 0).all(-1) & (count > NUM_PARAMETERS)
    identity = torch.eye(NUM_PARAMETERS, dtype=H.dtype, device=H.device).expand(H.shape)
    scaled = torch.where(usable[..., None, None], scaled, identity)
    eigenvalues, vectors = torch.linalg.eigh(scaled)
    determined = usable & (eigenvalues[..., 0] > SINGULAR_RATIO * eigenvalues[..., -1])
    inverse = (vectors / eigenvalues.clamp(min=SINGULAR_RATIO)[..., None, :]) @ vectors.mT
    scores = torch.where(determined[..., None, None], scores, 0.0)
    sums = scores if cells is None else _sum_cells(scores, cells)
    steps = (sums * scale[..., None, :]) @ inverse * scale[..., None, :]
    correction = count / (count - NUM_PARAMETERS).clamp(min=1)
    if cells is not None:
        filled = (sums != 0).any(-1).sum(-1)
        correction = correction * filled / (filled - 1).clamp(min=1)
    matrix = steps.mT @ steps * correction[..., None, None]
    unknown = identity * torch.inf
    unknown = torch.where(identity > 0, unknown, 0.0)
    return PoseCovariance(torch.where(determined[..., None, None], matrix, unknown), determined)


def image_cells(
    points_px: Float[Tensor, "*b n 2"], size: Float[Tensor, "*b 2"]
) -> Int[Tensor, "*b n"]:
    """Index of the square cell of an image, below `CELLS ** 2`, that each point lies in.

    Args:
        points_px: Points in an image or a map of it; those outside count to the border.
        size: Its width and height in the same pixels.
    """
    side = size.amax(-1)[..., None, None] / CELLS
    column, row = ((points_px + 0.5) / side).nan_to_num().clamp(0, CELLS - 1).long().unbind(-1)
    return row * CELLS + column


def _sum_cells(
    scores: Float[Tensor, "*b n 6"], cells: Int[Tensor, "*b n"]
) -> Float[Tensor, "*b c 6"]:
    """Gradients summed over the points of each cell."""
    num_cells = int(cells.max()) + 1 if cells.numel() else 1
    sums = scores.new_zeros(*scores.shape[:-2], num_cells, scores.shape[-1])
    return sums.scatter_add(-2, cells[..., None].expand_as(scores), scores)

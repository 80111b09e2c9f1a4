"""How well the final system determines the pose (docs/math.md, section 6)."""

from dataclasses import dataclass

import torch

from pixloc_core.geometry import Pose
from pixloc_core.optim.normal_equations import Cost, NormalEquations, quadratic_form
from pixloc_core.shapes import Bool, Float, Int, Tensor

# Ratio of the smallest to the largest eigenvalue of the system, scaled to unit diagonal, below
# which a direction counts as undetermined: features in float32 give seven digits.
SINGULAR_RATIO = 1e-7
NUM_PARAMETERS = 6
# Cells along the longer side of an image, in each of which points are taken to err together.
CELLS = 8
# How far the pose is moved to see how the gradient changes: root mean square motion of the
# points, in pixels of the level.
CURVATURE_STEP_PX = 0.25
# The energy bends by at least this part of what the Gauss-Newton matrix says.
LEAST_BEND = 0.05


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
    curvature: Float[Tensor, "*b 6 6"] | None = None,
) -> PoseCovariance:
    """Sandwich covariance `A^-1 (sum_c s_c s_c^T) A^-1`, times a factor (eq. 6.3).

    The spread of the gradients that the points contribute stands for the noise: no noise level
    has to be known, residuals of different size and channels that err together are taken as they
    are. Errors of points in one cell may depend on each other in any way, those of different
    cells are taken to be independent; bias (map errors, a wrong minimum) is not seen.

    Args:
        H: Gauss-Newton matrix at the minimum, undamped.
        scores: Gradient of the energy of each point by xi; zero for points that do not count.
        cells: Index of the cell of each point, see `image_cells`; without it every point is one.
        curvature: How the gradient changes with the pose, see `energy_curvature`; H unless given.
    """
    diagonal = H.diagonal(dim1=-2, dim2=-1)
    scale = diagonal.clamp(min=torch.finfo(H.dtype).tiny).rsqrt()
    scaled = H * scale[..., :, None] * scale[..., None, :]
    count = (scores != 0).any(-1).sum(-1)
    usable = torch.isfinite(scaled).all(-1).all(-1) & torch.isfinite(scores).all(-1).all(-1)
    usable = usable & (diagonal > 0).all(-1) & (count > NUM_PARAMETERS)
    identity = torch.eye(NUM_PARAMETERS, dtype=H.dtype, device=H.device).expand(H.shape)
    eigenvalues = torch.linalg.eigvalsh(torch.where(usable[..., None, None], scaled, identity))
    determined = usable & (eigenvalues[..., 0] > SINGULAR_RATIO * eigenvalues[..., -1])
    if curvature is not None:
        scaled = curvature * scale[..., :, None] * scale[..., None, :]
    inverse = torch.linalg.inv(torch.where(determined[..., None, None], scaled, identity))
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


def energy_curvature(cost: Cost, pose: Pose, equations: NormalEquations) -> Float[Tensor, "6 6"]:
    """How the gradient of the energy changes with the pose, from differences (eq. 6.5).

    Around a minimum with residuals left the energy bends less than the Gauss-Newton matrix says:
    robust losses level off, and features bend back within a pixel or two.

    Args:
        cost: Problem of one pose.
        pose: The minimum, batch shape ().
        equations: The problem, linearized there.

    Returns:
        Symmetric, in every direction between `LEAST_BEND` and once the Gauss-Newton matrix; that
        matrix itself where it is not positive definite.
    """
    root, info = torch.linalg.cholesky_ex(equations.H)
    if bool(info) or not bool(torch.isfinite(root).all()):
        return equations.H
    identity = torch.eye(NUM_PARAMETERS, dtype=root.dtype, device=root.device)
    directions = torch.linalg.solve_triangular(root.mT, identity, upper=True).mT
    # For each direction of unit Gauss-Newton curvature, how much of it makes the step.
    step = CURVATURE_STEP_PX / quadratic_form(equations.motion, directions).sqrt()
    increments = directions * step[:, None]
    moved = Pose(pose.data.expand(2 * NUM_PARAMETERS, -1)).retract(
        torch.cat((increments, -increments))
    )
    gradients = cost.linearize(moved).g
    change = gradients[:NUM_PARAMETERS] - gradients[NUM_PARAMETERS:]
    bend = directions @ (change / (2 * step[:, None])).mT
    bend = torch.where(torch.isfinite(bend).all(), bend, identity)
    parts, axes = torch.linalg.eigh((bend + bend.mT) / 2)
    half: Float[Tensor, "6 6"] = root @ axes * parts.clamp(LEAST_BEND, 1.0).sqrt()
    return half @ half.mT


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

"""How well the final system determines the pose (docs/math.md, section 6)."""

from dataclasses import dataclass

import torch

from pixloc_core.shapes import Bool, Float, Tensor

# Ratio of the smallest to the largest eigenvalue of the system, scaled to unit diagonal, below
# which a direction counts as undetermined: features in float32 give seven digits.
SINGULAR_RATIO = 1e-7
NUM_PARAMETERS = 6


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


def pose_covariance(H: Float[Tensor, "*b 6 6"], scores: Float[Tensor, "*b n 6"]) -> PoseCovariance:
    """Sandwich covariance `H^-1 (sum_i s_i s_i^T) H^-1 n / (n - 6)` (eq. 6.3).

    The spread of the gradients that single points contribute stands for the noise: no noise
    level has to be known, residuals of different size and channels that err together are taken
    as they are. Errors are taken to be independent between points; bias (map errors, a wrong
    minimum) is not seen.

    Args:
        H: Gauss-Newton matrix at the minimum, undamped.
        scores: Gradient of the energy of each point by xi; zero for points that do not count.
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
    steps = torch.where(determined[..., None, None], scores * scale[..., None, :], 0.0) @ inverse
    steps = steps * scale[..., None, :]
    correction = count / (count - NUM_PARAMETERS).clamp(min=1)
    matrix = steps.mT @ steps * correction[..., None, None]
    unknown = identity * torch.inf
    unknown = torch.where(identity > 0, unknown, 0.0)
    return PoseCovariance(torch.where(determined[..., None, None], matrix, unknown), determined)

"""From the covariance of the optimizer to that of the robot (docs/covariance.md)."""

import torch

from pixloc_core.geometry import Pose, so3
from pixloc_core.shapes import Float, Tensor


def base_covariance(
    covariance: Float[Tensor, "6 6"], cam_from_map: Pose, cam_from_base: Pose
) -> Float[Tensor, "6 6"]:
    """Covariance of the base in the map, of that of the increment of `cam_from_map`.

    Args:
        covariance: Of `xi = (v, w)`, on the left of `cam_from_map`, in the camera frame.
        cam_from_map: Pose it belongs to.
        cam_from_base: Where the base is in the camera: the lever arm.

    Returns:
        Of x, y, z, rotX, rotY, rotZ: metres and radians, about the fixed axes of the map. No
        variance is smaller than the smallest eigenvalue of `covariance`.

    Source: docs/covariance.md (eq. 1 and 2).
    """
    map_from_cam = cam_from_map.R.mT.double()
    jacobian = torch.zeros(6, 6, dtype=torch.float64)
    jacobian[:3, :3] = jacobian[3:, 3:] = -map_from_cam
    jacobian[:3, 3:] = map_from_cam @ so3.hat(cam_from_base.t.double())
    result = jacobian @ covariance.double() @ jacobian.mT
    return (result + result.mT) / 2

"""Rotations: exponential, logarithm, quaternions (docs/math.md, section 1).

A rotation vector `w` is axis times angle in radians. Every function here is differentiable with
finite gradients everywhere, in particular at the identity and at half turns.
"""

import torch

from pixloc_core.shapes import Float, Tensor

# Squared lengths are kept above this. Quotients like sin(x)/x are then exact, gradients included:
# what cancels near zero is multiplied by the vector itself.
_TINY = 1e-30


def hat(w: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Skew-symmetric matrix with `hat(w) @ p == cross(w, p)` (eq. 1.1)."""
    axes = torch.eye(3, dtype=w.dtype, device=w.device).expand(*w.shape, 3)
    W: Tensor = torch.linalg.cross(w[..., None].expand_as(axes), axes, dim=-2)
    return W


def exp(w: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrix of a rotation vector (eq. 1.2)."""
    angle = (w * w).sum(-1)[..., None, None].clamp(min=_TINY).sqrt()
    half = 0.5 * angle
    W = hat(w)
    first_order = torch.eye(3, dtype=w.dtype, device=w.device) + (angle.sin() / angle) * W
    return first_order + 0.5 * (half.sin() / half).square() * (W @ W)


def log(R: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """Rotation vector of a rotation matrix, of length at most pi (eq. 1.3).

    At a half turn both signs of the axis are right; one is returned.
    """
    q = to_quat_wxyz(R)
    cosine, xyz = q[..., :1], q[..., 1:]
    sine = (xyz * xyz).sum(-1, keepdim=True).clamp(min=_TINY).sqrt()
    return xyz * (2 * torch.atan2(sine, cosine) / sine)


def angle(R: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b"]:
    """Angle of a rotation in radians, in [0, pi], exact near zero and near pi."""
    return safe_norm(log(R))


def to_quat_wxyz(R: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Unit Hamilton quaternion (w, x, y, z) with w >= 0 of a rotation matrix (eq. 1.4)."""
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = R.flatten(-2).unbind(-1)
    yz, zx, xy = r21 - r12, r02 - r20, r10 - r01
    # Row i is 4 q_i q. The row with the largest diagonal is at least one long: no cancellation.
    rows = (
        (1 + r00 + r11 + r22, yz, zx, xy),
        (yz, 1 + r00 - r11 - r22, r01 + r10, r02 + r20),
        (zx, r01 + r10, 1 - r00 + r11 - r22, r12 + r21),
        (xy, r02 + r20, r12 + r21, 1 - r00 - r11 + r22),
    )
    table = torch.stack([torch.stack(row, -1) for row in rows], -2)
    best = table.detach().diagonal(dim1=-2, dim2=-1).argmax(-1)
    q = table.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    q = q / q.norm(dim=-1, keepdim=True)
    return torch.where(q[..., :1] < 0, -q, q)


def from_quat_wxyz(q: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrix of a Hamilton quaternion (w, x, y, z) of any non-zero length (eq. 1.5)."""
    w, x, y, z = (q / q.norm(dim=-1, keepdim=True)).unbind(-1)
    return _matrix(
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip


def project_to_so3(R: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3 3"]:
    """Closest rotation to any matrix in the Frobenius norm (eq. 1.6). No gradient passes."""
    factors = torch.linalg.svd(R.detach())
    U: Tensor = factors.U
    Vh: Tensor = factors.Vh
    one = torch.ones_like(U[..., 0, 0])
    signs = torch.stack((one, one, torch.linalg.det(U @ Vh)), -1)
    return U @ (signs[..., None] * Vh)


def orthonormalize(R: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3 3"]:
    """Closest rotation to a matrix that is one but for rounding, differentiably (eq. 1.7).

    Two Newton-Schulz steps: a departure `R^T R - I` of 1e-3 shrinks to below 1e-12.
    """
    for _ in range(2):
        R = 1.5 * R - 0.5 * R @ (R.mT @ R)
    return R


def safe_norm(v: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
    """Euclidean length with gradient zero, not NaN, at zero."""
    square = (v * v).sum(-1)
    zero = square == 0
    return torch.where(zero, square, torch.where(zero, torch.ones_like(square), square).sqrt())


def _matrix(*entries: Tensor) -> Tensor:
    """3x3 matrices of their nine entries, row by row."""
    return torch.stack(entries, -1).reshape(*entries[0].shape, 3, 3)

"""Rigid transforms (docs/math.md, section 1; names and order in docs/conventions.md)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.errors import MapError, ShapeError
from pixloc_core.geometry import so3
from pixloc_core.geometry.tensor_backed import (
    Numbers,
    TensorBacked,
    as_float_tensor,
    broadcast_batch,
    check_width,
)
from pixloc_core.shapes import Float, Tensor


class Pose(TensorBacked):
    """A batch of rigid transforms `b_from_a`: `points_b = R points_a + t`.

    The data are twelve numbers: R row by row, then t. `b_from_a * points_a` transforms points,
    `c_from_b @ b_from_a` chains. Increments are `xi = (v, w)`, metres and radians, applied on the
    left and decoupled: `retract(xi) = (Exp(w) R, Exp(w) t + v)` (eq. 1.8).
    """

    __slots__ = ()

    def __init__(self, data: Float[Tensor, "*b 12"]) -> None:
        check_width(data, 12, "pose data")
        self._data = data

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Pose":
        return Pose(function(self._data))

    @classmethod
    def _join(cls, items: Sequence["Pose"], join: Callable[[list[Tensor]], Tensor]) -> "Pose":
        return cls(join([item._data for item in items]))

    @classmethod
    def from_Rt(cls, R: Numbers, t: Numbers) -> "Pose":
        """Pose of rotation matrices `(*b, 3, 3)` and translations `(*b, 3)`."""
        R = as_float_tensor(R)
        t = as_float_tensor(t, like=R)
        if R.shape[-2:] != (3, 3) or t.shape[-1:] != (3,):
            raise ShapeError(
                f"R and t have shapes {tuple(R.shape)} and {tuple(t.shape)}, "
                "expected (*b, 3, 3) and (*b, 3)"
            )
        return cls(_pack(R, t))

    @classmethod
    def from_aa(cls, aa: Numbers, t: Numbers) -> "Pose":
        """Pose of rotation vectors (axis times angle, radians) and translations."""
        aa = as_float_tensor(aa)
        return cls.from_Rt(so3.exp(aa), as_float_tensor(t, like=aa))

    @classmethod
    def from_4x4(cls, T: Numbers) -> "Pose":
        """Pose of homogeneous matrices `(*b, 4, 4)`; the last row is not looked at."""
        T = as_float_tensor(T)
        return cls.from_Rt(T[..., :3, :3], T[..., :3, 3])

    @classmethod
    def from_quat_wxyz(cls, q: Numbers, t: Numbers) -> "Pose":
        """Pose of Hamilton quaternions (w, x, y, z), of any length but zero, and translations."""
        q = as_float_tensor(q)
        return cls.from_Rt(so3.from_quat_wxyz(q), as_float_tensor(t, like=q))

    @classmethod
    def from_colmap(cls, image: Any) -> "Pose":
        """`cam_from_world` in float64.

        Args:
            image: A posed pycolmap Image, a pycolmap Rigid3d, or anything with COLMAP's `qvec`
                (w, x, y, z) and `tvec`.

        Raises:
            MapError: If the image has no pose.
        """
        if hasattr(image, "qvec"):
            return cls.from_quat_wxyz(np.asarray(image.qvec, float), np.asarray(image.tvec, float))
        if not getattr(image, "has_pose", True):
            raise MapError(f"image {image.name} has no pose, expected a registered image")
        rigid = getattr(image, "cam_from_world", image)
        # A method since pycolmap 3.12, an attribute before.
        rigid = rigid() if callable(rigid) else rigid
        matrix = np.array(rigid.matrix(), dtype=np.float64)
        return cls.from_Rt(matrix[:, :3], matrix[:, 3])

    @classmethod
    def identity(
        cls,
        *batch: int,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> "Pose":
        """Identity transforms of a batch shape."""
        data = torch.zeros(*batch, 12, dtype=dtype, device=device)
        data[..., [0, 4, 8]] = 1
        return cls(data)

    @classmethod
    def exp(cls, xi: Float[Tensor, "*b 6"]) -> "Pose":
        """Pose of an increment `xi = (v, w)`: `(Exp(w), v)`, the inverse of `log`."""
        check_width(xi, 6, "xi")
        return cls(_pack(so3.exp(xi[..., 3:]), xi[..., :3]))

    @property
    def R(self) -> Float[Tensor, "*b 3 3"]:
        """Rotation matrices."""
        return self._data[..., :9].reshape(*self.shape, 3, 3)

    @property
    def t(self) -> Float[Tensor, "*b 3"]:
        """Translations, in the unit of the map."""
        return self._data[..., 9:]

    @property
    def center(self) -> Float[Tensor, "*b 3"]:
        """Origin of frame b in frame a: of `cam_from_map`, where the camera is."""
        return -(self.R.mT @ self.t[..., None])[..., 0]

    def inv(self) -> "Pose":
        """`a_from_b` of `b_from_a`."""
        Rt = self.R.mT
        return Pose(_pack(Rt, -(Rt @ self.t[..., None])[..., 0]))

    def compose(self, other: "Pose") -> "Pose":
        """`c_from_a` of `self = c_from_b` and `other = b_from_a`; the batches broadcast."""
        R, t = self.R, self.t
        return Pose(_pack(R @ other.R, (R @ other.t[..., None])[..., 0] + t))

    def __matmul__(self, other: "Pose") -> "Pose":
        if not isinstance(other, Pose):
            return NotImplemented
        return self.compose(other)

    def transform(self, points: Numbers) -> Float[Tensor, "*b n 3"]:
        """Points of frame a in frame b.

        Args:
            points: `(*b, n, 3)`, the batch broadcasts with that of the pose, so that k poses and
                n shared points `(n, 3)` give `(k, n, 3)`; or one point `(3,)`, giving `(*b, 3)`.

        Raises:
            ShapeError: If the last dimension is not three.
        """
        points = as_float_tensor(points, like=self._data)
        if points.shape[-1:] != (3,):
            raise ShapeError(f"points have shape {tuple(points.shape)}, expected (*b, n, 3)")
        if points.ndim == 1:
            return (self.R @ points[:, None])[..., 0] + self.t
        return (self.R @ points.mT + self.t[..., None]).mT

    def __mul__(self, points: Numbers) -> Float[Tensor, "*b n 3"]:
        return self.transform(points)

    def J_transform(self, points_out: Float[Tensor, "*b n 3"]) -> Float[Tensor, "*b n 3 6"]:
        """Derivative of the transformed points by the increment xi of this pose (eq. 1.9).

        Args:
            points_out: The points after the transform.
        """
        identity = torch.eye(3, dtype=points_out.dtype, device=points_out.device)
        return torch.cat((identity.expand(*points_out.shape, 3), -so3.hat(points_out)), -1)

    def retract(self, xi: Float[Tensor, "*b 6"]) -> "Pose":
        """This pose moved by an increment on the left: `Pose.exp(xi) @ self`."""
        return Pose.exp(xi).compose(self)

    def log(self) -> Float[Tensor, "*b 6"]:
        """`xi = (t, Log(R))` with `Pose.exp(xi)` equal to this pose."""
        return torch.cat((self.t, so3.log(self.R)), -1)

    def magnitude(self) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        """Rotation angle in degrees and length of the translation."""
        return torch.rad2deg(so3.angle(self.R)), so3.safe_norm(self.t)

    def quat_wxyz(self) -> Float[Tensor, "*b 4"]:
        """Unit Hamilton quaternion (w, x, y, z) with w >= 0."""
        return so3.to_quat_wxyz(self.R)

    def normalized(self) -> "Pose":
        """Same pose with R freed of accumulated rounding (see `so3.orthonormalize`)."""
        return Pose(_pack(so3.orthonormalize(self.R), self.t))

    def numpy(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """R and t as arrays."""
        return self.R.detach().cpu().numpy(), self.t.detach().cpu().numpy()


def _pack(R: Tensor, t: Tensor) -> Tensor:
    flat = R.flatten(-2)
    if flat.shape[:-1] != t.shape[:-1]:
        batch = broadcast_batch(flat, t)
        flat, t = flat.expand(*batch, 9), t.expand(*batch, 3)
    return torch.cat((flat, t), -1)

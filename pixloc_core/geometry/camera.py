"""Cameras: projection of points to pixels and back (docs/math.md, section 2)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from pixloc_core.errors import ShapeError
from pixloc_core.geometry import camera_formats, distortion
from pixloc_core.geometry.camera_formats import Intrinsics
from pixloc_core.geometry.distortion import DistortionModel
from pixloc_core.geometry.interpolation import inside
from pixloc_core.geometry.tensor_backed import TensorBacked, broadcast_batch, check_width
from pixloc_core.shapes import Bool, Float, Tensor

# Points closer than this to the plane of the camera are not projected (as in PixLoc).
NEAR_PLANE = 1e-3


class Camera(TensorBacked):
    """A batch of cameras of one distortion model.

    The data are w, h, fx, fy, cx, cy and the distortion parameters, in pixels, with the centre of
    the top-left pixel at (0, 0). Sizes are fractional after `scale` with a fractional factor.
    The optical frame has x right, y down, z forward.
    """

    __slots__ = ("_model", "_radius_sq")

    def __init__(
        self,
        data: Float[Tensor, "*b d"],
        model: DistortionModel,
        radius_sq: Float[Tensor, "*b 1"] | None = None,
    ) -> None:
        """Wrap numbers.

        Args:
            data: w, h, fx, fy, cx, cy, distortion parameters.
            model: What the distortion parameters mean.
            radius_sq: Squared `distortion.max_radius`; computed if not given.
        """
        check_width(data, 6 + model.num_params, f"data of a {model.name} camera")
        self._data = data
        self._model = model
        if radius_sq is None:
            radius = distortion.max_radius(model, data[..., 6:])
            radius_sq = radius.square()[..., None].to(data.dtype)
        self._radius_sq = radius_sq

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Camera":
        return Camera(function(self._data), self._model, function(self._radius_sq))

    @classmethod
    def _join(cls, items: Sequence["Camera"], join: Callable[[list[Tensor]], Tensor]) -> "Camera":
        model = max((item._model for item in items), key=lambda model: model.num_params)
        items = [item.with_model(model) for item in items]
        return cls(
            join([item._data for item in items]), model, join([item._radius_sq for item in items])
        )

    @classmethod
    def from_intrinsics(cls, intrinsics: Intrinsics) -> "Camera":
        """One camera in float64 of numbers read from a file or a message."""
        numbers = (*intrinsics.size, *intrinsics.f, *intrinsics.c, *intrinsics.dist)
        return cls(torch.tensor(numbers, dtype=torch.float64), intrinsics.model)

    @classmethod
    def from_colmap(cls, camera: Any) -> "Camera":
        """One camera, in float64, of a COLMAP description; COLMAP's half pixel is removed.

        Args:
            camera: A dict with the keys model, width, height, params, or an object with such
                attributes, as `pycolmap.Camera`.

        Raises:
            FormatError: If the model is unknown or a number does not fit it.
        """
        return cls.from_intrinsics(camera_formats.read_colmap(camera))

    @classmethod
    def from_camera_info(cls, message: Any, *, rectified: bool = False) -> "Camera":
        """One camera, in float64, of a ROS sensor_msgs/CameraInfo or anything alike.

        Args:
            message: Object with width, height, distortion_model, d, k, p, binning_x, binning_y,
                roi. Binning and region of interest are applied: the camera fits the image.
            rectified: Whether the image is rectified: then P holds and no distortion.

        Raises:
            FormatError: If the camera is not calibrated or the message contradicts itself.
        """
        camera = cls.from_intrinsics(camera_formats.read_camera_info(message, rectified=rectified))
        corner, size, binning = camera_formats.read_image_window(message)
        return camera.crop(corner, size).scale((1 / binning[0], 1 / binning[1]))

    @property
    def model(self) -> DistortionModel:
        """Distortion model."""
        return self._model

    @property
    def size(self) -> Float[Tensor, "*b 2"]:
        """Width and height in pixels."""
        return self._data[..., :2]

    @property
    def f(self) -> Float[Tensor, "*b 2"]:
        """Focal lengths in pixels."""
        return self._data[..., 2:4]

    @property
    def c(self) -> Float[Tensor, "*b 2"]:
        """Principal point in pixels."""
        return self._data[..., 4:6]

    @property
    def dist(self) -> Float[Tensor, "*b d"]:
        """Distortion parameters."""
        return self._data[..., 6:]

    @property
    def max_radius(self) -> Float[Tensor, "*b"]:
        """Tangent of the largest usable angle off the axis (`distortion.max_radius`)."""
        return self._radius_sq[..., 0].sqrt()

    def with_model(self, model: DistortionModel) -> "Camera":
        """Same camera written in a more general distortion model, padded with zeros."""
        if model is self._model:
            return self
        if not model.contains(self._model):
            raise ShapeError(f"a {self._model.name} camera cannot be written as {model.name}")
        missing = model.num_params - self._model.num_params
        data = torch.nn.functional.pad(self._data, (0, missing))
        return Camera(data, model, self._radius_sq)

    def scale(self, factor: float | Tensor | Sequence[float]) -> "Camera":
        """Camera of the image resized by a factor, or by one for each axis.

        Use the factors of the sizes actually obtained (new width / old width). The half pixel at
        the border is kept: `c' = (c + 0.5) s - 0.5` (eq. 2.11).

        Raises:
            ShapeError: If there are neither one nor two factors.
        """
        s = torch.as_tensor(factor, dtype=self.dtype, device=self.device)
        if s.ndim and s.shape[-1] != 2:
            raise ShapeError(f"scale has shape {tuple(s.shape)}, expected () or (*b, 2)")
        return self._replace(self.size * s, self.f * s, (self.c + 0.5) * s - 0.5)

    def crop(self, left_top: Tensor | Sequence[float], size: Tensor | Sequence[float]) -> "Camera":
        """Camera of a window of the image: pixel `left_top` becomes (0, 0)."""
        corner = torch.as_tensor(left_top, dtype=self.dtype, device=self.device)
        window = torch.as_tensor(size, dtype=self.dtype, device=self.device)
        return self._replace(window.expand_as(self.size), self.f, self.c - corner)

    def _replace(self, size: Tensor, f: Tensor, c: Tensor) -> "Camera":
        batch = broadcast_batch(size, f, c)
        parts = [part.expand(*batch, part.shape[-1]) for part in (size, f, c, self.dist)]
        return Camera(torch.cat(parts, -1), self._model, self._radius_sq.expand(*batch, 1))

    def in_image(self, points_px: Float[Tensor, "*b n 2"]) -> Bool[Tensor, "*b n"]:
        """Whether pixels lie in the image, borders included: `0 <= p <= size - 1`."""
        width, height = self.size[..., None, :].unbind(-1)
        return inside(points_px, (width, height))

    def world2image(
        self, points_cam: Float[Tensor, "*b n 3"]
    ) -> tuple[Float[Tensor, "*b n 2"], Bool[Tensor, "*b n"]]:
        """Project points to pixels, and tell which projections may be used (eq. 2.1).

        Args:
            points_cam: Points in the optical frame of this camera.

        Returns:
            Pixels, and a mask: farther than the near plane, within the usable radius of the
            distortion, inside the image. Points that fail one of the first two, NaN included,
            give finite pixels without meaning and gradient zero.
        """
        u, v, _, usable = self._normalize(points_cam)
        u, v = distortion.apply(self._model, self.dist, u, v)
        x, y, in_image = self._to_pixels(u, v)
        return torch.stack((x, y), -1), usable & in_image

    def J_world2image(
        self, points_cam: Float[Tensor, "*b n 3"]
    ) -> tuple[Float[Tensor, "*b n 2 3"], Bool[Tensor, "*b n"]]:
        """Derivative of the pixels by the points, and where it holds (eq. 2.10).

        The mask does not ask whether the pixel is inside the image. Elsewhere the derivative is
        finite without meaning.
        """
        u, v, inv_z, usable = self._normalize(points_cam)
        return self._project(u, v, inv_z)[1], usable

    def project_with_jacobian(
        self, points_cam: Float[Tensor, "*b n 3"]
    ) -> tuple[Float[Tensor, "*b n 2"], Float[Tensor, "*b n 2 3"], Bool[Tensor, "*b n"]]:
        """Pixels, their derivative by the points, and the mask of `world2image`, in one go."""
        u, v, inv_z, usable = self._normalize(points_cam)
        points_px, J, in_image = self._project(u, v, inv_z)
        return points_px, J, usable & in_image

    def image2world(
        self, points_px: Float[Tensor, "*b n 2"]
    ) -> tuple[Float[Tensor, "*b n 3"], Bool[Tensor, "*b n"]]:
        """Rays of pixels as points at unit depth, and whether the lens has such a ray (eq. 2.12).

        Pixels need not lie in the image. Rays outside the mask are finite without meaning.
        """
        uv_distorted = (points_px - self.c[..., None, :]) / self.f[..., None, :]
        uv, found = distortion.undistort(self._model, self.dist, uv_distorted, self.max_radius)
        return torch.cat((uv, torch.ones_like(uv[..., :1])), -1), found

    def to_colmap_dict(self) -> dict[str, Any]:
        """COLMAP dict (model, width, height, params) of one camera, with COLMAP's half pixel.

        Raises:
            ShapeError: If this is a batch.
        """
        if self.shape:
            raise ShapeError(f"cameras have batch shape {tuple(self.shape)}, expected one camera")
        width, height, fx, fy, cx, cy, *dist = self._data.tolist()
        intrinsics = Intrinsics((width, height), (fx, fy), (cx, cy), self._model, tuple(dist))
        return camera_formats.write_colmap(intrinsics)

    # Below, coordinates are separate tensors (*b, n): several times faster than a last dimension
    # of two.

    def _normalize(self, points_cam: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Coordinates u, v at unit depth, 1/z and mask; unusable points go to the axis."""
        if points_cam.ndim < 2 or points_cam.shape[-1] != 3:
            raise ShapeError(f"points have shape {tuple(points_cam.shape)}, expected (*b, n, 3)")
        x, y, z = points_cam.unbind(-1)
        in_front = z > NEAR_PLANE
        inv_z = torch.where(in_front, z, 1).reciprocal()
        u, v = x * inv_z, y * inv_z
        usable = in_front & (u * u + v * v < self._radius_sq)
        return torch.where(usable, u, 0), torch.where(usable, v, 0), inv_z, usable

    def _to_pixels(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixel coordinates of distorted points, and whether they lie in the image."""
        width, height, fx, fy, cx, cy = self._data[..., None, :6].unbind(-1)
        x, y = torch.addcmul(cx, u, fx), torch.addcmul(cy, v, fy)
        return x, y, (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)

    def _project(self, u: Tensor, v: Tensor, inv_z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels, their Jacobian and whether they lie in the image (eq. 2.10)."""
        u_d, v_d, J_uu, J_uv, J_vv = distortion.apply_with_jacobian(self._model, self.dist, u, v)
        x, y, in_image = self._to_pixels(u_d, v_d)
        fx, fy = self.f[..., None, :].unbind(-1)
        fx, fy = fx * inv_z, fy * inv_z
        rows = (
            fx * J_uu, fx * J_uv, -fx * (J_uu * u + J_uv * v),
            fy * J_uv, fy * J_vv, -fy * (J_uv * u + J_vv * v),
        )  # fmt: skip
        J = torch.stack(rows, -1).reshape(*u.shape, 2, 3)
        return torch.stack((x, y), -1), J, in_image

"""Lens distortion of normalized image points (docs/math.md, section 2).

Every model is `uv_d = a(r^2) uv + tangential(uv)` with `r = |uv|`; it is usable inside a disk in
which it is one-to-one, see `max_radius`.
"""

import math
from enum import Enum

import torch

from pixloc_core.shapes import Bool, Float, Tensor

# No lens is used beyond this radius (89.94 degrees off the axis): it keeps float32 finite.
RADIUS_CAP = 1e3
# Rational models end before their pole.
_MIN_DENOMINATOR = 1e-3
# Keep divisions and squares finite, in float32 too.
_TINY = 1e-12
_FAR = 1e9
_BISECTION_STEPS = 8
_NEWTON_STEPS = 10


class DistortionModel(Enum):
    """Distortion models; the value lists their parameters in order.

    They stand in one string: a member whose value is an empty tuple loses it in Python 3.11.2.
    """

    NONE = ""
    RADIAL = "k1 k2"
    OPENCV = "k1 k2 p1 p2"
    FULL_OPENCV = "k1 k2 p1 p2 k3 k4 k5 k6"
    FISHEYE = "theta: k1 k2 k3 k4"  # of the angle off the axis

    @property
    def num_params(self) -> int:
        """How many parameters the model has."""
        return self.value.count("k") + self.value.count("p")

    def contains(self, other: "DistortionModel") -> bool:
        """Whether parameters of the other model, padded with zeros, are some of this model."""
        if DistortionModel.FISHEYE in (self, other):
            return self is other
        return self.num_params >= other.num_params

    @property
    def is_tangential(self) -> bool:
        """Whether the model has decentring terms p1, p2."""
        return self in (DistortionModel.OPENCV, DistortionModel.FULL_OPENCV)


def distort(
    model: DistortionModel,
    params: Float[Tensor, "*#b d"],
    uv: Float[Tensor, "*b n 2"],
    radius: Float[Tensor, "*#b"] | None = None,
) -> tuple[Float[Tensor, "*b n 2"], Bool[Tensor, "*b n"]]:
    """Where the lens images normalized points (eq. 2.2 to 2.6).

    Args:
        model: Distortion model.
        params: Its parameters, in the order given at the model.
        uv: Points on the plane at unit depth.
        radius: `max_radius(model, params)`, computed if not given.

    Returns:
        Distorted points, and whether they lie within the radius. Outside they follow the formula
        but mean nothing.
    """
    limit = max_radius(model, params) if radius is None else radius
    u, v = uv.unbind(-1)
    in_disk = u * u + v * v < limit[..., None].square()
    return torch.stack(apply(model, params, u, v), -1), in_disk


def jacobian(
    model: DistortionModel, params: Float[Tensor, "*#b d"], uv: Float[Tensor, "*b n 2"]
) -> Float[Tensor, "*b n 2 2"]:
    """Derivative of the distorted by the undistorted points; symmetric (eq. 2.7)."""
    u, v = uv.unbind(-1)
    _, _, J_uu, J_uv, J_vv = apply_with_jacobian(model, params, u, v)
    J = torch.stack((J_uu, J_uv, J_uv, J_vv), -1)
    return J.reshape(*J.shape[:-1], 2, 2)


def apply(model: DistortionModel, params: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Distorted coordinates of coordinates `(*b, n)`."""
    if model is DistortionModel.NONE:
        return u, v
    k = params[..., None, :].unbind(-1)
    r2 = u * u + v * v
    scale, _ = radial_scale(model, k, r2)
    if not model.is_tangential:
        return u * scale, v * scale
    p1, p2 = k[2:4]
    # Twice the inner product of (u, v) with (p2, p1).
    inner = 2 * (u * p2 + v * p1)
    total = scale + inner
    return u * total + r2 * p2, v * total + r2 * p1


def apply_with_jacobian(
    model: DistortionModel, params: Tensor, u: Tensor, v: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Distorted coordinates and the entries uu, uv, vv of their symmetric Jacobian."""
    if model is DistortionModel.NONE:
        return u, v, torch.ones_like(u), torch.zeros_like(u), torch.ones_like(u)
    k = params[..., None, :].unbind(-1)
    r2 = u * u + v * v
    scale, slope = radial_scale(model, k, r2)
    a, b = 2 * slope * u, 2 * slope * v
    if not model.is_tangential:
        return u * scale, v * scale, scale + a * u, a * v, scale + b * v
    p1, p2 = k[2:4]
    total = scale + 2 * (u * p2 + v * p1)
    a, b = a + 2 * p2, b + 2 * p1
    return (
        u * total + r2 * p2,
        v * total + r2 * p1,
        total + a * u + 2 * p2 * u,
        a * v + 2 * p1 * u,
        total + b * v + 2 * p1 * v,
    )


def radial_scale(
    model: DistortionModel, k: tuple[Tensor, ...], r2: Tensor
) -> tuple[Tensor, Tensor]:
    """Factor `a(r^2)` of the radial part and its derivative by `r^2`."""
    if model is DistortionModel.FISHEYE:
        return _fisheye_scale(k, r2)
    k1, k2 = k[:2]
    if model is not DistortionModel.FULL_OPENCV:
        return 1 + r2 * (k1 + r2 * k2), k1 + 2 * k2 * r2
    k3, k4, k5, k6 = k[4:]
    numerator = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    denominator = (1 + r2 * (k4 + r2 * (k5 + r2 * k6))).clamp(min=_MIN_DENOMINATOR)
    scale = numerator / denominator
    d_numerator = k1 + r2 * (2 * k2 + 3 * k3 * r2)
    d_denominator = k4 + r2 * (2 * k5 + 3 * k6 * r2)
    return scale, (d_numerator - scale * d_denominator) / denominator


def _fisheye_scale(k: tuple[Tensor, ...], r2: Tensor) -> tuple[Tensor, Tensor]:
    k1, k2, k3, k4 = k
    # On the axis a = 1 + O(r^2): the clamp costs nothing and keeps the quotients finite.
    r2 = r2.clamp(min=torch.finfo(r2.dtype).eps)
    r = r2.sqrt()
    theta = r.atan()
    t2 = theta * theta
    scale = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4)))) / r
    d_theta = 1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * (9 * k4))))
    return scale, (d_theta / (1 + r2) - scale) / (2 * r2)


def max_radius(
    model: DistortionModel, params: Float[Tensor, "*b d"], *, num_angles: int = 1025
) -> Float[Tensor, "*b"]:
    """Radius of the disk in which the model is one-to-one: up to its first fold (eq. 2.8, 2.9).

    With `b = d(r a)/dr` and `p = |(p1, p2)|` this is the first root of `b - 6 p r` or of
    `a - 4 p r`, or where a rational model reaches its pole. Within, the Jacobian is positive
    definite, so that no two points share an image. Without tangential terms this is exactly the
    smallest positive root of the derivative of the radial map; with them it is where the map
    folds in the direction opposite to (p2, p1), used for all directions.

    Found by a scan over the angle off the axis in steps of 0.09 degrees, refined three times. At
    most `RADIUS_CAP`. No gradient passes.
    """
    params = params.detach().double()
    low = torch.zeros(params.shape[:-1], dtype=params.dtype, device=params.device)
    high = torch.full_like(low, math.atan(RADIUS_CAP))
    if model is DistortionModel.NONE:
        return high.tan()
    steps = torch.linspace(0, 1, num_angles, dtype=params.dtype, device=params.device)
    for _ in range(4):
        angles = low[..., None] + (high - low)[..., None] * steps
        folded = _fold_margin(model, params, angles.tan()) <= 0
        first = torch.where(folded.any(-1), folded.int().argmax(-1), num_angles - 1)
        bracket = torch.stack((first - 1, first), -1).clamp(min=0)
        low, high = angles.gather(-1, bracket).unbind(-1)
    return low.tan()


def undistort(
    model: DistortionModel,
    params: Float[Tensor, "*#b d"],
    uv_distorted: Float[Tensor, "*b n 2"],
    radius: Float[Tensor, "*#b"] | None = None,
) -> tuple[Float[Tensor, "*b n 2"], Bool[Tensor, "*b n"]]:
    """Normalized points whose image by the lens is given: the inverse of `distort` (eq. 2.12).

    Args:
        model: Distortion model.
        params: Its parameters.
        uv_distorted: Distorted points.
        radius: `max_radius(model, params)`, computed if not given.

    Returns:
        Points within the radius, and whether such a point exists. Where not, the result is finite
        without meaning. Gradients are those of the inverse function.
    """
    limit = max_radius(model, params) if radius is None else radius
    limit = limit[..., None].to(uv_distorted.dtype)
    with torch.no_grad():
        target = uv_distorted.nan_to_num().clamp(-_FAR, _FAR)
        u, v = _invert(model, params, target, limit)
    # One more step, this time with gradients: they are then exact (implicit function theorem).
    du, dv = _newton_step(model, params, uv_distorted, u, v)
    r2 = u * u + v * v
    tolerance = 1e3 * torch.finfo(r2.dtype).eps * (1 + r2)
    found = (du.abs() < tolerance) & (dv.abs() < tolerance) & (r2 < limit.square())
    return torch.stack((u - torch.where(found, du, 0), v - torch.where(found, dv, 0)), -1), found


def _fold_margin(model: DistortionModel, params: Tensor, r: Tensor) -> Tensor:
    """A quantity that is positive from the axis up to the first fold, at radii `(*b, n)`."""
    k = params[..., None, :].unbind(-1)
    r2 = r * r
    scale, slope = radial_scale(model, k, r2)
    radial = scale + 2 * r2 * slope
    if not model.is_tangential:
        return radial
    p = torch.hypot(k[2], k[3])
    margin = torch.minimum(radial - 6 * p * r, scale - 4 * p * r)
    if model is DistortionModel.FULL_OPENCV:
        k4, k5, k6 = k[5:]
        denominator = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
        margin = torch.minimum(margin, denominator - _MIN_DENOMINATOR)
    return margin


def _invert(
    model: DistortionModel, params: Tensor, target: Tensor, limit: Tensor
) -> tuple[Tensor, Tensor]:
    """Closest approach to the inverse within the radius `limit`."""
    if model is DistortionModel.NONE:
        u, v = target.unbind(-1)
        return u, v
    u, v = _invert_radial(model, params, target, limit)
    if model.is_tangential:
        for _ in range(_NEWTON_STEPS):
            du, dv = _newton_step(model, params, target, u, v)
            u, v = u - du, v - dv
            shrink = (limit / torch.hypot(u, v).clamp(min=_TINY)).clamp(max=1)
            u, v = u * shrink, v * shrink
    return u, v


def _invert_radial(
    model: DistortionModel, params: Tensor, target: Tensor, limit: Tensor
) -> tuple[Tensor, Tensor]:
    """Inverse of the radial part alone: the angle off the axis, by bisection, then Newton."""
    k = params[..., None, :].unbind(-1)
    u, v = target.unbind(-1)
    radius = torch.hypot(u, v)
    low, high = torch.zeros_like(radius), limit.atan() * torch.ones_like(radius)
    angle = radius.atan().minimum(high)
    # A bound may be the root itself: a step that rounds to just beyond it has arrived.
    slack = 8 * torch.finfo(radius.dtype).eps
    for iteration in range(_BISECTION_STEPS + 2 * _NEWTON_STEPS):
        r = angle.tan()
        r2 = r * r
        scale, slope = radial_scale(model, k, r2)
        excess = r * scale - radius
        low, high = torch.where(excess < 0, angle, low), torch.where(excess < 0, high, angle)
        step = excess / ((scale + 2 * r2 * slope) * (1 + r2))
        newton = angle - step
        trusted = (newton >= low - slack) & (newton <= high + slack)
        trusted = trusted & (iteration >= _BISECTION_STEPS)
        angle = torch.where(trusted, newton.clamp(low, high), 0.5 * (low + high))
    factor = angle.tan() / radius.clamp(min=_TINY)
    return u * factor, v * factor


def _newton_step(
    model: DistortionModel, params: Tensor, target: Tensor, u: Tensor, v: Tensor
) -> tuple[Tensor, Tensor]:
    u_d, v_d, J_uu, J_uv, J_vv = apply_with_jacobian(model, params, u, v)
    u_error, v_error = u_d - target[..., 0], v_d - target[..., 1]
    determinant = (J_uu * J_vv - J_uv * J_uv).clamp(min=_TINY)
    return (
        (J_vv * u_error - J_uv * v_error) / determinant,
        (J_uu * v_error - J_uv * u_error) / determinant,
    )

"""The feature-metric cost: do the points look, in the query, as they looked in the map?"""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from pixloc_core.alignment.moments import Moments, MomentSampler
from pixloc_core.errors import ShapeError
from pixloc_core.features.pyramid import FeatureLevel
from pixloc_core.geometry import Pose
from pixloc_core.geometry.interpolation import Mode, inside
from pixloc_core.optim.normal_equations import NormalEquations
from pixloc_core.optim.robust import RobustLoss
from pixloc_core.shapes import Bool, Float, Tensor


@dataclass(frozen=True, kw_only=True)
class CostConfig:
    """How one level is compared with the map.

    Attributes:
        pad: Points closer to the border of the map than this are outside, in its pixels.
        mode: Interpolation, see `geometry.interpolation`.
        normalize: Scale sampled query features to unit length.
        outside_residual: A point outside the image, or where the query has no confidence, costs as
            much as one whose residual has this length: then nothing is gained by moving points
            out of sight. None: such points do not count, as in the reference.
    """

    pad: float = 1.0
    mode: Mode = "linear"
    normalize: bool = False
    outside_residual: float | None = 1.0


@dataclass(frozen=True)
class PointResiduals:
    """How each point fits at a pose.

    Attributes:
        points_px: Projections in pixels of the level.
        residual: Length of the feature difference.
        weight: Product of both confidences and the robust weight; 0 where not valid.
        valid: Projections that may be used; the other entries mean nothing.
        scores: Gradient of the energy of each point by xi; they add up to `g` (eq. 6.2).
    """

    points_px: Float[Tensor, "*b n 2"]
    residual: Float[Tensor, "*b n"]
    weight: Float[Tensor, "*b n"]
    valid: Bool[Tensor, "*b n"]
    scores: Float[Tensor, "*b n 6"]


class _Terms(NamedTuple):
    """The share of each point; zero moments where not valid.

    Points are the last dimension: small last dimensions are several times slower.

    Attributes:
        points_px: Pixels of the level.
        valid: Points that count.
        J: Derivative of the pixels by xi.
        moments: In float64.
        confidence: Product of both confidences, 0 where not valid.
        loss: Robust loss.
        weight: Robust weight times confidence.
    """

    points_px: Float[Tensor, "*b n 2"]
    valid: Bool[Tensor, "*b n"]
    J: Float[Tensor, "*b 2 6 n"]
    moments: Moments
    confidence: Float[Tensor, "*b n"]
    loss: Float[Tensor, "*b n"]
    weight: Float[Tensor, "*b n"]


class FeatureMetricCost:
    """Robust, confidence-weighted difference of descriptors at projected points (eq. 4.5, 4.6).

    One level without batch and points `(n, 3)` serve poses of any batch shape (hypotheses). A
    batch of levels needs points, descriptors and poses of the same batch (training).

    Args:
        level: Feature map, confidence and camera of the query.
        points_map: Points in the frame the poses come from, float64.
        descriptors: What the map knows of each point at this level.
        confidences: In [0, 1]; points of confidence 0 do not count (padding of a batch).
        loss: Robust loss of the squared residual.
        config: How to compare.

    Raises:
        ShapeError: If the shapes do not fit each other.
    """

    def __init__(
        self,
        level: FeatureLevel,
        points_map: Float[Tensor, "*m n 3"],
        descriptors: Float[Tensor, "*m n c"],
        confidences: Float[Tensor, "*m n"],
        loss: RobustLoss,
        config: CostConfig,
    ) -> None:
        if descriptors.shape[:-1] != points_map.shape[:-1] or (
            descriptors.shape[-1] != level.channels
        ):
            raise ShapeError(
                f"descriptors have shape {tuple(descriptors.shape)}, expected "
                f"{(*points_map.shape[:-1], level.channels)} for the points and the level"
            )
        self._camera = level.camera.to(points_map)
        self._level = level
        self._points = points_map
        self._descriptors = descriptors
        self._sample = MomentSampler(
            level.features, level.confidence, mode=config.mode, normalize=config.normalize
        )
        self._confidences = confidences.to(points_map.dtype)
        self._loss = loss
        self._config = config
        self._outside_cost: Tensor | None = None
        if config.outside_residual is not None:
            self._outside_cost = loss(points_map.new_tensor(config.outside_residual**2))[0]

    @property
    def is_shared(self) -> bool:
        """Whether one level serves all poses."""
        return self._points.ndim == 2

    def linearize(self, pose: Pose) -> NormalEquations:
        """Cost and 6x6 system at poses `(*b)` (eq. 4.6, 5.1, 5.2)."""
        terms = self._terms(pose)
        _, xr, yr, xx, xy, yy, _ = terms.moments
        J, weight = terms.J, terms.weight[..., None, None, :]
        J_u, J_v = J[..., :1, :, :], J[..., 1:, :, :]
        to_u, to_v = torch.stack((xx, xy), -2), torch.stack((xy, yy), -2)
        tensor_J = weight * (to_u[..., None, :] * J_u + to_v[..., None, :] * J_v)
        slope = weight * torch.stack((xr, yr), -2)[..., None, :]
        seen_J = terms.valid.to(J.dtype)[..., None, None, :] * J
        # One product for all three sums over the points and both pixel coordinates.
        sums = (J @ torch.cat((tensor_J, slope, seen_J), -2).mT).sum(-3)
        num_valid = terms.valid.sum(-1)
        motion = sums[..., 7:] / num_valid.clamp(min=1)[..., None, None]
        cost, normalizer = self._mean_cost(terms)
        H, g = sums[..., :6], sums[..., 6]
        return NormalEquations(H, g, cost, num_valid, normalizer, motion)

    def points(self, pose: Pose) -> PointResiduals:
        """How each point fits at poses `(*b)`."""
        terms = self._terms(pose)
        slope = torch.stack((terms.moments.xr, terms.moments.yr), -2) * terms.weight[..., None, :]
        return PointResiduals(
            terms.points_px,
            terms.moments.rr.sqrt(),
            terms.weight,
            terms.valid,
            (terms.J * slope[..., None, :]).sum(-3).mT,
        )

    def _terms(self, pose: Pose) -> _Terms:
        points_cam = pose * self._points
        points_px, J_px_cam, valid = self._camera.project_with_jacobian(points_cam)
        numbers = torch.stack(self._sample(points_px, self._descriptors)).to(points_cam.dtype)
        valid = valid & self._is_inside(points_px) & (self._confidences > 0)
        # A map with holes (NaN) loses the points that touch them, and no others.
        valid = valid & torch.isfinite(numbers.sum(0))
        moments = Moments(*torch.where(valid, numbers, 0.0))
        confidence = moments.confidence * self._confidences
        loss, weight, _ = self._loss(moments.rr)
        # [I, -hat(p)] times a row j of the derivative by the point is (j, p x j).
        by_point = J_px_cam.movedim(-3, -1)
        by_turn = torch.linalg.cross(points_cam.mT[..., None, :, :], by_point, dim=-2)
        J = torch.cat((by_point, by_turn), -2)
        return _Terms(points_px, valid, J, moments, confidence, loss, confidence * weight)

    def _is_inside(self, points_px: Float[Tensor, "*b n 2"]) -> Bool[Tensor, "*b n"]:
        # The outer ring of the cubic kernel must lie in the map, too.
        pad = self._config.pad + (self._config.mode == "cubic")
        return inside(points_px, self._level.size, pad)

    def _mean_cost(self, terms: _Terms) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        total = (terms.confidence * terms.loss).sum(-1)
        if self._outside_cost is None:
            normalizer = terms.valid.sum(-1).clamp(min=1).to(total.dtype)
            return total / normalizer, normalizer
        everything = self._confidences.sum(-1).expand(total.shape)
        unseen = everything - terms.confidence.sum(-1)
        normalizer = everything.clamp(min=torch.finfo(total.dtype).tiny)
        return (total + unseen * self._outside_cost) / normalizer, normalizer

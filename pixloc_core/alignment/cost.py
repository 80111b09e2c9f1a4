"""The feature-metric cost: do the points look, in the query, as they looked in the map?"""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from pixloc_core.alignment.moments import residual_moments
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
    """The share of each point; `J` is of the pixels by xi, the moments are zero if not valid."""

    points_px: Float[Tensor, "*b n 2"]
    valid: Bool[Tensor, "*b n"]
    J: Float[Tensor, "*b n 2 6"]
    squared: Float[Tensor, "*b n"]
    gradient: Float[Tensor, "*b n 2 1"]
    tensor: Float[Tensor, "*b n 2 2"]
    confidence: Float[Tensor, "*b n"]
    loss: Float[Tensor, "*b n"]
    weight: Float[Tensor, "*b n"]


class FeatureMetricCost:
    """Robust, confidence-weighted difference of descriptors at projected points (eq. 5.9).

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
        self._confidences = confidences.to(points_map.dtype)
        self._loss = loss
        self._config = config
        self._outside_cost: Tensor | None = None
        if config.outside_residual is not None:
            self._outside_cost = loss(points_map.new_tensor(config.outside_residual**2))[0]

    def linearize(self, pose: Pose) -> NormalEquations:
        """Cost and 6x6 system at poses `(*b)` (eq. 5.1, 5.2, 5.9)."""
        terms = self._terms(pose)
        weight = (terms.confidence * terms.weight)[..., None, None]
        J = terms.J.flatten(-3, -2)
        # Column by column: matrix products of 2x2 blocks cost more than these four.
        MJ = (
            terms.tensor[..., :1] * terms.J[..., :1, :]
            + terms.tensor[..., 1:] * terms.J[..., 1:, :]
        )
        H = J.mT @ (weight * MJ).flatten(-3, -2)
        g = (J.mT @ (weight * terms.gradient).flatten(-3, -2))[..., 0]
        num_valid = terms.valid.sum(-1)
        seen = terms.valid.to(J.dtype)
        motion = J.mT @ (terms.J * seen[..., None, None]).flatten(-3, -2)
        motion = motion / num_valid.clamp(min=1)[..., None, None]
        cost, normalizer = self._mean_cost(terms)
        return NormalEquations(H, g, cost, num_valid, normalizer, motion)

    def points(self, pose: Pose) -> PointResiduals:
        """How each point fits at poses `(*b)`."""
        terms = self._terms(pose)
        weight = terms.confidence * terms.weight
        scores = (terms.J.mT @ terms.gradient)[..., 0] * weight[..., None]
        residual = terms.squared.clamp(min=0).sqrt()
        return PointResiduals(terms.points_px, residual, weight, terms.valid, scores)

    def _terms(self, pose: Pose) -> _Terms:
        points_cam = pose * self._points
        points_px, J_px_cam, valid = self._camera.project_with_jacobian(points_cam)
        valid = valid & self._is_inside(points_px)
        level, config = self._level, self._config
        moments = residual_moments(
            level.features,
            level.confidence,
            points_px,
            self._descriptors,
            mode=config.mode,
            normalize=config.normalize,
        )
        # A map with holes (NaN) loses the points that touch them, and no others.
        size = moments.squared + moments.tensor.diagonal(dim1=-2, dim2=-1).sum(-1)
        valid = valid & torch.isfinite(size + moments.confidence) & (self._confidences > 0)
        squared = torch.where(valid, moments.squared, 0.0)
        loss, weight, _ = self._loss(squared)
        # [I, -hat(p)] times a row j of the derivative by the point is (j, p x j).
        J = torch.cat((J_px_cam, torch.linalg.cross(points_cam[..., None, :], J_px_cam)), -1)
        return _Terms(
            points_px,
            valid,
            J,
            squared,
            torch.where(valid[..., None, None], moments.gradient[..., None], 0.0),
            torch.where(valid[..., None, None], moments.tensor, 0.0),
            torch.where(valid, moments.confidence * self._confidences, 0.0),
            loss,
            weight,
        )

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

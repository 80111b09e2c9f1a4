"""The objective of GN-Net: features that tell places apart, and whose gradients lead there.

It looks at the feature maps alone, at each point and level in both directions. The contrastive
part pulls the descriptors of a point in both images together, and pushes one of the most similar
places elsewhere away. The Gauss-Newton part takes one step from a pixel near the true one, and
asks that the truth be likely under the normal distribution of that step: its mean where the step
ends, its information the matrix of the step.

Source: von Stumberg et al., "GN-Net: The Gauss-Newton Loss", RA-L 2020; with the numbers of the
implementation in PixLoc.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from pixloc_core.config import check, setting
from pixloc_core.features.pyramid import FeatureLevel, FeaturePyramid
from pixloc_core.geometry import Pose, inside, sample, sample_with_gradient
from pixloc_core.shapes import Bool, Float, Int, Tensor
from pixloc_core.training.losses import masked_mean
from pixloc_core.training.pairs import PairBatch
from pixloc_core.training.unit_length import unit_length

_DIRECTIONS = 2
# Points whose distances to all pixels are held in memory at once.
_CHUNK = 64
# Squared distance that counts as zero: a root has no gradient there.
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class GnNetConfig:
    """Margins, search for negatives and noise; the defaults are those of PixLoc's GN-Net."""

    contrastive_weight: float = setting(1.0, doc="Weight of the contrastive part.", ge=0.0)
    gauss_newton_weight: float = setting(0.1, doc="Weight of the Gauss-Newton part.", ge=0.0)
    positive_margin: float = setting(
        0.2, doc="Descriptors of one point may be this far apart.", ge=0.0
    )
    negative_margin: float = setting(
        1.0, doc="Squared distance from which descriptors of two places do not count.", ge=0.0
    )
    num_negatives: int = setting(
        200, doc="The negative is drawn from so many most similar places.", ge=1
    )
    window: float = setting(
        0.1,
        doc="Places this near along x and y are no negatives, in parts of the longer side.",
        ge=0.0,
        le=1.0,
    )
    noise: float = setting(
        1.0,
        doc="Largest distance from the truth along x and y at which a step starts.",
        unit="px of the map",
        ge=0.0,
    )
    pad: float = setting(
        4.0, doc="Border where points are not used.", unit="px of the map", ge=0.0
    )
    ridge: float = setting(1e-6, doc="Added to the diagonal of the matrix of a step.", ge=1e-12)
    max_points: int = setting(
        0,
        doc="Use at most so many points, evenly taken; 0: all. The search for negatives costs "
        "most of the time.",
        ge=0,
    )
    max_places: int = setting(
        0,
        doc="Search negatives among about so many places of a map, evenly taken; 0: all.",
        ge=0,
    )
    only_seen: bool = setting(
        True, doc="Use only points known to be visible in the query, not hidden ones."
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class GnNetDraws:
    """All that is random, per level (fine to coarse) and direction (from the reference, back).

    Attributes:
        offset: Start of each step from the truth, in [-1, 1] of the noise.
        negative: Which of the most similar places is the negative, from 0 to `num_negatives - 1`.
    """

    offset: Float[Tensor, "l 2 b n 2"]
    negative: Int[Tensor, "l 2 b n"]

    @classmethod
    def draw(
        cls,
        num_levels: int,
        num_points: int,
        config: GnNetConfig,
        generators: Sequence[torch.Generator],
    ) -> "GnNetDraws":
        """Draw for each pair from its own generator, whatever the batch that it is in."""
        shape = (num_levels, _DIRECTIONS, num_points)
        offsets, negatives = [], []
        for generator in generators:
            offsets.append(2 * torch.rand(*shape, 2, generator=generator) - 1)
            negatives.append(torch.randint(config.num_negatives, shape, generator=generator))
        return cls(torch.stack(offsets, 2), torch.stack(negatives, 2))

    def of_level(self, level: int) -> tuple[Float[Tensor, "2 b n 2"], Int[Tensor, "2 b n"]]:
        """Both for one level."""
        return self.offset[level], self.negative[level]


@dataclass(frozen=True)
class GnNetLoss:
    """Losses of each pair, as means over levels, directions and points.

    Attributes:
        total: Weighted sum of the two parts.
        contrastive: Contrastive part, before its weight.
        gauss_newton: Gauss-Newton part, before its weight.
    """

    total: Float[Tensor, " b"]
    contrastive: Float[Tensor, " b"]
    gauss_newton: Float[Tensor, " b"]


class _Side(NamedTuple):
    """One image at one level: its map of unit descriptors, and the points on it."""

    features: Float[Tensor, "b h w c"]
    points_px: Float[Tensor, "b n 2"]
    usable: Bool[Tensor, "b n"]


def gnnet_loss(
    reference: FeaturePyramid,
    query: FeaturePyramid,
    batch: PairBatch,
    config: GnNetConfig,
    generators: Sequence[torch.Generator],
) -> GnNetLoss:
    """The objective on the feature maps of a batch of pairs.

    Args:
        reference: Features of the references; descriptors need not have unit length.
        query: Features of the queries.
        batch: The points and their true poses.
        config: All settings.
        generators: Random numbers, one generator (on the CPU) per pair.
    """
    count = batch.points_ref.shape[1]
    every = slice(None, None, math.ceil(count / (config.max_points or count)))
    points_ref = batch.points_ref[:, every]
    used = (batch.is_seen if config.only_seen else batch.is_point)[:, every]
    draws = GnNetDraws.draw(len(reference), points_ref.shape[1], config, generators)
    maps = (reference, query)
    return correspondence_loss(maps, points_ref, batch.query_from_ref, used, config, draws)


def correspondence_loss(
    maps: tuple[FeaturePyramid, FeaturePyramid],
    points_ref: Float[Tensor, "b n 3"],
    query_from_ref: Pose,
    used: Bool[Tensor, "b n"],
    config: GnNetConfig,
    draws: GnNetDraws,
) -> GnNetLoss:
    """The objective on points with known positions in both images.

    Args:
        maps: Features of the references and of the queries.
        points_ref: Points in the frames of the references.
        query_from_ref: True relative poses.
        used: Points that count where they are inside both maps.
        config: All settings.
        draws: All that is random.
    """
    points = (points_ref, query_from_ref * points_ref)
    terms = [
        term
        for level in range(len(maps[0]))
        for term in level_losses(
            (maps[0][level], maps[1][level]), points, used, config, draws.of_level(level)
        )
    ]
    first = torch.stack([masked_mean(term.contrastive, term.both) for term in terms]).mean(0)
    second = torch.stack([masked_mean(term.gauss_newton, term.reached) for term in terms]).mean(0)
    total = config.contrastive_weight * first + config.gauss_newton_weight * second
    return GnNetLoss(total, first, second)


class PointLosses(NamedTuple):
    """Losses of each point at one level in one direction; finite but meaningless off the masks.

    Attributes:
        contrastive: Contrastive loss.
        both: Points that are used and inside both images.
        gauss_newton: Negative log likelihood of the true pixel.
        reached: Those of them whose step starts inside the image.
    """

    contrastive: Float[Tensor, "b n"]
    both: Bool[Tensor, "b n"]
    gauss_newton: Float[Tensor, "b n"]
    reached: Bool[Tensor, "b n"]


def level_losses(
    levels: tuple[FeatureLevel, FeatureLevel],
    points_cam: tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n 3"]],
    used: Bool[Tensor, "b n"],
    config: GnNetConfig,
    draws: tuple[Float[Tensor, "2 b n 2"], Int[Tensor, "2 b n"]],
) -> list[PointLosses]:
    """Losses of one level, from the reference to the query and back.

    Args:
        levels: Features of references and queries.
        points_cam: The points in the frames of these.
        used: Points that may count.
        config: All settings.
        draws: `offset` and `negative` of `GnNetDraws` for this level.
    """
    sides = [_place(*pair, config) for pair in zip(levels, points_cam, strict=True)]
    result = []
    for (one, other), offset, negative in zip((sides, sides[::-1]), *draws, strict=True):
        both = one.usable & other.usable & used
        contrastive = _contrast(one, other, config, negative.to(both.device))
        # The way back: the step is taken where the contrastive part has its anchor.
        gauss_newton, reached = _gauss_newton(other, one, config, offset, both)
        result.append(PointLosses(contrastive, both, gauss_newton, reached))
    return result


def _place(level: FeatureLevel, points_cam: Float[Tensor, "b n 3"], config: GnNetConfig) -> _Side:
    points_px, visible = level.camera.world2image(points_cam)
    usable = visible & inside(points_px, level.size, config.pad)
    return _Side(unit_length(level.features), points_px, usable)


def _contrast(
    anchor: _Side, other: _Side, config: GnNetConfig, draw: Int[Tensor, "b n"]
) -> Float[Tensor, "b n"]:
    """Contrastive loss of each point: its descriptor against the same and another place."""
    descriptors = sample(anchor.features, anchor.points_px)
    same = sample(other.features, other.points_px)
    distance = (descriptors - same).square().sum(-1).clamp(min=_TINY).sqrt()
    positive = (distance - config.positive_margin).clamp(min=0).square()
    index, exists = _find_negatives(descriptors, other, config, draw)
    table = other.features.flatten(1, 2)
    elsewhere = table.take_along_dim(index[..., None], 1)
    squared = (descriptors - elsewhere).square().sum(-1)
    negative = (config.negative_margin - squared).clamp(min=0)
    return positive + torch.where(exists, negative, 0.0)


@torch.no_grad()
def _find_negatives(
    descriptors: Float[Tensor, "b n c"],
    other: _Side,
    config: GnNetConfig,
    draw: Int[Tensor, "b n"],
) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
    """Pixels (row by row) of the places drawn from the most similar ones outside the window.

    Maps with fewer places outside the window are drawn from evenly, too; the mask is unset where
    there is none at all.
    """
    height, width = other.features.shape[1:3]
    reach = config.window * max(height, width)
    every = math.ceil(math.sqrt(height * width / (config.max_places or height * width)))
    table = other.features[:, ::every, ::every].flatten(1, 2)
    lengths = table.square().sum(-1)
    columns = torch.arange(0, width, every, device=table.device)
    rows = torch.arange(0, height, every, device=table.device)
    places = (rows[:, None] * width + columns).flatten()
    count = min(config.num_negatives, len(places))
    found, exists = [], []
    for start in range(0, descriptors.shape[1], _CHUNK):
        some = slice(start, start + _CHUNK)
        x, y = other.points_px[:, some].unsqueeze(-1).unbind(-2)
        near = ((rows - y).abs() < reach)[..., None] & ((columns - x).abs() < reach)[..., None, :]
        near = near.flatten(2)
        # The length of the descriptor itself adds the same to all distances.
        order = torch.baddbmm(lengths[:, None], descriptors[:, some], table.mT, alpha=-2)
        best = order.masked_fill_(near, math.inf).topk(count, dim=-1, largest=False).indices
        available = (len(places) - near.sum(-1)).clamp(max=count)
        chosen = draw[:, some] * available // config.num_negatives
        found.append(places[best.take_along_dim(chosen[..., None], -1)[..., 0]])
        exists.append(available > 0)
    return torch.cat(found, 1), torch.cat(exists, 1)


def _gauss_newton(
    fixed: _Side,
    moved: _Side,
    config: GnNetConfig,
    offset: Float[Tensor, "b n 2"],
    both: Bool[Tensor, "b n"],
) -> tuple[Float[Tensor, "b n"], Bool[Tensor, "b n"]]:
    """Negative log likelihood of the true pixel after one step, and where there is one.

    Args:
        fixed: Image whose descriptors are looked for.
        moved: Image in which the step is taken.
        config: All settings.
        offset: Start of the step from the truth, in parts of the noise.
        both: Points that are inside both images.
    """
    target = sample(fixed.features, fixed.points_px)
    start_px = moved.points_px + config.noise * offset.to(moved.points_px)
    height, width = moved.features.shape[1:3]
    reached = both & inside(start_px, (width, height), config.pad)
    value, gradient = sample_with_gradient(moved.features, start_px)
    # Two by two: in float64, so that what the ridge adds is not rounded away.
    residual, jacobian = (value - target).double(), gradient.double()
    matrix = jacobian.mT @ jacobian
    slope = (jacobian.mT @ residual[..., None])[..., 0]
    unit = torch.eye(2, dtype=matrix.dtype, device=matrix.device)
    matrix = torch.where(reached[..., None, None], matrix + config.ridge * unit, unit)
    a, b, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 1]
    determinant = a * d - b * b
    step = torch.stack(
        (d * slope[..., 0] - b * slope[..., 1], a * slope[..., 1] - b * slope[..., 0])
    )
    end_px = start_px - step.movedim(0, -1) / determinant[..., None]
    off = moved.points_px - end_px
    misfit = (off * (matrix @ off[..., None])[..., 0]).sum(-1)
    likelihood = 0.5 * misfit + math.log(2 * math.pi) - 0.5 * determinant.log()
    return likelihood.to(value.dtype), reached

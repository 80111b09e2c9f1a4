"""The model that is trained: a network, and the aligner that uses its features.

Both views go through the network; the reference's features at its points stand for the map, and
the same `align` that localizes moves the query's pose until its features agree. Training differs
by policies only: every step is taken, a fixed number of them, with learned damping.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from pixloc_core.alignment.aligner_config import AlignerConfig, at_level
from pixloc_core.alignment.coarse_to_fine import AlignmentResult, align
from pixloc_core.features.network_extractor import create_pyramid
from pixloc_core.features.networks import FeatureNetwork
from pixloc_core.features.pyramid import FeatureLevel, FeaturePyramid
from pixloc_core.features.reference import PointFeatures
from pixloc_core.geometry import Pose, inside, sample
from pixloc_core.optim.damping import Damping, LearnedDamping
from pixloc_core.shapes import Float, Tensor
from pixloc_core.training.pairs import PairBatch, View
from pixloc_core.training.unit_length import unit_length


@dataclass(frozen=True)
class TwoViewOutput:
    """What the model makes of a batch of pairs.

    Attributes:
        reference: Features of the reference views, as the network gives them.
        query: Features of the query views, of unit length.
        points: Points with the descriptors that the reference shows, of unit length.
        alignment: Poses of the queries from the references, level by level.
    """

    reference: FeaturePyramid
    query: FeaturePyramid
    points: PointFeatures
    alignment: AlignmentResult

    @property
    def poses(self) -> tuple[Pose, ...]:
        """Pose at the end of each level, coarse to fine."""
        return self.alignment.pose_per_level

    @property
    def failed(self) -> Float[Tensor, "l b"]:
        """Where a level could not be optimized, coarse to fine."""
        return self.alignment.cost_per_level.isnan().T


class TwoViewModel(nn.Module):
    """Aligns the query of each pair to its reference, differentiably.

    Args:
        network: Makes the features.
        config: Settings of the aligner.
        damping: Learned damping `(l, 6)` to begin with, fine to coarse; None: not learned, the
            damping of the config holds.
        bf16: Compute the network in bfloat16 where that is safe; alignment stays as it is.
        learns_alignment: Whether gradients pass through the alignment; otherwise it is only
            looked at.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        config: AlignerConfig,
        damping: Float[Tensor, "l 6"] | None = None,
        *,
        bf16: bool = False,
        learns_alignment: bool = True,
    ) -> None:
        super().__init__()
        # Channels last: 1.6 times as fast on a CPU, and the layout that sampling needs.
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.damping = nn.ModuleList([] if damping is None else map(LearnedDamping, damping))
        self._config = config
        self._bf16 = bf16
        self.learns_alignment = learns_alignment

    @property
    def config(self) -> AlignerConfig:
        """Settings of the aligner."""
        return self._config

    def damping_table(self) -> Float[Tensor, "l 6"] | None:
        """The learned damping as `Weights` keeps it."""
        rows = [dict(damping.named_parameters())["const"].detach() for damping in self.damping]
        return torch.stack(rows) if rows else None

    def forward(self, batch: PairBatch, start: Pose) -> TwoViewOutput:
        """Align all pairs.

        Args:
            batch: The pairs.
            start: Initial `query_from_ref` of each, float64.
        """
        # Two passes rather than one of twice the size: batch normalization then sees the images
        # of references and of queries as two batches, as PixLoc's training does.
        reference = self._extract(batch.reference)
        query = FeaturePyramid(tuple(_unit_length(level) for level in self._extract(batch.query)))
        points = self._read_points(reference, batch)
        damping: Sequence[Damping] | None = list(self.damping) or None  # type: ignore[arg-type]
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.learns_alignment):
            alignment = align(query, points, start, self._config, damping=damping)
        return TwoViewOutput(reference, query, points, alignment)

    def _extract(self, view: View) -> FeaturePyramid:
        image = view.image.contiguous(memory_format=torch.channels_last)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self._bf16):
            outputs = self.network(image)
        return create_pyramid(outputs, view.camera, self.network.config.strides)

    def _read_points(self, reference: FeaturePyramid, batch: PairBatch) -> PointFeatures:
        """Descriptors and confidences where the references show the points."""
        descriptors, confidences = [], []
        for index, level in enumerate(reference):
            points_px, visible = level.camera.world2image(batch.points_ref)
            pad = at_level(self._config.pad, index)
            usable = visible & inside(points_px, level.size, pad) & batch.is_point
            seen = sample(level.features, points_px)
            confidence = sample(level.confidence[..., None], points_px)[..., 0]
            descriptors.append(unit_length(seen))
            confidences.append(torch.where(usable, confidence, 0.0))
        place = torch.arange(batch.points_ref.shape[1], device=batch.points_ref.device)
        return PointFeatures(
            batch.points_ref,
            tuple(descriptors),
            tuple(confidences),
            place.expand(batch.points_ref.shape[:-1]),
        )


def _unit_length(level: FeatureLevel) -> FeatureLevel:
    return FeatureLevel(unit_length(level.features), level.confidence, level.camera, level.stride)

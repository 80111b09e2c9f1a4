"""One alignment of a query: the map points for it, the poses found from some, the verdict."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from pixloc_core.alignment.aligner_config import AlignerConfig
from pixloc_core.alignment.coarse_to_fine import AlignmentResult, align_rig
from pixloc_core.alignment.rig_cost import Sight, pose_of_camera
from pixloc_core.features.extractor import DampedExtractor, Extractor, SteerableExtractor
from pixloc_core.features.pyramid import FeaturePyramid
from pixloc_core.features.reference import Aggregation, PointFeatures, Turn, gather_points
from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.config import LocalizerConfig
from pixloc_core.localizer.query import Query, SeenView
from pixloc_core.localizer.result import LocalizationStatus
from pixloc_core.localizer.verification import Verdict, VerificationConfig, has_pose, verify
from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.map.selection import select_points, select_references
from pixloc_core.map.view_similarity import image_rolls
from pixloc_core.shapes import Float, Tensor

# Limits, and the settings of the alignment.
Configs = tuple[VerificationConfig, AlignerConfig]


@dataclass(frozen=True, eq=False)
class Match:
    """The image of one camera, and the map points that it is aligned to.

    Attributes:
        view: The image.
        references: Indices of the map images that describe the points.
        sight: What is aligned.
        heldout: Points that are kept out of the alignment, to be looked at afterwards.
    """

    view: SeenView
    references: list[int]
    sight: Sight
    heldout: PointFeatures


@dataclass(frozen=True, eq=False)
class Attempt:
    """One alignment, with what it was made of."""

    matches: tuple[Match, ...]
    result: AlignmentResult
    verdict: Verdict

    @property
    def localized(self) -> bool:
        """Whether the pose is believed."""
        return self.verdict.status is LocalizationStatus.LOCALIZED

    @property
    def sights(self) -> tuple[Sight, ...]:
        """What was aligned, camera after camera."""
        return tuple(match.sight for match in self.matches)


class Matcher:
    """Matches queries with one map; holds no state between them."""

    def __init__(
        self, feature_map: FeatureMap, extractor: Extractor, config: LocalizerConfig
    ) -> None:
        self._map, self._config = feature_map, config
        self._steerable = extractor if isinstance(extractor, SteerableExtractor) else None
        self._selection = config.selection
        if self._steerable is not None:
            # Descriptors that can be turned do not mind how a map image is held.
            upright = replace(self._selection.similarity, roll_deg=1e6)
            self._selection = replace(self._selection, similarity=upright)
        learned = extractor.damping if isinstance(extractor, DampedExtractor) else None
        self._damping = config.aligner.level_damping(learned)

    def match(
        self, query: Query, start: Pose, references: Sequence[int]
    ) -> tuple[Match, ...] | None:
        """Map points for each camera; cameras without any are left out.

        Args:
            query: The images.
            start: Poses `(k)` of the first camera, relative to the origin of the map.
            references: Map images that look like that of the first camera; empty: those that see
                what these poses see, as it is for the other cameras.

        Returns:
            None if there are too few points in all.
        """
        found = []
        for index, view in enumerate(query.views):
            if view.pyramid is not None:
                given = references if index == 0 else ()
                match = self._match_view(query, view, view.pyramid, start, given)
                found += [] if match is None else [match]
        num_points = sum(len(match.sight.points) + len(match.heldout) for match in found)
        return tuple(found) if num_points >= self._config.verification.min_points else None

    def attempt(
        self, query: Query, start: Pose, matches: tuple[Match, ...], configs: Configs
    ) -> Attempt:
        """Align and judge."""
        sights = tuple(match.sight for match in matches)
        start = start.to(sights[0].points.points_map.device)
        result = query.watch.time(
            "align_ms", lambda: align_rig(sights, start, configs[1], damping=self._damping)
        )
        return Attempt(matches, result, self.judge(query, matches, result, configs))

    def judge(
        self, query: Query, matches: Sequence[Match], result: AlignmentResult, configs: Configs
    ) -> Verdict:
        """Whether the best pose of an alignment is believed."""
        sights = [match.sight for match in matches]
        cameras = [match.view.camera for match in matches]
        return query.watch.time("verify_ms", lambda: verify(sights, cameras, result, configs))

    def _match_view(
        self,
        query: Query,
        view: SeenView,
        pyramid: FeaturePyramid,
        start: Pose,
        references: Sequence[int],
    ) -> Match | None:
        sparse, watch = self._map.sparse, query.watch
        poses = pose_of_camera(view.cam_from_first, start)
        chosen = list(references[: self._selection.num_references])
        if not chosen:
            chosen = watch.time(
                "select_ms",
                lambda: select_references(sparse, poses, view.camera, self._selection),
            )
        if not chosen:
            return None
        selection = watch.time(
            "select_ms",
            lambda: select_points(sparse, chosen, self._selection, poses, view.camera),
        )
        if not len(selection):
            return None
        mode: Aggregation = "mean" if self._config.aggregation == "mean" else "single"
        turn = self._turn(poses[0])
        points = watch.time("gather_ms", lambda: gather_points(self._map, selection, mode, turn))
        points = points.to(pyramid[0].features.device)
        kept = self._config.checks.kept_points(len(points)).to(points.points_map.device)
        sight = Sight(pyramid, points.select(kept), view.cam_from_first)
        return Match(view, chosen, sight, points.select(~kept))

    def _turn(self, cam_from_map: Pose) -> Turn | None:
        """How the map images are rolled against the likeliest pose, if that can be undone."""
        if self._steerable is None:
            return None
        angles = image_rolls(self._map.sparse, cam_from_map)
        return Turn(self._steerable, torch.from_numpy(angles))


def motion_px(attempt: Attempt, start: Pose) -> float:
    """Median motion of the points in the images from where the best hypothesis began; NaN if none.

    Args:
        attempt: The alignment.
        start: Its initial poses, on the CPU.
    """
    result = attempt.result
    if not has_pose(result):
        return float("nan")
    before, after = start[int(result.hypothesis[0])], result.cam_from_map[0].cpu()
    motions = [_motions(match.view.camera, match, before, after) for match in attempt.matches]
    motion = torch.cat(motions)
    return float(motion.median()) if len(motion) else float("nan")


def _motions(camera: Camera, match: Match, before: Pose, after: Pose) -> Float[Tensor, " n"]:
    points = match.sight.points.points_map.cpu()
    found_px, seen = camera.world2image(match.sight.cam_from_map(after) * points)
    start_px, _ = camera.world2image(match.sight.cam_from_map(before) * points)
    motion: Tensor = (found_px - start_px).norm(dim=-1)
    return motion[seen]

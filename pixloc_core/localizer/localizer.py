"""One image, its camera and a prior against a map: the pose, or the reason why there is none."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from pixloc_core.alignment.aligner_config import AlignerConfig
from pixloc_core.alignment.coarse_to_fine import AlignmentResult, align
from pixloc_core.config import check, section, setting
from pixloc_core.errors import ConfigError, ImageError, MapError
from pixloc_core.features.extractor import (
    DampedExtractor,
    Extractor,
    SteerableExtractor,
    create_extractor,
)
from pixloc_core.features.preferences import Preferences
from pixloc_core.features.pyramid import FeaturePyramid
from pixloc_core.features.reference import Aggregation, PointFeatures, Turn, gather_points
from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.hypotheses import FanConfig, fan_out
from pixloc_core.localizer.prior import Prior
from pixloc_core.localizer.result import Localization, LocalizationStatus, Timings
from pixloc_core.localizer.verification import Verdict, VerificationConfig, has_pose, verify
from pixloc_core.localizer.view import View
from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.map.selection import SelectionConfig, select_points, select_references
from pixloc_core.map.sparse_map import SparseMap
from pixloc_core.map.view_similarity import image_rolls

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class LocalizerConfig:
    """How a query is answered, and when the answer is that it cannot be localized."""

    selection: SelectionConfig = section(  # noqa: RUF009 (a field)
        SelectionConfig, doc="Which references and points to use."
    )
    aligner: AlignerConfig = section(  # noqa: RUF009 (a field)
        AlignerConfig, doc="Alignment of the image to the points."
    )
    aggregation: str = setting(
        "mean",
        doc="Descriptor of a point: that of its best viewed observation, or the mean of several.",
        choices=("single", "mean"),
    )
    max_priors: int = setting(
        8, doc="Poses of the prior, or of its references, that are tried together.", ge=1
    )
    fan: FanConfig = section(  # noqa: RUF009 (a field)
        FanConfig, doc="Hypotheses around a pose from which the fine levels alone found nothing."
    )
    near_stride: int = setting(
        -1,
        doc="A single pose is first followed alone at levels of at most this stride: a near prior "
        "needs neither coarser ones nor a fan. 0: no such try; -1: as the features have it.",
        unit="px",
        ge=-1,
    )
    reselect_px: float = setting(
        30.0,
        doc="Choose references and points anew at the pose found if it lies further from the "
        "prior than this mean motion of the points.",
        unit="px",
        ge=0.0,
    )
    verification: VerificationConfig = section(  # noqa: RUF009 (a field)
        VerificationConfig, doc="When a pose is not believed."
    )

    def __post_init__(self) -> None:
        check(self)

    def for_features(self, preferences: Preferences) -> "LocalizerConfig":
        """The settings, where they leave something open as the features have it."""
        aligner = replace(
            self.aligner,
            robust_scale=self.aligner.robust_scale or preferences.robust_scale,
            interpolation=self.aligner.interpolation or preferences.interpolation,
        )
        return replace(
            self,
            aligner=aligner,
            near_stride=preferences.near_stride if self.near_stride < 0 else self.near_stride,
            verification=self.verification.for_features(preferences.agreement),
        )


@dataclass(frozen=True)
class _Query:
    """One query and what it has cost so far."""

    pyramid: FeaturePyramid
    camera: Camera
    watch: "_Stopwatch"


@dataclass(frozen=True)
class _Attempt:
    """One alignment, with what it was made of."""

    references: list[int]
    points: PointFeatures
    result: AlignmentResult
    verdict: Verdict

    @property
    def localized(self) -> bool:
        return self.verdict.status is LocalizationStatus.LOCALIZED


class Localizer:
    """Localizes images in one map; holds no state between queries."""

    def __init__(
        self, feature_map: FeatureMap, extractor: Extractor, config: LocalizerConfig | None = None
    ) -> None:
        """Bind a map to the extractor that it was made with.

        Raises:
            MapError: If the map was made by another extractor or with other weights.
        """
        if feature_map.extractor_fingerprint != extractor.fingerprint:
            raise MapError(
                f"{feature_map.path}: made with other weights or feature settings "
                f"({feature_map.extractor_fingerprint[:12]}) than the queries' "
                f"({extractor.fingerprint[:12]}); build it again"
            )
        self._map = feature_map
        self._extractor = extractor
        self._config = (config or LocalizerConfig()).for_features(extractor.preferences)
        selection = self._config.selection
        if isinstance(extractor, SteerableExtractor):
            # Descriptors that can be turned do not mind how a map image is held.
            upright = replace(selection.similarity, roll_deg=1e6)
            selection = replace(selection, similarity=upright)
        self._selection = selection
        self._near = self._near_aligner()
        learned = extractor.damping if isinstance(extractor, DampedExtractor) else None
        self._damping = self._config.aligner.level_damping(learned)

    @classmethod
    def open(
        cls,
        path: str | Path,
        config: LocalizerConfig | None = None,
        extractor: Extractor | None = None,
    ) -> "Localizer":
        """Open a feature map, with the extractor that its file names unless one is given.

        Raises:
            MapError: If the file cannot be used.
            CheckpointError: If the weights of its network cannot be used.
        """
        feature_map = FeatureMap.open(path)
        if extractor is None:
            extractor = create_extractor(feature_map.extractor_config)
        return cls(feature_map, extractor, config)

    @property
    def feature_map(self) -> FeatureMap:
        """The map."""
        return self._map

    @property
    def sparse(self) -> SparseMap:
        """Images, points and observations of the map."""
        return self._map.sparse

    def localize(self, image: np.ndarray, camera: Camera, prior: Prior) -> Localization:
        """Find one camera in the map, see `localize_views`.

        Args:
            image: Image (h, w, 3) RGB or (h, w) grey, uint8.
            camera: Its camera, of the same size.
            prior: What is known beforehand, in the coordinates of the map.
        """
        return self.localize_views((View(image, camera),), prior)

    @torch.inference_mode()
    def localize_views(
        self, views: Sequence[View], prior: Prior, *, search: bool = True
    ) -> Localization:
        """Find the first of several cameras, which carries the others rigidly, in the map.

        A single pose is first followed alone at the finer levels (`near_stride`), which do for a
        near prior. Otherwise all poses of the prior, or those of its references, and poses turned
        to the sides of them are followed together from the coarsest level on; where the pose found
        is far from the prior, references and points are chosen anew from there, and the fine
        levels are repeated.

        Args:
            views: Images taken at the same moment, that of the first camera first.
            prior: What is known of the first camera beforehand, in the coordinates of the map.
            search: Whether to search around the prior where a near try finds nothing; without
                it, the answer that the camera is not there comes much sooner. Only a single
                pose has a near try (`near_stride`): anything else is searched all the same.

        Raises:
            ConfigError: If there are no views.
            ImageError: If an image is empty, has no structure or another size than its camera.
            MapError: If a reference is not in the map.
        """
        if len(views) != 1:
            raise ConfigError(f"{len(views)} views given, expected 1")
        image, camera = views[0].image, views[0].camera
        watch = _Stopwatch()
        references = [self._map.sparse.index_of(name) for name in dict.fromkeys(prior.references)]
        start = self._initial_poses(prior, references)
        pyramid = watch.time("extract_ms", lambda: self._extractor.extract(image, camera))
        size = (image.shape[1], image.shape[0])
        if not bool((pyramid[0].confidence > 0).any()):
            grey = f"all values from {image.min()} to {image.max()}"
            raise ImageError(f"image of {size[0]}x{size[1]} px shows nothing ({grey})")
        query = _Query(pyramid, camera.to(dtype=torch.float64), watch)
        attempt = self._search(query, start, references, search=search)
        answer = Localization(
            LocalizationStatus.NO_REFERENCES,
            LocalizationStatus.NO_REFERENCES.value,
            timings=watch.timings(),
            confidence=pyramid[0].confidence,
            image_size=size,
        )
        return answer if attempt is None else self._answer(answer, attempt)

    def _search(
        self, query: _Query, start: Pose, references: list[int], *, search: bool
    ) -> _Attempt | None:
        """The best attempt from these poses; None if the map shows nothing of what they see."""
        found = self._points(query, start, references)
        if found is None:
            return None
        limits = self._config.verification
        tried = None
        if self._near is not None and len(start) == 1:
            tried = self._attempt(query, start, found, (limits, self._near))
            if tried.localized or not search:
                return tried
        attempt = self._search_around(query, start, found)
        if tried is None:
            return attempt
        # Where nothing around the prior is better, what agreed too little to be believed alone is
        # the best of many.
        configs = (limits.after_search(), self._near or self._config.aligner)
        tried = replace(tried, verdict=self._verify(query, tried.points, tried.result, configs))
        is_better = not attempt.localized or tried.verdict.score > attempt.verdict.score
        return tried if tried.localized and is_better else attempt

    def _search_around(
        self, query: _Query, start: Pose, found: tuple[list[int], PointFeatures]
    ) -> _Attempt:
        """The best of poses to all sides of these; from there once more, if that is far away."""
        fanned = fan_out(start, query.camera, self._config.fan)
        near, full = self._near, self._config.aligner
        limits = self._config.verification.after_search()
        attempt = self._attempt(query, fanned, found, (limits, full))
        if not self._moved_far(attempt, fanned, query.camera):
            return attempt
        # The references of the prior are no better than the prior: ask again from here.
        closer = attempt.result.cam_from_map[:1].cpu()
        chosen = self._points(query, closer, [])
        if chosen is None:
            return attempt
        again = self._attempt(query, closer, chosen, (limits, near or full))
        return again if again.localized else attempt

    def _near_aligner(self) -> AlignerConfig | None:
        """Settings of the first try; None if there is none."""
        aligner, strides = self._config.aligner, self._extractor.strides
        levels = sorted(set(aligner.levels) or range(len(strides)))
        near = tuple(level for level in levels if strides[level] <= self._config.near_stride)
        return replace(aligner, levels=near, restart=False) if near else None

    def _initial_poses(self, prior: Prior, references: list[int]) -> Pose:
        """Poses to start from (k), relative to the origin of the map."""
        sparse = self._map.sparse
        if prior.cam_from_map is not None:
            poses = sparse.to_local(prior.cam_from_map.cpu())
        else:
            poses = sparse.cam_from_map[torch.tensor(references)]
        return poses[: self._config.max_priors]

    def _points(
        self, query: _Query, start: Pose, references: list[int]
    ) -> tuple[list[int], PointFeatures] | None:
        """References (unless given) and points with descriptors; None if there are too few."""
        config, sparse, watch = self._config, self._map.sparse, query.watch
        chosen = references[: self._selection.num_references]
        if not chosen:
            chosen = watch.time(
                "select_ms",
                lambda: select_references(sparse, start, query.camera, self._selection),
            )
        if not chosen:
            return None
        selection = watch.time(
            "select_ms",
            lambda: select_points(sparse, chosen, self._selection, start, query.camera),
        )
        if len(selection) < config.verification.min_points:
            return None
        mode: Aggregation = "mean" if config.aggregation == "mean" else "single"
        turn = self._turn(start[0])
        points = watch.time("gather_ms", lambda: gather_points(self._map, selection, mode, turn))
        return chosen, points.to(query.pyramid[0].features.device)

    def _attempt(
        self,
        query: _Query,
        start: Pose,
        found: tuple[list[int], PointFeatures],
        configs: tuple[VerificationConfig, AlignerConfig],
    ) -> _Attempt:
        """Align and judge."""
        (references, points), (_, aligner) = found, configs
        start = start.to(points.points_map.device)
        result = query.watch.time(
            "align_ms", lambda: align(query.pyramid, points, start, aligner, damping=self._damping)
        )
        verdict = self._verify(query, points, result, configs)
        return _Attempt(references, points, result, verdict)

    def _verify(
        self,
        query: _Query,
        points: PointFeatures,
        result: AlignmentResult,
        configs: tuple[VerificationConfig, AlignerConfig],
    ) -> Verdict:
        return query.watch.time(
            "verify_ms", lambda: verify(query.pyramid, points, result, query.camera, configs)
        )

    def _turn(self, cam_from_map: Pose) -> Turn | None:
        """How the map images are rolled against the likeliest pose, if that can be undone."""
        if not isinstance(self._extractor, SteerableExtractor):
            return None
        angles = image_rolls(self._map.sparse, cam_from_map)
        return Turn(self._extractor, torch.from_numpy(angles))

    def _moved_far(self, attempt: _Attempt, start: Pose, camera: Camera) -> bool:
        result = attempt.result
        if not has_pose(result):
            return False
        before = start[int(result.hypothesis[0])]
        points = attempt.points.points_map.cpu()
        found_px, seen = camera.world2image(result.cam_from_map[0].cpu() * points)
        start_px, _ = camera.world2image(before * points)
        motion = (found_px - start_px).norm(dim=-1)[seen]
        return bool(len(motion)) and float(motion.median()) > self._config.reselect_px

    def _answer(self, answer: Localization, attempt: _Attempt) -> Localization:
        """The answer of an attempt, in the coordinates of the map."""
        result, verdict, sparse = attempt.result, attempt.verdict, self._map.sparse
        pose = sparse.to_model(result.cam_from_map[0].cpu()) if attempt.localized else None
        return replace(
            answer,
            status=verdict.status,
            reason=verdict.reason,
            cam_from_map=pose,
            covariance=result.covariance.matrix.cpu() if attempt.localized else None,
            score=verdict.score,
            num_points=verdict.num_points,
            num_inliers=verdict.num_inliers,
            cost_per_level=tuple(result.cost_per_level[0].tolist()),
            references=tuple(sparse.image_names[index] for index in attempt.references),
            evidence=verdict.evidence,
        )


class _Stopwatch:
    """Adds up the wall time of named stages."""

    def __init__(self) -> None:
        self._ms = {stage.name: 0.0 for stage in fields(Timings)}

    def add(self, stage: str, seconds: float) -> None:
        self._ms[stage] += seconds * 1e3

    def time(self, stage: str, work: Callable[[], T]) -> T:
        began = time.perf_counter()
        result = work()
        self.add(stage, time.perf_counter() - began)
        return result

    def timings(self) -> Timings:
        return Timings(**self._ms)

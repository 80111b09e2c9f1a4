"""One image, its camera and a prior against a map: the pose, or the reason why there is none."""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from pixloc_core.alignment.aligner_config import AlignerConfig
from pixloc_core.alignment.coarse_to_fine import AlignmentResult, align
from pixloc_core.config import check, section, setting
from pixloc_core.errors import ImageError, MapError
from pixloc_core.features.extractor import Extractor, SteerableExtractor, create_extractor
from pixloc_core.features.pyramid import FeaturePyramid
from pixloc_core.features.reference import Aggregation, PointFeatures, Turn, gather_points
from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.prior import Prior
from pixloc_core.localizer.result import Localization, LocalizationStatus, Timings
from pixloc_core.localizer.verification import VerificationConfig, has_pose, verify
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
    max_hypotheses: int = setting(
        8, doc="Poses of the prior, or of its references, that are tried together.", ge=1
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


@dataclass(frozen=True)
class _Attempt:
    """One alignment, with what it was made of."""

    pyramid: FeaturePyramid
    camera: Camera
    references: list[int]
    points: PointFeatures
    result: AlignmentResult


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
        self._config = config or LocalizerConfig()
        selection = self._config.selection
        if isinstance(extractor, SteerableExtractor):
            # Descriptors that can be turned do not mind how a map image is held.
            upright = replace(selection.similarity, roll_deg=1e6)
            selection = replace(selection, similarity=upright)
        self._selection = selection

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

    @torch.inference_mode()
    def localize(self, image: np.ndarray, camera: Camera, prior: Prior) -> Localization:
        """Find the camera in the map.

        All poses of the prior, or those of its references, are followed together from the coarsest
        level on. Where the pose found is far from the prior, references and points are chosen
        anew from there, and the alignment is repeated.

        Args:
            image: Image (h, w, 3) RGB or (h, w) grey, uint8.
            camera: Its camera, of the same size.
            prior: What is known beforehand, in the coordinates of the map.

        Raises:
            ImageError: If the image is empty, has no structure or another size than the camera.
            MapError: If a reference is not in the map.
        """
        watch = _Stopwatch()
        references = [self._map.sparse.index_of(name) for name in dict.fromkeys(prior.references)]
        start = self._initial_poses(prior, references)
        pyramid = watch.time("extract_ms", lambda: self._extractor.extract(image, camera))
        size = (image.shape[1], image.shape[0])
        if not bool((pyramid[0].confidence > 0).any()):
            grey = f"all values from {image.min()} to {image.max()}"
            raise ImageError(f"image of {size[0]}x{size[1]} px shows nothing ({grey})")
        answer = Localization(
            LocalizationStatus.NO_REFERENCES,
            LocalizationStatus.NO_REFERENCES.value,
            confidence=pyramid[0].confidence,
            image_size=size,
        )
        attempt = self._attempt(pyramid, camera, start, references, watch)
        if attempt is not None and self._moved_far(attempt, start):
            # The references of the prior are no better than the prior: ask again from here.
            again = self._attempt(pyramid, camera, attempt.result.cam_from_map[:1], [], watch)
            if again is not None and has_pose(again.result):
                attempt = again
        if attempt is None:
            return replace(answer, timings=watch.timings())
        return self._judge(answer, attempt, watch)

    def _initial_poses(self, prior: Prior, references: list[int]) -> Pose:
        """Poses to start from (k), relative to the origin of the map."""
        sparse = self._map.sparse
        if prior.cam_from_map is not None:
            poses = sparse.to_local(prior.cam_from_map.cpu())
        else:
            poses = sparse.cam_from_map[torch.tensor(references)]
        return poses[: self._config.max_hypotheses]

    def _attempt(
        self,
        pyramid: FeaturePyramid,
        camera: Camera,
        start: Pose,
        references: list[int],
        watch: "_Stopwatch",
    ) -> _Attempt | None:
        """Choose references (unless given) and points, and align; None if there are none."""
        config, sparse = self._config, self._map.sparse
        camera = camera.to(dtype=torch.float64)
        chosen = references[: self._selection.num_references]
        if not chosen:
            chosen = watch.time(
                "select_ms", lambda: select_references(sparse, start, camera, self._selection)
            )
        if not chosen:
            return None
        selection = watch.time(
            "select_ms",
            lambda: select_points(sparse, chosen, self._selection, start, camera),
        )
        if len(selection) < config.verification.min_points:
            return None
        mode: Aggregation = "mean" if config.aggregation == "mean" else "single"
        turn = self._turn(start[0])
        points = watch.time("gather_ms", lambda: gather_points(self._map, selection, mode, turn))
        points = points.to(pyramid[0].features.device)
        start = start.to(points.points_map.device)
        result = watch.time("align_ms", lambda: align(pyramid, points, start, config.aligner))
        return _Attempt(pyramid, camera, chosen, points, result)

    def _turn(self, cam_from_map: Pose) -> Turn | None:
        """How the map images are rolled against the likeliest pose, if that can be undone."""
        if not isinstance(self._extractor, SteerableExtractor):
            return None
        angles = image_rolls(self._map.sparse, cam_from_map)
        return Turn(self._extractor, torch.from_numpy(angles))

    def _moved_far(self, attempt: _Attempt, start: Pose) -> bool:
        result = attempt.result
        if not has_pose(result):
            return False
        camera = attempt.camera
        before = start[int(result.hypothesis[0])]
        points = attempt.points.points_map.cpu()
        found_px, seen = camera.world2image(result.cam_from_map[0].cpu() * points)
        start_px, _ = camera.world2image(before * points)
        motion = (found_px - start_px).norm(dim=-1)[seen]
        return bool(len(motion)) and float(motion.median()) > self._config.reselect_px

    def _judge(self, answer: Localization, attempt: _Attempt, watch: "_Stopwatch") -> Localization:
        """Say whether the pose found can be believed."""
        result, config, sparse = attempt.result, self._config, self._map.sparse
        verdict = watch.time(
            "verify_ms",
            lambda: verify(
                attempt.pyramid,
                attempt.points,
                result,
                attempt.camera,
                (config.verification, config.aligner),
            ),
        )
        localized = verdict.status is LocalizationStatus.LOCALIZED
        return replace(
            answer,
            status=verdict.status,
            reason=verdict.reason,
            cam_from_map=sparse.to_model(result.cam_from_map[0].cpu()) if localized else None,
            covariance=result.covariance.matrix.cpu() if localized else None,
            score=verdict.score,
            num_points=verdict.num_points,
            num_inliers=verdict.num_inliers,
            cost_per_level=tuple(result.cost_per_level[0].tolist()),
            references=tuple(sparse.image_names[index] for index in attempt.references),
            timings=watch.timings(),
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

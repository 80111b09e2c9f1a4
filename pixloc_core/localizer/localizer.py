"""Images, their cameras and a prior against a map: the pose, or the reason why there is none."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pixloc_core.alignment.aligner_config import AlignerConfig
from pixloc_core.alignment.rig_cost import Sight
from pixloc_core.errors import MapError
from pixloc_core.features.extractor import Extractor, create_extractor
from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.attempt import Attempt, Match, Matcher, motion_px
from pixloc_core.localizer.checks import find_checks
from pixloc_core.localizer.config import LocalizerConfig
from pixloc_core.localizer.covariance import spread_of
from pixloc_core.localizer.hypotheses import NO_FAN, FanConfig, fan_out
from pixloc_core.localizer.prior import Prior
from pixloc_core.localizer.query import Query, look
from pixloc_core.localizer.result import Checks, Localization, LocalizationStatus, ViewResult
from pixloc_core.localizer.view import View
from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.map.sparse_map import SparseMap

__all__ = ["Localizer", "LocalizerConfig"]


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
        self._near = self._near_aligner()
        self._matcher = Matcher(feature_map, extractor, self._config)

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
                it, the answer that the camera is not there comes much sooner. Several poses have
                no near try (`near_stride`): without a search they are followed from the coarsest
                level on, but none beside them.

        Raises:
            ConfigError: If there are no views, or the first is not where the first camera is.
            ImageError: If an image is empty or has another size than its camera, or no image has
                any structure.
            MapError: If a reference is not in the map.
        """
        references = [self._map.sparse.index_of(name) for name in dict.fromkeys(prior.references)]
        start = self._initial_poses(prior, references)
        query = look(self._extractor, views)
        attempt = self._search(query, start, references, search=search)
        if attempt is None:
            status = LocalizationStatus.NO_REFERENCES
            answer = Localization(status, status.value)
        else:
            answer = self._answer(query, attempt)
        results = _view_results(query, attempt)
        return replace(
            answer,
            timings=query.watch.timings(),
            confidence=results[0].confidence,
            image_size=results[0].image_size,
            evidence=results[0].evidence,
            views=results,
        )

    def _search(
        self, query: Query, start: Pose, references: list[int], *, search: bool
    ) -> Attempt | None:
        """The best attempt from these poses; None if the map shows nothing of what they see."""
        matches = self._matcher.match(query, start, references)
        if matches is None:
            return None
        limits = self._config.verification
        tried = None
        if self._near is not None and len(start) == 1:
            tried = self._matcher.attempt(query, start, matches, (limits, self._near))
            if tried.localized or not search:
                return tried
        fan = self._config.fan if search else NO_FAN
        attempt = self._search_around(query, start, matches, fan)
        if tried is None:
            return attempt
        # Where nothing around the prior is better, what agreed too little to be believed alone is
        # the best of many.
        configs = (limits.after_search(), self._near or self._config.aligner)
        verdict = self._matcher.judge(query, matches, tried.result, configs)
        tried = replace(tried, verdict=verdict)
        is_better = not attempt.localized or tried.verdict.score > attempt.verdict.score
        return tried if tried.localized and is_better else attempt

    def _search_around(
        self, query: Query, start: Pose, matches: tuple[Match, ...], fan: FanConfig
    ) -> Attempt:
        """The best of poses to all sides of these; from there once more, if that is far away."""
        fanned = fan_out(start, query.views[0].camera, fan)
        near, full = self._near, self._config.aligner
        limits = self._config.verification.after_search()
        attempt = self._matcher.attempt(query, fanned, matches, (limits, full))
        if not motion_px(attempt, fanned) > self._config.reselect_px:
            return attempt
        # The references of the prior are no better than the prior: ask again from here.
        closer = attempt.result.cam_from_map[:1].cpu()
        chosen = self._matcher.match(query, closer, [])
        if chosen is None:
            return attempt
        again = self._matcher.attempt(query, closer, chosen, (limits, near or full))
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

    def _answer(self, query: Query, attempt: Attempt) -> Localization:
        """The answer of an attempt, in the coordinates of the map."""
        result, verdict, sparse = attempt.result, attempt.verdict, self._map.sparse
        pose = sparse.to_model(result.cam_from_map[0].cpu()) if attempt.localized else None
        camera = attempt.sights[0].pyramid[result.points_level].camera
        spread = spread_of(result, float(camera.size[0])) if attempt.localized else None
        references = dict.fromkeys(i for match in attempt.matches for i in match.references)
        return Localization(
            status=verdict.status,
            reason=verdict.reason,
            cam_from_map=pose,
            covariance=spread.covariance(self._config.covariance) if spread else None,
            score=verdict.score,
            num_points=verdict.num_points,
            num_inliers=verdict.num_inliers,
            cost_per_level=tuple(result.cost_per_level[0].tolist()),
            references=tuple(sparse.image_names[index] for index in references),
            hypotheses=sparse.to_model(result.candidates.cpu()),
            checks=self._checks(query, attempt) if attempt.localized else None,
            spread=spread,
        )

    def _checks(self, query: Query, attempt: Attempt) -> Checks:
        config = self._config
        heldout = [
            Sight(match.sight.pyramid, match.heldout, match.sight.cam_from_first)
            for match in attempt.matches
        ]
        cameras = [match.view.camera for match in attempt.matches]
        configs = (config.checks, config.verification, config.aligner)
        return query.watch.time(
            "check_ms",
            lambda: find_checks(attempt.sights, heldout, cameras, attempt.result, configs),
        )


def _view_results(query: Query, attempt: Attempt | None) -> tuple[ViewResult, ...]:
    """What there is to say of each image."""
    evidence = {}
    if attempt is not None:
        pairs = zip(attempt.matches, attempt.verdict.evidence, strict=True)
        evidence = {id(match.view): seen for match, seen in pairs}
    return tuple(
        ViewResult(
            view.size,
            None if view.pyramid is None else view.pyramid[0].confidence,
            evidence.get(id(view)),
        )
        for view in query.views
    )

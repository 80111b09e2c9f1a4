"""Which map images a query is compared with."""

import numpy as np
from numpy.typing import NDArray

from pixloc_core.geometry import Camera, Pose
from pixloc_core.map.covisibility import compatible, observations_of_points, visible_points
from pixloc_core.map.selection_config import SelectionConfig
from pixloc_core.map.sparse_map import SparseMap
from pixloc_core.map.view_similarity import view_similarity

# Enough points to rank images by; more would only cost time.
_RANKING_POINTS = 4000


def select_references(
    sparse: SparseMap, cam_from_map: Pose, camera: Camera, config: SelectionConfig
) -> list[int]:
    """Map images that show what a camera at the given pose would see, the best first.

    Each visible point counts as much as its best view so far; an image counts what it adds to the
    ones before it, and a little for what it confirms. So the first has the most similar view of
    most of the scene, and near-duplicates of it come late.

    Args:
        sparse: The map.
        cam_from_map: Pose relative to the origin of the map (`sparse.to_local`), or several
            (batch shape (k,)), whose references are taken in turn, the first pose first.
        camera: Camera of the query.
        config: Settings.

    Returns:
        At most `num_references` indices; empty if no map image shows anything of it.
    """
    poses = cam_from_map.reshape(-1)
    rankings = [_rank_images(sparse, poses[k], camera, config) for k in range(len(poses))]
    in_turn = [
        ranking[place]
        for place in range(max(map(len, rankings)))
        for ranking in rankings
        if place < len(ranking)
    ]
    return list(dict.fromkeys(in_turn))[: config.num_references]


def _rank_images(
    sparse: SparseMap, cam_from_map: Pose, camera: Camera, config: SelectionConfig
) -> list[int]:
    """References for one pose, by greedy choice."""
    similarity = config.similarity
    view = visible_points(
        sparse, cam_from_map, camera, config.margin_px(camera), similarity.max_scale_ratio
    )
    max_angle = np.deg2rad(similarity.max_angle_deg)
    fit = np.flatnonzero(compatible(sparse, view, max_angle, similarity.max_scale_ratio))
    view = view.subset(fit[:: 1 + len(fit) // _RANKING_POINTS])
    observations = observations_of_points(sparse, view.point)
    weights = view_similarity(sparse, cam_from_map, view, observations, similarity)
    useful = weights > 0
    image = sparse.obs_image.numpy()[observations[0][useful]]
    return _greedy(sparse, image, observations[1][useful], weights[useful], config)


def _greedy(
    sparse: SparseMap,
    image: NDArray[np.int64],
    slot: NDArray[np.int64],
    weights: NDArray[np.float32],
    config: SelectionConfig,
) -> list[int]:
    """Images by what they add, from useful observations (image, position of point, weight)."""
    num = sparse.num_images
    eligible = np.bincount(image, minlength=num) >= config.min_common_points
    best = np.zeros(int(slot.max()) + 1 if len(slot) else 0, np.float32)
    chosen: list[int] = []
    while len(chosen) < config.num_references and eligible.any():
        added = np.maximum(weights - best[slot], 0) + 0.2 * weights
        gain = np.where(eligible, np.bincount(image, added, minlength=num), -1.0)
        winner = int(gain.argmax())
        chosen.append(winner)
        eligible[winner] = False
        mine = image == winner
        np.maximum.at(best, slot[mine], weights[mine])
    return chosen

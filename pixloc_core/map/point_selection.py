"""Which map points a query is aligned to, and which observations describe them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.errors import MapError
from pixloc_core.geometry import Camera, Pose
from pixloc_core.map.covisibility import Visible, visible_points
from pixloc_core.map.point_views import view_rays
from pixloc_core.map.selection_config import SelectionConfig
from pixloc_core.map.sparse_map import SparseMap
from pixloc_core.map.view_similarity import view_similarity
from pixloc_core.shapes import Int, Tensor

# Above this length a longer track says nothing more about a point.
_LONG_TRACK = 10


@dataclass(frozen=True)
class Selection:
    """Points to align to, the most useful first.

    Attributes:
        point_idx: Indices of the points in the sparse map.
        obs_idx: Per point, observations in the chosen references, the best viewed first,
            filled up with -1.
    """

    point_idx: Int[Tensor, " n"]
    obs_idx: Int[Tensor, "n k"]

    def __len__(self) -> int:
        return self.point_idx.shape[0]


@dataclass(frozen=True)
class _Candidates:
    """Reliable points of the references (ascending), and their observations there."""

    points: NDArray[np.int64]
    observations: NDArray[np.int64]
    # Position in `points` of the point of each observation.
    slot: NDArray[np.int64]


def select_points(
    sparse: SparseMap,
    references: Sequence[int],
    config: SelectionConfig,
    cam_from_map: Pose | None = None,
    camera: Camera | None = None,
) -> Selection:
    """Points that the chosen references share with the predicted view.

    Points must be reliable (track length, reprojection error), inside the predicted view and seen
    by a reference from a similar direction and distance. They are spread over the cells of a grid
    in the predicted view: the best of each cell first, then the second best, and so on.

    Args:
        sparse: The map.
        references: Indices of map images, the best first.
        config: Settings.
        cam_from_map: Prior relative to the origin of the map (`sparse.to_local`), one pose or
            several (batch shape (k,)): a point is measured in the first that can use it. Without
            a prior, each point is measured in the first reference that saw it.
        camera: Camera of the query; needed with a prior.

    Raises:
        MapError: If a reference is not an image of the map.
    """
    references = list(dict.fromkeys(references))
    for image in references:
        if not 0 <= image < sparse.num_images:
            raise MapError(f"image index {image} is not in the map ({sparse.num_images} images)")
    candidates = _reliable(sparse, references, config)
    if cam_from_map is None or camera is None:
        views = _views_of_references(sparse, references, candidates, config)
    else:
        views = _views_of_prior(sparse, cam_from_map.reshape(-1), camera, candidates, config)
    weights, cell = _measure(sparse, candidates, views, config)
    order = _spread(sparse, candidates, weights, cell, config)
    return Selection(
        torch.from_numpy(candidates.points[order]),
        torch.from_numpy(
            _best_observations(candidates, weights, order, config.observations_per_point)
        ),
    )


def _reliable(
    sparse: SparseMap, references: Sequence[int], config: SelectionConfig
) -> _Candidates:
    observations = sparse.observations_of_images(references).numpy()
    point = sparse.obs_point.numpy()[observations]
    keep = sparse.track_length.numpy()[point] >= config.min_track_length
    keep &= sparse.point_error.numpy()[point] <= config.max_point_error
    point = point[keep]
    present = np.zeros(sparse.num_points, bool)
    present[point] = True
    points = np.flatnonzero(present)
    position = np.empty(sparse.num_points, np.int64)
    position[points] = np.arange(len(points))
    return _Candidates(points, observations[keep], position[point])


def _views_of_prior(
    sparse: SparseMap,
    poses: Pose,
    camera: Camera,
    candidates: _Candidates,
    config: SelectionConfig,
) -> Iterator[tuple[Pose, Visible, NDArray[np.int64]]]:
    """Per pose: the candidates in its view, and their grid cells."""
    margin_px, cell_px = config.margin_px(camera), config.cell_px(camera)
    among, ratio = torch.from_numpy(candidates.points), config.similarity.max_scale_ratio
    for k in range(len(poses)):
        view = visible_points(sparse, poses[k], camera, margin_px, ratio, among)
        yield poses[k], view, _grid_cell(view.px + margin_px, cell_px)


def _views_of_references(
    sparse: SparseMap,
    references: Sequence[int],
    candidates: _Candidates,
    config: SelectionConfig,
) -> Iterator[tuple[Pose, Visible, NDArray[np.int64]]]:
    """Per reference: the candidates it observed, and their grid cells in it."""
    image_of = sparse.obs_image.numpy()[candidates.observations]
    for image in references:
        mine = np.flatnonzero(image_of == image)
        slots, first = np.unique(candidates.slot[mine], return_index=True)
        points = candidates.points[slots]
        px = sparse.obs_px.numpy()[candidates.observations[mine[first]]]
        rays, footprints = view_rays(
            sparse.points_single[:, points],
            sparse.centers_map[image].float()[:, None],
            float(sparse.focal_px[image]),
        )
        view = Visible(points, px, rays.numpy(), footprints.numpy())
        cell_px = config.cell_px(sparse.camera_of(image))
        yield sparse.cam_from_map[image], view, _grid_cell(px, cell_px)


def _grid_cell(px: NDArray[np.float32], cell_px: float) -> NDArray[np.int64]:
    """One number per cell; pixels are not negative."""
    cells = np.floor(np.maximum(px, 0) / cell_px).astype(np.int64)
    return cells[:, 1] * 65536 + cells[:, 0]


def _measure(
    sparse: SparseMap,
    candidates: _Candidates,
    views: Iterable[tuple[Pose, Visible, NDArray[np.int64]]],
    config: SelectionConfig,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Weight of each observation and grid cell of each point (-1: of no use in any view)."""
    slot, count = candidates.slot, len(candidates.points)
    weights = np.zeros(len(slot), np.float32)
    cell = np.full(count, -1, np.int64)
    for number, (pose, view, cells) in enumerate(views):
        in_view = np.full(count, -1, np.int64)
        in_view[np.searchsorted(candidates.points, view.point)] = np.arange(len(view))
        in_view[cell >= 0] = -1
        mine = np.flatnonzero(in_view[slot] >= 0)
        observed = (candidates.observations[mine], in_view[slot[mine]])
        weights[mine] = view_similarity(sparse, pose, view, observed, config.similarity)
        useful = slot[mine[weights[mine] > 0]]
        cell[useful] = number * 2**32 + cells[in_view[useful]]
    return weights, cell


def _spread(
    sparse: SparseMap,
    candidates: _Candidates,
    weights: NDArray[np.float32],
    cell: NDArray[np.int64],
    config: SelectionConfig,
) -> NDArray[np.int64]:
    """Positions of the chosen candidates: the best of every cell, then the second best, ..."""
    best = np.zeros(len(cell), np.float32)
    np.maximum.at(best, candidates.slot, weights)
    track_length = sparse.track_length.numpy()[candidates.points]
    error = sparse.point_error.numpy()[candidates.points]
    quality = best * np.sqrt(np.minimum(track_length, _LONG_TRACK)) / (1 + (error / 2) ** 2)
    usable = np.flatnonzero(cell >= 0)
    order = usable[np.lexsort((-quality[usable], cell[usable]))]
    rank = _rank_in_group(cell[order])
    return order[np.lexsort((-quality[order], rank))][: config.num_points]


def _best_observations(
    candidates: _Candidates,
    weights: NDArray[np.float32],
    order: NDArray[np.int64],
    per_point: int,
) -> NDArray[np.int64]:
    """Observations (n, k) of the chosen candidates by descending weight, filled up with -1."""
    row = np.full(len(candidates.points), -1, np.int64)
    row[order] = np.arange(len(order))
    useful = np.flatnonzero((row[candidates.slot] >= 0) & (weights > 0))
    row_of = row[candidates.slot[useful]]
    by_row = np.lexsort((-weights[useful], row_of))
    row_of, useful = row_of[by_row], useful[by_row]
    rank = _rank_in_group(row_of)
    keep = rank < per_point
    table = np.full((len(order), per_point), -1, np.int64)
    table[row_of[keep], rank[keep]] = candidates.observations[useful[keep]]
    return table


def _rank_in_group(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each entry among the equal ones, in a sorted array."""
    index = np.arange(len(groups))
    first = np.ones(len(groups), bool)
    first[1:] = groups[1:] != groups[:-1]
    return index - np.maximum.accumulate(np.where(first, index, 0))

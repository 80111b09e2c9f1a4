"""Descriptors of map points, read off the images that observe them.

Once and for all into a feature map (`build_feature_map`, then `gather_points` at each query), or
from the images themselves at each query (`extract_points`): the same numbers, up to the float16
of the file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch.nn.functional import normalize

from pixloc_core.features.extractor import Extractor, SteerableExtractor
from pixloc_core.features.observations import Samples, find_images, sample_image
from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.map.selection import Selection
from pixloc_core.map.sparse_map import SparseMap
from pixloc_core.shapes import Bool, Float, Int, Tensor

# Called with the number of images done and their total.
Progress = Callable[[int, int], None]
Aggregation = Literal["single", "mean"]
# Keeps points without confidence from dividing by zero.
_TINY = 1e-12


@dataclass(frozen=True)
class PointFeatures:
    """Map points with the descriptors that an image is aligned to.

    Attributes:
        points_map: Points in the map frame, relative to the origin of the map, metres, float64.
        descriptors: One tensor per level, fine to coarse, float32; of unit length if those of the
            extractor are.
        confidences: One tensor per level, in [0, 1]; 0 where the point cannot be used.
        point_idx: Index of each point in the sparse map.
    """

    points_map: Float[Tensor, "*b n 3"]
    descriptors: tuple[Float[Tensor, "*b n _"], ...]
    confidences: tuple[Float[Tensor, "*b n"], ...]
    point_idx: Int[Tensor, "*b n"]

    def __len__(self) -> int:
        return self.points_map.shape[-2]

    def select(self, index: slice | Bool[Tensor, " n"]) -> "PointFeatures":
        """Some of the points; not of a batch."""
        return PointFeatures(
            self.points_map[index],
            tuple(level[index] for level in self.descriptors),
            tuple(level[index] for level in self.confidences),
            self.point_idx[index],
        )

    def to(self, device: torch.device | str) -> "PointFeatures":
        """The same on another device."""
        return PointFeatures(
            self.points_map.to(device),
            tuple(level.to(device) for level in self.descriptors),
            tuple(level.to(device) for level in self.confidences),
            self.point_idx.to(device),
        )


@dataclass(frozen=True)
class Turn:
    """Descriptors are turned to how the query is held before they are compared.

    Attributes:
        extractor: Knows how.
        angles: Rotation of each map image, see `map.view_similarity.image_rolls`.
    """

    extractor: SteerableExtractor
    angles: Float[Tensor, " m"]


@torch.inference_mode()
def build_feature_map(
    sparse: SparseMap,
    images_dir: str | Path,
    extractor: Extractor,
    out: str | Path,
    progress: Progress | None = None,
) -> FeatureMap:
    """Extract the features of every map image once and store them for all its observations.

    The file appears under its name when it is complete.

    Args:
        sparse: The map.
        images_dir: Folder that the image names of the map are relative to.
        extractor: Makes the features, here and for the queries to come.
        out: File to write.
        progress: Called after each image.

    Raises:
        MapError: If an image is missing (before any work is done) or the file cannot be written.
        ImageError: If an image cannot be used; the message names it.
    """
    paths = find_images(sparse, Path(images_dir), range(sparse.num_images))
    writer = FeatureMap.create(
        out, sparse, extractor.fingerprint, extractor.config_dict, extractor.channels
    )
    with writer as file:
        for image, path in enumerate(paths):
            px = sparse.obs_px[sparse.observations_of(image)]
            levels = sample_image(extractor, path, sparse.camera_of(image), px)
            file.write_image(
                image, [s.descriptors for s in levels], [s.confidences for s in levels]
            )
            if progress is not None:
                progress(image + 1, len(paths))
    return FeatureMap.open(out, extractor.fingerprint)


def gather_points(
    feature_map: FeatureMap,
    selection: Selection,
    mode: Aggregation = "single",
    turn: Turn | None = None,
) -> PointFeatures:
    """Read the descriptors of selected points from a feature map.

    Args:
        feature_map: The map.
        selection: Points and the observations to describe them by.
        mode: "single" takes the best viewed observation of each point, "mean" averages all of
            them, weighted by their confidences.
        turn: Turns the descriptors of each map image, if given.
    """
    observations, rows = _observations(selection, mode)
    levels = [
        Samples(
            feature_map.descriptors(level, observations),
            feature_map.confidences(level, observations),
        )
        for level in range(feature_map.num_levels)
    ]
    levels = _turned(levels, feature_map.sparse.obs_image[observations], turn)
    return _aggregate(feature_map.sparse, selection, levels, rows)


@torch.inference_mode()
def extract_points(
    sparse: SparseMap,
    images_dir: str | Path,
    extractor: Extractor,
    selection: Selection,
    mode: Aggregation = "single",
    turn: Turn | None = None,
) -> PointFeatures:
    """As `gather_points`, without a feature map: extract the images of the selection anew.

    Raises:
        MapError: If an image is missing.
        ImageError: If an image cannot be used; the message names it.
    """
    observations, rows = _observations(selection, mode)
    # Observations are sorted by image: sorted ones of one image stand together.
    unique, place = torch.unique(observations, return_inverse=True)
    found, counts = torch.unique_consecutive(sparse.obs_image[unique], return_counts=True)
    images = found.tolist()
    paths = find_images(sparse, Path(images_dir), images)
    points_px = torch.split(sparse.obs_px[unique], counts.tolist())
    parts = [
        sample_image(extractor, path, sparse.camera_of(image), px)
        for path, image, px in zip(paths, images, points_px, strict=True)
    ]
    levels = [
        Samples(
            torch.cat([part[level].descriptors for part in parts])[place],
            torch.cat([part[level].confidences for part in parts])[place],
        )
        for level in range(len(extractor.channels))
    ]
    levels = _turned(levels, sparse.obs_image[observations], turn)
    return _aggregate(sparse, selection, levels, rows)


def _observations(
    selection: Selection, mode: Aggregation
) -> tuple[Int[Tensor, " o"], Int[Tensor, " o"]]:
    """Observations to read, and which selected point each belongs to."""
    columns = selection.obs_idx[:, :1] if mode == "single" else selection.obs_idx
    rows, _ = (used := columns >= 0).nonzero(as_tuple=True)
    return columns[used], rows


def _turned(
    levels: Sequence[Samples], image: Int[Tensor, " o"], turn: Turn | None
) -> list[Samples]:
    if turn is None:
        return list(levels)
    angle = turn.angles[image]
    return [
        Samples(turn.extractor.rotate(samples.descriptors, angle, level), samples.confidences)
        for level, samples in enumerate(levels)
    ]


def _aggregate(
    sparse: SparseMap,
    selection: Selection,
    levels: Sequence[Samples],
    rows: Int[Tensor, " o"],
) -> PointFeatures:
    """Confidence-weighted mean per point; mean of the confidences.

    The mean has the mean length of the descriptors: averaging shortens what does not agree.
    """
    num = len(selection.point_idx)
    counts = torch.bincount(rows, minlength=num).clamp_min(1)
    descriptors, confidences = [], []
    for level in levels:
        weights = level.confidences
        total = _sum_rows(weights[:, None], rows, num)
        lengths = _sum_rows((level.descriptors.norm(dim=-1) * weights)[:, None], rows, num)
        means = _sum_rows(level.descriptors * weights[:, None], rows, num)
        descriptors.append(normalize(means, dim=-1) * (lengths / total.clamp_min(_TINY)))
        confidences.append(total[:, 0] / counts)
    points = sparse.points_map[selection.point_idx]
    return PointFeatures(points, tuple(descriptors), tuple(confidences), selection.point_idx)


def _sum_rows(
    values: Float[Tensor, "o c"], rows: Int[Tensor, " o"], num: int
) -> Float[Tensor, "n c"]:
    return values.new_zeros(num, values.shape[1]).index_add_(0, rows, values)

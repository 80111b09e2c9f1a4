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

from pixloc_core.errors import ImageError, MapError
from pixloc_core.features.extractor import Extractor, RawExtractor
from pixloc_core.features.preprocessing import load_image
from pixloc_core.features.pyramid import FeatureLevel, FeaturePyramid
from pixloc_core.geometry import Camera, inside, sample
from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.map.selection import Selection
from pixloc_core.map.sparse_map import SparseMap
from pixloc_core.shapes import Float, Int, Tensor

# Called with the number of images done and their total.
Progress = Callable[[int, int], None]
Aggregation = Literal["single", "mean"]


@dataclass(frozen=True)
class PointFeatures:
    """Map points with the descriptors that an image is aligned to.

    Attributes:
        points_map: Points in the map frame, relative to the origin of the map, metres, float64.
        descriptors: One tensor per level, fine to coarse, of unit length per point, float32.
        confidences: One tensor per level, in [0, 1]; 0 where the point cannot be used.
        point_idx: Index of each point in the sparse map.
    """

    points_map: Float[Tensor, "*b n 3"]
    descriptors: tuple[Float[Tensor, "*b n _"], ...]
    confidences: tuple[Float[Tensor, "*b n"], ...]
    point_idx: Int[Tensor, "*b n"]

    def __len__(self) -> int:
        return self.points_map.shape[-2]

    def to(self, device: torch.device | str) -> "PointFeatures":
        """The same on another device."""
        return PointFeatures(
            self.points_map.to(device),
            tuple(level.to(device) for level in self.descriptors),
            tuple(level.to(device) for level in self.confidences),
            self.point_idx.to(device),
        )


@dataclass(frozen=True)
class _Samples:
    """Unit descriptors and confidences of some observations at one level."""

    descriptors: Float[Tensor, "n c"]
    confidences: Float[Tensor, " n"]


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
    paths = _image_paths(sparse, Path(images_dir), range(sparse.num_images))
    writer = FeatureMap.create(
        out, sparse, extractor.fingerprint, extractor.config_dict, extractor.channels
    )
    with writer as file:
        for image, path in enumerate(paths):
            px = sparse.obs_px[sparse.observations_of(image)]
            levels = _sample_image(extractor, path, sparse.camera_of(image), px)
            file.write_image(
                image, [s.descriptors for s in levels], [s.confidences for s in levels]
            )
            if progress is not None:
                progress(image + 1, len(paths))
    return FeatureMap.open(out, extractor.fingerprint)


def gather_points(
    feature_map: FeatureMap, selection: Selection, mode: Aggregation = "single"
) -> PointFeatures:
    """Read the descriptors of selected points from a feature map.

    Args:
        feature_map: The map.
        selection: Points and the observations to describe them by.
        mode: "single" takes the best viewed observation of each point, "mean" averages all of
            them, weighted by their confidences.
    """
    observations, rows = _observations(selection, mode)
    levels = [
        _Samples(
            feature_map.descriptors(level, observations),
            feature_map.confidences(level, observations),
        )
        for level in range(feature_map.num_levels)
    ]
    return _aggregate(feature_map.sparse, selection, levels, rows)


@torch.inference_mode()
def extract_points(
    sparse: SparseMap,
    images_dir: str | Path,
    extractor: Extractor,
    selection: Selection,
    mode: Aggregation = "single",
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
    paths = _image_paths(sparse, Path(images_dir), images)
    points_px = torch.split(sparse.obs_px[unique], counts.tolist())
    parts = [
        _sample_image(extractor, path, sparse.camera_of(image), px)
        for path, image, px in zip(paths, images, points_px, strict=True)
    ]
    levels = [
        _Samples(
            torch.cat([part[level].descriptors for part in parts])[place],
            torch.cat([part[level].confidences for part in parts])[place],
        )
        for level in range(len(extractor.channels))
    ]
    return _aggregate(sparse, selection, levels, rows)


def _image_paths(sparse: SparseMap, folder: Path, images: Sequence[int]) -> list[Path]:
    paths = [folder / sparse.image_names[image] for image in images]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise MapError(
            f"{missing[0]}: no such image ({len(missing)} of the {len(paths)} images that the map "
            f"needs are missing in {folder})"
        )
    return paths


def _sample_image(
    extractor: Extractor, path: Path, camera: Camera, points_px: Float[Tensor, "n 2"]
) -> list[_Samples]:
    """Features of one image at points given in pixels of the file, on the CPU."""
    extract = extractor.extract
    if isinstance(extractor, RawExtractor):
        extract = extractor.extract_reference
    try:
        pyramid: FeaturePyramid = extract(load_image(path), camera)
    except ImageError as error:
        # Reading errors name the file already.
        text = str(error)
        raise ImageError(text if str(path) in text else f"{path}: {text}") from error
    return [_sample_level(level, camera, points_px) for level in pyramid]


def _sample_level(
    level: FeatureLevel, camera: Camera, points_px: Float[Tensor, "n 2"]
) -> _Samples:
    device = level.features.device
    # Both cameras see along the same rays, so pixels map by focal lengths and principal points.
    image_camera = camera.to(device=device, dtype=level.camera.dtype)
    rays = (points_px.to(image_camera.data) - image_camera.c) / image_camera.f
    points = rays * level.camera.f + level.camera.c
    descriptors = normalize(sample(level.features, points).float(), dim=-1)
    confidences = sample(level.confidence[..., None], points)[..., 0].float().clamp(0.0, 1.0)
    # Beyond the last cell centres, part of the neighbours would be padding.
    confidences = confidences * inside(points, level.size)
    return _Samples(descriptors.cpu(), confidences.cpu())


def _observations(
    selection: Selection, mode: Aggregation
) -> tuple[Int[Tensor, " o"], Int[Tensor, " o"]]:
    """Observations to read, and which selected point each belongs to."""
    columns = selection.obs_idx[:, :1] if mode == "single" else selection.obs_idx
    rows, _ = (used := columns >= 0).nonzero(as_tuple=True)
    return columns[used], rows


def _aggregate(
    sparse: SparseMap,
    selection: Selection,
    levels: Sequence[_Samples],
    rows: Int[Tensor, " o"],
) -> PointFeatures:
    """Confidence-weighted mean per point, of unit length; mean of the confidences."""
    num = len(selection.point_idx)
    counts = torch.bincount(rows, minlength=num).clamp_min(1)
    descriptors, confidences = [], []
    for level in levels:
        weighted = level.descriptors * level.confidences[:, None]
        sums = weighted.new_zeros(num, weighted.shape[1]).index_add_(0, rows, weighted)
        descriptors.append(normalize(sums, dim=-1))
        total = level.confidences.new_zeros(num).index_add_(0, rows, level.confidences)
        confidences.append(total / counts)
    points = sparse.points_map[selection.point_idx]
    return PointFeatures(points, tuple(descriptors), tuple(confidences), selection.point_idx)

"""Features of map images where they observe map points."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.nn.functional import normalize

from pixloc_core.errors import ImageError, MapError
from pixloc_core.features.extractor import Extractor, RawExtractor
from pixloc_core.features.preprocessing import load_image
from pixloc_core.features.pyramid import FeatureLevel
from pixloc_core.geometry import Camera, inside, sample
from pixloc_core.geometry.interpolation import Mode
from pixloc_core.map.sparse_map import SparseMap
from pixloc_core.shapes import Float, Tensor


@dataclass(frozen=True)
class Samples:
    """Descriptors and confidences of some observations at one level, on the CPU."""

    descriptors: Float[Tensor, "n c"]
    confidences: Float[Tensor, " n"]


def find_images(sparse: SparseMap, folder: Path, images: Sequence[int]) -> list[Path]:
    """Files of some images of a map.

    Raises:
        MapError: If one is missing.
    """
    paths = [folder / sparse.image_names[image] for image in images]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise MapError(
            f"{missing[0]}: no such image ({len(missing)} of the {len(paths)} images that the map "
            f"needs are missing in {folder})"
        )
    return paths


def sample_image(
    extractor: Extractor, path: Path, camera: Camera, points_px: Float[Tensor, "n 2"]
) -> list[Samples]:
    """Features of one map image at points, on the CPU.

    Args:
        extractor: Makes the features.
        path: The image.
        camera: Its camera.
        points_px: Points in pixels of the file.

    Raises:
        ImageError: If the image cannot be used; the message names it.
    """
    raw = extractor if isinstance(extractor, RawExtractor) else None
    extract = extractor.extract if raw is None else raw.extract_reference
    try:
        pyramid = extract(load_image(path), camera)
    except ImageError as error:
        # Reading errors name the file already.
        text = str(error)
        raise ImageError(text if str(path) in text else f"{path}: {text}") from error
    wants = extractor.preferences
    samples = [
        _sample_level(level, camera, points_px, wants.interpolation_at(index))
        for index, level in enumerate(pyramid)
    ]
    if raw is None:
        return samples
    return [Samples(normalize(part.descriptors, dim=-1), part.confidences) for part in samples]


def _sample_level(
    level: FeatureLevel, camera: Camera, points_px: Float[Tensor, "n 2"], mode: Mode
) -> Samples:
    device = level.features.device
    # Both cameras see along the same rays, so pixels map by focal lengths and principal points.
    image_camera = camera.to(device=device, dtype=level.camera.dtype)
    rays = (points_px.to(image_camera.data) - image_camera.c) / image_camera.f
    points = rays * level.camera.f + level.camera.c
    descriptors = sample(level.features, points, mode).float()
    confidences = sample(level.confidence[..., None], points)[..., 0].float().clamp(0.0, 1.0)
    # Beyond the last cell centres, part of the neighbours would be padding.
    confidences = confidences * inside(points, level.size)
    return Samples(descriptors.cpu(), confidences.cpu())

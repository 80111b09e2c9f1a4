"""Descriptors of map points: sampling, storing, gathering, and the way without a map file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from pixloc_core.errors import ImageError, MapError
from pixloc_core.features.gradients import PREFERENCES
from pixloc_core.features.network_extractor import NetworkExtractor, NetworkExtractorConfig
from pixloc_core.features.preferences import Preferences
from pixloc_core.features.preprocessing import load_image, prepare
from pixloc_core.features.pyramid import FeatureLevel, FeaturePyramid
from pixloc_core.features.reference import build_feature_map, extract_points, gather_points
from pixloc_core.features.weights import Weights
from pixloc_core.geometry import Camera, sample
from pixloc_core.map.selection import Selection
from pixloc_core.map.sparse_map import SparseMap

# float16 of unit vectors and of confidences, after normalization.
HALF = 1e-3
Scene = tuple[SparseMap, Path]


@dataclass(frozen=True)
class ColourExtractor:
    """Colours as descriptors and brightness as confidence, at strides 1 and 4."""

    strides: tuple[int, ...] = (1, 4)
    channels: tuple[int, ...] = (3, 3)
    fingerprint: str = "colours"
    preferences: Preferences = PREFERENCES

    @property
    def config_dict(self) -> dict[str, Any]:
        return {"kind": "colours"}

    def extract(self, image: np.ndarray, camera: Camera) -> FeaturePyramid:
        tensor, camera = prepare(image, camera, 1024)
        levels = []
        for stride in self.strides:
            pooled = torch.nn.functional.avg_pool2d(tensor[None], stride)[0].permute(1, 2, 0)
            level_camera = camera.scale(1 / stride)
            levels.append(
                FeatureLevel(pooled.contiguous() + 0.1, pooled.mean(-1), level_camera, stride)
            )
        return FeaturePyramid(tuple(levels))


@pytest.fixture
def unet(small_weights: Weights) -> NetworkExtractor:
    return NetworkExtractor(small_weights, NetworkExtractorConfig(max_size=64))


def select(rows: Sequence[Sequence[int]], sparse: SparseMap) -> Selection:
    """Selection of points by their observations; each row belongs to one point."""
    width = max(map(len, rows))
    padded = [[*row, *([-1] * (width - len(row)))] for row in rows]
    obs_idx = torch.tensor(padded)
    return Selection(sparse.obs_point[obs_idx[:, 0]], obs_idx)


def all_observations(sparse: SparseMap) -> Selection:
    rows = [
        torch.nonzero(sparse.obs_point == point)[:, 0].tolist()
        for point in range(sparse.num_points)
    ]
    return select(rows, sparse)


@pytest.mark.parametrize("mode", ["single", "mean"])
def test_cached_features_equal_those_extracted_anew(
    tmp_path: Path, tiny_map: Scene, unet: NetworkExtractor, mode: Any
) -> None:
    sparse, images = tiny_map
    feature_map = build_feature_map(sparse, images, unet, tmp_path / "map.h5")
    chosen = all_observations(sparse)
    cached = gather_points(feature_map, chosen, mode)
    anew = extract_points(sparse, images, unet, chosen, mode)
    assert len(cached) == len(anew) == 10
    assert torch.equal(cached.points_map, anew.points_map)
    assert torch.equal(cached.points_map, sparse.points_map[chosen.point_idx])
    assert torch.equal(cached.point_idx, chosen.point_idx)
    for level, channels in enumerate(unet.channels):
        a, b = cached.descriptors[level], anew.descriptors[level]
        assert a.shape == (10, channels)
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0, atol=HALF)
        torch.testing.assert_close(
            cached.confidences[level], anew.confidences[level], rtol=0, atol=HALF
        )


def test_references_are_interpolated_before_they_are_normalized(
    tiny_map: Scene, unet: NetworkExtractor
) -> None:
    sparse, images = tiny_map
    chosen = select([[4]], sparse)
    features = extract_points(sparse, images, unet, chosen)
    raw = unet.extract_reference(load_image(images / "a.png"), sparse.cameras[0])
    for level, descriptors in zip(raw, features.descriptors, strict=True):
        scale = level.camera.f / sparse.cameras[0].f
        px = (sparse.obs_px[4:5].double() + 0.5) * scale - 0.5
        expected = normalize(sample(level.features, px), dim=-1)
        torch.testing.assert_close(descriptors, expected.float(), rtol=0, atol=1e-5)


def test_references_are_interpolated_as_the_features_have_it(tiny_map: Scene) -> None:
    sparse, images = tiny_map
    cubic = ColourExtractor(preferences=replace(PREFERENCES, interpolation=("cubic", "linear")))
    features = extract_points(sparse, images, cubic, select([[4]], sparse))
    pyramid = cubic.extract(load_image(images / "a.png"), sparse.cameras[0])
    for level, descriptors, mode in zip(
        pyramid, features.descriptors, ("cubic", "linear"), strict=True
    ):
        scale = level.camera.f / sparse.cameras[0].f
        px = (sparse.obs_px[4:5].double() + 0.5) * scale - 0.5
        expected = sample(level.features, px, mode)
        torch.testing.assert_close(descriptors, expected.float(), rtol=0, atol=1e-5)
        other = sample(level.features, px, "linear" if mode == "cubic" else "cubic")
        assert not torch.allclose(descriptors, other.float(), rtol=0, atol=1e-5)


def test_descriptor_at_a_pixel_centre_is_that_of_the_pixel(tiny_map: Scene) -> None:
    sparse, images = tiny_map
    px = sparse.obs_px.clone()
    px[12] = torch.tensor([31.0, 20.0])
    sparse = replace(sparse, obs_px=px)
    features = extract_points(sparse, images, ColourExtractor(), select([[12]], sparse))
    colour = torch.from_numpy(load_image(images / "b.png")[20, 31] / 255.0)
    torch.testing.assert_close(features.descriptors[0][0].double(), colour + 0.1)
    torch.testing.assert_close(features.confidences[0][0].double(), colour.mean())


def test_single_takes_the_first_and_mean_weights_by_confidence_and_keeps_the_length(
    tmp_path: Path, tiny_map: Scene
) -> None:
    sparse, images = tiny_map
    feature_map = build_feature_map(sparse, images, ColourExtractor(), tmp_path / "map.h5")
    rows = [[14, 0], [15, 1, 10], [2, 16], [4]]
    chosen = select(rows, sparse)
    single = gather_points(feature_map, chosen)
    mean = gather_points(feature_map, chosen, "mean")
    for point, row in enumerate(rows):
        index = torch.tensor(row)
        for level in range(2):
            d = feature_map.descriptors(level, index)
            c = feature_map.confidences(level, index)
            torch.testing.assert_close(single.descriptors[level][point], d[0])
            torch.testing.assert_close(single.confidences[level][point], c[0])
            direction = normalize((d * c[:, None]).sum(0), dim=0)
            length = (d.norm(dim=1) * c).sum() / c.sum()
            torch.testing.assert_close(mean.descriptors[level][point], direction * length)
            torch.testing.assert_close(mean.confidences[level][point], c.mean())


def test_observations_beyond_the_last_cells_have_no_confidence(tiny_map: Scene) -> None:
    sparse, images = tiny_map
    px = sparse.obs_px.clone()
    px[0] = torch.tensor([0.2, 30.0])
    sparse = replace(sparse, obs_px=px)
    features = extract_points(sparse, images, ColourExtractor(), select([[0], [1]], sparse))
    # At stride 4 the first cell centre is at pixel 1.5.
    assert features.confidences[0][0] > 0
    assert features.confidences[1][0] == 0
    assert features.confidences[1][1] > 0
    assert not features.descriptors[1].isnan().any()


def test_only_the_images_of_the_selection_are_needed(tiny_map: Scene) -> None:
    sparse, images = tiny_map
    (images / "a.png").unlink()
    features = extract_points(sparse, images, ColourExtractor(), select([[14], [11]], sparse))
    assert features.point_idx.tolist() == [0, 3]
    with pytest.raises(MapError, match=r"a\.png: no such image \(1 of the 1 images"):
        extract_points(sparse, images, ColourExtractor(), select([[3]], sparse))


def test_order_of_points_and_observations_does_not_matter(
    tiny_map: Scene, unet: NetworkExtractor
) -> None:
    sparse, images = tiny_map
    rows = [[14, 0], [10, 1, 15], [16, 2]]
    forwards = extract_points(sparse, images, unet, select(rows, sparse), "mean")
    backwards = extract_points(
        sparse, images, unet, select([row[::-1] for row in rows[::-1]], sparse), "mean"
    )
    for a, b in zip(forwards.descriptors, backwards.descriptors, strict=True):
        torch.testing.assert_close(a, b.flip(0), rtol=0, atol=1e-6)


def test_progress_counts_the_images(tmp_path: Path, tiny_map: Scene) -> None:
    seen: list[tuple[int, int]] = []
    build_feature_map(
        *tiny_map,
        ColourExtractor(),
        tmp_path / "map.h5",
        lambda done, all_: seen.append((done, all_)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_map_file_remembers_the_extractor(tmp_path: Path, tiny_map: Scene) -> None:
    feature_map = build_feature_map(*tiny_map, ColourExtractor(), tmp_path / "map.h5")
    assert feature_map.extractor_config == {"kind": "colours"}
    assert feature_map.extractor_fingerprint == "colours"
    assert feature_map.channels == (3, 3)


def test_missing_images_are_found_before_any_work(tmp_path: Path, tiny_map: Scene) -> None:
    sparse, images = tiny_map
    (images / "b.png").unlink()
    (images / "c.png").unlink()
    with pytest.raises(MapError, match=r"b\.png: no such image \(2 of the 3"):
        build_feature_map(
            sparse, images, ColourExtractor(), tmp_path / "map.h5", lambda *_: pytest.fail("work")
        )
    assert not list(tmp_path.glob("*map.h5*"))


@pytest.mark.parametrize("content", ["broken", "black", "other size"])
def test_unusable_image_is_named_and_leaves_no_file(
    tmp_path: Path, tiny_map: Scene, content: str
) -> None:
    sparse, images = tiny_map
    path = images / "b.png"
    if content == "broken":
        path.write_bytes(b"no image")
    else:
        size = (64, 96, 3) if content == "black" else (32, 32, 3)
        cv2.imwrite(str(path), np.zeros(size, np.uint8))
    with pytest.raises(ImageError, match=r"b\.png: "):
        build_feature_map(sparse, images, ColourExtractor(), tmp_path / "map.h5")
    assert not list(tmp_path.glob("*map.h5*"))


def test_interrupted_build_keeps_the_old_map(tmp_path: Path, tiny_map: Scene) -> None:
    out = tmp_path / "map.h5"
    out.write_text("old")

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_feature_map(*tiny_map, ColourExtractor(), out, interrupt)
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "map.h5"]


def test_features_move_between_devices_as_one(tiny_map: Scene) -> None:
    sparse, images = tiny_map
    features = extract_points(sparse, images, ColourExtractor(), select([[0], [1]], sparse))
    moved = features.to("meta")
    tensors = (moved.points_map, *moved.descriptors, *moved.confidences, moved.point_idx)
    assert all(tensor.device.type == "meta" for tensor in tensors)

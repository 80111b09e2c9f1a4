from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pixloc_core.errors import ImageError
from pixloc_core.training.synthetic.procedural_textures import make_textures
from pixloc_core.training.synthetic.texture_atlas import (
    TextureAtlas,
    opaque_texture,
    read_photos,
)

SIZE = 32


def noise_textures(number: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (SIZE, SIZE, 4), dtype=np.uint8) for _ in range(number)]


def png(width: int, height: int) -> bytes:
    return cv2.imencode(".png", np.full((height, width, 3), 90, np.uint8))[1].tobytes()


def test_texel_centres_show_the_texels() -> None:
    textures = noise_textures()
    rows = torch.tensor([[3, 7], [0, 31], [20, 20]])
    uv = (rows.flip(-1) + 0.5) / SIZE
    layer = torch.tensor([0, 1, 2])
    shown = TextureAtlas(textures).sample(layer, uv, torch.full((3,), 1e-6))
    expected = [textures[i][y, x] / 255 for i, (y, x) in enumerate(rows.tolist())]
    torch.testing.assert_close(shown, torch.from_numpy(np.stack(expected)).float())


def test_a_large_pixel_shows_the_mean() -> None:
    textures = noise_textures()
    uv = torch.rand(20, 2)
    shown = TextureAtlas(textures).sample(torch.ones(20).long(), uv, torch.full((20,), 5.0))
    mean = torch.from_numpy(textures[1].reshape(-1, 4).mean(0) / 255).float()
    assert (shown - mean).abs().max() < 0.06


def test_textures_go_on_as_their_mirror_images() -> None:
    atlas = TextureAtlas(noise_textures())
    uv = torch.rand(50, 2)
    layer, footprint = torch.zeros(50).long(), torch.rand(50) * 0.2
    inside = atlas.sample(layer, uv, footprint)
    for other in (2 - uv, uv + 2, -uv, torch.stack((uv[:, 0] - 4, 2 - uv[:, 1]), -1)):
        torch.testing.assert_close(
            atlas.sample(layer, other, footprint), inside, atol=2e-4, rtol=0
        )


def test_procedural_textures_are_of_all_kinds_and_repeatable() -> None:
    first = make_textures(np.random.default_rng(4), 8, SIZE)
    second = make_textures(np.random.default_rng(4), 8, SIZE)
    assert {"ground", "masonry", "windows", "foliage", "clouds"} <= first.keys()
    for kind, textures in first.items():
        for one, other in zip(textures, second[kind], strict=True):
            assert one.shape == (SIZE, SIZE, 4)
            assert np.array_equal(one, other), kind


def test_photos_are_cut_where_there_is_something_to_see(tmp_path: Path) -> None:
    image = np.full((80, 200, 3), 128, np.uint8)
    image[:, 130:] = np.random.default_rng(0).integers(0, 256, (80, 70, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    (photo,) = read_photos(tmp_path, 10, partial(opaque_texture, size=SIZE))
    assert photo.shape == (SIZE, SIZE, 4)
    assert photo[..., :3].std() > 20


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no photo"),
        ({"note.txt": b"x"}, "has no photo"),
        ({"broken.jpg": b"\xff\xd8\xff nothing"}, "broken.jpg: not an image"),
        ({"empty.png": b""}, "empty.png: not an image"),
        ({"dot.png": png(1, 1)}, "dot.png: photo of 1x1 px, expected at least 32 px"),
        ({"strip.png": png(500, 20)}, "strip.png: photo of 500x20 px, expected at least 32 px"),
    ],
)
def test_unusable_photos_are_named_in_one_line(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        read_photos(tmp_path, 10, list)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_folder_of_photos_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="nowhere is not a folder"):
        read_photos(tmp_path / "nowhere", 10, list)

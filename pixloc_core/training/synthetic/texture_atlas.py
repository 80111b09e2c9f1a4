"""Textures of one size with all their mip levels, in one table."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.errors import ImageError
from pixloc_core.shapes import Tensor

T = TypeVar("T")
Texture = NDArray[np.uint8]  # (s, s, 4): RGB and how much of it lies over what is below
# Walls and ground have less colour than what people take pictures of.
_FADED = 0.35
# Of a smaller photo there is nothing to see on a wall.
_SMALLEST_SIDE = 32
_SUFFIXES = (".jpg", ".jpeg", ".png")


class TextureAtlas:
    """Square RGBA textures, repeated in mirror images over the plane, sampled without aliasing.

    Args:
        textures: All of one size, a power of two.
        device: Where they lie.
    """

    def __init__(self, textures: Sequence[Texture], device: torch.device | str = "cpu") -> None:
        self._size = len(textures[0])
        self._num_levels = self._size.bit_length() - 1
        levels = [_level(textures, level) for level in range(self._num_levels)]
        # Four bytes are read as one number: one gather for a texel.
        table = torch.from_numpy(np.concatenate([level.reshape(-1, 4) for level in levels]))
        self._table = table.view(torch.int32)[:, 0].to(device)
        starts = np.cumsum([0] + [level[..., 0].size for level in levels[:-1]])
        self._starts = torch.tensor(starts.tolist(), device=device)

    def sample(
        self, layer: Tensor, uv: Tensor, footprint: Tensor, *, blend_levels: bool = True
    ) -> Tensor:
        """RGBA in [0, 1] at points.

        Args:
            layer: Numbers `(n,)` of the textures.
            uv: Coordinates `(n, 2)` in textures: each covers one unit.
            footprint: Extent `(n,)` of a pixel in the same unit.
            blend_levels: Whether to go smoothly from level to level, at twice the cost.
        """
        level = (footprint * self._size).clamp(min=1).log2().clamp(max=self._num_levels - 1.001)
        mirrored = 1 - (uv.remainder(2) - 1).abs()
        if not blend_levels:
            return self._bilinear(layer, mirrored, level.round().long()).div_(255)
        fine = level.floor()
        blend = (level - fine)[:, None].expand(-1, 4).contiguous()
        fine = fine.long()
        low = self._bilinear(layer, mirrored, fine)
        high = self._bilinear(layer, mirrored, fine + 1)
        return torch.lerp(low, high, blend).div_(255)

    def _bilinear(self, layer: Tensor, uv: Tensor, level: Tensor) -> Tensor:
        size = torch.bitwise_right_shift(torch.full_like(level, self._size), level)
        xy = uv * size[:, None] - 0.5
        corner = xy.floor()
        x_part, y_part = (xy - corner).unbind(-1)
        last = size - 1
        x, y = corner.long().unbind(-1)
        x0, x1 = x.clamp(min=0), torch.minimum(x + 1, last)
        row0, row1 = y.clamp(min=0) * size, torch.minimum(y + 1, last) * size
        start = self._starts.index_select(0, level) + layer * size * size
        row0, row1 = row0 + start, row1 + start
        # Weights once for each channel, in memory: broadcasting is several times slower.
        x_wide, y_wide = (part[:, None].expand(-1, 4).contiguous() for part in (x_part, y_part))
        top = torch.lerp(self._read(row0 + x0), self._read(row0 + x1), x_wide)
        bottom = torch.lerp(self._read(row1 + x0), self._read(row1 + x1), x_wide)
        return torch.lerp(top, bottom, y_wide)

    def _read(self, index: Tensor) -> Tensor:
        return self._table.index_select(0, index).view(torch.uint8).view(-1, 4).float()


def _level(textures: Sequence[Texture], level: int) -> Texture:
    side = len(textures[0]) >> level
    if level == 0:
        return np.stack(textures)
    return np.stack([cv2.resize(t, (side, side), interpolation=cv2.INTER_AREA) for t in textures])


def read_photos(folder: str | Path, most: int, prepare: Callable[[Any], T]) -> list[T]:
    """What is made of the photos of a folder, in the order of their names.

    Args:
        folder: The folder.
        most: Most photos that are taken.
        prepare: Makes something of a photo (h, w, 3), 8 bit BGR.

    Raises:
        ImageError: If the folder has no photo, or one of them cannot be read or is tiny.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ImageError(f"data.synthetic.photos: {root} is not a folder of photos")
    paths = sorted(path for path in root.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise ImageError(f"data.synthetic.photos: {root} has no photo ({', '.join(_SUFFIXES)})")
    # Evenly over the folder: its neighbours are often of one series.
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int))
    return [prepare(_read_photo(paths[i])) for i in chosen]


def _read_photo(path: Path) -> Any:
    encoded = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    image: Any = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if len(encoded) else None
    if image is None:
        raise ImageError(f"{path}: not an image that can be read, expected jpg or png")
    height, width = image.shape[:2]
    if min(width, height) < _SMALLEST_SIDE:
        raise ImageError(
            f"{path}: photo of {width}x{height} px, expected at least {_SMALLEST_SIDE} px a side"
        )
    return image


def opaque_texture(image: Any, size: int) -> Texture:
    """The busiest square of a photo in BGR, as an opaque texture with paler colours."""
    small = _busiest_square(image, size)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    small = cv2.addWeighted(small, 1 - _FADED, cv2.merge((grey, grey, grey)), _FADED, 0)
    return np.dstack(
        (cv2.cvtColor(small, cv2.COLOR_BGR2RGB), np.full((size, size), 255, np.uint8))
    )


def _busiest_square(image: Any, size: int) -> Any:
    """The square with the least plain parts (sky, blur) of some that lie in the image."""
    height, width = image.shape[:2]
    side = int(0.8 * min(height, width))
    # Looked at in 64 pixels a square: grain is no structure.
    scale = 64 / side
    tiny = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    tiny = tiny.astype(np.float32)
    slope = np.abs(np.diff(tiny, axis=0))[:, :-1] + np.abs(np.diff(tiny, axis=1))[:-1]
    busy = cv2.blur(slope.sum(-1), (9, 9))
    best, most = (0, 0), -1.0
    for part_y in (0.0, 0.5, 1.0):
        for part_x in (0.0, 0.33, 0.67, 1.0):
            top, left = int(part_y * (height - side)), int(part_x * (width - side))
            row, column = int(scale * top), int(scale * left)
            least = float(np.percentile(busy[row : row + 63, column : column + 63], 20))
            if least > most:
                best, most = (top, left), least
    chosen = image[best[0] : best[0] + side, best[1] : best[1] + side]
    return cv2.resize(chosen, (size, size), interpolation=cv2.INTER_AREA)

"""Procedural textures: ground, masonry, windows, marks, leaves, clouds."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from pixloc_core.training.synthetic.texture_atlas import Texture

Field = NDArray[np.floating]
Random = np.random.Generator
# Most surfaces are warmer than grey.
_WARM = np.array([1.0, 0.1, -1.1])


def value_noise(rng: Random, size: int, *, coarsest: int = 2, persistence: float = 0.6) -> Field:
    """Fractal noise (size, size) in [0, 1]: octaves from `coarsest` cells a side to pixels."""
    total = np.zeros((size, size), np.float32)
    cells, weight = coarsest, 1.0
    while cells <= size:
        grid = rng.random((cells + 3, cells + 3), dtype=np.float32)
        step = size / cells
        # A crop of the enlarged grid: its border would be flat otherwise.
        large = cv2.resize(grid, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        start = int(step)
        total += weight * large[start : start + size, start : start + size]
        cells, weight = cells * 2, weight * persistence
    low, high = np.percentile(total, (1, 99))
    scaled: Field = np.clip((total - low) / max(high - low, 1e-6), 0, 1)
    return scaled


def _colours(rng: Random, field: Field, *, contrast: float = 0.5) -> Field:
    """Colour (s, s, 3) of a field in [0, 1]: between two related colours."""
    middle = rng.uniform(0.2, 0.7) + rng.normal(0, 0.035, 3) + rng.uniform(-0.02, 0.07) * _WARM
    swing = contrast * (rng.uniform(0.4, 1.0) + rng.normal(0, 0.07, 3))
    colour: Field = middle + (field[..., None] - 0.5) * swing
    return colour


def _rgba(colour: Field, alpha: Field | float = 1.0) -> Texture:
    alpha_plane = np.broadcast_to(np.asarray(alpha, np.float32), colour.shape[:2])
    stacked = np.dstack((colour, alpha_plane))
    texture: Texture = np.round(255 * np.clip(stacked, 0, 1)).astype(np.uint8)
    return texture


def ground(rng: Random, size: int) -> Texture:
    """Asphalt, gravel, grass, soil: noise of many grains with stains."""
    grain = value_noise(rng, size, coarsest=int(rng.choice([2, 4, 16])),
                        persistence=rng.uniform(0.6, 1.05))  # fmt: skip
    colour = _colours(rng, grain, contrast=rng.uniform(0.25, 0.8))
    stain = value_noise(rng, size, coarsest=3)
    colour *= 1 - 0.5 * np.clip((stain - 0.65) * 4, 0, 1)[..., None]
    if rng.random() < 0.4:
        green = rng.uniform(0.4, 0.9)
        colour *= 1 - green * value_noise(rng, size)[..., None] * np.array([0.45, 0.0, 0.7])
    return _rgba(colour)


def masonry(rng: Random, size: int) -> Texture:
    """Bricks, slabs or tiles, each of its own shade, with joints."""
    rows = int(rng.choice([4, 6, 8, 12, 16]))
    columns = max(1, int(rows * rng.choice([0.5, 0.5, 1.0])))
    y, x = np.mgrid[0:size, 0:size] / size
    row = np.floor(y * rows)
    shifted = x * columns + (row % 2) * rng.choice([0.0, 0.5])
    shade = rng.random((rows, columns + 2), dtype=np.float32)
    cell = shade[row.astype(int), np.floor(shifted).astype(int)]
    joint = rng.uniform(0.02, 0.08)
    ratio = rows / columns
    gap = np.minimum(np.minimum(y * rows % 1, 1 - y * rows % 1),
                     ratio * np.minimum(shifted % 1, 1 - shifted % 1)) < joint  # fmt: skip
    field = 0.5 * cell + 0.5 * value_noise(rng, size, coarsest=8, persistence=0.8)
    colour = _colours(rng, field.astype(np.float32), contrast=rng.uniform(0.2, 0.6))
    if rng.random() < 0.4:
        colour *= np.array([1.15, 0.75, 0.6])
    return _rgba(np.where(gap[..., None], rng.uniform(0.1, 0.8), colour))


def windows(rng: Random, size: int) -> Texture:
    """Windows and doors in a grid, to lie over a wall: transparent between them."""
    colour, alpha = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32)
    rows, columns = rng.integers(2, 6, 2)
    height, width = size // rows, size // columns
    inner_w, inner_h = rng.uniform(0.35, 0.7) * width, rng.uniform(0.45, 0.75) * height
    frame = rng.uniform(0.05, 0.95) + rng.normal(0, 0.05, 3)
    bars = rng.integers(0, 3, 2)
    for i, j in np.ndindex(int(rows), int(columns)):
        if rng.random() < 0.1:
            continue
        left, top = int(j * width + (width - inner_w) / 2), int(i * height + 0.2 * height)
        right, bottom = int(left + inner_w), min(int(top + inner_h), size)
        pane = rng.uniform(0.02, 0.35) + rng.normal(0, 0.04, 3)
        slope = np.linspace(rng.uniform(0.6, 1.4), rng.uniform(0.6, 1.4), bottom - top)
        colour[top:bottom, left:right] = (pane * slope[:, None])[:, None]
        if rng.random() < 0.3:
            curtain = left + int(rng.uniform(0.2, 0.8) * inner_w)
            colour[top:bottom, left:curtain] = rng.uniform(0.3, 0.9)
        _draw_bars(colour[top:bottom, left:right], bars, frame)
        alpha[top:bottom, left:right] = 1
        sill = slice(max(left - 2, 0), right + 2)
        colour[bottom : bottom + 3, sill], alpha[bottom : bottom + 3, sill] = frame, 1
    return _rgba(colour, alpha)


def _draw_bars(pane: Field, bars: NDArray[np.integer], colour: Field) -> None:
    height, width = pane.shape[:2]
    thick = max(1, min(height, width) // 14)
    for i in range(int(bars[0]) + 2):
        at = int(i * (width - thick) / (bars[0] + 1))
        pane[:, at : at + thick] = colour
    for i in range(int(bars[1]) + 2):
        at = int(i * (height - thick) / (bars[1] + 1))
        pane[at : at + thick] = colour


def marks(rng: Random, size: int) -> Texture:
    """Signs, posters, letters and lines, to lie over a surface."""
    colour, alpha = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32)
    for _ in range(rng.integers(3, 14)):
        ink = rng.random(3).tolist()
        x, y = rng.integers(0, size, 2).tolist()
        kind = rng.random()
        for canvas, value in ((colour, ink), (alpha, 1.0)):
            if kind < 0.3:
                corner = (x + int(size * 0.3 * ink[0]) + 8, y + int(size * 0.3 * ink[1]) + 8)
                cv2.rectangle(canvas, (x, y), corner, value, -1)
            elif kind < 0.7:
                text = "".join(chr(65 + int(997 * c) % 26) for c in (*ink, ink[0] * ink[1]))
                scale, thick = 0.5 + size / 128 * ink[2], 1 + int(4 * ink[1])
                face = cv2.FONT_HERSHEY_DUPLEX
                cv2.putText(canvas, text, (x - 20, y), face, scale, value, thick, cv2.LINE_AA)
            else:
                end = (int(size * ink[0]), y if ink[2] < 0.6 else int(size * ink[1]))
                cv2.line(canvas, (x, y), end, value, 1 + int(size / 40 * ink[1]), cv2.LINE_AA)
    return _rgba(colour, alpha * rng.uniform(0.6, 1.0))


def stains(rng: Random, size: int) -> Texture:
    """Dirt, damp, moss: soft patches to lie over a surface."""
    field = value_noise(rng, size, coarsest=int(rng.choice([2, 4, 8])))
    alpha = np.clip((field - rng.uniform(0.4, 0.7)) * rng.uniform(2, 8), 0, 1)
    colour = _colours(rng, value_noise(rng, size, coarsest=8)) * rng.uniform(0.3, 1.0)
    return _rgba(colour, alpha * rng.uniform(0.4, 0.9))


def stripes(rng: Random, size: int) -> Texture:
    """Planks, corrugated sheet, checks, parquet: regular with irregular shades."""
    y, x = np.mgrid[0:size, 0:size] / size
    number = int(rng.choice([4, 6, 8, 16, 32]))
    shade = rng.random((number + 1, number + 1), dtype=np.float32)
    column = np.floor(x * number).astype(int)
    row = np.floor(y * number).astype(int)
    if rng.random() < 0.6:
        long_row = np.floor(y * 2 + shade[0, column]).astype(int)
        field = 0.6 * shade[long_row, column]
        field = np.where(x * number % 1 < 0.06, 0.0, field)
    else:
        field = 0.8 * ((row + column) % 2) + 0.2 * shade[row, column]
    fibres = cv2.resize(value_noise(rng, size, coarsest=8, persistence=0.9), None, fx=1, fy=4)
    field = 0.7 * field + 0.3 * fibres[:size]
    return _rgba(_colours(rng, field.astype(np.float32), contrast=rng.uniform(0.3, 0.9)))


def foliage(rng: Random, size: int) -> Texture:
    """Leaves and grass: many small strokes and ellipses, light over dark."""
    base = 0.15 + 0.2 * value_noise(rng, size)
    hue = np.array([rng.uniform(0.5, 1.1), 1.0, rng.uniform(0.2, 0.6)])
    if rng.random() < 0.2:
        hue = np.array([1.0, rng.uniform(0.5, 0.8), 0.3])
    colour = base[..., None] * hue
    for _ in range(int(rng.integers(300, 700))):
        centre = rng.integers(0, size, 2).tolist()
        axes = (int(rng.integers(2, max(size // 20, 4))), int(rng.integers(1, max(size // 50, 3))))
        shade = (rng.uniform(0.1, 0.75) * hue * rng.uniform(0.85, 1.15, 3)).tolist()
        cv2.ellipse(colour, centre, axes, rng.uniform(0, 180), 0, 360, shade, -1, cv2.LINE_AA)
    return _rgba(colour)


def clouds(rng: Random, size: int) -> Texture:
    """Clouds: their density in all channels."""
    field = value_noise(rng, size, coarsest=3, persistence=0.55)
    density = np.clip((field - 0.45) * rng.uniform(1.5, 4), 0, 1)
    return _rgba(np.repeat(density[..., None], 3, -1), density)


Maker = Callable[[Random, int], Texture]
MAKERS: dict[str, Maker] = {
    "ground": ground,
    "masonry": masonry,
    "stripes": stripes,
    "foliage": foliage,
    "windows": windows,
    "marks": marks,
    "stains": stains,
    "clouds": clouds,
}
# Of 20 textures so many are of a kind; there is at least one of each.
_FREQUENCY = {"ground": 4, "masonry": 4, "stripes": 2, "foliage": 2, "windows": 3, "marks": 2,
              "stains": 2, "clouds": 1}  # fmt: skip


def make_textures(rng: Random, number: int, size: int) -> dict[str, list[Texture]]:
    """About so many textures, by kind."""
    return {
        kind: [MAKERS[kind](rng, size) for _ in range(max(1, round(number * often / 20)))]
        for kind, often in _FREQUENCY.items()
    }

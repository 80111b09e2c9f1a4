"""Painters of procedural textures: walls, floors, wood, cloth.

A painter takes a generator, a shape (h, w) in px and the density in px/m, and returns linear
reflectance (h, w, 3) in [0, 1].
"""

from collections.abc import Callable

import cv2
import numpy as np

from tools.make_sample.noise import Image, Rng, band, colour, finish, fractal, stretched, tint

Painter = Callable[[Rng, tuple[int, int], float], Image]


def plain(base: tuple[float, float, float], strength: float = 0.25) -> Painter:
    """Painted surface with stains and wear at all scales."""

    def paint(rng: Rng, shape: tuple[int, int], density: float) -> Image:
        stains = fractal(rng, shape, 0.6 * density, 0.8)
        image = tint(stains, np.array(base, np.float32), strength)
        chips = fractal(rng, shape, 0.10 * density, 0.8)
        image[chips > 1.15] *= 0.45
        image[chips < -1.25] = finish(image[chips < -1.25] * 1.7)
        return image

    return paint


def bricks(base: tuple[float, float, float], size_m: tuple[float, float]) -> Painter:
    """Running bond whose every brick has its own colour, with mortar and dirt."""

    def paint(rng: Rng, shape: tuple[int, int], density: float) -> Image:
        h, w = shape
        image = tint(fractal(rng, shape, 8), np.full(3, 0.42, np.float32), 0.2)
        bw, bh = size_m[0] * density, size_m[1] * density
        for row in range(int(h / bh) + 1):
            shift = rng.uniform(0, bw)
            for col in range(-1, int(w / bw) + 2):
                x0, x1 = col * bw + shift + 2, (col + 1) * bw + shift - 1
                y0, y1 = row * bh + 2, (row + 1) * bh - 1
                shade = np.array(base, np.float32) * rng.uniform(0.45, 1.5)
                shade = shade * rng.uniform(0.85, 1.15, 3)
                corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
                corners += rng.uniform(-1.2, 1.2, (4, 2))
                cv2.fillConvexPoly(image, np.rint(corners).astype(np.int32), shade.tolist())
        image *= 1.0 + 0.25 * fractal(rng, shape, 0.08 * density, 0.9)[..., None]
        return finish(image * (1.0 + 0.25 * band(rng, shape, 0.7 * density)[..., None]))

    return paint


def tiles(size_m: float, saturation: tuple[float, float], value: float) -> Painter:
    """Square tiles, each with its own colour and one of a few random ornaments."""

    def paint(rng: Rng, shape: tuple[int, int], density: float) -> Image:
        h, w = shape
        image = np.full((h, w, 3), 0.3, np.float32)
        side = int(size_m * density)
        for top in range(0, h, side):
            for left in range(0, w, side):
                tile = np.empty((side - 2, side - 2, 3), np.float32)
                tile[:] = colour(rng, saturation, value)
                _ornament(rng, tile)
                place = image[top + 1 : top + side - 1, left + 1 : left + side - 1]
                place[:] = tile[: place.shape[0], : place.shape[1]]
        image *= 1.0 + 0.12 * fractal(rng, shape, 0.2 * density, 0.9)[..., None]
        return finish(image)

    return paint


def _ornament(rng: Rng, tile: Image) -> None:
    side = tile.shape[0]
    ink = colour(rng, (0.0, 0.7), 0.6).tolist()
    kind = rng.integers(0, 6)
    centre = tuple(int(v) for v in rng.uniform(0.3, 0.7, 2) * side)
    if kind == 0:
        cv2.circle(tile, centre, int(side * rng.uniform(0.12, 0.35)), ink, -1, cv2.LINE_AA)
    elif kind == 1:
        cv2.circle(tile, centre, int(side * 0.3), ink, max(side // 12, 1), cv2.LINE_AA)
    elif kind == 2:
        corners = rng.uniform(0, side, (3, 2)).astype(np.int32)
        cv2.fillConvexPoly(tile, corners, ink, cv2.LINE_AA)
    elif kind == 3:
        ends = rng.uniform(0, side, (2, 2)).astype(int).tolist()
        cv2.line(tile, ends[0], ends[1], ink, max(side // 8, 1), cv2.LINE_AA)


def planks(base: tuple[float, float, float], width_m: float, *, upright: bool = False) -> Painter:
    """Boards with grain, knots and nail holes; every board has its own tone."""

    def paint(rng: Rng, shape: tuple[int, int], density: float) -> Image:
        h, w = shape[::-1] if upright else shape
        image = np.empty((h, w, 3), np.float32)
        side = max(int(width_m * density), 6)
        for top in range(0, h, side):
            left = 0
            while left < w:
                length = int(rng.uniform(0.6, 1.8) * density)
                rows, cols = min(side, h - top), min(length, w - left)
                image[top : top + rows, left : left + cols] = _board(rng, (rows, cols), base)
                left += length
        image *= 1.0 + 0.15 * fractal(rng, (h, w), 0.5 * density, 0.6)[..., None]
        return finish(np.ascontiguousarray(image.transpose(1, 0, 2)) if upright else image)

    return paint


def _board(rng: Rng, shape: tuple[int, int], base: tuple[float, float, float]) -> Image:
    shade = np.array(base, np.float32) * rng.uniform(0.6, 1.35) * rng.uniform(0.9, 1.1, 3)
    grain = stretched(rng, shape, 10, 14)
    board = tint(grain, shade.astype(np.float32), 0.38)
    h, w = shape
    for _ in range(rng.poisson(w / 140)):
        knot = (int(rng.uniform(0, w)), int(rng.uniform(0, h)))
        axes = (int(rng.uniform(3, 8)), int(rng.uniform(2, 5)))
        cv2.ellipse(board, knot, axes, 0, 0, 360, (shade * 0.3).tolist(), -1, cv2.LINE_AA)
    board[0] *= 0.35
    board[:, :1] *= 0.35
    return board


def carpet(base: tuple[float, float, float]) -> Painter:
    """Woven rug: nested borders, scattered figures, pile."""

    def paint(rng: Rng, shape: tuple[int, int], density: float) -> Image:
        h, w = shape
        image = np.empty((h, w, 3), np.float32)
        image[:] = np.array(base, np.float32)
        inset = 0
        for _ in range(5):
            inset += int(rng.uniform(0.03, 0.09) * min(density, 0.8 * min(h, w)))
            cv2.rectangle(image, (inset, inset), (w - inset, h - inset), colour(rng).tolist(), -1)
        for _ in range(int(h * w / density**2 * 45)):
            x, y = rng.uniform(inset, w - inset), rng.uniform(inset, h - inset)
            _figure(rng, image, (x, y), rng.uniform(0.03, 0.12) * density)
        image *= 1.0 + 0.3 * fractal(rng, shape, 5, 1.0)[..., None]
        return finish(image)

    return paint


def _figure(rng: Rng, image: Image, at: tuple[float, float], radius: float) -> None:
    count = int(rng.integers(3, 9))
    angles = np.sort(rng.uniform(0, 2 * np.pi, count))
    reach = radius * rng.uniform(0.4, 1.0, count)
    corners = np.stack([np.cos(angles) * reach + at[0], np.sin(angles) * reach + at[1]], -1)
    cv2.fillPoly(image, [corners.astype(np.int32)], colour(rng).tolist(), cv2.LINE_AA)


def stone(rng: Rng, shape: tuple[int, int], density: float) -> Image:
    """Irregular flagstones: Voronoi cells on a jittered grid."""
    h, w = shape
    cell = 0.42 * density
    cols, rows = int(w / cell) + 2, int(h / cell) + 2
    gx, gy = np.meshgrid(np.arange(cols), np.arange(rows))
    seeds = np.stack([gx, gy], -1) * cell + rng.uniform(-0.38, 0.38, (rows, cols, 2)) * cell
    warp = 0.05 * density
    y, x = np.mgrid[:h, :w].astype(np.float32)
    x = x + warp * fractal(rng, shape, 0.3 * density)
    y = y + warp * fractal(rng, shape, 0.3 * density)
    best = np.full((2, h, w), np.inf, np.float32)
    owner = np.zeros((h, w), np.int32)
    for index, (sx, sy) in enumerate(seeds.reshape(-1, 2)):
        reach = int(2.2 * cell)
        rows_at = slice(max(int(sy) - reach, 0), max(int(sy) + reach, 0))
        cols_at = slice(max(int(sx) - reach, 0), max(int(sx) + reach, 0))
        far = np.hypot(x[rows_at, cols_at] - sx, y[rows_at, cols_at] - sy)
        first, second = best[0, rows_at, cols_at], best[1, rows_at, cols_at]
        closer = far < first
        second[:] = np.where(closer, first, np.minimum(second, far))
        first[:] = np.where(closer, far, first)
        owner[rows_at, cols_at][closer] = index
    shades = np.array([0.33, 0.30, 0.26]) * rng.uniform(0.55, 1.5, (cols * rows, 1))
    shades = shades * rng.uniform(0.88, 1.12, (cols * rows, 3))
    image = shades[owner].astype(np.float32)
    image *= 1.0 + 0.32 * fractal(rng, shape, 0.25 * density, 0.85)[..., None]
    image[(best[1] - best[0]) < 0.014 * density] *= 0.35
    return finish(image)

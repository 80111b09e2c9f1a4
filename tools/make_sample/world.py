"""The scene: a roofed-over courtyard workshop of 8 x 6 m, full of things.

Map frame: origin on the floor in the middle, x along the 8 m, y along the 6 m, z up.
"""

from dataclasses import dataclass

import numpy as np

from tools.make_sample.meshes import Group, Vec
from tools.make_sample.noise import Rng
from tools.make_sample.prints import carton, jumble, notices, poster, spine
from tools.make_sample.textures import Painter, bricks, carpet, plain, planks, stone, tiles

HALF_X, HALF_Y, WALL = 4.0, 3.0, 3.3
WOOD = (0.40, 0.25, 0.13)
DARK_WOOD = (0.24, 0.14, 0.08)
PALE_WOOD = (0.55, 0.42, 0.27)
LEAF = (0.10, 0.24, 0.06)
METAL = (0.35, 0.37, 0.40)


@dataclass(frozen=True)
class Placement:
    """Where the movable things stand: (x, y, yaw in degrees)."""

    crate: tuple[float, float, float]
    chair: tuple[float, float, float]


MAP_PLACEMENT = Placement(crate=(2.8, -2.0, 15.0), chair=(-1.05, -0.75, 200.0))
STREAM_PLACEMENT = Placement(crate=(-1.4, 2.2, -25.0), chair=(0.95, 0.8, 60.0))


def build(seed: int, placement: Placement) -> list[Group]:
    """All groups of the scene; the same seed gives the same scene."""
    matt = Group("matt", np.random.default_rng(seed))
    small = Group("small", np.random.default_rng(seed + 1), density=330.0)
    gloss = Group("gloss", np.random.default_rng(seed + 2), density=330.0, glossy=True)
    crate = Group("crate", np.random.default_rng(seed + 3), density=300.0)
    chair = Group("chair", np.random.default_rng(seed + 4), density=300.0)
    _shell(matt)
    _roof(matt)
    _posters(small)
    for centre, size, yaw in (
        ((-3.78, -1.35, 0.0), (0.32, 1.5, 2.2), 0.0),
        ((-0.7, 2.78, 0.0), (1.7, 0.34, 2.1), 0.0),
        ((3.78, 1.1, 0.0), (0.34, 1.4, 1.8), 0.0),
    ):
        _bookcase(small, gloss, centre, size, yaw)
    _island(small, gloss)
    _workbench(small, gloss)
    _corners(small, gloss)
    _plants(small)
    _hanging(small, gloss)
    x, y, yaw = placement.crate
    crate.box((x, y, 0.0), (0.75, 0.6, 0.7), carton(), yaw)
    crate.box((x, y, 0.7), (0.45, 0.4, 0.32), carton((0.30, 0.38, 0.45)), yaw + 20)
    _chair(chair, placement.chair)
    return [matt, small, gloss, crate, chair]


def _shell(g: Group) -> None:
    x, y, z = HALF_X, HALF_Y, WALL
    g.quad([(-x, y, 0), (x, y, 0), (x, -y, 0), (-x, -y, 0)], stone)
    g.quad(
        [(-x, y, z), (x, y, z), (x, y, 0), (-x, y, 0)], bricks((0.42, 0.2, 0.13), (0.24, 0.085))
    )
    g.quad([(x, y, z), (x, -y, z), (x, -y, 0), (x, y, 0)], plain((0.50, 0.45, 0.32), 0.3))
    g.quad([(x, -y, z), (-x, -y, z), (-x, -y, 0), (x, -y, 0)], planks(WOOD, 0.14, upright=True))
    g.quad([(-x, -y, z), (-x, y, z), (-x, y, 1.6), (-x, -y, 1.6)], plain((0.28, 0.42, 0.44), 0.3))
    g.quad([(-x, -y, 1.6), (-x, y, 1.6), (-x, y, 0), (-x, -y, 0)], tiles(0.16, (0.1, 0.7), 0.6))
    for at, size, base in (
        ((-1.9, 0.4, 0.004), (1.5, 2.3), (0.40, 0.10, 0.08)),
        ((2.1, -0.5, 0.004), (1.7, 2.2), (0.10, 0.16, 0.32)),
        ((0.2, -2.0, 0.006), (2.2, 0.9), (0.36, 0.28, 0.12)),
    ):
        _mat(g, at, size, carpet(base))


def _mat(g: Group, at: Vec, size: tuple[float, float], painter: Painter) -> None:
    (x, y, z), (a, b) = at, (size[0] / 2, size[1] / 2)
    g.quad([(x - a, y + b, z), (x + a, y + b, z), (x + a, y - b, z), (x - a, y - b, z)], painter)


def _roof(g: Group) -> None:
    for y in (-2.2, -0.8, 0.7, 2.1):
        g.box((0.0, y, 2.95), (8.0, 0.16, 0.22), planks(DARK_WOOD, 0.08))
    for x in (-3.5, -2.6, -1.7, 1.2, 2.2, 3.3):
        g.box((x, 0.0, 3.17), (0.24, 6.0, 0.05), planks(PALE_WOOD, 0.12, upright=True))
    for x, y in ((-2.75, 2.1), (2.2, 2.1)):
        g.tube((x, y, 0.0), (0.13, 0.11), 2.95, tiles(0.08, (0.1, 0.8), 0.6))


def _posters(g: Group) -> None:
    rng = g.rng
    x, y = HALF_X - 0.015, HALF_Y - 0.015
    for left in (-3.75, -2.5, 0.45, 1.55, 2.75):
        w, h = rng.uniform(0.6, 0.95), rng.uniform(0.7, 1.2)
        top = rng.uniform(2.1, 2.6)
        corners = [(left, y, top), (left + w, y, top), (left + w, y, top - h), (left, y, top - h)]
        g.quad(corners, poster)
    for left in (2.85, 0.2, -0.75, -1.8):
        w, h, top = rng.uniform(0.6, 0.85), rng.uniform(0.7, 1.1), rng.uniform(1.9, 2.6)
        corners = [(x, left, top), (x, left - w, top), (x, left - w, top - h), (x, left, top - h)]
        g.quad(corners, poster)
    for left in (-0.1, 1.1, 2.0):
        w, h, top = rng.uniform(0.6, 0.8), rng.uniform(0.6, 0.9), rng.uniform(2.1, 2.7)
        corners = [
            (-x, left, top),
            (-x, left + w, top),
            (-x, left + w, top - h),
            (-x, left, top - h),
        ]
        g.quad(corners, poster)
    for right in (3.5, 2.35, -2.1):
        w, h, top = rng.uniform(0.7, 0.95), rng.uniform(0.7, 1.0), rng.uniform(2.0, 2.6)
        corners = [(right, -y, top), (right - w, -y, top)]
        g.quad([*corners, (right - w, -y, top - h), (right, -y, top - h)], poster)
    g.quad([(1.3, -y, 2.2), (-0.4, -y, 2.2), (-0.4, -y, 1.15), (1.3, -y, 1.15)], notices)


def _bookcase(g: Group, gloss: Group, centre: Vec, size: Vec, yaw: float) -> None:
    (x, y, _), (a, b, height) = centre, size
    long_x = a > b
    length = max(a, b)
    levels = int(height / 0.36)
    for level in range(levels + 1):
        g.box((x, y, level * height / levels), (a, b, 0.025), planks(DARK_WOOD, 0.1), yaw)
    for end in (-length / 2, length / 2):
        at = (x + end, y, 0.0) if long_x else (x, y + end, 0.0)
        g.box(at, (0.03, b, height) if long_x else (a, 0.03, height), planks(DARK_WOOD, 0.1))
    for level in range(levels):
        _shelf_row(g, gloss, (x, y, level * height / levels + 0.026), length, long_x)


def _shelf_row(g: Group, gloss: Group, centre: Vec, length: float, long_x: bool) -> None:
    rng, at = g.rng, -length / 2 + 0.04
    while at < length / 2 - 0.1:
        run = rng.uniform()
        width = rng.uniform(0.018, 0.055) if run < 0.88 else rng.uniform(0.1, 0.2)
        depth, tall = rng.uniform(0.16, 0.24), rng.uniform(0.19, 0.31)
        middle = at + width / 2
        place = (centre[0] + middle, centre[1], centre[2])
        size = (width, depth, tall)
        if not long_x:
            place, size = (centre[0], centre[1] + middle, centre[2]), (depth, width, tall)
        if run < 0.88:
            (gloss if rng.uniform() < 0.3 else g).box(place, size, spine)
        elif run < 0.94:
            gloss.tube(place, (width / 2, width / 2.4), tall, jumble)
        else:
            g.box(place, size, carton())
        at += width + 0.004 + (rng.uniform(0.05, 0.18) if rng.uniform() < 0.06 else 0.0)


def _table(g: Group, centre: Vec, size: Vec, yaw: float, painter: Painter) -> None:
    (x, y, z), (a, b, h) = centre, size
    g.box((x, y, z + h - 0.05), (a, b, 0.05), painter, yaw)
    for sx in (-1, 1):
        for sy in (-1, 1):
            at = (x + sx * (a / 2 - 0.06), y + sy * (b / 2 - 0.06), z)
            g.box(at, (0.07, 0.07, h - 0.05), planks(DARK_WOOD, 0.05, upright=True), yaw)


def _clutter(g: Group, gloss: Group, area: tuple[float, float, float, float], z: float) -> None:
    """Books, tins, boxes, balls on a surface (x0, x1, y0, y1) of height z."""
    rng, (x0, x1, y0, y1) = g.rng, area
    for _ in range(int((x1 - x0) * (y1 - y0) * 22)):
        at = (rng.uniform(x0, x1), rng.uniform(y0, y1), z)
        kind, yaw = rng.uniform(), rng.uniform(0, 90)
        if kind < 0.35:
            top = z
            for _ in range(int(rng.integers(1, 6))):
                thick = rng.uniform(0.02, 0.05)
                size = (rng.uniform(0.16, 0.26), rng.uniform(0.12, 0.2), thick)
                g.box((at[0], at[1], top), size, jumble, yaw + rng.uniform(-15, 15))
                top += thick
        elif kind < 0.6:
            radius = rng.uniform(0.035, 0.08)
            gloss.tube(at, (radius, radius * rng.uniform(0.6, 1.1)), rng.uniform(0.1, 0.3), jumble)
        elif kind < 0.85:
            g.box(at, tuple(rng.uniform(0.1, 0.26, 3)), carton(_some_colour(rng)), yaw)
        else:
            radius = rng.uniform(0.05, 0.1)
            gloss.ball((at[0], at[1], z + radius), radius, jumble)


def _some_colour(rng: Rng) -> Vec:
    r, g, b = rng.uniform(0.12, 0.6, 3)
    return (float(r), float(g), float(b))


def _island(g: Group, gloss: Group) -> None:
    _table(g, (0.0, 0.05, 0.0), (1.5, 0.8, 0.78), 0.0, planks(PALE_WOOD, 0.12))
    _clutter(g, gloss, (-0.65, 0.65, -0.25, 0.35), 0.78)
    g.box((0.2, 0.05, 0.0), (0.5, 0.4, 0.35), carton(), 10)
    g.box((-0.35, 0.0, 0.0), (0.35, 0.4, 0.5), carton((0.3, 0.2, 0.2)), -20)


def _workbench(g: Group, gloss: Group) -> None:
    _table(g, (-1.9, -2.62, 0.0), (2.4, 0.65, 0.9), 0.0, planks(WOOD, 0.15))
    _clutter(g, gloss, (-3.0, -0.8, -2.85, -2.4), 0.9)
    for x in (-2.8, -2.2, -1.5, -1.0):
        height = g.rng.uniform(0.35, 0.6)
        g.box((x, -2.65, 0.0), (0.42, 0.4, height), carton(_some_colour(g.rng)), x * 40)
    g.box((-1.9, -2.92, 1.45), (2.2, 0.14, 0.03), planks(DARK_WOOD, 0.1))
    _clutter(g, gloss, (-2.9, -0.9, -2.94, -2.9), 1.48)
    _clutter(g, gloss, (-2.9, -0.9, -2.93, -2.88), 1.48)


def _corners(g: Group, gloss: Group) -> None:
    g.box((3.4, -2.6, 0.0), (0.7, 0.6, 0.75), planks(WOOD, 0.1), 8)
    g.box((3.45, -2.6, 0.75), (0.45, 0.4, 0.4), carton(), -12)
    g.box((1.5, 2.65, 0.0), (0.9, 0.5, 0.85), planks(PALE_WOOD, 0.2), 0)
    _clutter(g, gloss, (1.15, 1.85, 2.5, 2.85), 0.85)
    gloss.tube((3.45, 2.5, 0.0), (0.3, 0.3), 0.85, jumble)
    gloss.tube((-3.5, 2.55, 0.0), (0.26, 0.33), 0.7, tiles(0.07, (0.2, 0.9), 0.5))
    g.box((-3.55, 1.1, 0.0), (0.6, 1.0, 0.45), carpet((0.14, 0.22, 0.12)), 0)
    g.box((-3.75, 1.1, 0.45), (0.2, 1.0, 0.45), jumble, 0)
    gloss.ball((-3.5, 0.8, 0.6), 0.16, jumble, 0.7)
    g.box((3.6, -1.1, 0.0), (0.5, 0.8, 0.6), carton((0.2, 0.3, 0.38)), 4)
    g.box((3.65, -1.1, 0.6), (0.4, 0.5, 0.35), carton(), -9)
    g.box((3.7, -0.15, 0.0), (0.36, 0.5, 1.25), planks((0.2, 0.3, 0.22), 0.09, upright=True))
    _clutter(g, gloss, (3.6, 3.8, -0.3, 0.0), 1.25)
    g.box((1.9, -2.7, 0.0), (0.6, 0.4, 0.5), jumble, 0)


def _plants(g: Group) -> None:
    for x, y, height, count in ((-3.3, 2.05, 1.1, 150), (0.65, 2.6, 1.2, 130)):
        g.tube((x, y, 0.0), (0.14, 0.2), 0.36, bricks((0.4, 0.18, 0.1), (0.09, 0.04)))
        g.leaves((x, y, 0.3), height, count, plain(LEAF, 0.5))
    g.leaves((3.3, -0.7, 0.7), 0.5, 60, plain((0.2, 0.3, 0.05), 0.5))
    g.leaves((0.45, -0.15, 0.85), 0.35, 40, plain(LEAF, 0.5))


def _hanging(g: Group, gloss: Group) -> None:
    rng = g.rng
    for x in np.arange(-3.2, 3.3, 0.8):
        y = float(rng.choice([-2.2, -0.8, 0.7, 2.1]))
        drop = rng.uniform(0.3, 0.6)
        g.box((float(x), y, 2.95 - drop), (0.012, 0.012, drop), plain((0.1, 0.1, 0.1)))
        size = (rng.uniform(0.2, 0.35), rng.uniform(0.03, 0.3), rng.uniform(0.15, 0.3))
        g.box((float(x), y, 2.95 - drop - size[2]), size, jumble, rng.uniform(0, 90))


def _chair(g: Group, placement: tuple[float, float, float]) -> None:
    x, y, yaw = placement
    turn = np.radians(yaw)

    def at(dx: float, dy: float, z: float) -> Vec:
        c, s = np.cos(turn), np.sin(turn)
        return (float(x + c * dx - s * dy), float(y + s * dx + c * dy), z)

    wood = planks((0.30, 0.10, 0.07), 0.06)
    g.box(at(0, 0, 0.42), (0.42, 0.42, 0.05), carpet((0.3, 0.2, 0.08)), yaw)
    for dx, dy in ((-0.18, -0.18), (-0.18, 0.18), (0.18, -0.18), (0.18, 0.18)):
        g.box(at(dx, dy, 0.0), (0.045, 0.045, 0.42), wood, yaw)
    for dy in (-0.18, 0.18):
        g.box(at(-0.19, dy, 0.47), (0.04, 0.04, 0.5), wood, yaw)
    for z in (0.6, 0.75, 0.88):
        g.box(at(-0.19, 0, z), (0.03, 0.36, 0.08), wood, yaw)

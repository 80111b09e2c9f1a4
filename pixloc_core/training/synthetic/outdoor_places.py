"""Places under the sky: streets, fields, courtyards, villages from above."""

from dataclasses import dataclass

import numpy as np

from pixloc_core.training.synthetic.bodies import (
    add_boxes,
    add_fence,
    add_grass,
    add_house,
    add_leaves,
    add_tree,
    add_vehicle,
)
from pixloc_core.training.synthetic.palette import Palette
from pixloc_core.training.synthetic.patches import Array, PatchBuilder, up
from pixloc_core.training.synthetic.place import Place


def make_street(builder: PatchBuilder, palette: Palette, clutter: float) -> Place:
    """A street between two rows of houses, with pavements, cars, poles and trees."""
    rng = builder.rng
    width, length = rng.uniform(7, 22), rng.uniform(50, 110)
    half = width / 2
    builder.add([-80, -40, 0], ([160, 0, 0], [0, length + 140, 0]), palette.ground())
    kerb = palette.ground()
    for side in (-1, 1):
        start = np.array([side * half, -30, 0.12])
        builder.add(start, ([side * -1.8, 0, 0], [0, length + 40, 0]), kerb)
        y = -20.0
        while y < length:
            frontage = rng.uniform(6, 20)
            depth, height = rng.uniform(8, 15), rng.uniform(4, 18)
            centre = [side * (half + depth / 2 + rng.exponential(0.6)), y + frontage / 2, 0]
            add_house(builder, palette, centre, (depth, frontage, height))
            y += frontage + (rng.uniform(1, 8) if rng.random() < 0.3 else 0)
    if rng.random() < 0.6:
        end = [rng.uniform(-3, 3), length + 12, 0]
        add_house(builder, palette, end, (width + 20, 14, rng.uniform(6, 22)))

    def beside(nearest: float, farthest: float) -> Array:
        """A point so far from the kerb, on either side."""
        across = rng.choice([-1, 1]) * (half - rng.uniform(nearest, farthest))
        return np.array([across, rng.uniform(2, length * 0.6), 0])

    for _ in range(rng.poisson(5 * clutter)):
        add_vehicle(builder, palette, beside(1.9, 3.0), np.pi / 2 + rng.normal(0, 0.05))
    lamps = []
    for _ in range(rng.poisson(4)):
        at, top = beside(0.5, 0.7), up(rng.uniform(3, 8))
        builder.add_pole(at, top, rng.uniform(0.05, 0.14), palette.plain())
        lamps.append(at + top)
    for _ in range(rng.poisson(2.5 * clutter)):
        at = beside(0.3, 1.5)
        add_tree(builder, palette, at, rng.uniform(3, 9), clutter)
    add_boxes(builder, palette, [[-half, 2, 0], [half, length / 2, 0]],
              rng.poisson(3 * clutter), 0.9)  # fmt: skip
    eyes = np.array([[-half * 0.7, -4, 0.5], [half * 0.7, length * 0.4, rng.choice([2.2, 6.0])]])
    targets = np.array([[-half - 2, 8, 0.2], [half + 2, length, 6.0]])
    return Place(builder.build(), eyes, targets, False, np.array(lamps).reshape(-1, 3))


@dataclass(frozen=True)
class _Land:
    """Hills over the square from (-half, -10) on, and how high they are."""

    half: float
    heights: Array

    def at(self, x: float, y: float) -> Array:
        """Point of the ground, a little below it, so that nothing hovers."""
        last = len(self.heights) - 1
        column = float(np.clip((x + self.half) / (2 * self.half), 0, 1)) * last
        row = float(np.clip((y + 10) / (2 * self.half), 0, 1)) * last
        i, j = min(int(row), last - 1), min(int(column), last - 1)
        s, t = row - i, column - j
        cell = self.heights[i : i + 2, j : j + 2]
        return np.array([x, y, np.array([1 - s, s]) @ cell @ np.array([1 - t, t]) - 0.05])

    def somewhere(self, rng: np.random.Generator) -> Array:
        """A point ahead."""
        x = rng.uniform(-self.half, self.half) * 0.8
        return self.at(x, rng.uniform(3, 1.4 * self.half))


def make_field(builder: PatchBuilder, palette: Palette, clutter: float) -> Place:
    """Open land with hills, bushes, trees, rocks, a fence and a few huts."""
    rng = builder.rng
    half = rng.uniform(25, 60)
    land = _Land(half, hills(rng, 15, rng.uniform(0.5, 6)))
    builder.add_terrain([-half, -10], [half, 2 * half - 10], land.heights, palette.ground(2.0))
    builder.add([-900, -200, -3], ([1800, 0, 0], [0, 1800, 0]), palette.ground(4.0))
    _add_plants(builder, palette, land, clutter)
    for _ in range(rng.poisson(1.2)):
        size = (rng.uniform(3, 12), rng.uniform(3, 12), rng.uniform(2.5, 7))
        add_house(builder, palette, land.somewhere(rng) - up(0.5), size)
    for _ in range(rng.poisson(4)):
        add_boxes(builder, palette, np.stack([land.somewhere(rng)] * 2), 1, 1.2)
    for _ in range(rng.poisson(2)):
        pole = palette.plain()
        height = rng.uniform(1, 9)
        builder.add_pole(land.somewhere(rng), up(height), rng.uniform(0.05, 0.2), pole)
    if rng.random() < 0.5:
        start, run = land.somewhere(rng), rng.normal(size=2)
        steps = np.arange(rng.integers(3, 10))[:, None] * 3 * run / np.linalg.norm(run)
        add_fence(
            builder, palette, np.stack([land.at(*(start[:2] + step)) for step in steps]), 1.2
        )
    eye = land.at(0, 0)[2]
    eyes = np.array([[-6, -6, eye + 0.7], [6, 0.3 * half, eye + rng.choice([2.5, 8.0])]])
    targets = np.array([[-half * 0.7, 4, -1], [half * 0.7, half, 4.0]])
    return Place(builder.build(), eyes, targets, False, np.zeros((0, 3)))


def _add_plants(builder: PatchBuilder, palette: Palette, land: _Land, clutter: float) -> None:
    rng = builder.rng
    for _ in range(1 + rng.poisson(4 * clutter)):
        add_tree(builder, palette, land.somewhere(rng), rng.uniform(2, 9), clutter)
    for _ in range(rng.poisson(5 * clutter)):
        radius = rng.uniform(0.4, 1.4)
        middle = land.somewhere(rng) + up(radius * 0.5)
        add_leaves(builder, palette, middle, [radius, radius, radius * 0.6], 10)
    for _ in range(2):
        places = rng.normal(0, 5, (int(15 * clutter), 2)) + np.array([0, 6])
        if len(places):
            feet = np.stack([land.at(*place) for place in places])
            add_grass(builder, palette, feet, rng.uniform(0.15, 0.5))


def hills(rng: np.random.Generator, cells: int, height: float) -> Array:
    """Smooth heights (cells, cells), lowest about zero."""
    y, x = np.mgrid[0:cells, 0:cells] / cells
    total = np.zeros((cells, cells))
    for octave in (1, 2, 4):
        for _ in range(2):
            direction = rng.normal(size=2) * octave * 3
            wave = np.sin(direction[0] * x + direction[1] * y + rng.uniform(0, 6))
            total += wave * rng.uniform(0.3, 1.0) / octave**1.3
    scaled: Array = (total - total.min()) / np.ptp(total) * height
    return scaled


def make_courtyard(builder: PatchBuilder, palette: Palette, clutter: float) -> Place:
    """A yard among buildings, with goods, plants, columns and a fence."""
    rng = builder.rng
    x, y = rng.uniform(10, 30, 2)
    builder.add([-30, -30, 0], ([60 + x, 0, 0], [0, 60 + y, 0]), palette.ground())
    around = (
        ([x / 2, y + 4, 0], (x + 8, 8)),
        ([x / 2, -4, 0], (x + 8, 8)),
        ([-4, y / 2, 0], (8, y)),
        ([x + 4, y / 2, 0], (8, y)),
    )
    for i in range(4):
        centre, size = around[i]
        if rng.random() < 0.85:
            add_house(builder, palette, centre, (*size, rng.uniform(3, 12)))
    lamps = []
    for _ in range(rng.poisson(3)):
        at = np.array([rng.uniform(1, x - 1), rng.uniform(1, y - 1), 0])
        tall = rng.uniform(2, 5)
        builder.add_pole(at, [0, 0, tall], rng.uniform(0.08, 0.35), palette.wall(), sides=8)
        lamps.append(at + up(tall))
    for _ in range(rng.poisson(3 * clutter)):
        add_tree(
            builder,
            palette,
            [rng.uniform(1, x), rng.uniform(1, y), 0],
            rng.uniform(1.5, 6),
            clutter,
        )
    add_boxes(builder, palette, [[0.5, 0.5, 0], [x, y, 0]], rng.poisson(7 * clutter), 1.8)
    for _ in range(rng.poisson(1.0 * clutter)):
        add_vehicle(
            builder, palette, [rng.uniform(2, x - 2), rng.uniform(2, y - 2), 0], rng.uniform(0, 6)
        )
    if rng.random() < 0.4:
        across = np.full((int(x / 3), 3), [0, rng.uniform(0.2, 0.8) * y, 0])
        across[:, 0] = 3 * np.arange(len(across))
        add_fence(builder, palette, across, rng.uniform(0.8, 1.6))
    eyes = np.array([[1.2, 1.2, 0.4], [x - 1.2, y - 1.2, rng.choice([2.0, 4.0])]])
    targets = np.array([[0, 0, 0.2], [x, y, 4.0]])
    return Place(builder.build(), eyes, targets, False, np.array(lamps).reshape(-1, 3))


def make_aerial(builder: PatchBuilder, palette: Palette, clutter: float) -> Place:
    """A village or yard from a drone: roofs, streets, fields, trees from above."""
    rng = builder.rng
    half = rng.uniform(35, 70)
    top = rng.uniform(20, 60)
    builder.add_terrain(
        [-half, -half], [half, half], hills(rng, 9, rng.uniform(0.1, 5)), palette.ground(top / 8)
    )
    builder.add([-600, -600, -1.5], ([1200, 0, 0], [0, 1200, 0]), palette.ground(top / 8))
    for _ in range(rng.integers(1, 5)):  # fields and streets
        yaw, wide = rng.uniform(0, 3), rng.uniform(3, 14)
        along, across = (
            np.array([np.cos(yaw), np.sin(yaw), 0]),
            np.array([-np.sin(yaw), np.cos(yaw), 0]),
        )
        at = np.array([*rng.uniform(-half, half, 2) * 0.5, rng.uniform(1.0, 2.5)])
        builder.add(
            at - along * half - across * wide / 2,
            (2 * half * along, wide * across),
            palette.ground(top / 8),
        )
    for _ in range(rng.integers(4, 12)):
        size = (rng.uniform(5, 16), rng.uniform(5, 16), rng.uniform(3, 12))
        add_house(builder, palette, [*rng.uniform(-half, half, 2) * 0.7, 0], size)
    for _ in range(rng.poisson(6 * clutter)):
        add_tree(
            builder,
            palette,
            [*rng.uniform(-half, half, 2) * 0.7, 0],
            rng.uniform(3, 10),
            0.6 * clutter,
        )
    for _ in range(rng.poisson(5 * clutter)):
        add_vehicle(
            builder,
            palette,
            [*rng.uniform(-half, half, 2) * 0.5, rng.uniform(1, 2)],
            rng.uniform(0, 6),
        )
    eyes = np.array([[-half * 0.6, -half * 0.6, top * 0.7], [half * 0.6, half * 0.6, top * 1.2]])
    targets = np.array([[-half, -half, 0], [half, half, 1]]) * [0.6, 0.6, 1]
    return Place(builder.build(), eyes, targets, False, np.zeros((0, 3)))

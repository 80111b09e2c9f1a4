"""Things that stand outdoors: houses, vehicles, trees, grass, boxes."""

import numpy as np

from pixloc_core.training.synthetic.palette import Palette
from pixloc_core.training.synthetic.patches import Array, PatchBuilder, up
from pixloc_core.training.synthetic.ray_casting import Shape


def add_house(
    builder: PatchBuilder, palette: Palette, centre: Array | list[float],
    size: tuple[float, float, float],
) -> None:  # fmt: skip
    """A house with windows and a flat or gabled roof."""
    rng = builder.rng
    centre = np.asarray(centre, float)
    x, y, z = size
    builder.add_box(centre, size, 0.0, palette.facade(), palette.ground())
    for _ in range(rng.poisson(1.0)):  # balconies, bays, signs
        bulge = [rng.uniform(0.4, 1.4) + x, rng.uniform(1, 3), rng.uniform(0.3, 2.5)]
        at = centre + np.array([0, rng.uniform(-0.4, 0.4) * y, rng.uniform(0.0, 0.7) * z])
        builder.add_box(at, bulge, 0.0, palette.wall(), palette.wall())
    if rng.random() < 0.5:
        rise, over = rng.uniform(1, 4), 0.4
        roof = palette.roof()
        for side in (-1, 1):
            eave = centre + np.array([side * (x / 2 + over), -y / 2 - over, z - 0.2])
            slope = [-side * (x / 2 + over), 0, rise]
            builder.add(eave, ([0, y + 2 * over, 0], slope), roof)
        gable = palette.wall()
        for side in (-1, 1):
            low = centre + np.array([-x / 2, side * y / 2, z])
            builder.add(low, ([x, 0, 0], [x / 2, 0, rise]), gable, shape=Shape.TRIANGLE)


def add_vehicle(
    builder: PatchBuilder, palette: Palette, at: Array | list[float], yaw: float
) -> None:
    """Something of the shape of a car or van, about along x before its turn by `yaw`."""
    rng = builder.rng
    length, wide, low = rng.uniform(3.6, 5.2), rng.uniform(1.6, 2.0), rng.uniform(0.7, 1.0)
    body, glass = palette.paint(), palette.glass()
    at = np.asarray(at, float)
    builder.add_box(at + up(0.25), (length, wide, low), yaw, body, body)
    if rng.random() < 0.3:
        builder.add_box(at + up(0.25 + low), (length * 0.95, wide, low), yaw, body, body)
    else:
        cabin = (length * 0.55, wide * 0.88, low * 0.65)
        builder.add_box(at + up(0.25 + low), cabin, yaw, glass, body)
    forward, sideways = (
        np.array([np.cos(yaw), np.sin(yaw), 0]),
        np.array([-np.sin(yaw), np.cos(yaw), 0]),
    )
    tyre = palette.plain(dark=True)
    for along in (-0.32, 0.32):
        for across in (-0.51, 0.51):
            corner = at + (along * length - 0.33) * forward + across * wide * sideways
            builder.add(corner, (0.66 * forward, [0, 0, 0.66]), tyre, shape=Shape.ELLIPSE)


def add_tree(
    builder: PatchBuilder, palette: Palette, at: Array | list[float], height: float, clutter: float
) -> None:
    """A trunk, and a crown of cards with the outline of leaves."""
    rng = builder.rng
    foot = np.asarray(at, float)
    lean = np.array([*rng.normal(0, 0.05, 2), 1.0]) * height * 0.6
    builder.add_pole(foot, lean, 0.02 * height + 0.04, palette.bark(), sides=5)
    radius = height * rng.uniform(0.2, 0.35)
    middle = foot + up(height * 0.7)
    number = max(8, int(rng.uniform(30, 60) * min(clutter, 2)))
    add_leaves(builder, palette, middle, [radius, radius, height * 0.3], number)


def add_leaves(
    builder: PatchBuilder, palette: Palette, middle: Array, radii: Array | list[float], number: int
) -> None:
    """Cards of leaves around a point, turned in all directions, lit as a round body."""
    rng = builder.rng
    spread = rng.normal(size=(number, 3))
    spread /= np.linalg.norm(spread, axis=-1, keepdims=True)
    where = middle + spread * rng.uniform(0.25, 1.0, (number, 1)) ** 0.5 * np.asarray(radii)
    first, second = rng.normal(size=(2, number, 3))
    side = float(np.mean(radii)) * (1.1 if number > 20 else 1.4)
    first *= (
        side * rng.uniform(0.4, 1.0, (number, 1)) / np.linalg.norm(first, axis=-1, keepdims=True)
    )
    second = np.cross(first, second)
    second *= (
        side * rng.uniform(0.4, 1.0, (number, 1)) / np.linalg.norm(second, axis=-1, keepdims=True)
    )
    round_normals = np.stack((spread, rng.normal(0, 0.3, (number, 3)), 0 * spread), 1)
    builder.add(where - (first + second) / 2, (first, second), palette.leaves(),
                shape=Shape.LEAVES, normals=round_normals)  # fmt: skip


def add_grass(builder: PatchBuilder, palette: Palette, feet: Array, height: float) -> None:
    """Upright cards of grass and weeds that stand at points (k, 3)."""
    rng = builder.rng
    yaw = rng.uniform(0, 6.28, len(feet))
    along = np.stack((np.cos(yaw), np.sin(yaw), 0 * yaw), -1)
    along *= height * rng.uniform(0.8, 2.5, (len(feet), 1))
    up = np.array([0, 0, 1.3]) * height * rng.uniform(0.4, 1.0, (len(feet), 1))
    upward = np.tile(np.array([[0.0, 0, 1], [0, 0, 0], [0, 0, 0]]), (len(feet), 1, 1))
    builder.add(feet - along / 2 - 0.3 * up, (along, up), palette.leaves(), shape=Shape.LEAVES,
                normals=upward)  # fmt: skip


def add_fence(builder: PatchBuilder, palette: Palette, feet: Array, height: float) -> None:
    """A fence along points (k, 3)."""
    along = np.diff(feet, axis=0)
    builder.add(feet[:-1], (along, up(height)), palette.plain(), shape=Shape.FENCE)


def add_boxes(
    builder: PatchBuilder, palette: Palette, region: Array | list[list[float]], number: int,
    size: float,
) -> None:  # fmt: skip
    """Boxes of about a size, some stacked or turned, on the floor of a region (2, 3)."""
    rng = builder.rng
    low, high = np.asarray(region, float)
    for _ in range(number):
        extent = size * rng.uniform(0.3, 1.0, 3)
        at = np.array([*rng.uniform(low[:2], high[:2]), low[2]])
        walls, top = palette.thing(), palette.thing()
        builder.add_box(at, extent, rng.uniform(0, np.pi), walls, top)
        if rng.random() < 0.3:
            above = at + up(extent[2])
            builder.add_box(
                above, extent * rng.uniform(0.3, 0.8, 3), rng.uniform(0, 3), top, walls
            )

"""Kinds of place: what stands where, and where a camera may be."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pixloc_core.training.synthetic.palette import Palette
from pixloc_core.training.synthetic.patches import Array, PatchBuilder, Patches
from pixloc_core.training.synthetic.ray_casting import Shape


@dataclass(frozen=True)
class Place:
    """A place.

    Attributes:
        patches: Its surfaces.
        eyes: Lowest and highest corner (2, 3) of where cameras may be.
        targets: Lowest and highest corner (2, 3) of what they look at.
        is_indoors: Whether it has lamps rather than a sky.
        lamps: Where lamps hang (k, 3).
    """

    patches: Patches
    eyes: Array
    targets: Array
    is_indoors: bool
    lamps: Array


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
    for _ in range(rng.poisson(5 * clutter)):
        at = [rng.choice([-1, 1]) * (half - rng.uniform(1.9, 3)), rng.uniform(2, length * 0.7), 0]
        add_vehicle(builder, palette, at, np.pi / 2 + rng.normal(0, 0.05))
    lamps = []
    for _ in range(rng.poisson(4)):
        at = np.array([rng.choice([-1, 1]) * (half - 0.6), rng.uniform(3, length * 0.6), 0])
        height = rng.uniform(3, 8)
        builder.add_pole(at, [0, 0, height], rng.uniform(0.05, 0.14), palette.plain())
        lamps.append(at + [0, 0, height])
    for _ in range(rng.poisson(2.5 * clutter)):
        at = [
            rng.choice([-1, 1]) * (half - rng.uniform(0.3, 1.5)),
            rng.uniform(4, length * 0.6),
            0,
        ]
        add_tree(builder, palette, at, rng.uniform(3, 9), clutter)
    add_boxes(builder, palette, [[-half, 2, 0], [half, length / 2, 0]],
              rng.poisson(3 * clutter), 0.9)  # fmt: skip
    eyes = np.array([[-half * 0.7, -4, 0.5], [half * 0.7, length * 0.4, rng.choice([2.2, 6.0])]])
    targets = np.array([[-half - 2, 8, 0.2], [half + 2, length, 6.0]])
    return Place(builder.build(), eyes, targets, False, np.array(lamps).reshape(-1, 3))


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
        at = centre + [0, rng.uniform(-0.4, 0.4) * y, rng.uniform(0.0, 0.7) * z]
        builder.add_box(at, bulge, 0.0, palette.wall(), palette.wall())
    if rng.random() < 0.5:
        rise, over = rng.uniform(1, 4), 0.4
        roof = palette.roof()
        for side in (-1, 1):
            eave = centre + [side * (x / 2 + over), -y / 2 - over, z - 0.2]
            slope = [-side * (x / 2 + over), 0, rise]
            builder.add(eave, ([0, y + 2 * over, 0], slope), roof)
        gable = palette.wall()
        for side in (-1, 1):
            low = centre + [-x / 2, side * y / 2, z]
            builder.add(low, ([x, 0, 0], [x / 2, 0, rise]), gable, shape=Shape.TRIANGLE)


def add_vehicle(
    builder: PatchBuilder, palette: Palette, at: Array | list[float], yaw: float
) -> None:
    """Something of the shape of a car or van, about along x before its turn by `yaw`."""
    rng = builder.rng
    length, wide, low = rng.uniform(3.6, 5.2), rng.uniform(1.6, 2.0), rng.uniform(0.7, 1.0)
    body, glass = palette.paint(), palette.glass()
    at = np.asarray(at, float)
    builder.add_box(at + [0, 0, 0.25], (length, wide, low), yaw, body, body)
    if rng.random() < 0.3:
        builder.add_box(at + [0, 0, 0.25 + low], (length * 0.95, wide, low), yaw, body, body)
    else:
        cabin = (length * 0.55, wide * 0.88, low * 0.65)
        builder.add_box(at + [0, 0, 0.25 + low], cabin, yaw, glass, body)
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
    middle = foot + [0, 0, height * 0.7]
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
            above = at + [0, 0, extent[2]]
            builder.add_box(
                above, extent * rng.uniform(0.3, 0.8, 3), rng.uniform(0, 3), top, walls
            )


def make_room(builder: PatchBuilder, palette: Palette, clutter: float) -> Place:
    """A room or hall with furniture, shelves, pictures and windows."""
    rng = builder.rng
    x, y = rng.uniform(3.5, 12, 2)
    z = rng.uniform(2.3, 2.3 + 0.25 * min(x, y))
    builder.add([0, 0, 0], ([x, 0, 0], [0, y, 0]), palette.floor())
    builder.add([0, 0, z], ([x, 0, 0], [0, y, 0]), palette.room_wall())
    common = palette.room_wall()
    sides = (
        ([0, 0, 0], [x, 0, 0]),
        ([x, 0, 0], [0, y, 0]),
        ([x, y, 0], [-x, 0, 0]),
        ([0, y, 0], [0, -y, 0]),
    )
    for corner, along in sides:
        builder.add(
            corner, (along, [0, 0, z]), palette.room_wall() if rng.random() < 0.4 else common
        )
        add_wall_things(builder, palette, np.array(corner), np.array(along), z)
    for _ in range(2 + rng.poisson(0.25 * x * y * clutter**0.5)):
        at = [rng.uniform(0.3, x - 0.3), rng.uniform(0.3, y - 0.3), 0]
        add_furniture(builder, palette, at)
    for _ in range(rng.poisson(1.5 * clutter)):
        middle = np.array([rng.uniform(0.5, x - 0.5), rng.uniform(0.5, y - 0.5), 0.7])
        add_leaves(builder, palette, middle, [0.35, 0.35, 0.5], 14)
    lamps = np.stack((*rng.uniform(0.2, 0.8, (2, 3)) * [[x], [y]], np.full(3, z - 0.15)), -1)
    eyes = np.array([[0.4, 0.4, 0.3], [x - 0.4, y - 0.4, min(1.9, z - 0.3)]])
    targets = np.array([[0, 0, 0.3], [x, y, min(2.2, z)]])
    return Place(builder.build(), eyes, targets, True, lamps)


def add_wall_things(
    builder: PatchBuilder, palette: Palette, corner: Array, along: Array, height: float
) -> None:
    """Pictures, doors, windows and shelves on a wall of a room that lies left of `along`."""
    rng = builder.rng
    length = float(np.linalg.norm(along))
    along = along / length
    inward = np.array([-along[1], along[0], 0.0])
    for _ in range(rng.poisson(0.35 * length)):
        wide, tall = rng.uniform(0.4, 1.6), rng.uniform(0.4, 1.3)
        low = min(rng.uniform(0.6, 1.6), height - tall - 0.1)
        at = corner + along * rng.uniform(0, max(length - wide, 0.1)) + [0, 0, low]
        material = palette.picture() if rng.random() < 0.75 else palette.glass()
        builder.add(at + inward * 0.03, (wide * along, [0, 0, tall]), material)
    if rng.random() < 0.5:
        at = corner + along * rng.uniform(0, length - 1) + inward * 0.04
        builder.add(at, (0.9 * along, [0, 0, 2.05]), palette.paint())
    if rng.random() < 0.5:
        yaw = float(np.arctan2(along[1], along[0]))
        at = corner + along * rng.uniform(0.2, 0.8) * length + inward * 0.2
        add_shelf(builder, palette, at, yaw, (rng.uniform(0.8, 2.4), 0.35, rng.uniform(0.9, 2.1)))


def add_shelf(
    builder: PatchBuilder, palette: Palette, at: Array, yaw: float,
    size: tuple[float, float, float],
) -> None:  # fmt: skip
    """A shelf filled with boxes of all sizes, about along x before its turn by `yaw`."""
    rng = builder.rng
    wide, deep, tall = size
    wood = palette.plain()
    forward = np.array([np.cos(yaw), np.sin(yaw), 0])
    boards = int(rng.integers(2, 6))
    for i in range(boards):
        low = at + [0, 0, tall * i / boards]
        builder.add_box(low, (wide, deep, 0.03), yaw, wood, wood)
        start = -wide / 2
        while start < wide / 2 - 0.1:
            extent = np.array(
                [rng.uniform(0.05, 0.4), deep * 0.8, tall / boards * rng.uniform(0.4, 0.9)]
            )
            extent[0] = min(extent[0], wide / 2 - start)
            book = palette.thing()
            builder.add_box(low + forward * (start + extent[0] / 2), extent, yaw, book, book)
            start += extent[0] + rng.exponential(0.12)


def add_furniture(builder: PatchBuilder, palette: Palette, at: Array | list[float]) -> None:
    """A table with things on it, a seat, a cupboard or a box."""
    rng = builder.rng
    base = np.asarray(at, float)
    yaw = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.2)
    kind = rng.random()
    if kind < 0.45:
        size = np.array([rng.uniform(0.6, 1.8), rng.uniform(0.5, 1.0), 0.04])
        top = palette.thing()
        height = rng.uniform(0.4, 0.8)
        builder.add_box(base + [0, 0, height], size, yaw, top, top)
        turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
        for sx, sy in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            foot = np.array([sx * 0.45 * size[0], sy * 0.45 * size[1]]) @ turn
            builder.add_pole(base + [*foot, 0], [0, 0, height], 0.03, palette.plain(), sides=4)
        for _ in range(rng.integers(1, 5)):
            spot = (rng.uniform(-0.4, 0.4, 2) * size[:2]) @ turn
            things, top = palette.thing(), palette.thing()
            builder.add_box(
                base + [*spot, height + 0.04],
                rng.uniform(0.06, 0.4, 3),
                rng.uniform(0, 3),
                things,
                top,
            )
    elif kind < 0.7:
        size = rng.uniform(0.4, 1.1, 3) * [1, 1, 2]
        builder.add_box(base, size, yaw, palette.thing(), palette.thing())
    else:
        seat, back = palette.thing(), palette.thing()
        builder.add_box(base, (rng.uniform(0.5, 1.8), 0.6, 0.42), yaw, seat, seat)
        behind = base + 0.3 * np.array([-np.sin(yaw), np.cos(yaw), 0])
        builder.add_box(behind, (rng.uniform(0.5, 1.8), 0.12, 0.9), yaw, back, back)


def make_field(builder: PatchBuilder, palette: Palette, clutter: float) -> Place:
    """Open land with hills, bushes, trees, rocks, a fence and a few huts."""
    rng = builder.rng
    half = rng.uniform(25, 60)
    heights = hills(rng, 15, rng.uniform(0.5, 6))
    builder.add_terrain([-half, -10], [half, 2 * half - 10], heights, palette.ground())
    far = palette.ground()
    builder.add([-900, -200, -3], ([1800, 0, 0], [0, 1800, 0]), far)

    def ground(x: float, y: float) -> Array:
        column = np.clip((x + half) / (2 * half), 0, 1) * 14
        row = np.clip((y + 10) / (2 * half), 0, 1) * 14
        i, j = int(min(row, 13)), int(min(column, 13))
        s, t = row - i, column - j
        cell = heights[i : i + 2, j : j + 2]
        return np.array([x, y, (1 - s) * ((1 - t) * cell[0, 0] + t * cell[0, 1])
                         + s * ((1 - t) * cell[1, 0] + t * cell[1, 1]) - 0.05])  # fmt: skip

    def somewhere() -> Array:
        return ground(rng.uniform(-half, half) * 0.8, rng.uniform(3, 1.4 * half))

    for _ in range(1 + rng.poisson(4 * clutter)):
        add_tree(builder, palette, somewhere(), rng.uniform(2, 9), clutter)
    for _ in range(rng.poisson(5 * clutter)):
        at = somewhere()
        radius = rng.uniform(0.4, 1.4)
        add_leaves(builder, palette, at + [0, 0, radius * 0.5], [radius, radius, radius * 0.6], 10)
    for _ in range(rng.poisson(1.2)):
        size = (rng.uniform(3, 12), rng.uniform(3, 12), rng.uniform(2.5, 7))
        add_house(builder, palette, somewhere() - [0, 0, 0.5], size)
    for _ in range(rng.poisson(3)):
        add_boxes(builder, palette, np.stack([somewhere()] * 2), 1, 1.2)
    for _ in range(rng.poisson(2)):
        builder.add_pole(
            somewhere(), [0, 0, rng.uniform(1, 9)], rng.uniform(0.05, 0.2), palette.plain()
        )
    for _ in range(2):
        near = [ground(*rng.normal(0, 5, 2) + [0, 6]) for _ in range(int(15 * clutter))]
        if near:
            add_grass(builder, palette, np.stack(near), rng.uniform(0.15, 0.5))
    if rng.random() < 0.5:
        start, run = somewhere(), rng.normal(size=2)
        for _ in range(int(rng.integers(2, 9))):
            stop = ground(*(start[:2] + 3 * run / np.linalg.norm(run)))
            builder.add(start, (stop - start, [0, 0, 1.2]), palette.plain(), shape=Shape.FENCE)
            start = stop
    eye = ground(0, 0)[2]
    eyes = np.array([[-6, -6, eye + 0.7], [6, 0.3 * half, eye + rng.choice([2.5, 8.0])]])
    targets = np.array([[-half * 0.7, 4, -1], [half * 0.7, half, 4.0]])
    return Place(builder.build(), eyes, targets, False, np.zeros((0, 3)))


def hills(rng: np.random.Generator, cells: int, height: float) -> Array:
    """Smooth heights (cells, cells), lowest about zero."""
    y, x = np.mgrid[0:cells, 0:cells] / cells
    total = np.zeros((cells, cells))
    for octave in (1, 2, 4):
        for _ in range(2):
            direction = rng.normal(size=2) * octave * 3
            wave = np.sin(direction[0] * x + direction[1] * y + rng.uniform(0, 6))
            total += wave * rng.uniform(0.3, 1.0) / octave**1.3
    return (total - total.min()) / np.ptp(total) * height


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
        lamps.append(at + [0, 0, tall])
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
        at = rng.uniform(0.2, 0.8) * y
        for i in range(int(x / 3)):
            builder.add([i * 3, at, 0], ([2.9, 0, 0], [0, 0, rng.uniform(0.8, 1.6)]),
                        palette.plain(), shape=Shape.FENCE)  # fmt: skip
    eyes = np.array([[1.2, 1.2, 0.4], [x - 1.2, y - 1.2, rng.choice([2.0, 4.0])]])
    targets = np.array([[0, 0, 0.2], [x, y, 4.0]])
    return Place(builder.build(), eyes, targets, False, np.array(lamps).reshape(-1, 3))


def make_table(builder: PatchBuilder, palette: Palette, clutter: float) -> Place:
    """A table full of things in a room, seen from near: units are metres too."""
    rng = builder.rng
    builder.add([-4, -4, -0.75], ([8, 0, 0], [0, 8, 0]), palette.floor())
    for corner, along in (([-3, -3, -0.75], [6, 0, 0]), ([3, -3, -0.75], [0, 6, 0]),
                          ([3, 3, -0.75], [-6, 0, 0]), ([-3, 3, -0.75], [0, -6, 0])):  # fmt: skip
        builder.add(corner, (along, [0, 0, 3.2]), palette.room_wall())
        add_wall_things(builder, palette, np.array(corner), np.array(along), 2.4)
    wide, deep = rng.uniform(1.0, 2.4), rng.uniform(0.6, 1.4)
    wood = palette.floor()
    builder.add_box([0, 0, -0.05], (wide, deep, 0.05), 0.0, wood, wood)
    low, high = np.array([-wide / 2, -deep / 2, 0]), np.array([wide / 2, deep / 2, 0])
    for _ in range(rng.integers(0, 6)):
        at, yaw = rng.uniform(low, high) + [0, 0, 0.002], rng.uniform(0, 6)
        sheet = rng.uniform(0.15, 0.4, 2)
        edge = np.array([np.cos(yaw), np.sin(yaw), 0]), np.array([-np.sin(yaw), np.cos(yaw), 0])
        builder.add(at, (sheet[0] * edge[0], sheet[1] * edge[1]), palette.picture())
    add_boxes(builder, palette, np.stack((low, high)), 4 + rng.poisson(8 * clutter), 0.3)
    for _ in range(rng.poisson(4 * clutter)):
        at = rng.uniform(low, high)
        builder.add_pole(
            at, [0, 0, rng.uniform(0.06, 0.3)], rng.uniform(0.02, 0.07), palette.thing(), sides=8
        )
    for _ in range(rng.poisson(1.0 * clutter)):
        add_leaves(builder, palette, rng.uniform(low, high) + [0, 0, 0.2], [0.12, 0.12, 0.18], 12)
    lamps = np.array([[*rng.uniform(-2, 2, 2), 2.0], [*rng.uniform(-1, 1, 2), 1.0]])
    eyes = np.array([[-1.4, -1.6, 0.15], [1.4, 1.6, 1.3]])
    return Place(builder.build(), eyes, np.stack((low, high + [0, 0, 0.2])), True, lamps)


def make_aerial(builder: PatchBuilder, palette: Palette, clutter: float) -> Place:
    """A village or yard from a drone: roofs, streets, fields, trees from above."""
    rng = builder.rng
    half = rng.uniform(35, 70)
    builder.add_terrain(
        [-half, -half], [half, half], hills(rng, 9, rng.uniform(0.1, 5)), palette.ground()
    )
    builder.add([-600, -600, -1.5], ([1200, 0, 0], [0, 1200, 0]), palette.ground())
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
            palette.ground(),
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
    top = rng.uniform(20, 60)
    eyes = np.array([[-half * 0.6, -half * 0.6, top * 0.7], [half * 0.6, half * 0.6, top * 1.2]])
    targets = np.array([[-half, -half, 0], [half, half, 1]]) * [0.6, 0.6, 1]
    return Place(builder.build(), eyes, targets, False, np.zeros((0, 3)))


Maker = Callable[[PatchBuilder, Palette, float], Place]
MAKERS: dict[str, Maker] = {
    "street": make_street,
    "room": make_room,
    "field": make_field,
    "courtyard": make_courtyard,
    "table": make_table,
    "aerial": make_aerial,
}

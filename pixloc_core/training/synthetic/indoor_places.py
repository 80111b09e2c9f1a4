"""Places with a roof: rooms, and tables in them."""

import numpy as np

from pixloc_core.training.synthetic.bodies import add_boxes, add_leaves
from pixloc_core.training.synthetic.furniture import add_furniture, add_wall_things
from pixloc_core.training.synthetic.palette import Palette
from pixloc_core.training.synthetic.patches import PatchBuilder, up
from pixloc_core.training.synthetic.place import Place


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
        at, yaw = rng.uniform(low, high) + up(0.002), rng.uniform(0, 6)
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
        add_leaves(builder, palette, rng.uniform(low, high) + up(0.2), [0.12, 0.12, 0.18], 12)
    lamps = np.array([[*rng.uniform(-2, 2, 2), 2.0], [*rng.uniform(-1, 1, 2), 1.0]])
    eyes = np.array([[-1.4, -1.6, 0.15], [1.4, 1.6, 1.3]])
    return Place(builder.build(), eyes, np.stack((low, high + up(0.2))), True, lamps)

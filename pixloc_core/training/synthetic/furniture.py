"""Things of rooms: furniture, shelves, what hangs on walls."""

import numpy as np

from pixloc_core.training.synthetic.palette import Palette
from pixloc_core.training.synthetic.patches import Array, PatchBuilder, up


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
        at = corner + along * rng.uniform(0, max(length - wide, 0.1)) + up(low)
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
        low = at + up(tall * i / boards)
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
        builder.add_box(base + up(height), size, yaw, top, top)
        turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
        for sx, sy in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            foot = np.array([sx * 0.45 * size[0], sy * 0.45 * size[1]]) @ turn
            builder.add_pole(
                base + np.array([*foot, 0]), [0, 0, height], 0.03, palette.plain(), sides=4
            )
        for _ in range(rng.integers(1, 5)):
            spot = (rng.uniform(-0.4, 0.4, 2) * size[:2]) @ turn
            things, top = palette.thing(), palette.thing()
            builder.add_box(
                base + np.array([*spot, height + 0.04]),
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

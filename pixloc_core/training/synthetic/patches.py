"""The surfaces of a place: parallelogram patches with materials."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pixloc_core.shapes import Tensor
from pixloc_core.training.synthetic.ray_casting import Shape

Array = NDArray[np.float64]


def up(height: float) -> Array:
    """Way upwards."""
    return np.array([0.0, 0.0, height])


@dataclass(frozen=True, kw_only=True)
class Material:
    """How a surface looks.

    Attributes:
        base: Layer of the atlas.
        base_extent: Metres that this texture covers.
        turn: Angle of the texture in the surface, radians.
        tint: Factor of the colours of the base.
        overlay: Layer that lies over the base, by its alpha.
        overlay_extent: Metres that it covers.
        overlay_tint: Factor of its colours.
        overlay_strength: Factor of its alpha.
        emission: Light that the overlay gives at night (lit windows).
    """

    base: int
    base_extent: float
    overlay: int
    overlay_extent: float
    turn: float = 0.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    overlay_tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    overlay_strength: float = 1.0
    emission: float = 0.0


@dataclass(frozen=True)
class Patches:
    """Patches `(*b, q)` and their looks; those of several places are padded and stacked.

    Attributes:
        corners: Corner and the two edges, `(*b, q, 3, 3)`, metres, z up.
        normals: Normal at the corner and its change along both edges, `(*b, q, 3, 3)`.
        base_uv: Texture coordinates at the corner and their changes, `(*b, q, 3, 2)`.
        overlay_uv: The same for the overlay.
        colours: Tint, overlay tint, `(*b, q, 2, 3)`.
        amounts: Strength of the overlay, emission, seed of the shape, `(*b, q, 3)`.
        kinds: Shape, base layer, overlay layer, number of the body it belongs to, `(*b, q, 4)`.
    """

    corners: Tensor
    normals: Tensor
    base_uv: Tensor
    overlay_uv: Tensor
    colours: Tensor
    amounts: Tensor
    kinds: Tensor

    @property
    def exists(self) -> Tensor:
        """Patches that are not padding."""
        return self.kinds[..., 0] >= 0

    @property
    def shape(self) -> Tensor:
        """`Shape` of each."""
        return self.kinds[..., 0]

    @property
    def seed(self) -> Tensor:
        """What tells shapes with noise apart."""
        return self.amounts[..., 2]

    @property
    def body(self) -> Tensor:
        """Number of the smooth body that a patch is part of."""
        return self.kinds[..., 3]

    def to(self, device: torch.device | str) -> "Patches":
        """The same on another device."""
        return Patches(*(getattr(self, field.name).to(device) for field in fields(self)))

    def repeat_interleave(self, number: int) -> "Patches":
        """Each place so many times."""
        parts = (getattr(self, field.name) for field in fields(self))
        return Patches(*(part.repeat_interleave(number, 0) for part in parts))


def stack_patches(scenes: Sequence[Patches]) -> Patches:
    """Places as one batch; padding has shape -1."""
    most = max(len(scene.corners) for scene in scenes)

    def stack(name: str) -> Tensor:
        parts = [getattr(scene, name) for scene in scenes]
        fill = -1 if name == "kinds" else 0
        size = (len(parts), most, *parts[0].shape[1:])
        stacked = torch.full(size, fill, dtype=parts[0].dtype)
        for row, part in zip(stacked, parts, strict=True):
            row[: len(part)] = part
        return stacked

    return Patches(*(stack(field.name) for field in fields(Patches)))


class PatchBuilder:
    """Collects patches; z is up."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self._parts: dict[str, list[Array]] = {field.name: [] for field in fields(Patches)}
        self._num_bodies = 0

    def add(
        self,
        origin: ArrayLike,
        edges: tuple[ArrayLike, ArrayLike],
        material: Material,
        *,
        shape: Shape = Shape.FULL,
        normals: Array | None = None,
        uv_origin: ArrayLike | None = None,
    ) -> None:
        """Add patches `(k, 3)` of one material.

        Args:
            origin: Corners.
            edges: Both edges.
            material: Their looks.
            shape: Which part of the parallelograms is there.
            normals: Normals at the corner and their changes `(k, 3, 3)`, which makes them one
                smooth body; None: flat patches.
            uv_origin: Where in metres of the surface its corner is `(k, 2)`; None: anywhere.
        """
        o, u, v = np.broadcast_arrays(
            *(np.atleast_2d(np.asarray(x, float)) for x in (origin, *edges))
        )
        count = len(o)
        if normals is None:
            flat = np.cross(u, v)
            flat = flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-12)
            normals = np.stack((flat, 0 * flat, 0 * flat), 1)
            bodies = self._num_bodies + np.arange(count)
        else:
            bodies = np.full(count, self._num_bodies)
        self._num_bodies = int(bodies.max()) + 1
        if uv_origin is None:
            uv_origin = self.rng.uniform(-50, 50, (count, 2))
        lengths = np.linalg.norm(u, axis=-1), np.linalg.norm(v, axis=-1)
        slide = (u * v).sum(-1) / np.maximum(lengths[0], 1e-12)
        height = np.sqrt(np.maximum(lengths[1] ** 2 - slide**2, 0))
        zero = np.zeros(count)
        metres = np.stack(
            (np.asarray(uv_origin, float), np.stack((lengths[0], zero), -1),
             np.stack((slide, -height), -1)), 1
        )  # fmt: skip
        self._append(np.stack((o, u, v), 1), normals, metres, material, shape, bodies)

    def _append(
        self, corners: Array, normals: Array, metres: Array, material: Material, shape: Shape,
        bodies: NDArray[np.integer],
    ) -> None:  # fmt: skip
        count = len(corners)
        cos, sin = np.cos(material.turn), np.sin(material.turn)
        turn = np.array([[cos, sin], [-sin, cos]]) / material.base_extent
        numbers = (material.overlay_strength, material.emission)
        amounts = np.tile(np.array([*numbers, 0.0]), (count, 1))
        amounts[:, 2] = self.rng.uniform(0, 6.28, count)
        kinds = np.tile(np.array([shape, material.base, material.overlay, 0]), (count, 1))
        kinds[:, 3] = bodies
        colours = np.tile(np.array([material.tint, material.overlay_tint]), (count, 1, 1))
        values = {
            "corners": corners, "normals": normals, "base_uv": metres @ turn,
            "overlay_uv": metres / material.overlay_extent, "colours": colours,
            "amounts": amounts, "kinds": kinds,
        }  # fmt: skip
        for name, value in values.items():
            self._parts[name].append(value)

    def add_box(
        self, centre: ArrayLike, size: ArrayLike, yaw: float, walls: Material, top: Material
    ) -> None:
        """A box that stands on its bottom centre, without bottom."""
        cos, sin = np.cos(yaw), np.sin(yaw)
        x, y, z = np.asarray(size, float)
        across, along = x * np.array([cos, sin, 0]), y * np.array([-sin, cos, 0])
        up = np.array([0, 0, z])
        low = np.asarray(centre, float) - (across + along) / 2
        corners = np.stack((low, low + across, low + across + along, low + along))
        self.add(corners, (np.stack((across, along, -across, -along)), up), walls)
        self.add(low + up, (across, along), top)

    def add_pole(
        self, foot: ArrayLike, axis: ArrayLike, radius: float, material: Material, sides: int = 6
    ) -> None:
        """A prism around an axis, shaded as round."""
        axis = np.asarray(axis, float)
        length = np.linalg.norm(axis)
        side = np.cross(axis, [0.3, 1.0, 0.2] if abs(axis[1]) < 0.9 * length else [1.0, 0, 0])
        side = side / np.linalg.norm(side)
        other = np.cross(axis / length, side)
        angles = np.linspace(0, 2 * np.pi, sides + 1)
        ring = np.cos(angles)[:, None] * side + np.sin(angles)[:, None] * other
        points = np.asarray(foot, float) + radius * ring
        normals = np.stack((ring[:-1], ring[1:] - ring[:-1], 0 * ring[:-1]), 1)
        step = 2 * radius * np.sin(np.pi / sides)
        uv = np.stack((step * np.arange(sides), np.zeros(sides)), -1) + self.rng.uniform(0, 9, 2)
        self.add(points[:-1], (np.diff(points, axis=0), axis), material, normals=normals,
                 uv_origin=uv)  # fmt: skip

    def add_terrain(
        self, low: ArrayLike, high: ArrayLike, heights: Array, material: Material
    ) -> None:
        """A height field over a rectangle, as triangles with smooth normals.

        Args:
            low: Its corner (x, y).
            high: The corner across.
            heights: Heights `(rows of y, columns of x)` of a regular grid.
            material: Its looks.
        """
        low, high = np.asarray(low, float), np.asarray(high, float)
        rows, columns = heights.shape
        xs, ys = np.linspace(low[0], high[0], columns), np.linspace(low[1], high[1], rows)
        points = np.dstack((*np.meshgrid(xs, ys), heights))
        slope_y, slope_x = np.gradient(heights, ys, xs)
        normals = np.dstack((-slope_x, -slope_y, np.ones_like(heights)))
        for corner, right, up in ((0, 1, 1), (1, -1, -1)):
            start, stop = corner, None if corner else -1
            here = (slice(start, stop), slice(start, stop))
            beside = (here[0], slice(start + right, None if right > 0 else -1))
            above = (slice(start + up, None if up > 0 else -1), here[1])
            o, n = points[here].reshape(-1, 3), normals[here].reshape(-1, 3)
            u, v = points[beside].reshape(-1, 3) - o, points[above].reshape(-1, 3) - o
            change = [normals[at].reshape(-1, 3) - n for at in (beside, above)]
            self._add_triangles(o, u, v, np.stack((n, *change), 1), material)
        self._num_bodies += 1

    def _add_triangles(
        self, o: Array, u: Array, v: Array, normals: Array, material: Material
    ) -> None:
        # Seen from above: the texture lies flat on the ground, whatever the slope.
        metres = np.stack((o[:, :2], u[:, :2], v[:, :2]), 1)
        bodies = np.full(len(o), self._num_bodies)
        self._append(np.stack((o, u, v), 1), normals, metres, material, Shape.TRIANGLE, bodies)

    def build(self) -> Patches:
        """All patches added so far."""
        joined = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        numbers = {
            name: torch.from_numpy(value if name == "kinds" else value.astype(np.float64))
            for name, value in joined.items()
        }
        return Patches(**numbers)

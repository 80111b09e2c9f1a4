"""Textured triangle meshes built from boxes, cylinders, spheres and leaves.

Every face carries a rectangle of its own painted patch; the patches of a group are packed into
one atlas. Positions in metres in the map frame (z up).
"""

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.make_sample.noise import Image, Rng
from tools.make_sample.textures import Painter

Vec = tuple[float, float, float]
_PAD = 3


def yaw_matrix(yaw_deg: float) -> NDArray[np.float64]:
    """Rotation about z."""
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


@dataclass
class Group:
    """Faces that share one material; `density` is the texture resolution in px/m."""

    name: str
    rng: Rng
    density: float = 260.0
    glossy: bool = False
    _vertices: list[NDArray[np.float64]] = field(default_factory=list)
    _uv: list[NDArray[np.float64]] = field(default_factory=list)
    _faces: list[NDArray[np.int64]] = field(default_factory=list)
    _patch_of: list[int] = field(default_factory=list)
    _patches: list[Image] = field(default_factory=list)
    _count: int = 0

    def paint(self, painter: Painter, width: float, height: float) -> int:
        """Paint a patch of `width` x `height` metres; returns its index."""
        shape = tuple(max(round(v * self.density), 4) for v in (height, width))
        self._patches.append(painter(self.rng, (shape[0], shape[1]), self.density))
        return len(self._patches) - 1

    def add(self, corners: NDArray[np.float64], uv: NDArray[np.float64], patch: int) -> None:
        """Add a convex polygon: corners (k, 3), their place (k, 2) in the patch in [0, 1]."""
        k = len(corners)
        fan = np.array([[0, i, i + 1] for i in range(1, k - 1)]) + self._count
        self._vertices.append(np.asarray(corners, np.float64))
        self._uv.append(np.asarray(uv, np.float64))
        self._faces.append(fan)
        self._patch_of.append(patch)
        self._count += k

    def quad(self, corners: list[Vec], painter: Painter) -> None:
        """Parallelogram; corners from top left, clockwise as one looks at it."""
        points = np.array(corners, np.float64)
        width = float(np.linalg.norm(points[1] - points[0]))
        height = float(np.linalg.norm(points[3] - points[0]))
        unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
        self.add(points, unit, self.paint(painter, width, height))

    def box(self, centre: Vec, size: Vec, painter: Painter, yaw_deg: float = 0.0) -> None:
        """Box standing on z = centre[2]; the sides share one strip of texture."""
        (x, y, z), (a, b, c) = centre, size
        turn, origin = yaw_matrix(yaw_deg), np.array([x, y, z])
        ring = np.array([[-a, -b], [a, -b], [a, b], [-a, b], [-a, -b]]) / 2
        low = np.column_stack([ring, np.zeros(5)]) @ turn.T + origin
        high = low + np.array([0.0, 0.0, c])
        marks = np.cumsum([0.0, a, b, a, b]) / (2 * (a + b))
        side = self.paint(painter, 2 * (a + b), c)
        for i in range(4):
            u0, u1 = marks[i], marks[i + 1]
            corners = np.stack([high[i], high[i + 1], low[i + 1], low[i]])
            self.add(corners, np.array([[u0, 0], [u1, 0], [u1, 1], [u0, 1]]), side)
        unit = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float64)
        cap = self.paint(painter, a, b)
        self.add(high[:4], unit, cap)
        self.add(low[3::-1], unit, cap)

    def tube(
        self,
        foot: Vec,
        radii: tuple[float, float],
        height: float,
        painter: Painter,
        *,
        sides: int = 28,
    ) -> None:
        """Upright cylinder or cone frustum with a lid; radii at the foot and at the top."""
        angle = np.linspace(0, 2 * np.pi, sides + 1)
        ring = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], -1)
        low, high = ring * radii[0] + foot, ring * radii[1] + foot + [0, 0, height]
        patch = self.paint(painter, 2 * np.pi * max(radii), height)
        for i in range(sides):
            u0, u1 = i / sides, (i + 1) / sides
            corners = np.stack([high[i], high[i + 1], low[i + 1], low[i]])
            self.add(corners, np.array([[u0, 0], [u1, 0], [u1, 1], [u0, 1]]), patch)
        lid = self.paint(painter, 2 * radii[1], 2 * radii[1])
        self.add(high[:sides], ring[:sides, :2] * [0.5, -0.5] + 0.5, lid)

    def ball(self, centre: Vec, radius: float, painter: Painter, squash: float = 1.0) -> None:
        """Ellipsoid of 20 x 12 faces; `squash` scales its height."""
        cols, rows = 20, 12
        patch = self.paint(painter, 2 * np.pi * radius, np.pi * radius)
        az, el = np.linspace(0, 2 * np.pi, cols + 1), np.linspace(np.pi / 2, -np.pi / 2, rows + 1)
        x, y = np.cos(el)[:, None] * np.cos(az), np.cos(el)[:, None] * np.sin(az)
        z = np.broadcast_to(np.sin(el)[:, None] * squash, x.shape)
        grid = np.stack([x, y, z], -1) * radius + centre
        for r in range(rows):
            for c in range(cols):
                corners = np.stack(
                    [grid[r, c], grid[r, c + 1], grid[r + 1, c + 1], grid[r + 1, c]]
                )
                u0, u1, v0, v1 = c / cols, (c + 1) / cols, r / rows, (r + 1) / rows
                self.add(corners, np.array([[u0, v0], [u1, v0], [u1, v1], [u0, v1]]), patch)

    def leaves(self, foot: Vec, height: float, count: int, painter: Painter) -> None:
        """A bush of rhombic leaves around a vertical axis."""
        patches = [self.paint(painter, 0.25, 0.08) for _ in range(10)]
        kite = np.array([[0, 0.5], [0.4, 0], [1, 0.5], [0.4, 1]])
        for _ in range(count):
            start = foot + np.array([0, 0, self.rng.uniform(0.1, 1.0) * height])
            length = self.rng.uniform(0.12, 0.34)
            azimuth, rise = self.rng.uniform(0, 2 * np.pi), self.rng.uniform(-0.5, 0.9)
            along = np.array([np.cos(azimuth), np.sin(azimuth), rise])
            across = np.cross(along, [0, 0, 1.0]) + self.rng.normal(0, 0.3, 3)
            across *= 0.3 * length / np.linalg.norm(across)
            step = self.rng.uniform(0.02, 0.12)
            base = start + step * along
            corners = base + kite[:, :1] * along * length + (kite[:, 1:] - 0.5) * across
            self.add(corners, kite, patches[self.rng.integers(len(patches))])

    def write(self, path: Path) -> Image:
        """Write the mesh as binary PLY; returns the atlas (h, w, 3)."""
        atlas, places = pack(self._patches)
        size = np.array([atlas.shape[1], atlas.shape[0]], np.float64)
        uv = []
        for place, patch in zip(self._uv, self._patch_of, strict=True):
            h, w = self._patches[patch].shape[:2]
            uv.append((np.array(places[patch]) + 0.5 + place * [w - 1, h - 1]) / size)
        rows = np.column_stack([np.concatenate(self._vertices), np.concatenate(uv)])
        faces = np.concatenate(self._faces)
        records = np.empty(len(faces), dtype=[("n", "u1"), ("v", "<i4", 3)])
        records["n"], records["v"] = 3, faces
        header = "ply\nformat binary_little_endian 1.0\n"
        header += f"element vertex {len(rows)}\n"
        header += "".join(f"property float {name}\n" for name in ("x", "y", "z", "u", "v"))
        header += (
            f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
        )
        path.write_bytes(header.encode() + rows.astype("<f4").tobytes() + records.tobytes())
        return atlas


def pack(patches: list[Image]) -> tuple[Image, list[tuple[int, int]]]:
    """Place patches on shelves of one image, edges repeated by `_PAD` px; (left, top) of each."""
    widest = max(p.shape[1] for p in patches) + 2 * _PAD
    area = sum((p.shape[0] + 2 * _PAD) * (p.shape[1] + 2 * _PAD) for p in patches)
    width = max(widest, int(np.sqrt(area * 1.1)))
    places: list[tuple[int, int]] = [(0, 0)] * len(patches)
    left, top, shelf = 0, 0, 0
    for index in sorted(range(len(patches)), key=lambda i: -patches[i].shape[0]):
        h, w = patches[index].shape[0] + 2 * _PAD, patches[index].shape[1] + 2 * _PAD
        if left + w > width:
            left, top, shelf = 0, top + shelf, 0
        places[index] = (left + _PAD, top + _PAD)
        left, shelf = left + w, max(shelf, h)
    atlas = np.zeros((top + shelf, width, 3), np.float32)
    for patch, (x, y) in zip(patches, places, strict=True):
        h, w = patch.shape[0] + 2 * _PAD, patch.shape[1] + 2 * _PAD
        framed = cv2.copyMakeBorder(patch, _PAD, _PAD, _PAD, _PAD, cv2.BORDER_REPLICATE)
        atlas[y - _PAD : y - _PAD + h, x - _PAD : x - _PAD + w] = framed
    return atlas, places

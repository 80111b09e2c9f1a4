"""The two cameras, and how Mitsuba sees them.

Pixel (0, 0) is the centre of the top left pixel. Optical frame: x right, y down, z forward.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Lens:
    """Pinhole with plumb_bob distortion (k1, k2, p1, p2, k3); all zero: an ideal pinhole."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)

    @property
    def matrix(self) -> Array:
        """K (3, 3)."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])

    def project(self, points_cam: Array) -> Array:
        """Points (n, 3) in the optical frame to pixels (n, 2)."""
        zero = np.zeros(3)
        points = np.ascontiguousarray(points_cam, np.float64).reshape(-1, 1, 3)
        pixels, _ = cv2.projectPoints(points, zero, zero, self.matrix, np.array(self.distortion))
        return np.asarray(pixels, np.float64).reshape(-1, 2)

    def rays(self, pixels: Array) -> Array:
        """Undistorted coordinates (n, 2) at unit depth, by fixed-point iteration."""
        k1, k2, p1, p2, k3 = self.distortion
        seen = (np.asarray(pixels, np.float64) - [self.cx, self.cy]) / [self.fx, self.fy]
        ray = seen.copy()
        for _ in range(60):
            x, y, r2 = ray[:, 0], ray[:, 1], (ray**2).sum(-1)
            radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
            dx = 2 * p1 * x * y + p2 * (r2 + 2 * x**2)
            dy = p1 * (r2 + 2 * y**2) + 2 * p2 * x * y
            ray = (seen - np.stack([dx, dy], -1)) / radial[:, None]
        return ray


MAP_LENS = Lens(640, 480, 465.0, 465.0, 319.5, 239.5)
STREAM_LENS = Lens(640, 480, 456.2, 456.9, 322.4, 236.8, (-0.087, 0.021, 0.0006, -0.0009, 0.0))


@dataclass(frozen=True)
class Raster:
    """The ideal image that Mitsuba renders: square pixels, principal point in the middle."""

    width: int
    height: int
    focal: float

    @classmethod
    def covering(cls, lens: Lens) -> "Raster":
        """The smallest raster that holds every ray of the lens, at its focal length."""
        edge_x, edge_y = np.arange(lens.width), np.arange(lens.height)
        border = np.concatenate(
            [np.stack([edge_x, np.full_like(edge_x, v)], -1) for v in (0, lens.height - 1)]
            + [np.stack([np.full_like(edge_y, v), edge_y], -1) for v in (0, lens.width - 1)]
        )
        reach = np.abs(lens.rays(border.astype(np.float64))).max(0) * lens.fx
        half = np.ceil(reach - 0.5 - 1e-6).astype(int) + 1
        if not any(lens.distortion):
            return cls(lens.width, lens.height, lens.fx)
        return cls(int(2 * half[0] + 4), int(2 * half[1] + 4), lens.fx)

    @property
    def fov_x_deg(self) -> float:
        """Angle between the outer edges of the first and last column."""
        return float(2 * np.degrees(np.arctan(self.width / 2 / self.focal)))

    def lookup(self, lens: Lens) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where each pixel of `lens` lies in this raster: maps for cv2.remap."""
        x, y = np.meshgrid(np.arange(lens.width), np.arange(lens.height))
        rays = lens.rays(np.stack([x, y], -1).reshape(-1, 2).astype(np.float64))
        at = rays * self.focal + [(self.width - 1) / 2, (self.height - 1) / 2]
        grid = at.reshape(lens.height, lens.width, 2).astype(np.float32)
        return grid[..., 0], grid[..., 1]


def mitsuba_matrix(map_from_cam: Array) -> Array:
    """Sensor to_world of an optical frame: Mitsuba looks along +z with x left and y up."""
    return map_from_cam @ np.diag([-1.0, -1.0, 1.0, 1.0])

"""Where the cameras go: map views and the two drives of the robot.

Poses are 4x4, `map_from_base` (x forward, y left, z up, on the floor) or `map_from_cam`
(optical frame).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
IMAGE_RATE_HZ = 5.0
DURATION_S = 20.0
_OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def rotation(yaw_deg: float, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> Array:
    """Rz(yaw) Ry(pitch) Rx(roll); positive pitch looks down."""
    (cy, sy), (cp, sp), (cr, sr) = (
        (np.cos(np.radians(a)), np.sin(np.radians(a))) for a in (yaw_deg, pitch_deg, roll_deg)
    )
    rz = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    ry = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    rx = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    return np.asarray(rz @ ry @ rx)


def rigid(R: Array, t: Array) -> Array:
    """4x4 from rotation and translation."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = R, t
    return matrix


def base_from_cam() -> Array:
    """Mount of the camera: ahead and left of the robot's centre, on a mast, looking down a bit."""
    return rigid(rotation(2.0, 4.0, 0.6) @ _OPTICAL, np.array([0.18, 0.045, 1.08]))


@dataclass(frozen=True)
class Drive:
    """A robot's way round the table: a wobbling ellipse at a varying speed."""

    name: str
    start_s: int
    radii: tuple[float, float]
    centre: tuple[float, float]
    start_deg: float
    direction: int
    wobble: tuple[float, float]
    speed: float = 0.40

    def stamps(self) -> Array:
        """Seconds since the start at which images are taken (middle of the exposure)."""
        return np.arange(int(DURATION_S * IMAGE_RATE_HZ)) / IMAGE_RATE_HZ + 0.5

    def map_from_base(self, time_s: float) -> Array:
        """Pose of the robot at a time since the start, -1 s .. 30 s."""
        points, length = self._track
        way = np.interp(self._travelled(time_s), length, np.arange(len(points)))
        index = int(np.clip(way, 1, len(points) - 3))
        part = way - index
        place = (1 - part) * points[index] + part * points[index + 1]
        ahead = (1 - part) * (points[index + 1] - points[index - 1])
        ahead = ahead + part * (points[index + 2] - points[index])
        yaw = np.degrees(np.arctan2(ahead[1], ahead[0]))
        return rigid(rotation(float(yaw)), np.array([*place, 0.0]))

    @cached_property
    def _track(self) -> tuple[Array, Array]:
        """Finely sampled way: points (n, 2) and the length from the start to each (n,)."""
        turn = np.linspace(-0.8, 8.0, 20001)
        angle = np.radians(self.start_deg) + self.direction * turn
        (a, b), (u, v) = self.radii, self.wobble
        x = self.centre[0] + (a + u * np.sin(2 * angle + 0.4)) * np.cos(angle)
        y = self.centre[1] + (b + v * np.sin(3 * angle + 1.1)) * np.sin(angle)
        points = np.stack([x, y], -1)
        length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        return points, length - np.interp(0.0, turn, length)

    def _travelled(self, time_s: float) -> float:
        rate = 2 * np.pi / 9.0
        return float(self.speed * time_s + 0.08 / rate * (1 - np.cos(rate * time_s)))


DAY = Drive("day", 1_790_000_000, (2.12, 1.62), (0.0, 0.02), -110.0, 1, (0.10, 0.06))
EVENING = Drive("evening", 1_790_030_000, (1.95, 1.50), (0.08, -0.05), 55.0, -1, (0.08, 0.05))
DRIVES = {drive.name: drive for drive in (DAY, EVENING)}


def map_views() -> list[Array]:
    """map_from_cam of all map images: three rounds, looking out, ahead and back."""
    rng = np.random.default_rng(7)
    rounds = (
        (20, (1.70, 1.15), 1.55, (-65.0, -115.0)),
        (18, (2.45, 1.95), 1.30, (5.0, 30.0)),
        (18, (1.85, 1.40), 1.68, (165.0, 200.0)),
    )
    views = []
    for count, (a, b), height, turns in rounds:
        for i in range(count):
            angle = 2 * np.pi * (i + rng.uniform(-0.2, 0.2)) / count
            tangent = np.degrees(np.arctan2(b * np.cos(angle), -a * np.sin(angle)))
            yaw = tangent + turns[i % len(turns)] + rng.uniform(-6, 6)
            place = np.array([a * np.cos(angle), b * np.sin(angle), height])
            place += rng.uniform(-0.08, 0.08, 3)
            tilt = rotation(float(yaw), float(rng.uniform(2, 14)), float(rng.uniform(-3, 3)))
            views.append(rigid(tilt @ _OPTICAL, place))
    return views

"""A tree of coordinate frames with a bounded history: what tf2's buffer does, in Python.

Used where tf2_ros cannot be imported (ROS 2 from pip). Knows no ROS: stamps are nanoseconds.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pixloc_core.errors import FrameError

Vector = np.ndarray
Numbers = Vector | Sequence[float]
# How far a quaternion's length may be from one (as tf2); within it, it is normalized.
UNIT_TOLERANCE = 1e-2


class PastError(FrameError):
    """The stamp is older than the history: waiting does not help."""


@dataclass(frozen=True)
class RigidTransform:
    """`parent_from_child`: translation in metres, unit quaternion (x, y, z, w)."""

    translation: Vector
    quat_xyzw: Vector

    @classmethod
    def checked(cls, translation: Numbers, quat_xyzw: Numbers) -> "RigidTransform":
        """Make one of numbers from outside.

        Raises:
            FrameError: If a number is not finite or the quaternion is not of length one.
        """
        t, q = np.asarray(translation, np.float64), np.asarray(quat_xyzw, np.float64)
        if not (np.isfinite(t).all() and np.isfinite(q).all()):
            raise FrameError(f"translation {_show(t)}, quaternion {_show(q)}: not finite")
        length = float(np.linalg.norm(q))
        if abs(length - 1) > UNIT_TOLERANCE:
            raise FrameError(f"quaternion {_show(q)} has length {length:.3g}, expected 1")
        return cls(t, q / length)

    def __matmul__(self, other: "RigidTransform") -> "RigidTransform":
        turned = rotate(self.quat_xyzw, other.translation)
        return RigidTransform(
            self.translation + turned, quat_product(self.quat_xyzw, other.quat_xyzw)
        )

    def inverse(self) -> "RigidTransform":
        """`child_from_parent`."""
        q = self.quat_xyzw * (-1.0, -1.0, -1.0, 1.0)
        return RigidTransform(-rotate(q, self.translation), q)

    def interpolate(self, other: "RigidTransform", share: float) -> "RigidTransform":
        """Straight line for the translation, constant turn (slerp) for the rotation."""
        t = (1 - share) * self.translation + share * other.translation
        return RigidTransform(t, slerp(self.quat_xyzw, other.quat_xyzw, share))


IDENTITY = RigidTransform(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))


def quat_product(a: Vector, b: Vector) -> Vector:
    """Hamilton product of quaternions (x, y, z, w): the turn `b`, then `a`."""
    (ax, ay, az, aw), (bx, by, bz, bw) = a.tolist(), b.tolist()
    return np.array(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ]
    )


def rotate(q: Vector, v: Vector) -> Vector:
    """Vector turned by a unit quaternion (x, y, z, w)."""
    # Number by number: NumPy's cross product costs twenty times as much.
    (x, y, z, w), (a, b, c) = q.tolist(), v.tolist()
    da, db, dc = 2 * (y * c - z * b), 2 * (z * a - x * c), 2 * (x * b - y * a)
    return np.array(
        [
            a + w * da + y * dc - z * db,
            b + w * db + z * da - x * dc,
            c + w * dc + x * db - y * da,
        ]
    )


def slerp(a: Vector, b: Vector, share: float) -> Vector:
    """Unit quaternion at a share of the shorter way from `a` to `b`."""
    cosine = float(a @ b)
    if cosine < 0:
        b, cosine = -b, -cosine
    if cosine > 1 - 1e-12:
        q = (1 - share) * a + share * b
    else:
        angle = math.acos(cosine)
        q = (math.sin((1 - share) * angle) * a + math.sin(share * angle) * b) / math.sin(angle)
    return q / np.linalg.norm(q)


@dataclass
class _Edge:
    """The transforms of one frame to its parent, by time; a static one has a single entry."""

    parent: str
    static: bool
    stamps: list[int] = field(default_factory=list)
    transforms: list[RigidTransform] = field(default_factory=list)

    def at(self, stamp: int | None, child: str) -> RigidTransform:
        if self.static or stamp is None:
            return self.transforms[-1]
        after = bisect_left(self.stamps, stamp)
        if after < len(self.stamps) and self.stamps[after] == stamp:
            return self.transforms[after]
        if after in (0, len(self.stamps)):
            side, kind = ("past", PastError) if after == 0 else ("future", FrameError)
            raise kind(
                f"{self.parent} <- {child} at {_seconds(stamp)} lies in the {side} of what is "
                f"known: {_seconds(self.stamps[0])} to {_seconds(self.stamps[-1])}"
            )
        t0, t1 = self.stamps[after - 1], self.stamps[after]
        share = (stamp - t0) / (t1 - t0)
        return self.transforms[after - 1].interpolate(self.transforms[after], share)


class TransformTree:
    """Frames, each with one parent, and where they were during the last seconds.

    Not safe for threads by itself (see `frames.py`).
    """

    def __init__(self, history_s: float = 10.0, backward_jump_s: float = 1.0) -> None:
        """Make an empty tree.

        Args:
            history_s: How far back, from the newest entry of each frame, entries are kept.
            backward_jump_s: A frame whose stamps go back by more means that time was set back
                (a bag started again): everything but static transforms is forgotten.
        """
        self._history = round(history_s * 1e9)
        self._backward_jump = round(backward_jump_s * 1e9)
        self._edges: dict[str, _Edge] = {}

    def add(
        self, parent: str, child: str, stamp: int, transform: RigidTransform, *, static: bool
    ) -> None:
        """Take in one transform `parent_from_child`; leading slashes of names are dropped.

        Raises:
            FrameError: If a name is empty or both are the same.
        """
        parent, child = parent.lstrip("/"), child.lstrip("/")
        if not parent or not child or parent == child:
            raise FrameError(f"parent {parent!r} and child {child!r}: expected two frame names")
        edge = self._edges.get(child)
        if edge is not None and not edge.static and edge.stamps[-1] - stamp > self._backward_jump:
            self.clear()
            edge = None
        if edge is None or edge.parent != parent or edge.static or static:
            self._edges[child] = _Edge(parent, static, [stamp], [transform])
            return
        place = bisect_right(edge.stamps, stamp)
        if place and edge.stamps[place - 1] == stamp:
            edge.transforms[place - 1] = transform
            return
        edge.stamps.insert(place, stamp)
        edge.transforms.insert(place, transform)
        old = bisect_left(edge.stamps, edge.stamps[-1] - self._history)
        if old:
            del edge.stamps[:old], edge.transforms[:old]

    def clear(self) -> None:
        """Forget everything but the static transforms."""
        self._edges = {child: edge for child, edge in self._edges.items() if edge.static}

    def knows(self, frame: str) -> bool:
        """Whether the frame is part of the tree, as child or parent."""
        return frame in self._edges or any(e.parent == frame for e in self._edges.values())

    def lookup(self, target: str, source: str, stamp: int | None) -> RigidTransform:
        """`target_from_source` at a stamp, or with each frame's newest entry (None).

        Raises:
            FrameError: If a frame is unknown, the two are not connected, the frames form a loop,
                or the stamp lies outside the history (before it: `PastError`).
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        for frame in (target, source):
            if not self.knows(frame):
                raise FrameError(f"frame {frame!r} is unknown: nothing on /tf names it")
        up_target, up_source = self._ancestors(target), self._ancestors(source)
        common = next((frame for frame in up_target if frame in up_source), None)
        if common is None:
            raise FrameError(f"frames {target!r} and {source!r} are not connected by /tf")
        common_from_target = self._climb(target, common, stamp)
        return common_from_target.inverse() @ self._climb(source, common, stamp)

    def _ancestors(self, frame: str) -> list[str]:
        """The frame itself, its parent, and so on up to the root."""
        chain = [frame]
        while (edge := self._edges.get(chain[-1])) is not None:
            if edge.parent in chain:
                raise FrameError(f"frames form a loop: {' -> '.join([*chain, edge.parent])}")
            chain.append(edge.parent)
        return chain

    def _climb(self, frame: str, ancestor: str, stamp: int | None) -> RigidTransform:
        """`ancestor_from_frame`."""
        result = IDENTITY
        while frame != ancestor:
            edge = self._edges[frame]
            result = edge.at(stamp, frame) @ result
            frame = edge.parent
        return result


def _show(numbers: Vector) -> str:
    return "(" + ", ".join(f"{x:.4g}" for x in numbers.tolist()) + ")"


def _seconds(stamp: int) -> str:
    return f"{stamp / 1e9:.3f} s"

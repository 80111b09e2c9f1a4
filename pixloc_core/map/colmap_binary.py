"""The binary files of a COLMAP model, read in bulk and checked to the last byte.

pycolmap gives observations one Python object at a time, and ends the process on some truncated
files. Here every file is walked once with its lengths checked, and the long arrays are taken out
whole. Layouts: https://colmap.github.io/format.html (little endian).
"""

import struct
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
from numpy.typing import NDArray

from pixloc_core.errors import MapError

StructuredArray = NDArray[Any]
NO_POINT = np.uint64(2**64 - 1)
_POINT2D = np.dtype([("xy", "<f8", 2), ("point", "<u8")])
_IMAGE_HEAD = struct.Struct("<I7dI")
# Of a point; so many track elements follow.
_POINT3D = np.dtype(
    [("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("length", "<u8")]
)
_TRACK_LENGTH_AT = _POINT3D.itemsize - 8
_TRACK_ELEMENT = 8
_POSE = 56


@dataclass(frozen=True)
class ModelArrays:
    """The long arrays of a model, as COLMAP counts: ids, and pixels from the image corner.

    Attributes:
        points2d: Per image id: a structured array with the fields xy and point (id or NO_POINT).
        point_ids: Ids of the points, ascending.
        points: Positions in the coordinates of the model.
        errors: Mean reprojection errors in pixels, -1 where the model does not say.
    """

    points2d: dict[int, StructuredArray]
    point_ids: NDArray[np.uint64]
    points: NDArray[np.float64]
    errors: NDArray[np.float64]


def read_arrays(folder: Path, label: Path, suffix: str = ".bin") -> ModelArrays:
    """Read and check all binary files of a model.

    Args:
        folder: The folder with the files.
        label: The folder to be named in messages.
        suffix: How the files are called in messages (".txt" for a converted text model).

    Raises:
        MapError: Naming the file, if it is missing, truncated, has bytes left over, or refers to
            something that does not exist.
    """
    open_file = partial(_Cursor, folder, label, suffix)
    cameras = _read_cameras(open_file("cameras"))
    points2d = _read_images(open_file("images"), cameras)
    points = _read_points(open_file("points3D"))
    if (folder / "rigs.bin").exists() or (folder / "frames.bin").exists():
        rigs = _read_rigs(open_file("rigs"))
        _read_frames(open_file("frames"), rigs, set(points2d))
    order = np.argsort(points["id"], kind="stable")
    arrays = ModelArrays(
        points2d, points["id"][order], points["xyz"][order], points["error"][order]
    )
    _check_references(arrays, label, suffix)
    return arrays


class _Cursor:
    """A position in a file that knows the file's end and name."""

    def __init__(self, folder: Path, label: Path, suffix: str, stem: str) -> None:
        self.where = label / f"{stem}{suffix}"
        try:
            self.data = (folder / f"{stem}.bin").read_bytes()
        except OSError as error:
            raise MapError(f"{self.where}: {error.strerror or error}") from error
        self.at = 0

    def skip(self, size: int) -> int:
        """Advance and return the old position; the file must go on for so many bytes."""
        start = self.at
        if size > len(self.data) - start:
            raise self.truncated()
        self.at = start + size
        return start

    def truncated(self) -> MapError:
        return MapError(f"{self.where}: truncated at byte {len(self.data)}, expected more")

    def unpack(self, layout: struct.Struct) -> tuple[int | float, ...]:
        return layout.unpack_from(self.data, self.skip(layout.size))

    def integer(self, code: str) -> int:
        """One integer: "I" of four bytes, "Q" of eight."""
        return int(
            struct.unpack_from("<" + code, self.data, self.skip(struct.calcsize("<" + code)))[0]
        )

    def string(self) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise self.truncated()
        start = self.skip(end + 1 - self.at)
        try:
            return self.data[start:end].decode("utf-8")
        except UnicodeDecodeError as error:
            raise MapError(f"{self.where}: {self.data[start:end]!r} is not UTF-8") from error

    def finish(self) -> None:
        left = len(self.data) - self.at
        if left:
            raise MapError(f"{self.where}: {left} bytes after the last entry, the file is damaged")


def _read_cameras(cursor: _Cursor) -> set[int]:
    known = {
        int(m.value): m for n, m in pycolmap.CameraModelId.__members__.items() if n != "INVALID"
    }
    ids: set[int] = set()
    for _ in range(cursor.integer("Q")):
        camera, model = cursor.integer("I"), cursor.integer("I")
        if model not in known:
            raise MapError(f"{cursor.where}: camera {camera} has the unknown model number {model}")
        blank = pycolmap.Camera.create_from_model_id(camera, known[model], 1.0, 1, 1)
        cursor.skip(16 + 8 * len(blank.params))
        ids.add(camera)
    cursor.finish()
    return ids


def _read_images(cursor: _Cursor, cameras: set[int]) -> dict[int, StructuredArray]:
    points2d: dict[int, StructuredArray] = {}
    for _ in range(cursor.integer("Q")):
        image, *_pose, camera = cursor.unpack(_IMAGE_HEAD)
        name = cursor.string()
        if camera not in cameras:
            raise MapError(
                f"{cursor.where}: image {name!r} has camera {camera}, which is not there"
            )
        if image in points2d:
            raise MapError(f"{cursor.where}: two images have the id {image}")
        count = cursor.integer("Q")
        start = cursor.skip(_POINT2D.itemsize * count)
        points2d[int(image)] = np.frombuffer(cursor.data, _POINT2D, count, start)
    cursor.finish()
    return points2d


def _read_points(cursor: _Cursor) -> StructuredArray:
    count = cursor.integer("Q")
    data, end, head = cursor.data, len(cursor.data), _POINT3D.itemsize
    if count * head > end:
        raise cursor.truncated()
    starts = np.empty(count, np.int64)
    at, track_length = cursor.at, struct.Struct("<Q").unpack_from
    # Entries differ in length, so their starts follow from one another; all else is vectorized.
    for index in range(count):
        if at + head > end:
            raise cursor.truncated()
        starts[index] = at
        at += head + _TRACK_ELEMENT * track_length(data, at + _TRACK_LENGTH_AT)[0]
    cursor.skip(at - cursor.at)
    cursor.finish()
    heads: NDArray[np.uint8] = np.frombuffer(data, np.uint8)[starts[:, None] + np.arange(head)]
    return heads.view(_POINT3D)[:, 0]


def _read_rigs(cursor: _Cursor) -> set[int]:
    rigs: set[int] = set()
    for _ in range(cursor.integer("Q")):
        rigs.add(cursor.integer("I"))
        sensors = cursor.integer("I")
        for sensor in range(sensors):
            cursor.skip(8)
            if sensor > 0 and cursor.data[cursor.skip(1)]:
                cursor.skip(_POSE)
    cursor.finish()
    return rigs


def _read_frames(cursor: _Cursor, rigs: set[int], images: set[int]) -> None:
    framed: set[int] = set()
    for _ in range(cursor.integer("Q")):
        frame, rig = cursor.integer("I"), cursor.integer("I")
        if rig not in rigs:
            raise MapError(f"{cursor.where}: frame {frame} has rig {rig}, which is not there")
        cursor.skip(_POSE)
        for _ in range(cursor.integer("I")):
            cursor.skip(8)
            framed.add(cursor.integer("Q"))
    cursor.finish()
    if not images <= framed:
        raise MapError(f"{cursor.where}: image {min(images - framed)} belongs to no frame")


def _check_references(arrays: ModelArrays, label: Path, suffix: str) -> None:
    ids = arrays.point_ids
    if (ids[1:] == ids[:-1]).any():
        raise MapError(f"{label / 'points3D'}{suffix}: two points have the same id")
    for image, points2d in arrays.points2d.items():
        seen = points2d["point"]
        seen = seen[seen != NO_POINT]
        at = np.searchsorted(ids, seen)
        if (at == len(ids)).any() or (ids[at] != seen).any():
            raise MapError(
                f"{label / 'images'}{suffix}: image {image} observes points missing in points3D"
            )

"""The text formats of hloc: queries with intrinsics, poses, retrieval pairs.

Lines are fields separated by white space; blank lines and those that start with `#` are skipped.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from pixloc_core.errors import FormatError
from pixloc_core.geometry import Camera, Pose

# Quaternions are written with about nine digits; more than this is not rounding but a mistake.
QUATERNION_TOLERANCE = 1e-3


def read_queries(path: str | Path) -> dict[str, Camera]:
    """Read `name MODEL width height params...`, with the parameters of COLMAP in its order.

    Raises:
        FormatError: Naming file and line, for an unreadable file or a malformed line.
    """
    cameras: dict[str, Camera] = {}
    for where, fields in _lines(path):
        if len(fields) < 5:
            raise FormatError(f"{where}: expected 'name MODEL width height params...'")
        name, model, *numbers = fields
        if name in cameras:
            raise FormatError(f"{where}: image {name} is listed twice")
        cameras[name] = _camera(where, model, _floats(where, numbers))
    return cameras


def read_poses(path: str | Path) -> dict[str, Pose]:
    """Read `name qw qx qy qz tx ty tz`: cam_from_map in float64, batch shape ().

    Raises:
        FormatError: Naming file and line, for an unreadable file or a malformed line, or a
            quaternion whose length is not one within 1e-3.
    """
    rows: dict[str, list[float]] = {}
    for where, (name, *fields) in _lines(path):
        if len(fields) != 7:
            raise FormatError(
                f"{where}: {1 + len(fields)} fields, expected 'name qw qx qy qz tx ty tz'"
            )
        if name in rows:
            raise FormatError(f"{where}: image {name} is listed twice")
        rows[name] = _floats(where, fields)
        length = float(np.linalg.norm(rows[name][:4]))
        if abs(length - 1) > QUATERNION_TOLERANCE:
            raise FormatError(f"{where}: quaternion has length {length:.6g}, expected 1")
    if not rows:
        return {}
    numbers = torch.tensor(list(rows.values()), dtype=torch.float64)
    # One conversion for all lines; each pose is a view of the batch.
    poses = Pose.from_quat_wxyz(
        torch.nn.functional.normalize(numbers[:, :4], dim=-1), numbers[:, 4:]
    )
    return {name: poses[index] for index, name in enumerate(rows)}


def write_poses(path: str | Path, cam_from_map: Mapping[str, Pose]) -> None:
    """Write `name qw qx qy qz tx ty tz`, qw >= 0, with all digits of float64.

    Raises:
        FormatError: If a name has white space or a pose is not finite.
    """
    lines = []
    for name, pose in cam_from_map.items():
        if not name or name.split() != [name] or name.startswith("#"):
            raise FormatError(f"{path}: image name {name!r} cannot stand in a poses file")
        exact = pose.detach().double()
        numbers = [*exact.quat_wxyz().tolist(), *exact.t.tolist()]
        if not np.isfinite(numbers).all():
            raise FormatError(f"{path}: pose of {name} is not finite")
        lines.append(" ".join([name, *(repr(number) for number in numbers)]))
    Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_pairs(path: str | Path) -> dict[str, list[str]]:
    """Read `query reference`, one pair per line; the order of lines is the rank.

    Raises:
        FormatError: Naming file and line, for an unreadable file or a malformed line.
    """
    pairs: dict[str, list[str]] = {}
    for where, fields in _lines(path):
        if len(fields) != 2:
            raise FormatError(f"{where}: {len(fields)} fields, expected 'query reference'")
        query, reference = fields
        pairs.setdefault(query, []).append(reference)
    return pairs


def _lines(path: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Place (`file:line`) and fields of each line that says something."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not a text file (byte {error.start} is not UTF-8)") from error
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if fields and not fields[0].startswith("#"):
            yield f"{path}:{number}", fields


def _floats(where: str, fields: list[str]) -> list[float]:
    numbers = []
    for text in fields:
        try:
            number = float(text)
        except ValueError as error:
            raise FormatError(f"{where}: {text!r} is not a number") from error
        if not np.isfinite(number):
            raise FormatError(f"{where}: {text!r} is not finite")
        numbers.append(number)
    return numbers


def _camera(where: str, model: str, numbers: list[float]) -> Camera:
    width, height, *params = numbers
    for what, size in (("width", width), ("height", height)):
        if size < 1 or size != int(size):
            raise FormatError(f"{where}: {what} is {size:g}, expected a whole number of pixels")
    try:
        return Camera.from_colmap(
            {"model": model, "width": width, "height": height, "params": params}
        )
    except FormatError as error:
        raise FormatError(f"{where}: {error}") from error

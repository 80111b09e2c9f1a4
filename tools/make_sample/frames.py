"""The images of the sample: which there are, and rendering them one by one, resumably."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from tools.make_sample import lights, paths, render, world
from tools.make_sample.cameras import MAP_LENS, STREAM_LENS, Array, Lens

SEED = 3
EXPOSURE_S = 0.020
MAP_QUALITY, STREAM_QUALITY = 88, 85
_SUB_EXPOSURES = 4


@dataclass(frozen=True)
class Shot:
    """One image to make: its file and the poses `map_from_cam` (4x4) during the exposure."""

    path: Path
    number: int
    poses: list[Array]


@dataclass(frozen=True)
class Series:
    """Images that share scene, light and lens; `paths_px` light paths are traced per pixel."""

    name: str
    light: lights.Light
    lens: Lens
    placement: world.Placement
    quality: int
    paths_px: int
    shots: list[Shot]


def map_series(folder: Path) -> Series:
    """The map images: sharp, crate and chair in their first places."""
    shots = [
        Shot(folder / "map" / f"{i:03d}.jpg", i, [pose])
        for i, pose in enumerate(paths.map_views())
    ]
    return Series("map", lights.MAP, MAP_LENS, world.MAP_PLACEMENT, MAP_QUALITY, 8, shots)


def stream_series(folder: Path, drive: paths.Drive) -> Series:
    """The images of one drive, blurred by the motion; crate and chair moved."""
    mount = paths.base_from_cam()
    steps = [(i + 0.5) / _SUB_EXPOSURES - 0.5 for i in range(_SUB_EXPOSURES)]
    shots = []
    for i, stamp in enumerate(drive.stamps()):
        poses = [drive.map_from_base(stamp + step * EXPOSURE_S) @ mount for step in steps]
        shots.append(Shot(folder / drive.name / f"{i:03d}.jpg", i + 1000, poses))
    light = {"day": lights.DAY, "evening": lights.EVENING}[drive.name]
    return Series(drive.name, light, STREAM_LENS, world.STREAM_PLACEMENT, STREAM_QUALITY, 4, shots)


def render_series(
    mi: Any, series: Series, folder: Path, limit: int | None, *, reverse: bool = False
) -> None:
    """Render the images of a series that are not there yet, at most up to number `limit`.

    Two processes, one of them with `reverse`, meet in the middle.
    """
    missing = [shot for shot in series.shots[:limit] if not shot.path.exists()]
    if not missing:
        return
    groups = world.build(SEED, series.placement)
    scene = render.load_scene(mi, groups, series.light, folder / "meshes" / series.name)
    renderer = render.Renderer(mi, scene, series.light, series.lens)
    missing[0].path.parent.mkdir(parents=True, exist_ok=True)
    for shot in reversed(missing) if reverse else missing:
        if shot.path.exists():
            continue
        begin = time.monotonic()
        image = renderer.photograph(shot.poses, series.paths_px // len(shot.poses), shot.number)
        part = shot.path.with_suffix(".part.jpg")
        cv2.imwrite(str(part), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, series.quality])
        part.rename(shot.path)
        print(f"{series.name} {shot.path.name} {time.monotonic() - begin:.1f} s", flush=True)

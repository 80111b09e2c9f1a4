"""Proof that Mitsuba's camera and ours agree: rendered positions, projected, hit their pixels."""

from pathlib import Path
from typing import Any

import numpy as np

from tools.make_sample import lights, paths, render, world
from tools.make_sample.cameras import MAP_LENS, STREAM_LENS, Array, Lens
from tools.make_sample.frames import SEED

_LARGEST_OFFSET_PX = 0.01


def check_geometry(mi: Any, folder: Path) -> None:
    """Compare both cameras; stop with SystemExit if they are off by more than 0.01 px."""
    groups = [g for g in world.build(SEED, world.MAP_PLACEMENT) if g.name in ("matt", "crate")]
    scene = render.load_scene(mi, groups, lights.MAP, folder / "meshes" / "check")
    on_drive = paths.DAY.map_from_base(3.3) @ paths.base_from_cam()
    for lens, pose in ((MAP_LENS, paths.map_views()[3]), (STREAM_LENS, on_drive)):
        renderer = render.Renderer(mi, scene, lights.MAP, lens)
        offset = _mean_offset(mi, renderer, pose)
        print(f"raster {renderer.raster}: mean offset {offset} px")
        if np.abs(offset).max() > _LARGEST_OFFSET_PX:
            raise SystemExit(f"Mitsuba's camera and ours differ by {offset} px")


def _mean_offset(mi: Any, renderer: render.Renderer, map_from_cam: Array) -> Array:
    """Projection of what a pixel shows, minus the pixel: mean over all pixels (2,)."""
    raster = renderer.raster
    position = mi.load_dict({"type": "aov", "aovs": "pp:position,nn:sh_normal"})
    layers = renderer.render(position, map_from_cam, spp=64, seed=1)
    flat = np.linalg.norm(layers[..., 3:6], axis=-1).ravel() > 0.9999
    cam_from_map = np.linalg.inv(map_from_cam)
    points = layers[..., :3].reshape(-1, 3)[flat] @ cam_from_map[:3, :3].T + cam_from_map[:3, 3]
    centre = ((raster.width - 1) / 2, (raster.height - 1) / 2)
    ideal = Lens(raster.width, raster.height, raster.focal, raster.focal, *centre)
    x, y = np.meshgrid(np.arange(raster.width), np.arange(raster.height))
    pixels = np.stack([x, y], -1).reshape(-1, 2)[flat]
    return np.asarray((ideal.project(points) - pixels).mean(0))

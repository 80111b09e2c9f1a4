"""Three lights for one place: the map's sun, the day's sun, the evening's lamps."""

from dataclasses import dataclass
from typing import Any

import numpy as np

LAMPS = (
    (-2.2, 0.7, 2.25),
    (1.7, -0.8, 2.15),
    (3.15, 2.35, 1.55),
    (-3.25, -2.35, 1.75),
    (0.5, 0.2, 1.25),
)
LAMP_RADIUS = 0.085


@dataclass(frozen=True)
class Light:
    """Radiance of sky and lamps, direction and irradiance of the sun; the camera's settings."""

    name: str
    sky: tuple[float, float, float]
    sun_direction_deg: tuple[float, float]
    sun: tuple[float, float, float]
    lamp: tuple[float, float, float]
    exposure: float
    white: tuple[float, float, float]
    full_well: float


MAP = Light("map", (1.15, 1.30, 1.50), (-62, 57), (3.6, 3.3, 2.8), (0, 0, 0), 1.25, (1, 1, 1), 9e3)
DAY = Light("day", (1.20, 1.30, 1.42), (-40, 48), (3.6, 3.2, 2.6), (0, 0, 0), 1.3, (1, 1, 1), 6e3)
EVENING = Light(
    "evening",
    (0.035, 0.05, 0.085),
    (0, 45),
    (0, 0, 0),
    (30.0, 17.5, 8.5),
    3.6,
    (0.86, 1.0, 1.22),
    1.4e3,
)


def emitters(light: Light) -> dict[str, Any]:
    """Mitsuba objects: sky, sun, and the lamps' globes (white and dark when off)."""
    scene: dict[str, Any] = {
        "sky": {"type": "constant", "radiance": {"type": "rgb", "value": list(light.sky)}}
    }
    if any(light.sun):
        azimuth, elevation = np.radians(light.sun_direction_deg)
        rays = [
            -np.cos(elevation) * np.cos(azimuth),
            -np.cos(elevation) * np.sin(azimuth),
            -np.sin(elevation),
        ]
        scene["sun"] = {
            "type": "directional",
            "direction": [float(v) for v in rays],
            "irradiance": {"type": "rgb", "value": list(light.sun)},
        }
    for index, centre in enumerate(LAMPS):
        globe: dict[str, Any] = {
            "type": "sphere",
            "center": list(centre),
            "radius": LAMP_RADIUS,
            "bsdf": {"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.75}},
        }
        if any(light.lamp):
            globe["emitter"] = {
                "type": "area",
                "radiance": {"type": "rgb", "value": list(light.lamp)},
            }
        scene[f"lamp{index}"] = globe
    return scene

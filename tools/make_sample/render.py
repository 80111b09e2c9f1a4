"""Renders one image: path tracing, de-noising of the light alone, lens, sensor.

The light is de-noised apart from the texture: radiance is divided by the albedo that Mitsuba
delivers, filtered along surfaces, and multiplied again, so that no texture is lost.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.make_sample.cameras import Lens, Raster, mitsuba_matrix
from tools.make_sample.lights import Light, emitters
from tools.make_sample.meshes import Group
from tools.make_sample.noise import Image

Array = NDArray[np.float64]


def load_scene(mi: Any, groups: list[Group], light: Light, folder: Path) -> Any:
    """Build the Mitsuba scene; meshes go through PLY files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    scene: dict[str, Any] = {"type": "scene", **emitters(light)}
    for group in groups:
        path = folder / f"{group.name}.ply"
        atlas = group.write(path)
        texture = {"type": "bitmap", "bitmap": mi.Bitmap(atlas), "raw": True, "wrap_mode": "clamp"}
        surface: dict[str, Any] = {"type": "diffuse", "reflectance": texture}
        if group.glossy:
            surface = {"type": "roughplastic", "diffuse_reflectance": texture, "alpha": 0.18}
        scene[group.name] = {
            "type": "ply",
            "filename": str(path),
            "face_normals": True,
            "bsdf": {"type": "twosided", "bsdf": surface},
        }
    return mi.load_dict(scene)


class Renderer:
    """Renders views of one scene through one lens."""

    def __init__(self, mi: Any, scene: Any, light: Light, lens: Lens) -> None:
        self._mi, self._scene, self._light, self._lens = mi, scene, light, lens
        self.raster = Raster.covering(lens)
        self._lookup = self.raster.lookup(lens) if any(lens.distortion) else None
        self._light_of = mi.load_dict({"type": "path", "max_depth": 4, "rr_depth": 10})
        self._surface_of = mi.load_dict({"type": "aov", "aovs": "al:albedo,nn:sh_normal,dd:depth"})

    def radiance(self, map_from_cam: Array, spp: int, seed: int) -> Image:
        """Radiance of the raster (h, w, 3)."""
        return self.render(self._light_of, map_from_cam, spp, seed)

    def surfaces(self, map_from_cam: Array, spp: int, seed: int) -> Image:
        """Albedo (3), normal (3), depth (1): (h, w, 7).

        With the same `spp` and `seed`, the same points of each pixel as in `radiance`.
        """
        return self.render(self._surface_of, map_from_cam, spp, seed)

    def render(self, integrator: Any, map_from_cam: Array, spp: int, seed: int) -> Image:
        """What a Mitsuba integrator yields for a view of the raster (h, w, channels)."""
        mi = self._mi
        sensor = mi.load_dict(
            {
                "type": "perspective",
                "fov": self.raster.fov_x_deg,
                "fov_axis": "x",
                "near_clip": 0.02,
                "far_clip": 100.0,
                "to_world": mi.ScalarTransform4f(mitsuba_matrix(map_from_cam).tolist()),
                "film": {
                    "type": "hdrfilm",
                    "width": self.raster.width,
                    "height": self.raster.height,
                    "pixel_format": "rgb",
                    "component_format": "float32",
                    "rfilter": {"type": "box"},
                },
            }
        )
        image = mi.render(self._scene, sensor=sensor, integrator=integrator, spp=spp, seed=seed)
        return np.array(image, np.float32)

    def photograph(self, poses: list[Array], spp: int, seed: int) -> NDArray[np.uint8]:
        """An 8-bit RGB image: the mean over the poses passed during the exposure."""
        lit, seen, fine = [], [], []
        for index, pose in enumerate(poses):
            number = 1000 * seed + 2 * index
            lit.append(self.radiance(pose, spp, number))
            seen.append(self.surfaces(pose, spp, number))
            fine.append(self.surfaces(pose, 2 * spp, number + 1))
        radiance = denoise(*(np.mean(parts, axis=0) for parts in (lit, seen, fine)))
        if self._lookup is not None:
            radiance = cv2.remap(radiance, *self._lookup, interpolation=cv2.INTER_CUBIC)
        return expose(radiance, self._light, np.random.default_rng(seed + 99))


def denoise(radiance: Image, seen: Image, fine: Image) -> Image:
    """Edge-stopping a-trous filter on radiance / albedo.

    Args:
        radiance: (h, w, 3).
        seen: Surfaces at the very points that `radiance` was taken from (h, w, 7).
        fine: Surfaces at other and more points: their albedo makes the anti-aliased texture.
    """
    solid = seen[..., :3].max(-1, keepdims=True) > 5e-3
    albedo = np.where(solid, np.maximum(seen[..., :3], 0.02), 1.0)
    texture = np.where(solid, np.maximum((seen + 2 * fine)[..., :3] / 3, 0.02), 1.0)
    light = radiance / albedo
    for step, sigma in ((1, 1.0), (2, 0.6), (4, 0.4)):
        light = _smooth(light, seen[..., 3:6], seen[..., 6], step, sigma)
    return np.asarray(np.where(solid, light * texture, radiance), np.float32)


def _smooth(light: Image, normal: Image, depth: Image, step: int, sigma: float) -> Image:
    brightness = cv2.medianBlur(np.asarray(light.mean(-1), np.float32), 5)
    tone = np.log(cv2.GaussianBlur(brightness, (5, 5), 0) + 0.05 * brightness.mean())
    slope = cv2.blur(np.abs(cv2.Sobel(depth, cv2.CV_32F, 1, 0, ksize=1)), (3, 3)) + 0.01
    normal = normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-3)
    total, weights = np.zeros_like(light), np.zeros(light.shape[:2], np.float32)
    for dy in (-step, 0, step):
        for dx in (-step, 0, step):
            move = np.array([[1, 0, -dx], [0, 1, -dy]], np.float32)

            def shift(image: Image, move: NDArray[np.float32] = move) -> Image:
                size = (image.shape[1], image.shape[0])
                moved = cv2.warpAffine(
                    image, move, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101
                )
                return np.asarray(moved, np.float32)

            same = np.clip((normal * shift(normal)).sum(-1), 0, 1) ** 32
            gap = np.abs(depth - shift(depth)) / (slope * step * 3)
            weight = same * np.exp(-gap - ((tone - shift(tone)) / sigma) ** 2)
            if dx == dy == 0:
                weight = np.ones_like(weight)
            weight *= (0.25 if dy else 0.5) * (0.25 if dx else 0.5)
            total += weight[..., None] * shift(light)
            weights += weight
    return np.asarray(total / np.maximum(weights, 1e-6)[..., None], np.float32)


def expose(radiance: Image, light: Light, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Sensor and picture: exposure, white balance, shot and read noise, soft shoulder, sRGB."""
    signal = np.maximum(radiance, 0) * light.exposure
    spread = np.sqrt(signal / light.full_well + (4.0 / light.full_well) ** 2)
    signal = signal + spread * rng.standard_normal(signal.shape).astype(np.float32)
    signal = np.maximum(signal * np.array(light.white, np.float32), 0)
    knee = 0.6
    over = np.maximum(signal - knee, 0)
    signal = np.minimum(signal, knee) + (1 - knee) * (1 - np.exp(-over / (1 - knee) / 1.6))
    curve = np.where(
        signal <= 0.0031308, 12.92 * signal, 1.055 * np.maximum(signal, 1e-9) ** (1 / 2.4) - 0.055
    )
    return np.asarray(np.clip(np.rint(curve * 255), 0, 255), np.uint8)

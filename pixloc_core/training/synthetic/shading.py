"""Colours of what the rays hit: textures, light, haze, sky."""

from dataclasses import dataclass

import torch

from pixloc_core.geometry import Pose
from pixloc_core.shapes import Tensor
from pixloc_core.training.synthetic.light import Light
from pixloc_core.training.synthetic.patches import Patches
from pixloc_core.training.synthetic.ray_casting import Hits
from pixloc_core.training.synthetic.texture_atlas import TextureAtlas

_TINY = 1e-9
# Softens the light of a lamp near to it, in square metres.
_LAMP_CORE = 0.15


@dataclass(frozen=True)
class Surface:
    """What is seen at `n` pixels that hit something.

    Attributes:
        view: Number of the view of each.
        points: Where it is in the world.
        normals: Unit normals towards the camera.
        albedo: Linear colours.
        emission: Linear colours of its own light, where the lights are on.
        depth: Along the optical axis.
    """

    view: Tensor
    points: Tensor
    normals: Tensor
    albedo: Tensor
    emission: Tensor
    depth: Tensor


class Shader:
    """Turns hits into linear colours.

    Args:
        patches: Of each view `(v, q)`.
        maps: Of `view_maps`, `(v, q, 3, 3)`.
        poses: `cam_from_world` of each view.
        focal: Focal lengths `(v,)` in pixels, for the extent of a pixel.
        atlas: Textures.
    """

    def __init__(
        self, patches: Patches, maps: Tensor, poses: Pose, focal: Tensor, atlas: TextureAtlas
    ) -> None:
        self._patches = patches
        self._maps = maps.flatten(0, 1).flatten(-2)
        self._world_from_cam = poses.inv()
        self._centre = poses.center.float()
        self._focal = focal.float()
        self._atlas = atlas

    def surface(self, hits: Hits, rays: Tensor) -> tuple[Surface, Tensor]:
        """Surface at the pixels `(v, t, p)` that hit something, and which these are."""
        mask = hits.patch >= 0
        view = mask.nonzero()[:, 0]
        patch = view * self._patches.corners.shape[1] + hits.patch[mask]
        w, xy = hits.inv_depth[mask], rays[mask]
        depth = 1 / w
        rows = self._maps.index_select(0, patch)
        a = (rows[:, 3] * xy[:, 0] + rows[:, 4] * xy[:, 1] + rows[:, 5]) * depth
        b = (rows[:, 6] * xy[:, 0] + rows[:, 7] * xy[:, 1] + rows[:, 8]) * depth
        step = self._steps(rows, a, b, depth / self._focal[view])
        ab = torch.stack((a, b), -1)
        albedo, emission = self._colours(patch, ab, step)
        directions = self._directions(view, xy)
        normals = self._interpolate(self._patches.normals, patch, ab)
        normals = torch.nn.functional.normalize(normals, dim=-1)
        facing = (normals * directions).sum(-1, keepdim=True) > 0
        normals = torch.where(facing, -normals, normals)
        points = self._centre.index_select(0, view) + depth[:, None] * directions
        return Surface(view, points, normals, albedo, emission, depth), mask

    def _directions(self, view: Tensor, xy: Tensor) -> Tensor:
        rotation = self._world_from_cam.R.float().index_select(0, view)
        return torch.addcmul(
            torch.addcmul(rotation[:, :, 2], rotation[:, :, 0], xy[:, :1]),
            rotation[:, :, 1],
            xy[:, 1:],
        )

    @staticmethod
    def _steps(rows: Tensor, a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
        """Change of (a, b) from a pixel to the next in x and in y: `(n, 2 (x, y), 2 (a, b))`."""
        ab, w = torch.stack((a, b), -1)[:, None], rows[:, 0:2, None]
        change = torch.stack((rows[:, 3:5], rows[:, 6:8]), -1) - ab * w
        return change * scale[:, None, None]

    def _interpolate(self, table: Tensor, patch: Tensor, ab: Tensor) -> Tensor:
        """Value at a corner plus its changes along the edges."""
        at = table.flatten(0, 1).float().index_select(0, patch)
        return torch.addcmul(torch.addcmul(at[:, 0], at[:, 1], ab[:, :1]), at[:, 2], ab[:, 1:])

    def _colours(self, patch: Tensor, ab: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        patches = self._patches
        kinds, colours, amounts = (
            table.flatten(0, 1).index_select(0, patch)
            for table in (patches.kinds, patches.colours.float(), patches.amounts.float())
        )
        base = self._texture(patches.base_uv, kinds[:, 1], patch, ab, step)
        over = self._texture(patches.overlay_uv, kinds[:, 2], patch, ab, step, blend_levels=False)
        alpha = over[:, 3:] * amounts[:, :1]
        # Squares stand for the exponent 2.2 of sRGB.
        shown = over[:, :3].square()
        albedo = torch.lerp(base[:, :3].square() * colours[:, 0], shown * colours[:, 1],
                            _wide(alpha))  # fmt: skip
        return albedo.clamp_(0.01, 1), shown * _wide(alpha * amounts[:, 1:2])

    def _texture(
        self,
        table: Tensor,
        layer: Tensor,
        patch: Tensor,
        ab: Tensor,
        step: Tensor,
        *,
        blend_levels: bool = True,
    ) -> Tensor:
        at = table.flatten(0, 1).float().index_select(0, patch)
        uv = torch.addcmul(torch.addcmul(at[:, 0], at[:, 1], ab[:, :1]), at[:, 2], ab[:, 1:])
        spread = step @ at[:, 1:]
        # Between the longer and the shorter extent: neither aliased nor all blurred.
        extent = spread.square().sum(-1)
        footprint = (0.65 * extent.amax(-1) + 0.35 * extent.amin(-1)).sqrt()
        return self._atlas.sample(layer, uv, footprint, blend_levels=blend_levels)

    def sky(self, light: Light, mask: Tensor, rays: Tensor, cloud_layer: Tensor) -> Tensor:
        """Colours of the pixels outside the mask: a gradient with clouds."""
        view = (~mask).nonzero()[:, 0]
        directions = torch.nn.functional.normalize(self._directions(view, rays[~mask]), dim=-1)
        up = directions[:, 2:].clamp(min=0)
        zenith, horizon, cloud = light.sky[view].unbind(1)
        colour = torch.lerp(horizon, zenith, up.sqrt())
        uv = directions[:, :2] / (directions[:, 2:].clamp(min=0) + 0.12) * 0.35
        footprint = 0.4 / (self._focal[view] * (up[:, 0] + 0.1))
        density = self._atlas.sample(cloud_layer[view], uv + cloud_layer[view, None], footprint)
        return torch.lerp(colour, cloud, density[:, 3:] * (up * 4).clamp(max=1))


def _wide(values: Tensor) -> Tensor:
    """Numbers `(n, 1)` once for each colour, in memory: broadcasting is several times slower."""
    return values.expand(-1, 3).contiguous()


def illuminate(surface: Surface, light: Light, sunlit: Tensor | None) -> Tensor:
    """Linear colours `(n, 3)` of a surface.

    Args:
        surface: What is seen.
        light: Light of the views.
        sunlit: Whether the sun reaches each; None: no cast shadows.
    """
    view, normals = surface.view, surface.normals
    sun, ambient = light.sun.index_select(0, view), light.ambient.index_select(0, view)
    above, below = ambient.unbind(1)
    received = torch.lerp(below, above, _wide(0.5 + 0.5 * normals[:, 2:]))
    facing = (normals * sun[:, 0]).sum(-1, keepdim=True).clamp(min=0)
    if sunlit is not None:
        facing = facing * sunlit[:, None]
    received = received + _wide(facing) * sun[:, 1]
    if bool((light.lamps[:, :, 1] > 0).any()):
        received = received + _lamp_light(surface, light)
    colour = surface.albedo * received + surface.emission * light.glow[view, :1] * _WARM.to(
        received
    )
    haze = light.haze.index_select(0, view)
    left = torch.exp(-haze[:, 1, :1] * surface.depth[:, None])
    return torch.lerp(haze[:, 0], colour, _wide(left))


_WARM = torch.tensor([1.0, 0.75, 0.4])


def _lamp_light(surface: Surface, light: Light) -> Tensor:
    total = torch.zeros_like(surface.albedo)
    for k in range(light.lamps.shape[1]):
        position, colour = light.lamps[:, k].index_select(0, surface.view).unbind(1)
        way = position - surface.points
        distance_sq = way.square().sum(-1, keepdim=True)
        facing = (way * surface.normals).sum(-1, keepdim=True) * distance_sq.clamp(
            min=_TINY
        ).rsqrt()
        total += colour * (0.25 + 0.75 * facing).clamp(min=0) / (distance_sq + _LAMP_CORE)
    return total


def expose(colours: Tensor, glow: Tensor) -> Tensor:
    """Linear images `(v, 3, h, w)` as a camera with automatic exposure shows them, in [0, 1].

    Args:
        colours: Linear colours, of any brightness.
        glow: As of `Light`.
    """
    aim, follow = glow[:, 1], glow[:, 2]
    brightness = colours.clamp(min=0).sqrt().mean((1, 2, 3)).clamp(min=1e-3)
    gain = (0.8 * aim / brightness.square()) ** follow
    linear = colours * gain[:, None, None, None]
    # Rolls off towards white as films and cameras do.
    linear = linear * (1 + linear / 4) / (1 + linear)
    return (1.25 * linear).clamp(0, 1).sqrt()

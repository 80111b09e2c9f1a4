"""Images of batches of views, with what every pixel hits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.nn import functional

from pixloc_core.geometry import Camera, Pose
from pixloc_core.shapes import Tensor
from pixloc_core.training.synthetic.edges import smooth_edges
from pixloc_core.training.synthetic.light import Light
from pixloc_core.training.synthetic.patches import Patches
from pixloc_core.training.synthetic.ray_casting import TILE, Hits, cast_images, view_maps
from pixloc_core.training.synthetic.shading import Shader, expose, illuminate
from pixloc_core.training.synthetic.shadows import find_sunlit
from pixloc_core.training.synthetic.texture_atlas import TextureAtlas


@dataclass(frozen=True)
class Rendered:
    """Views `v`, two for each pair: reference, query, reference, ...

    Attributes:
        images: `(v, 3, h, w)` in [0, 1].
        inv_depth: `(v, h, w)`, zero in the sky.
        patch: What each pixel shows `(v, h, w)`, -1: the sky.
        cameras: Intrinsics, float64, of one model.
        single_cameras: The same, each of its own model, whose rays are exact.
        poses: `cam_from_world`, float64.
        patches: Surfaces of each view.
        maps: Of `view_maps`, float64.
    """

    images: Tensor
    inv_depth: Tensor
    patch: Tensor
    cameras: Camera
    single_cameras: tuple[Camera, ...]
    poses: Pose
    patches: Patches
    maps: Tensor


Stackable = TypeVar("Stackable", Camera, Pose)


def stack_objects(items: Sequence[Stackable]) -> Stackable:
    """Cameras or poses as one batch; `torch.stack` is typed for tensors alone."""
    stack: Any = torch.stack
    joined: Stackable = stack(list(items))
    return joined


class Renderer:
    """Draws places.

    Args:
        atlas: Textures.
        size: Width and height of the images.
        device: Where.
    """

    def __init__(self, atlas: TextureAtlas, size: tuple[int, int], device: torch.device) -> None:
        self._atlas = atlas
        self._width, self._height = size
        self._columns, self._rows = -(-size[0] // TILE), -(-size[1] // TILE)
        x = torch.arange(self._width, device=device, dtype=torch.float32)
        y = torch.arange(self._height, device=device, dtype=torch.float32)
        self._pixels = torch.cartesian_prod(y, x).flip(-1)
        self._device = device

    def render(
        self, patches: Patches, cameras: Sequence[Camera], poses: Pose, light: Light,
        clouds: Tensor, has_shadows: Tensor,
    ) -> Rendered:  # fmt: skip
        """Draw views.

        Args:
            patches: Surfaces of each view.
            cameras: One for each view, of any models.
            poses: `cam_from_world` of each.
            light: Light of each.
            clouds: Layer of the clouds of each.
            has_shadows: Whether the sun casts shadows, on the CPU.
        """
        cameras = tuple(camera.to(self._device) for camera in cameras)
        rays = torch.stack([self._rays(camera) for camera in cameras])
        tiles = self._to_tiles(rays)
        maps = view_maps(patches.corners, patches.exists, poses)
        maps32, seed32 = maps.float(), patches.seed.float()
        hits = cast_images(maps32, patches.shape, seed32, tiles)
        joined = stack_objects(cameras)
        shader = Shader(patches, maps32, poses, joined.f[..., 0], self._atlas)
        surface, mask = shader.surface(hits, tiles)
        sunlit = None
        if bool(has_shadows.any()):
            sunlit = find_sunlit(patches, surface, mask, light, has_shadows.to(self._device))
        colours = torch.empty(*mask.shape, 3, device=self._device)
        colours[mask] = illuminate(surface, light, sunlit)
        colours[~mask] = shader.sky(light, mask, tiles, clouds)
        flat = self._flat(hits)
        smooth = smooth_edges(self._from_tiles(colours), flat, rays, maps32, patches)
        images = expose(smooth.movedim(-1, 1), light.glow)
        return Rendered(images, flat.inv_depth, flat.patch, joined, cameras, poses, patches, maps)

    def _flat(self, hits: Hits) -> Hits:
        parts = (
            self._from_tiles(part[..., None])[..., 0] for part in (hits.inv_depth, hits.patch)
        )
        return Hits(*parts)

    def _rays(self, camera: Camera) -> Tensor:
        rays, _ = camera.float().image2world(self._pixels)
        return rays[:, :2].reshape(self._height, self._width, 2)

    def _to_tiles(self, image: Tensor) -> Tensor:
        """`(v, h, w, c)` as `(v, t, p, c)`; the border is repeated to full tiles."""
        right, below = self._columns * TILE - self._width, self._rows * TILE - self._height
        padded = functional.pad(image.movedim(-1, 1), (0, right, 0, below), mode="replicate")
        tiles = padded.reshape(len(image), -1, self._rows, TILE, self._columns, TILE)
        return tiles.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2).contiguous()

    def _from_tiles(self, tiles: Tensor) -> Tensor:
        """`(v, t, p, c)` as `(v, h, w, c)`."""
        blocks = tiles.view(len(tiles), self._rows, self._columns, TILE, TILE, -1)
        image = blocks.transpose(2, 3).flatten(1, 2).flatten(2, 3)
        return image[:, : self._height, : self._width]

"""Training pairs of procedural places."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from pixloc_core.errors import ConfigError
from pixloc_core.geometry import Camera, Pose
from pixloc_core.shapes import Tensor
from pixloc_core.training.pairs import PairBatch, View, generator_for, join_pairs
from pixloc_core.training.photometric import PhotometricConfig, change_appearance
from pixloc_core.training.synthetic.light import Light, LightDrawer, stack_lights
from pixloc_core.training.synthetic.palette import Palette
from pixloc_core.training.synthetic.patches import PatchBuilder, Patches, stack_patches
from pixloc_core.training.synthetic.places import MAKERS
from pixloc_core.training.synthetic.points import PointPicker
from pixloc_core.training.synthetic.procedural_textures import make_textures
from pixloc_core.training.synthetic.renderer import Renderer, stack_objects
from pixloc_core.training.synthetic.synthetic_config import SyntheticConfig
from pixloc_core.training.synthetic.texture_atlas import (
    Texture,
    TextureAtlas,
    opaque_texture,
    read_photos,
)
from pixloc_core.training.synthetic.view_drawing import REDRAWS, DrawnViews, ViewDrawer

__all__ = ["DrawnPair", "SyntheticConfig", "SyntheticSource"]

# Pairs drawn at once: on a CPU more of them do not fit into its caches.
_CHUNK_CPU, _CHUNK_DEVICE = 1, 32


@dataclass(frozen=True)
class DrawnPair:
    """All that chance decides about a pair, before anything is rendered.

    Attributes:
        index: Index of the pair.
        name: Kind of place and index.
        patches: Surfaces of the place.
        views: Cameras of reference and query, and their poses.
        lights: Their light.
        has_shadows: Whether the sun casts shadows.
        clouds: Layer of the clouds of each view.
    """

    index: int
    name: str
    patches: Patches
    views: DrawnViews
    lights: tuple[Light, Light]
    has_shadows: bool
    clouds: tuple[int, int]


class SyntheticSource:
    """Makes pairs of views of procedural places.

    Args:
        config: Places, light and motion.
        size: Width and height of all images.
        num_points: Points per pair.
        photometric: Changes of each image after it is rendered.
        seed: Seed of the run.
        device: Where images are made. Places, cameras, lights and points are the same on all of
            them, up to rounding; noise and smooth fields of the photometric changes are drawn by
            the device, and differ between CPU and GPU.

    Raises:
        ImageError: If the photos cannot be read.
    """

    def __init__(
        self,
        config: SyntheticConfig,
        *,
        size: tuple[int, int],
        num_points: int,
        photometric: PhotometricConfig,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self._config = config
        self._size = size
        self._photometric = photometric
        self._seed = seed
        self._device = torch.device(device)
        rng = numpy_generator(generator_for(seed, 0, "textures"))
        kinds = make_textures(rng, config.num_procedural, config.texture_size)
        kinds["photo"] = []
        if config.photos:
            prepare = partial(opaque_texture, size=config.texture_size)
            kinds["photo"] = read_photos(config.photos, config.max_photos, prepare)
        self._layers: dict[str, list[int]] = {}
        textures: list[Texture] = []
        for kind, made in kinds.items():
            self._layers[kind] = list(range(len(textures), len(textures) + len(made)))
            textures += made
        self._renderer = Renderer(TextureAtlas(textures, self._device), size, self._device)
        self._picker = PointPicker(num_points, config.covisible)

    @property
    def description(self) -> str:
        """What the pairs come from, in words."""
        photos = len(self._layers["photo"])
        procedural = sum(map(len, self._layers.values())) - photos
        return (
            f"synthetic places ({', '.join(self._config.places)}) "
            f"with {photos} photos and {procedural} procedural textures"
        )

    def batch(self, indices: Sequence[int]) -> PairBatch:
        """Make the pairs of these indices.

        Raises:
            ConfigError: If no views overlap as the config demands.
        """
        return self.finish(self.begin(indices))

    def begin(self, indices: Sequence[int]) -> list[DrawnPair]:
        """What chance decides, see `StagedSource.begin`."""
        return [self.draw(index) for index in indices]

    def finish(self, begun: Sequence[DrawnPair]) -> PairBatch:
        """Render what was drawn, see `StagedSource.finish`."""
        step = _CHUNK_CPU if self._device.type == "cpu" else _CHUNK_DEVICE
        parts = [self._make(begun[i : i + step]) for i in range(0, len(begun), step)]
        return join_pairs(parts)

    def draw(self, index: int) -> DrawnPair:
        """Let chance decide about a pair.

        Raises:
            ConfigError: If no views overlap as the config demands.
        """
        config = self._config
        rng = numpy_generator(generator_for(self._seed, index, "scene"))
        kind = str(rng.choice(np.array(config.places)))
        palette = Palette(self._layers, rng, config.photo_share)
        place = MAKERS[kind](PatchBuilder(rng), palette, config.clutter)
        views = ViewDrawer(place, rng, config, self._size).draw()
        if views is None:
            raise ConfigError(_explain(config, kind))
        extent = float(np.linalg.norm(np.diff(place.targets, axis=0))) / 2
        drawer = LightDrawer(rng, is_indoors=place.is_indoors, lamps=place.lamps, extent=extent,
                             amount=config.light)  # fmt: skip
        eyes = [pose.center.numpy() for pose in views.poses]
        lights = drawer.draw(config.night, eyes[0]), drawer.draw(config.night, eyes[1])
        shadows = config.light > 0 and not place.is_indoors and rng.random() < config.shadows
        clouds = rng.choice(self._layers["clouds"], 2).tolist()
        name = f"{kind} {index}"
        return DrawnPair(index, name, place.patches, views, lights, shadows, tuple(clouds))

    @torch.no_grad()
    def _make(self, pairs: Sequence[DrawnPair]) -> PairBatch:
        indices = [pair.index for pair in pairs]
        poses = stack_objects([pose for pair in pairs for pose in pair.views.poses])
        cameras = [camera for pair in pairs for camera in pair.views.cameras]
        rendered = self._renderer.render(
            stack_patches([pair.patches for pair in pairs]).to(self._device).repeat_interleave(2),
            cameras,
            poses.to(self._device),
            stack_lights([light for pair in pairs for light in pair.lights]).to(self._device),
            torch.tensor([cloud for pair in pairs for cloud in pair.clouds], device=self._device),
            torch.tensor([pair.has_shadows for pair in pairs for _ in range(2)]),
        )
        points = self._picker.pick(
            rendered, [generator_for(self._seed, i, "points") for i in indices]
        )
        generators = [
            generator_for(self._seed, i, name) for i in indices for name in ("reference", "query")
        ]
        images = change_appearance(rendered.images, generators, self._photometric)
        joined: Camera = rendered.cameras
        relative: Pose = rendered.poses[1::2] @ rendered.poses[0::2].inv()
        return PairBatch(
            View(images[0::2], joined[0::2]),
            View(images[1::2], joined[1::2]),
            points.points_ref,
            points.is_point,
            points.is_seen,
            relative,
            tuple(pair.name for pair in pairs),
        )


def numpy_generator(generator: torch.Generator) -> np.random.Generator:
    """NumPy's random numbers, for the many single numbers of a place, from a torch generator."""
    words: Tensor = torch.randint(0, 2**31 - 1, (4,), generator=generator)
    return np.random.default_rng(words.tolist())


def _explain(config: SyntheticConfig, kind: str) -> str:
    """What was tried, where no views overlap enough."""
    return (
        f"SyntheticConfig.min_overlap is {config.min_overlap:g}, but of {REDRAWS} views of a "
        f"{kind} none has a second one that overlaps so far, with yaw_deg {config.yaw_deg:g}, "
        f"roll_deg {config.roll_deg:g}, zoom {config.zoom:g} and fields of view of "
        f"{config.hfov_min_deg:g} to {config.hfov_max_deg:g} deg; expected a smaller min_overlap"
    )

"""Training pairs of photos as walls: real pictures under real changes of light, exact geometry.

Procedural places have depth and shadows, but nobody would take them for photos. A photo put up as
a wall has none of the former and all of the statistics of the world: sky above roofs, blurred
backgrounds, grain. It is also made twice as fast. Source of the idea: DeTone et al.,
"SuperPoint: Self-supervised interest point detection and description", CVPRW 2018.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from pixloc_core.features.preprocessing import Image
from pixloc_core.geometry import Camera, Pose
from pixloc_core.shapes import Tensor
from pixloc_core.training.collections.windows import pixel_grid, resample
from pixloc_core.training.pairs import PairBatch, View, generator_for, join_pairs
from pixloc_core.training.photometric import PhotometricConfig, change_appearance
from pixloc_core.training.synthetic.patches import Array
from pixloc_core.training.synthetic.source import numpy_generator
from pixloc_core.training.synthetic.synthetic_config import SyntheticConfig
from pixloc_core.training.synthetic.texture_atlas import read_photos
from pixloc_core.training.synthetic.view_drawing import draw_camera, look_at

# Photos are kept with this longest side; windows show a part of them, at twice their size.
_KEPT_SIDE = 768
# Width of what the reference shows, as a share of that of the photo.
_FOOTPRINT = (0.35, 0.9)
# Views are drawn anew, ever closer to the middle, until this share of them shows the photo.
_COVERED = 0.9
_ATTEMPTS = 12
# Share of the points that lie where the image changes, as those of an SfM model.
_ON_GRADIENT = 2 / 3


@dataclass(frozen=True)
class _Wall:
    """What a view shows of a photo that stands upright at y = 0, one unit wide.

    Attributes:
        camera: The camera.
        cam_from_world: Its pose.
        points_cam: Where the rays of the pixels `(h * w, 3)` meet the wall; anything where not.
        source_px: Pixels `(h * w, 2)` of the photo there.
        hit: Whether they lie in the photo.
    """

    camera: Camera
    cam_from_world: Pose
    points_cam: Tensor
    source_px: Tensor
    hit: Tensor


class PhotoWallSource:
    """Makes pairs of views of photos that stand upright like walls.

    Args:
        config: Photos, lenses and motion; everything about places does not count.
        size: Width and height of all images.
        num_points: Points per pair.
        photometric: Changes of each image.
        seed: Seed of the run.

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
    ) -> None:
        self._config = config
        self._size = size
        self._num_points = num_points
        self._photometric = photometric
        self._seed = seed
        self._pixels = pixel_grid(size, 1)
        self._photos = read_photos(config.photos, config.max_photos, _shrunk)

    @property
    def description(self) -> str:
        """What the pairs come from, in words."""
        return f"{len(self._photos)} photos as walls"

    @torch.no_grad()
    def batch(self, indices: Sequence[int]) -> PairBatch:
        """Make the pairs of these indices."""
        return join_pairs([self._make(index) for index in indices])

    def _make(self, index: int) -> PairBatch:
        rng = numpy_generator(generator_for(self._seed, index, "wall"))
        photo = self._photos[rng.integers(len(self._photos))]
        reference, query = self._draw_views(rng, photo)
        query_from_ref = query.cam_from_world @ reference.cam_from_world.inv()
        pictures = [self._picture(photo, wall) for wall in (reference, query)]
        chosen = self._choose(rng, pictures[0], reference)
        points_ref = reference.points_cam[chosen]
        _, is_seen = query.camera.world2image(query_from_ref * points_ref)
        images = torch.stack([torch.from_numpy(picture) for picture in pictures])
        generators = [generator_for(self._seed, index, role) for role in ("reference", "query")]
        images = change_appearance(
            images.movedim(-1, 1).float() / 255, generators, self._photometric
        )
        return PairBatch(
            View(images[:1], reference.camera[None]),
            View(images[1:], query.camera[None]),
            points_ref[None],
            reference.hit[chosen][None],
            (is_seen & reference.hit[chosen])[None],
            query_from_ref[None],
            (f"photo {index}",),
        )

    def _draw_views(self, rng: np.random.Generator, photo: Image) -> tuple[_Wall, _Wall]:
        """Two views that show the photo nearly everywhere."""
        config = self._config
        share = rng.uniform(*_FOOTPRINT)
        angles = np.radians(config.yaw_deg) * rng.uniform(-1, 1, 2) * [0.8, 0.5]
        places = rng.uniform(-0.5, 0.5, 2)
        hfov = rng.uniform(config.hfov_min_deg, config.hfov_max_deg)
        first = self._first_covered(rng, photo, (places, angles, share, hfov))
        # The query looks elsewhere, from elsewhere, with another camera.
        moved = config.baseline * share * rng.uniform(-1, 1, 2)
        turned = np.radians(config.yaw_deg) * rng.uniform(-1, 1, 2) * [0.8, 0.5]
        zoomed = share * config.zoom ** rng.uniform(-1, 0.5)
        if rng.random() > 0.4:
            hfov = rng.uniform(config.hfov_min_deg, config.hfov_max_deg)
        wanted = (places + moved, 0.5 * angles + turned, min(zoomed, _FOOTPRINT[1]), hfov)
        return first, self._first_covered(rng, photo, wanted)

    def _first_covered(
        self,
        rng: np.random.Generator,
        photo: Image,
        wanted: tuple[Array, Array, float, float],
    ) -> _Wall:
        """The first view near the wanted place, direction, footprint and angle that will do."""
        places, angles, share, hfov = wanted
        height = photo.shape[0] / photo.shape[1]
        camera = draw_camera(rng, self._size, hfov, self._config.distorted)
        roll = np.radians(self._config.roll_deg) * rng.normal(0, 0.4)
        aspect = self._size[1] / self._size[0]
        # Of a photo that is flatter than the view the height decides.
        width = share * min(1.0, height / aspect)
        distance = width / 2 / np.tan(np.radians(hfov) / 2)
        room = np.array([1 - share, height - width * aspect])
        for attempt in range(_ATTEMPTS):
            # In the end straight on the middle of the photo, where every footprint fits.
            calm = 1 - attempt / (_ATTEMPTS - 1)
            x, z = np.clip(calm * places * [1, height], -room / 2, room / 2)
            azimuth, elevation = calm * angles
            target = np.array([x, 0.0, z])
            away = [np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation),
                    np.sin(elevation)]  # fmt: skip
            pose = look_at(target + distance * np.array(away), target, calm * roll)
            wall = self._see(photo, camera, pose)
            if float(wall.hit.double().mean()) >= _COVERED:
                break
        return wall

    def _see(self, photo: Image, camera: Camera, pose: Pose) -> _Wall:
        rays, found = camera.image2world(self._pixels)
        rotation, eye = pose.R, pose.center
        ahead = rays @ rotation[:, 1]
        depth = torch.where(ahead > 1e-6, -eye[1] / ahead.clamp(min=1e-6), 1.0)
        points_cam = rays * depth[:, None]
        points = pose.inv() * points_cam
        height, width = photo.shape[:2]
        source_px = torch.stack(
            ((points[:, 0] + 0.5) * width - 0.5, height / 2 - points[:, 2] * width - 0.5), -1
        )
        limit = torch.tensor((width, height)) - 1.0
        inside = ((source_px >= 0) & (source_px <= limit)).all(-1)
        return _Wall(camera, pose, points_cam, source_px, found & inside & (ahead > 1e-6))

    def _picture(self, photo: Image, wall: _Wall) -> Image:
        width, height = self._size
        shown = wall.source_px.float().reshape(height, width, 2)
        # What lies beyond the photo is mirrored; far beyond, any part of it will do.
        limit = torch.tensor(photo.shape[1::-1], dtype=torch.float32)
        shown = torch.minimum(torch.maximum(shown, -limit / 2), 1.5 * limit)
        steps = torch.cat(
            ((shown[:, 1:] - shown[:, :-1]).norm(dim=-1).flatten(),
             (shown[1:] - shown[:-1]).norm(dim=-1).flatten())
        )  # fmt: skip
        return resample(photo, shown.numpy(), float(1 / steps.median().clamp(min=1e-3)))

    def _choose(self, rng: np.random.Generator, picture: Image, wall: _Wall) -> Tensor:
        """Pixels of the reference, as many as there are to be points."""
        width, height = self._size
        grey = picture.astype(np.float32).mean(-1)
        slope = np.zeros((height, width))
        inner = (slice(1, -1), slice(1, -1))
        slope[inner] = np.abs(grey[1:-1, 2:] - grey[1:-1, :-2])
        slope[inner] += np.abs(grey[2:, 1:-1] - grey[:-2, 1:-1])
        # Not at the border: rounding would put some points outside of the image.
        even = np.zeros((height, width))
        even[inner] = wall.hit.numpy().reshape(height, width)[inner]
        slope = (slope + 0.5) * even
        weights = _ON_GRADIENT * slope / max(slope.sum(), 1e-9)
        weights += (1 - _ON_GRADIENT) * even / max(even.sum(), 1.0)
        # The smallest of -log(u) / w are a sample without repetition (Efraimidis and Spirakis).
        keys = -np.log(rng.random(weights.size)) / np.maximum(weights.ravel(), 1e-12)
        return torch.from_numpy(np.argpartition(keys, self._num_points)[: self._num_points])


def _shrunk(image: Any) -> Image:
    """An image in BGR as RGB, with the longest side that photos are kept with."""
    factor = _KEPT_SIDE / max(image.shape[:2])
    if factor < 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)

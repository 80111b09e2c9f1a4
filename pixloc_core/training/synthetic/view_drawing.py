"""Two cameras in a place: where they stand, how they look, and that they share enough."""

from dataclasses import dataclass

import numpy as np
import torch

from pixloc_core.geometry import Camera, DistortionModel, Pose
from pixloc_core.shapes import Tensor
from pixloc_core.training.synthetic.patches import Array
from pixloc_core.training.synthetic.place import Place
from pixloc_core.training.synthetic.ray_casting import cast_rays, is_hidden, view_maps
from pixloc_core.training.synthetic.synthetic_config import SyntheticConfig

# Rays with which a view is tried before it is drawn.
_COLUMNS, _ROWS = 14, 11
_ATTEMPTS = 24
# References that are drawn anew until one has a query; the usual settings need a single one.
REDRAWS = 200
# A view of fewer surfaces has little to align to.
_FEWEST_PATCHES = 5
OCCLUSION_TOLERANCE = 0.01


@dataclass(frozen=True)
class DrawnViews:
    """Reference and query: cameras and poses from the world."""

    cameras: tuple[Camera, Camera]
    poses: tuple[Pose, Pose]


@dataclass(frozen=True)
class _Probe:
    """What a few rays of a view hit."""

    camera: Camera
    cam_from_world: Pose
    points_cam: Tensor
    hit: Tensor
    num_patches: int

    @property
    def depth(self) -> float:
        return float(self.points_cam[self.hit, 2].median())

    def is_usable(self, closest: float) -> bool:
        """Whether enough is in sight, of more than one wall, and nothing too close."""
        if float(self.hit.double().mean()) < 0.5 or self.num_patches < _FEWEST_PATCHES:
            return False
        depths = self.points_cam[self.hit, 2]
        return float(depths.quantile(0.03)) > closest * float(depths.median())


class ViewDrawer:
    """Draws pairs of views of one place.

    Args:
        place: The place.
        rng: Random numbers.
        config: Ranges of the cameras and of the motion.
        size: Width and height of the images.
    """

    def __init__(
        self, place: Place, rng: np.random.Generator, config: SyntheticConfig,
        size: tuple[int, int],
    ) -> None:  # fmt: skip
        self._place = place
        self._rng = rng
        self._config = config
        self._size = size

    def draw(self) -> DrawnViews | None:
        """Views that overlap as the config demands, or None if chance finds none."""
        for _ in range(REDRAWS):
            reference = self._draw_reference()
            for attempt in range(_ATTEMPTS):
                query = self._draw_query(reference, 1 - attempt / _ATTEMPTS)
                if query.is_usable(0.1) and self._overlap(reference, query):
                    return DrawnViews(
                        (reference.camera, query.camera),
                        (reference.cam_from_world, query.cam_from_world),
                    )
        return None

    def _draw_reference(self) -> _Probe:
        best, best_share = None, -1.0
        for _ in range(_ATTEMPTS):
            eye = self._draw_in(self._place.eyes)
            target = self._draw_in(self._place.targets)
            pose = look_at(eye, target, self._draw_roll())
            hfov = self._rng.uniform(self._config.hfov_min_deg, self._config.hfov_max_deg)
            probe = self._probe(
                draw_camera(self._rng, self._size, hfov, self._config.distorted), pose
            )
            if probe.is_usable(0.12):
                return probe
            share = float(probe.hit.double().mean())
            if share > best_share:
                best, best_share = probe, share
        assert best is not None
        return best

    def _draw_query(self, reference: _Probe, amount: float) -> _Probe:
        """A query whose motion is at most this part of the largest."""
        rng, config = self._rng, self._config
        depth = reference.depth if bool(reference.hit.any()) else 1.0
        eye = reference.cam_from_world.center.numpy()
        rotation = reference.cam_from_world.R.numpy()
        way = rng.normal(size=3) * [1.0, 0.4, 1.0]  # in the camera's axes
        way = rotation.T @ (way / np.linalg.norm(way))
        moved = eye + way * depth * config.baseline * amount * rng.uniform(0, 1) ** 0.7
        slack = 0.1 * depth
        low, high = self._place.eyes
        moved = np.clip(moved, np.minimum(low - slack, eye), np.maximum(high + slack, eye))
        moved[2] = max(moved[2], min(low[2], eye[2]))
        angles = np.radians(config.yaw_deg) * amount * rng.uniform(-1, 1, 2) * [0.6, 0.25]
        # Between turning to keep the same point in sight and not turning at all.
        fixation = eye + rotation[2] * depth * np.exp(rng.uniform(-0.3, 1.5))
        direction = fixation - moved
        direction = direction / np.linalg.norm(direction)
        direction = direction + rotation[0] * np.tan(angles[0]) + rotation[1] * np.tan(angles[1])
        direction = turn_within(direction, rotation[2], np.radians(config.yaw_deg))
        roll = np.arctan2(-rotation[0, 2], -rotation[1, 2])
        pose = look_at(moved, moved + direction, roll + amount * self._draw_roll())
        ratio = config.zoom ** (amount * rng.uniform(-1, 1))
        reference_half = np.arctan(self._size[0] / 2 / reference.camera.f[0].item())
        hfov = 2 * np.degrees(np.arctan(np.tan(reference_half) * ratio))
        hfov = float(np.clip(hfov, config.hfov_min_deg, config.hfov_max_deg))
        if rng.random() < 0.4:
            return self._probe(reference.camera, pose)  # the same camera
        return self._probe(draw_camera(rng, self._size, hfov, config.distorted), pose)

    def _draw_in(self, box: Array) -> Array:
        point: Array = box[0] + self._rng.random(3) * (box[1] - box[0])
        return point

    def _draw_roll(self) -> float:
        rng, largest = self._rng, np.radians(self._config.roll_deg)
        kind = rng.random()
        if kind < 0.75:
            return float(rng.normal(0, 0.15) * largest)
        return float(rng.uniform(-1, 1) * largest * (3 if kind > 0.97 else 1))

    def _probe(self, camera: Camera, cam_from_world: Pose) -> _Probe:
        x = torch.linspace(0, self._size[0] - 1, _COLUMNS, dtype=torch.float64)
        y = torch.linspace(0, self._size[1] - 1, _ROWS, dtype=torch.float64)
        pixels = torch.cartesian_prod(x, y)
        rays, found = camera.image2world(pixels)
        inv_depth, patch = cast_rays(*self._seen_from(cam_from_world), rays[:, :2])
        hit = (patch >= 0) & found
        points = rays / torch.where(hit, inv_depth, 1)[:, None]
        return _Probe(camera, cam_from_world, points, hit, len(set(patch[hit].tolist())))

    def _overlap(self, reference: _Probe, query: _Probe) -> bool:
        """Whether enough of the reference is seen by the query."""
        query_from_ref = query.cam_from_world @ reference.cam_from_world.inv()
        points_query = query_from_ref * reference.points_cam
        _, valid = query.camera.world2image(points_query)
        maps = self._seen_from(query.cam_from_world)
        seen = valid & reference.hit & ~is_hidden(*maps, points_query, OCCLUSION_TOLERANCE)
        # Of all pixels with anything: sky cannot be shared.
        share = float(seen.sum()) / max(float(reference.hit.sum()), 1.0)
        return share >= min(self._config.min_overlap + 0.05, 0.95)

    def _seen_from(self, cam_from_world: Pose) -> tuple[Tensor, Tensor, Tensor]:
        patches = self._place.patches
        maps = view_maps(patches.corners, patches.exists, cam_from_world)
        return maps, patches.shape, patches.seed


def turn_within(direction: Array, axis: Array, largest: float) -> Array:
    """The direction, of unit length, turned towards an axis until it is within an angle of it."""
    direction = direction / np.linalg.norm(direction)
    along = float(direction @ axis)
    if along >= np.cos(largest):
        return direction
    aside = direction - along * axis
    aside = aside / max(float(np.linalg.norm(aside)), 1e-12)
    turned: Array = np.cos(largest) * axis + np.sin(largest) * aside
    return turned


def look_at(eye: Array, target: Array, roll: float) -> Pose:
    """Pose `cam_from_world` of a camera at `eye`; with roll zero its x axis is level."""
    forward = target - eye
    forward = forward / max(float(np.linalg.norm(forward)), 1e-9)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    length = float(np.linalg.norm(right))
    right = right / length if length > 1e-3 else np.array([1.0, 0.0, 0.0])
    down = np.cross(forward, right)
    cos, sin = np.cos(roll), np.sin(roll)
    rotation = np.stack((cos * right + sin * down, cos * down - sin * right, forward))
    return Pose.from_Rt(rotation, -rotation @ eye)


def draw_camera(
    rng: np.random.Generator, size: tuple[int, int], hfov_deg: float, distorted: float
) -> Camera:
    """A camera of a field of view; a share of them with a distorting lens."""
    width, height = size
    f = width / 2 / np.tan(np.radians(hfov_deg) / 2)
    aspect = 1 + (rng.normal(0, 0.01) if rng.random() < 0.3 else 0.0)
    centre = (np.array(size) - 1) / 2 + rng.normal(0, 0.01, 2) * width
    numbers = [width, height, f, f * aspect, *centre]
    kind = rng.random()
    dist = [rng.uniform(-0.35, 0.12), rng.uniform(-0.05, 0.08), *rng.normal(0, 0.002, 2)]
    if kind > distorted:
        return Camera(torch.tensor(numbers, dtype=torch.float64), DistortionModel.NONE)
    model = DistortionModel.RADIAL if kind < distorted / 2 else DistortionModel.OPENCV
    corners = torch.tensor([[x, y] for x in (0, width - 1) for y in (0, height - 1)])
    while True:
        values = numbers + dist[: model.num_params]
        camera = Camera(torch.tensor(values, dtype=torch.float64), model)
        rays, found = camera.image2world(corners.double())
        # No lens beyond 75 degrees: weaker until every pixel has a ray.
        if bool(found.all()) and float(rays[:, :2].norm(dim=-1).max()) < 3.7:
            return camera
        dist = [0.7 * value for value in dist]
        numbers[2:4] = [1.05 * value for value in numbers[2:4]]

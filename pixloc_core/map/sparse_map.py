"""SparseMap: images, cameras, poses, points and observations of a Structure-from-Motion model."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch

from pixloc_core.errors import MapError
from pixloc_core.geometry import Camera, Pose
from pixloc_core.map.point_views import PointViews, summarize_views, view_rays
from pixloc_core.shapes import Float, Int, Tensor


@dataclass(frozen=True, eq=False)
class SparseMap:
    """A map without features, all on the CPU.

    Poses and points are float64 relative to `origin`, so that maps in national grids (coordinates
    of 1e6 m) keep their millimetres. Observations are sorted by image: those of image i are
    `obs_offsets[i]:obs_offsets[i + 1]`.

    Attributes:
        image_names: Names relative to the image folder, unique.
        cameras: The cameras used, in pixels counted from the centre of the top-left one.
        image_camera: Index into `cameras` of each image.
        cam_from_map: Poses of the images, batch shape (m,), relative to the origin.
        points_map: Points relative to the origin, in the unit of the model (metres if metric).
        track_length: Number of observations of each point.
        point_error: Mean reprojection error of each point in pixels.
        obs_offsets: Start of the observations of each image, and their total at the end.
        obs_point: Index into the points of each observation.
        obs_px: Where the point was seen in the image.
        origin: The origin in the coordinates of the model.
        fingerprint: sha256 of the model files.
    """

    image_names: tuple[str, ...]
    cameras: tuple[Camera, ...]
    image_camera: Int[Tensor, " m"]
    cam_from_map: Pose
    points_map: Float[Tensor, "p 3"]
    track_length: Int[Tensor, " p"]
    point_error: Float[Tensor, " p"]
    obs_offsets: Int[Tensor, " m+1"]
    obs_point: Int[Tensor, " o"]
    obs_px: Float[Tensor, "o 2"]
    origin: Float[Tensor, "3"]
    fingerprint: str

    def __post_init__(self) -> None:
        images, points, obs = len(self.image_names), len(self.points_map), len(self.obs_point)
        expected = {
            "image_camera": (images,),
            "points_map": (points, 3),
            "track_length": (points,),
            "point_error": (points,),
            "obs_offsets": (images + 1,),
            "obs_point": (obs,),
            "obs_px": (obs, 2),
            "origin": (3,),
        }
        for name, shape in expected.items():
            found = tuple(getattr(self, name).shape)
            if found != shape:
                raise MapError(f"map entry {name} has shape {found}, expected {shape}")
        if self.cam_from_map.shape != (images,):
            raise MapError(
                f"map entry cam_from_map has shape {tuple(self.cam_from_map.shape)}, "
                f"expected ({images},)"
            )
        self._check_indices()

    def _check_indices(self) -> None:
        offsets = self.obs_offsets
        if int(offsets[0]) != 0 or int(offsets[-1]) != len(self.obs_point):
            raise MapError("map entry obs_offsets does not span all observations")
        if bool((offsets.diff() < 0).any()):
            raise MapError("map entry obs_offsets decreases")
        for name, index, size in (
            ("obs_point", self.obs_point, len(self.points_map)),
            ("image_camera", self.image_camera, len(self.cameras)),
        ):
            if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < size:
                raise MapError(f"map entry {name} has indices outside 0..{size - 1}")
        counts = torch.bincount(self.obs_point, minlength=self.num_points)
        if not torch.equal(counts, self.track_length):
            raise MapError("map entry track_length is not the number of observations")
        if len(self._index_by_name) != len(self.image_names):
            raise MapError("map has several images of the same name")

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.image_names)

    @property
    def num_points(self) -> int:
        """Number of points."""
        return self.points_map.shape[0]

    @property
    def num_observations(self) -> int:
        """Number of observations."""
        return self.obs_point.shape[0]

    @cached_property
    def _index_by_name(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.image_names)}

    def find(self, name: str) -> int | None:
        """Index of an image by name, or None if the map has no such image."""
        return self._index_by_name.get(name)

    def index_of(self, name: str) -> int:
        """Index of an image by name.

        Raises:
            MapError: If the map has no such image.
        """
        index = self.find(name)
        if index is None:
            raise MapError(f"image {name!r} is not in the map ({self.num_images} images)")
        return index

    def camera_of(self, image: int) -> Camera:
        """Camera of an image."""
        return self.cameras[int(self.image_camera[image])]

    def observations_of(self, image: int) -> slice:
        """Range of the observations of an image."""
        return slice(int(self.obs_offsets[image]), int(self.obs_offsets[image + 1]))

    def observations_of_images(self, images: Sequence[int]) -> Int[Tensor, " n"]:
        """Indices of the observations of several images, in the order of the images."""
        ranges = [self.observations_of(image) for image in images]
        parts = [torch.arange(part.start, part.stop) for part in ranges]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)

    @cached_property
    def obs_image(self) -> Int[Tensor, " o"]:
        """Image of each observation."""
        return torch.repeat_interleave(torch.arange(self.num_images), self.obs_offsets.diff())

    @cached_property
    def point_observations(self) -> tuple[Int[Tensor, " _"], Int[Tensor, " o"]]:
        """Observations sorted by point: start of each point's (and the end), and their indices."""
        offsets = torch.zeros(self.num_points + 1, dtype=torch.int64)
        torch.cumsum(self.track_length, 0, out=offsets[1:])
        return offsets, torch.argsort(self.obs_point, stable=True)

    @cached_property
    def points_single(self) -> Float[Tensor, "3 p"]:
        """Points in single precision, one row per axis: good for telling which are in view."""
        return self.points_map.T.float().contiguous()

    @cached_property
    def centers_map(self) -> Float[Tensor, "m 3"]:
        """Camera centres of the images, relative to the origin."""
        return self.cam_from_map.center

    @cached_property
    def focal_px(self) -> Float[Tensor, " m"]:
        """Mean focal length of each image in pixels."""
        focal = torch.stack([camera.f.mean() for camera in self.cameras])
        return focal[self.image_camera]

    @cached_property
    def obs_views(self) -> tuple[Float[Tensor, "o 3"], Float[Tensor, " o"]]:
        """Ray to the camera and footprint of each observation (`view_rays`)."""
        image, point = self.obs_image, self.obs_point
        focal = self.focal_px.float()[image]
        return view_rays(self.points_map.T[:, point], self.centers_map.T[:, image], focal)

    @cached_property
    def views(self) -> PointViews:
        """Viewing directions and ranges of all points."""
        return summarize_views(*self.obs_views, self.obs_point, self.num_points)

    def with_views(self, views: PointViews) -> "SparseMap":
        """The same map with viewing conditions that are known already (from a file)."""
        copy = SparseMap(**{field.name: getattr(self, field.name) for field in fields(self)})
        copy.__dict__["views"] = views
        return copy

    def to_local(self, cam_from_map: Pose) -> Pose:
        """Pose relative to the origin, from one in the coordinates of the model (float64)."""
        return _moved(cam_from_map, self.origin)

    def to_model(self, cam_from_map: Pose) -> Pose:
        """Pose in the coordinates of the model, from one relative to the origin (float64)."""
        return _moved(cam_from_map, -self.origin)


def _moved(cam_from_map: Pose, offset: Float[Tensor, "3"]) -> Pose:
    """Pose for points from which `offset` was subtracted."""
    pose = cam_from_map.double()
    shift = (pose.R @ offset.to(pose.device)[:, None])[..., 0]
    return Pose.from_Rt(pose.R, pose.t + shift)

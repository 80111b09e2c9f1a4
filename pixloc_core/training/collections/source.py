"""CollectionSource: endless training pairs of real images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pixloc_core.errors import ConfigError, ImageError, MapError
from pixloc_core.geometry import DistortionModel, Pose
from pixloc_core.shapes import Bool, Float, Int, Tensor
from pixloc_core.training.collections.image_collection import ImageCollection
from pixloc_core.training.collections.image_reader import ImageReader
from pixloc_core.training.collections.pair_table import find_pairs, scenes_of
from pixloc_core.training.collections.sampling import PairSamplingConfig
from pixloc_core.training.collections.windows import Window, WindowCutter
from pixloc_core.training.pairs import PairBatch, Split, View, generator_for, join_pairs
from pixloc_core.training.photometric import PhotometricConfig, change_appearance

__all__ = ["CollectionSource", "PairSamplingConfig"]

# So often a pair is drawn anew, if images cannot be read or windows have too little in common.
_DRAWS = 20


@dataclass(frozen=True)
class _Points:
    """Points of a pair in the frame of the reference view."""

    points_ref: Float[Tensor, "n 3"]
    is_point: Bool[Tensor, " n"]
    is_seen: Bool[Tensor, " n"]


class CollectionSource:
    """Pairs of windows of posed images, each collection equally often.

    A view is a window of an image, shrunk by averaging or enlarged where the image is too small;
    its camera follows exactly. The points are those that the reference image was found to show,
    and a point is seen in the query if it was found there too.
    """

    def __init__(  # noqa: PLR0913 (settings of four origins)
        self,
        collections: Sequence[ImageCollection],
        sampling: PairSamplingConfig,
        photometric: PhotometricConfig | None = None,
        *,
        size: tuple[int, int],
        num_points: int,
        split: Split = "train",
        seed: int = 0,
    ) -> None:
        """Find the pairs.

        Args:
            collections: Where the images are.
            sampling: Which pairs, and how they are cut.
            photometric: How the views are changed; None: not at all.
            size: Width and height of all views in pixels.
            num_points: Points per pair, padding included.
            split: Pairs to train on, or others.
            seed: Seed of the run.

        Raises:
            MapError: If an image file is missing, or no pair is as asked for.
            ConfigError: If fisheye cameras and others would have to share a batch.
        """
        if not collections:
            raise MapError("no collections of images, expected at least one")
        _check_lenses(collections)
        collections = scenes_of(collections, sampling, split)
        for collection in collections:
            collection.check_files()
        self._collections = tuple(collections)
        self._tables = [find_pairs(collection, sampling, split) for collection in collections]
        self._config = sampling
        self._photometric = photometric
        self._size = size
        self._num_points = num_points
        self._split = split
        self._seed = seed
        self._reader = ImageReader(sampling.cache_images)
        self._cutter = WindowCutter(size, sampling)

    @property
    def description(self) -> str:
        """What the pairs come from, in words."""
        # The end of a path: this goes into weights, which other people get.
        names = ["/".join(Path(c.name).parts[-2:]) for c in self._collections]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        images = sum(collection.num_images for collection in self._collections)
        pairs = sum(map(len, self._tables))
        return f"{', '.join(names[:3])}{more}: {images} images, {pairs} {self._split} pairs"

    @property
    def is_fisheye(self) -> bool:
        """Whether the views have fisheye lenses, which share a batch with no others."""
        return self._collections[0].cameras[0].model is DistortionModel.FISHEYE

    @torch.no_grad()
    def batch(self, indices: Sequence[int]) -> PairBatch:
        """Make the pairs of these indices.

        Raises:
            ImageError: If no pair can be made; the message names a file.
        """
        pairs = join_pairs([self._make(index) for index in indices])
        if self._photometric is None:
            return pairs
        views = []
        for view, role in ((pairs.reference, "reference"), (pairs.query, "query")):
            generators = [generator_for(self._seed, index, f"{role} light") for index in indices]
            image = change_appearance(view.image, generators, self._photometric)
            views.append(View(image, view.camera))
        return replace(pairs, reference=views[0], query=views[1])

    def _make(self, index: int) -> PairBatch:
        """The first pair that works of those drawn for an index, without photometric changes."""
        reason = "the windows have too few points in common"
        for draw in range(_DRAWS):
            generator = generator_for(self._seed, index, f"pair {draw}")
            place = int(torch.randint(len(self._collections), (), generator=generator))
            reference, query = self._tables[place].draw(generator)
            try:
                pair = self._cut_pair(self._collections[place], (reference, query), generator)
            except ImageError as error:
                reason = str(error)
                continue
            if pair is not None:
                return pair
        names = ", ".join(collection.name for collection in self._collections[:3])
        raise ImageError(f"{names}: no pair can be made in {_DRAWS} draws, the last one: {reason}")

    def _cut_pair(
        self, collection: ImageCollection, images: tuple[int, int], generator: torch.Generator
    ) -> PairBatch | None:
        """A pair of windows, or None if they have too few points in common."""
        reference, query = images
        shared = np.intersect1d(
            collection.points_of(reference).numpy(),
            collection.points_of(query).numpy(),
            assume_unique=True,
        )
        # All numbers of a pair are drawn before anything depends on the images.
        anchor = shared[int(torch.randint(len(shared), (), generator=generator))]
        windows, poses = [], []
        for image in images:
            pose = collection.cam_from_world[image]
            stored, camera = self._reader.read(
                collection.path_of(image),
                collection.camera_of(image),
                int(collection.quarter_turns[image]),
            )
            anchor_cam = pose * collection.points_world[anchor]
            window = self._cutter.cut(stored, camera, anchor_cam, generator)
            windows.append(window)
            poses.append(window.view_from_cam @ pose)
        points = self._choose_points(collection, images, (windows, poses), generator)
        if int(points.is_seen.sum()) < min(self._config.min_seen, self._num_points // 2):
            return None
        names = [collection.image_names[image] for image in images]
        return PairBatch(
            _view(windows[0]),
            _view(windows[1]),
            points.points_ref[None],
            points.is_point[None],
            points.is_seen[None],
            (poses[1] @ poses[0].inv())[None],
            (f"{collection.name}: {names[0]} - {names[1]}",),
        )

    def _choose_points(
        self,
        collection: ImageCollection,
        images: tuple[int, int],
        views: tuple[Sequence[Window], Sequence[Pose]],
        generator: torch.Generator,
    ) -> _Points:
        """Points that the reference shows within its window, each at most once.

        Half of them, as far as there are as many, are seen in the query.
        """
        windows, poses = views
        index = collection.points_of(images[0])
        points_ref, inside = _project(collection, index, windows[0], poses[0])
        _, in_query = _project(collection, index, windows[1], poses[1])
        is_seen = in_query & torch.isin(index, collection.points_of(images[1]), assume_unique=True)
        order = torch.randperm(len(index), generator=generator)
        usable = order[inside[order]]
        seen = usable[is_seen[usable]][: self._num_points // 2]
        others = usable[~torch.isin(usable, seen, assume_unique=True)]
        chosen = torch.cat((seen, others))[: self._num_points]
        # Not the seen ones first: some users of points take every second one.
        chosen = chosen[torch.randperm(len(chosen), generator=generator)]
        missing = self._num_points - len(chosen)
        points_ref, is_seen = points_ref[chosen], is_seen[chosen]
        return _Points(
            torch.cat((points_ref, _padding(missing, points_ref))),
            _padded(torch.ones_like(is_seen), missing),
            _padded(is_seen, missing),
        )


def _check_lenses(collections: Sequence[ImageCollection]) -> None:
    """Batches join cameras of all models but fisheye, which stays among itself."""
    models = {camera.model for collection in collections for camera in collection.cameras}
    if DistortionModel.FISHEYE in models and len(models) > 1:
        raise ConfigError(
            f"{collections[0].name}: fisheye and other cameras in one source of pairs, "
            "expected one kind"
        )


def _project(
    collection: ImageCollection, index: Int[Tensor, " n"], window: Window, pose: Pose
) -> tuple[Float[Tensor, "n 3"], Bool[Tensor, " n"]]:
    """Points in the frame of a view, and whether they are inside its window."""
    points = pose * collection.points_world[index]
    return points, window.camera.world2image(points)[1]


def _padding(count: int, points: Float[Tensor, "n 3"]) -> Float[Tensor, "m 3"]:
    """Points that do not count: copies of the first one, or one on the axis if there is none."""
    first = points[:1] if len(points) else points.new_tensor([[0.0, 0.0, 1.0]])
    return first.expand(count, 3)


def _padded(mask: Bool[Tensor, " n"], count: int) -> Bool[Tensor, " m"]:
    return torch.cat((mask, torch.zeros(count, dtype=torch.bool)))


def _view(window: Window) -> View:
    image = torch.from_numpy(np.ascontiguousarray(window.image.transpose(2, 0, 1)))
    return View(image.float().div_(255.0)[None], window.camera[None])

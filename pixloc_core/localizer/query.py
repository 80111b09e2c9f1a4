"""What the images of a query show, and what it has cost so far."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TypeVar

from pixloc_core.errors import ConfigError, ImageError
from pixloc_core.features.extractor import Extractor
from pixloc_core.features.masking import mask_pyramid
from pixloc_core.features.pyramid import FeaturePyramid
from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.result import Timings
from pixloc_core.localizer.view import View

T = TypeVar("T")


class Stopwatch:
    """Adds up the wall time of named stages."""

    def __init__(self) -> None:
        self._ms = {stage.name: 0.0 for stage in fields(Timings)}

    def time(self, stage: str, work: Callable[[], T]) -> T:
        """Do some work of a stage, a field of `Timings`."""
        began = time.perf_counter()
        result = work()
        self._ms[stage] += (time.perf_counter() - began) * 1e3
        return result

    def timings(self) -> Timings:
        """The sums so far."""
        return Timings(**self._ms)


@dataclass(frozen=True, eq=False)
class SeenView:
    """The features of one camera's image.

    Attributes:
        pyramid: Features, without those of masked pixels; None if the image shows nothing.
        camera: The camera in pixels of the image, float64.
        cam_from_first: Pose on the rig; None for the first camera.
        size: Width and height of the image.
    """

    pyramid: FeaturePyramid | None
    camera: Camera
    cam_from_first: Pose | None
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Query:
    """All images of one query, that of the first camera first."""

    views: tuple[SeenView, ...]
    watch: Stopwatch


def look(extractor: Extractor, views: Sequence[View]) -> Query:
    """Extract the features of all images.

    Of several cameras some may show nothing, such as one that is covered: they add nothing.

    Raises:
        ConfigError: If there are no views, or the first is not where the first camera is.
        ImageError: If an image is empty or has another size than its camera, or no image shows
            anything.
    """
    if not views:
        raise ConfigError("no views given, expected at least one")
    angle_deg, distance = views[0].cam_from_first.magnitude()
    if float(angle_deg) > 1e-6 or float(distance) > 1e-9:
        raise ConfigError("cam_from_first of the first view is not the identity")
    watch = Stopwatch()
    seen = tuple(
        watch.time("extract_ms", partial(_see, extractor, view, i, len(views)))
        for i, view in enumerate(views)
    )
    if all(view.pyramid is None for view in seen):
        image, (width, height) = views[0].image, views[0].size
        grey = f"all values from {image.min()} to {image.max()}"
        which = f"image of {width}x{height} px shows"
        if len(views) > 1:
            which = f"none of {len(views)} images shows anything; the first, {which}"
        raise ImageError(f"{which} nothing ({grey})")
    return Query(seen, watch)


def _see(extractor: Extractor, view: View, index: int, count: int) -> SeenView:
    camera = view.camera.double()
    cam_from_first = view.cam_from_first.double() if index else None
    is_flat = view.image.size > 0 and view.image.min() == view.image.max()
    pyramid = None
    if not (is_flat and count > 1):
        pyramid = extractor.extract(view.image, view.camera)
        if view.mask is not None:
            pyramid = mask_pyramid(pyramid, view.mask, camera)
        if not bool((pyramid[0].confidence > 0).any()):
            pyramid = None
    return SeenView(pyramid, camera, cam_from_first, view.size)

"""Answers of the localizer beside the truth: of the images of a bag, or of a list."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.bags.reader import BagReader
from pixloc_core.bags.topics import BagLayout
from pixloc_core.errors import FormatError
from pixloc_core.evaluation.consistency import (
    Consistency,
    consistency,
    increment_errors,
    pose_errors,
)
from pixloc_core.evaluation.pose_error import FloatArray
from pixloc_core.evaluation.runner import Localizes, Query
from pixloc_core.features.preprocessing import load_image
from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.covariance import CovarianceConfig, PoseSpread, base_covariance
from pixloc_core.localizer.prior import Prior
from pixloc_core.shapes import Float, Tensor

# No truth is interpolated over longer gaps.
_MAX_GAP_NS = 500_000_000


@dataclass(frozen=True, eq=False)
class PosedImage:
    """An image with its true pose.

    Attributes:
        image: Image (h, w, 3) RGB, uint8.
        camera: Its camera.
        prior: Where the localizer begins.
        cam_from_map: The truth, batch shape ().
    """

    image: NDArray[np.uint8]
    camera: Camera
    prior: Prior
    cam_from_map: Pose


@dataclass(frozen=True)
class PosedAnswers:
    """Answers of the localizer that have a truth, in the order of time.

    Attributes:
        estimate: `cam_from_map` as answered, batch shape (n,).
        truth: As it was, (n,).
        cam_from_base: Where the camera is on the robot, batch shape ().
        spread: What the covariances are made of, (n).
        truth_px: How far the truth itself is off: root mean square motion of the points, pixels
            at an image width of 1024. It is part of the errors, and allowed for.
    """

    estimate: Pose
    truth: Pose
    cam_from_base: Pose
    spread: PoseSpread
    truth_px: float = 0.0

    def __len__(self) -> int:
        return int(self.estimate.shape[0])

    def select(self, index: NDArray[np.intp] | NDArray[np.bool_] | slice) -> "PosedAnswers":
        """Some of the answers, in order."""
        rows = torch.arange(len(self))[index if isinstance(index, slice) else torch.tensor(index)]
        return replace(
            self, estimate=self.estimate[rows], truth=self.truth[rows], spread=self.spread[rows]
        )

    def halves(self) -> tuple["PosedAnswers", "PosedAnswers"]:
        """The first half in time, and the second."""
        middle = len(self) // 2
        return self.select(slice(0, middle)), self.select(slice(middle, None))

    def within(self, max_error_px: float) -> "PosedAnswers":
        """Those with a smaller error (see `errors_px`): others are wrong, which is no noise."""
        return self.select(self.errors_px() <= max_error_px)

    def covariances(self, config: CovarianceConfig) -> FloatArray:
        """Covariance of the error of each pose, as an increment (n, 6, 6)."""
        return self._error_covariance(config).numpy()

    def errors(self) -> FloatArray:
        """Errors as increments of `cam_from_map` (n, 6)."""
        return increment_errors(self.estimate, self.truth)

    def errors_px(self) -> FloatArray:
        """By how much the errors move the points of each pose (n,): pixels at a width of 1024."""
        errors = torch.from_numpy(self.errors())[..., None]
        motion = torch.linalg.pinv(6 * self.spread.geometry, hermitian=True)
        squared = (errors.mT @ motion @ errors)[..., 0, 0]
        return np.asarray(squared.clamp(min=0).sqrt().numpy(), np.float64)

    def base_errors(self) -> FloatArray:
        """Errors of the base in the map (n, 6), in the axes of ROS, see `pose_errors`."""
        return pose_errors(
            self.estimate.inv() @ self.cam_from_base, self.truth.inv() @ self.cam_from_base
        )

    def base_covariances(self, config: CovarianceConfig) -> FloatArray:
        """What is said of these errors (n, 6, 6)."""
        covariance = self._error_covariance(config)
        return base_covariance(covariance, self.estimate, self.cam_from_base).numpy()

    def consistency(self, config: CovarianceConfig) -> Consistency:
        """How errors and covariances of the base in the map agree, in the axes of ROS."""
        return consistency(self.base_errors(), self.base_covariances(config))

    def _error_covariance(self, config: CovarianceConfig) -> Float[Tensor, "n 6 6"]:
        return self.spread.covariance(config) + self.truth_px**2 * self.spread.geometry


def answer(
    localizer: Localizes, images: Iterable[PosedImage], cam_from_base: Pose | None = None
) -> PosedAnswers:
    """Localize images; those that are not localized are left out.

    Args:
        localizer: Answers one image.
        images: In the order of time.
        cam_from_base: Where the camera is on the robot; None: errors are those of the camera.

    Raises:
        FormatError: If none is localized.
    """
    found = []
    for item in images:
        result = localizer.localize(item.image, item.camera, item.prior)
        if result.cam_from_map is not None and result.spread is not None:
            found.append((result.cam_from_map, item.cam_from_map.double(), result.spread))
    if not found:
        raise FormatError("none of the images is localized: nothing to compare with the truth")
    return PosedAnswers(
        estimate=Pose(torch.stack([estimate.data for estimate, _, _ in found])),
        truth=Pose(torch.stack([truth.data for _, truth, _ in found])),
        cam_from_base=cam_from_base if cam_from_base is not None else Pose.identity(),
        spread=PoseSpread.stack([spread for _, _, spread in found]),
    )


def bag_images(
    bag: BagReader, layout: BagLayout, offset: tuple[float, float], every: int = 1
) -> Iterator[PosedImage]:
    """Images of a bag, with priors in random directions from the truth.

    What is wrong with the bag is said at once, not with the first image.

    Args:
        bag: The bag.
        layout: Its topics and frames.
        offset: How far off the priors are: units of the map, and degrees.
        every: Take every so many images.

    Raises:
        FormatError: If a topic or the mounting of the camera is missing, or there is no truth at
            the time of any image.
    """
    if not bag.counts.get(layout.ground_truth, 0):
        raise FormatError(
            f"{bag.path}: no ground truth: nothing is on the topic {layout.ground_truth!r} "
            f"(PoseStamped of {layout.base_frame} in {layout.map_frame})"
        )
    camera, mounted = bag.camera(layout.camera_info), cam_from_base(bag, layout)
    stamps = bag.image_stamps(layout.image)[::every]
    map_from_base, known = bag.trajectory(layout.ground_truth).at(stamps, max_gap_ns=_MAX_GAP_NS)
    if not known.any():
        raise FormatError(
            f"{bag.path}: topic {layout.ground_truth!r} has no pose at the time of any image"
        )
    cam_from_map = mounted @ map_from_base.inv()
    truth = {int(stamps[index]): cam_from_map[int(index)] for index in np.flatnonzero(known)}
    return _posed(bag.images(layout.image, truth.keys()), camera, truth, offset)


def _posed(
    images: Iterator[tuple[int, NDArray[np.uint8]]],
    camera: Camera,
    truth: Mapping[int, Pose],
    offset: tuple[float, float],
) -> Iterator[PosedImage]:
    generator = torch.Generator().manual_seed(0)
    for stamp, image in images:
        start = truth[stamp].retract(_random_offset(offset, generator))
        yield PosedImage(image, camera, Prior.from_pose(start), truth[stamp])


def cam_from_base(bag: BagReader, layout: BagLayout) -> Pose:
    """Where the robot is in its camera (batch shape ()).

    Raises:
        FormatError: If the bag does not tell.
    """
    return bag.static_transform(layout.tf_static, layout.base_frame, layout.camera_frame).inv()


def query_images(
    queries: Sequence[Query], folder: Path, truths: Mapping[str, Pose]
) -> Iterator[PosedImage]:
    """Images of a list, of those that have a prior and a truth.

    Args:
        queries: The list.
        folder: Where the images lie.
        truths: True `cam_from_map` (batch shape ()) by name.

    Raises:
        ImageError: If an image cannot be read.
    """
    for query in queries:
        if query.prior is not None and query.name in truths:
            image = load_image(folder / query.name)
            yield PosedImage(image, query.camera, query.prior, truths[query.name])


def _random_offset(offset: tuple[float, float], generator: torch.Generator) -> torch.Tensor:
    """Increment of these lengths in random directions."""
    directions = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([offset[0], math.radians(offset[1])], dtype=torch.float64)
    offsets: torch.Tensor = lengths[:, None] * directions / directions.norm(dim=-1, keepdim=True)
    return offsets.flatten()

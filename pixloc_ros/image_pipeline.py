"""One image through the localizer: decode, ask for frames and prior, localize, remember."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Protocol

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from pixloc_core.errors import FormatError, FrameError, PixlocError
from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.prior import Prior
from pixloc_core.localizer.result import Localization, LocalizationStatus
from pixloc_core.shapes import Float, Tensor
from pixloc_ros.conversions import CameraReader, base_covariance, stamp_to_ns
from pixloc_ros.frames import FrameSource
from pixloc_ros.image_conversions import compressed_to_array, image_to_array
from pixloc_ros.interfaces import LocalizationStatus as StatusMessage
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.pose_keeper import InitialPose, PoseKeeper

logger = logging.getLogger(__name__)


class Localizes(Protocol):
    """What the pipeline needs of `pixloc_core.localizer.Localizer`."""

    def localize(self, image: np.ndarray, camera: Camera, prior: Prior) -> Localization:
        """Localize one image."""
        ...


@dataclass(frozen=True)
class ImageItem:
    """An image as it came in, with the newest calibration and the time (`monotonic`) it came."""

    image: Image | CompressedImage
    info: CameraInfo | None
    arrived_s: float


@dataclass(frozen=True)
class Outcome:
    """What became of one image.

    Attributes:
        header: Of the image.
        status: One of the constants of LocalizationStatus.msg.
        reason: One line; empty if localized.
        prior_source: As in LocalizationStatus.msg.
        localization: The answer of the core, if it was asked.
        map_from_base: Pose of the robot, if localized.
        covariance: Its covariance, fixed axes of the map.
        stage_ms: Time by stage in milliseconds.
    """

    header: Header
    status: int
    reason: str = ""
    prior_source: str = ""
    localization: Localization | None = None
    map_from_base: Pose | None = None
    covariance: Float[Tensor, "6 6"] | None = None
    stage_ms: dict[str, float] = field(default_factory=dict)


class ImagePipeline:
    """What happens to an image, in the worker's thread; state is in the keeper only."""

    def __init__(
        self, localizer: Localizes, frames: FrameSource, keeper: PoseKeeper, config: NodeConfig
    ) -> None:
        self._localizer = localizer
        self._frames = frames
        self._keeper = keeper
        self._config = config
        self._cameras = CameraReader(rectified=config.image_is_rectified)
        self._stage_ms: dict[str, float] = {}

    def run(self, item: ImageItem) -> Outcome:
        """Localize one image; whatever goes wrong is an outcome: the next image may be better."""
        self._stage_ms = {}
        header = item.image.header
        try:
            outcome = self._run(item, header)
        except PixlocError as error:
            outcome = Outcome(header, StatusMessage.BAD_INPUT, str(error))
        except Exception as error:
            logger.exception("internal error")
            reason = f"{type(error).__name__}: {error}"
            outcome = Outcome(header, StatusMessage.INTERNAL_ERROR, reason)
        return replace(outcome, stage_ms=self._stage_ms)

    def _run(self, item: ImageItem, header: Header) -> Outcome:
        stamp_ns = stamp_to_ns(header.stamp)
        if stamp_ns == 0:
            raise FormatError("image has stamp 0, expected its time of exposure")
        with self._stage("decode"):
            pixels, camera = self._decode(item)
        with self._stage("frames"):
            base_from_cam = self._find_camera(header.frame_id, stamp_ns)
            initial = self._keeper.take_initial()
            if initial is not None:
                self._keeper.start(initial, self._find_initial_odometry(initial))
            try:
                odom_from_base = self._find_odometry(stamp_ns)
            except FrameError as error:
                return Outcome(header, StatusMessage.NO_PRIOR, str(error))
        prior = self._keeper.prior(odom_from_base)
        if prior is None:
            return Outcome(header, StatusMessage.NO_PRIOR, "no pose yet: waiting for initialpose")
        cam_from_map = (prior.map_from_base @ base_from_cam).inv()
        found = self._localizer.localize(pixels, camera, Prior.from_pose(cam_from_map))
        self._add_stages(found)
        outcome = Outcome(header, StatusMessage.LOCALIZED, "", prior.source, found)
        if found.cam_from_map is None or found.covariance is None:
            return self._failed(outcome, found, stamp_ns)
        cam_from_base = base_from_cam.inv()
        map_from_base = (found.cam_from_map.inv() @ cam_from_base).normalized()
        self._keeper.accept(map_from_base, odom_from_base, stamp_ns)
        covariance = base_covariance(found.covariance, found.cam_from_map, cam_from_base)
        return replace(outcome, map_from_base=map_from_base, covariance=covariance)

    def _decode(self, item: ImageItem) -> tuple[np.ndarray, Camera]:
        """Pixels and camera of an image."""
        if item.info is None:
            raise FormatError("there is no camera_info yet")
        raw = isinstance(item.image, Image)
        pixels = image_to_array(item.image) if raw else compressed_to_array(item.image)
        return pixels, self._cameras.read(item.info, (pixels.shape[1], pixels.shape[0]))

    def _failed(self, outcome: Outcome, found: Localization, stamp_ns: int) -> Outcome:
        forgotten = self._keeper.fail(stamp_ns)
        reason = f"{found.reason}; {forgotten}" if forgotten else found.reason
        no_prior = found.status is LocalizationStatus.NO_PRIOR
        status = StatusMessage.NO_PRIOR if no_prior else StatusMessage.NOT_LOCALIZED
        return replace(outcome, status=status, reason=reason)

    def _find_camera(self, image_frame: str, stamp_ns: int) -> Pose:
        """`base_from_cam` at the stamp."""
        frame = self._config.camera_frame_id or image_frame
        if not frame:
            raise FrameError("image has no frame_id: set camera_frame_id")
        base, timeout = self._config.base_frame_id, self._config.transform_timeout
        return self._frames.lookup(base, frame, stamp_ns, timeout)

    def _find_odometry(self, stamp_ns: int | None) -> Pose | None:
        """`odom_from_base` at the stamp, or None where odometry is not wanted or not there.

        Raises:
            FrameError: If odometry must be there and is not.
        """
        source, odom = self._config.prior_source, self._config.odom_frame_id
        # Nobody publishes odometry: waiting for it would cost every image the whole timeout.
        unheard = source == "auto" and not self._frames.knows(odom)
        if source == "last_pose" or unheard:
            return None
        base, timeout = self._config.base_frame_id, self._config.transform_timeout
        try:
            return self._frames.lookup(odom, base, stamp_ns, timeout)
        except FrameError:
            if source == "odometry":
                raise
            return None

    def _find_initial_odometry(self, initial: InitialPose) -> Pose | None:
        """Odometry at the stamp of an initial pose; the newest where that is not known."""
        for stamp_ns in (initial.stamp_ns or None, None):
            try:
                found = self._find_odometry(stamp_ns)
            except FrameError:
                continue
            if found is not None:
                return found
        return None

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._stage_ms[name] = (time.perf_counter() - started) * 1e3

    def _add_stages(self, found: Localization) -> None:
        for stage in fields(found.timings):
            name = stage.name.removesuffix("_ms")
            self._stage_ms[name] = float(getattr(found.timings, stage.name))

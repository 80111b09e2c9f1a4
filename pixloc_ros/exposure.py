"""From the messages of one exposure to the views that the core takes."""

from dataclasses import dataclass

import torch

from pixloc_core.errors import FormatError, FrameError, PixlocError
from pixloc_core.geometry import Pose
from pixloc_core.localizer.fix import difference
from pixloc_core.localizer.view import View
from pixloc_ros.frames import FrameSource
from pixloc_ros.image_decoding import DecodedImage, ImageDecoder
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.rig_messages import CameraMessage, RigMessage

# Motion by odometry from which on an image cannot be the one before to the last bit.
_MOVED_M, _MOVED_RAD = 0.02, 0.02


@dataclass(frozen=True, eq=False)
class Exposure:
    """The images of one exposure that can be used, at least one.

    Attributes:
        messages: Of the cameras that can be used.
        images: Their pixels.
        base_from_cam: Where these cameras are on the robot.
        problem: Why others cannot be used, in one line; empty if all can.
    """

    messages: tuple[CameraMessage, ...]
    images: tuple[DecodedImage, ...]
    base_from_cam: tuple[Pose, ...]
    problem: str = ""

    def views(self) -> list[View]:
        """Images with the cameras relative to the first one."""
        first = self.base_from_cam[0]
        identity = Pose.identity(dtype=torch.float64)
        return [
            View(
                image.pixels,
                image.camera,
                identity if index == 0 else (self.base_from_cam[index].inv() @ first).normalized(),
                image.mask,
            )
            for index, image in enumerate(self.images)
        ]


class ExposureReader:
    """Decodes the images of an exposure and finds their cameras on the robot.

    A camera of a rig whose image cannot be used is left out; the others go on.
    """

    def __init__(self, config: NodeConfig, frames: FrameSource) -> None:
        """Read the masks.

        Raises:
            ConfigError: If a mask cannot be read.
        """
        self._frames = frames
        self._last_odometry: Pose | None = None
        self.use(config)

    def use(self, config: NodeConfig) -> None:
        """Go on with other settings."""
        self._config = config
        self._decoder = ImageDecoder(config)

    def clear(self) -> None:
        """Forget the last images: time was set back."""
        self._last_odometry = None

    def decode(self, item: RigMessage) -> dict[str, DecodedImage | FormatError]:
        """Pixels by camera, or why there are none."""
        return {message.name: self._decode_one(message) for message in item.cameras}

    def _decode_one(self, message: CameraMessage) -> DecodedImage | FormatError:
        try:
            return self._decoder.decode(message)
        except FormatError as error:
            return error

    def place(
        self,
        item: RigMessage,
        decoded: dict[str, DecodedImage | FormatError],
        odometry: Pose | None,
    ) -> Exposure:
        """What can be used of an exposure.

        Args:
            item: The messages.
            decoded: Of `decode`.
            odometry: `odom_from_base` at the stamp, or None.

        Raises:
            FormatError, FrameError: Where nothing can be used: why not the first image.
        """
        moved = self._has_moved(odometry)
        usable: list[tuple[CameraMessage, DecodedImage, Pose]] = []
        errors: list[PixlocError] = []
        is_frozen = False
        for message in item.cameras:
            image = decoded[message.name]
            try:
                if isinstance(image, FormatError):
                    raise image
                same = self._decoder.is_frozen(message.name, image.pixels)
                is_frozen |= same
                if same and moved:
                    label = f"{message.name}: " if message.name else ""
                    raise FormatError(
                        f"{label}image is frozen: the very pixels of the last one, but the robot "
                        "has moved"
                    )
                usable.append((message, image, self._find_camera(message, item.stamp_ns)))
            except (FormatError, FrameError) as error:
                errors.append(error)
        if not is_frozen:
            self._last_odometry = odometry
        if not usable:
            raise errors[0]
        messages, images, poses = zip(*usable, strict=True)
        return Exposure(messages, images, poses, "; ".join(str(error) for error in errors))

    def _has_moved(self, odometry: Pose | None) -> bool:
        """Whether the robot has moved since the last image that was a new one."""
        if self._last_odometry is None or odometry is None:
            return False
        distance, angle = difference(self._last_odometry, odometry)
        return distance > _MOVED_M or angle > _MOVED_RAD

    def _find_camera(self, message: CameraMessage, stamp_ns: int) -> Pose:
        """`base_from_cam` at the stamp.

        Raises:
            FrameError: If it is not known.
        """
        override = "" if self._config.cameras else self._config.camera_frame_id
        frame = override or message.image.header.frame_id
        if not frame:
            raise FrameError("image has no frame_id: set camera_frame_id")
        base, timeout = self._config.base_frame_id, self._config.transform_timeout
        return self._frames.lookup(base, frame, stamp_ns, timeout)

"""Images of a bag for the report, decoded as the node decodes them."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from rclpy.serialization import deserialize_message

from pixloc_core.bags.messages import CAMERA_INFO
from pixloc_core.bags.reader import BagReader
from pixloc_core.errors import FormatError
from pixloc_core.geometry import Pose
from pixloc_core.visualization.overlay import as_rgb
from pixloc_ros.image_decoding import DecodedImage, ImageDecoder
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.replay.player import MESSAGE_TYPES
from pixloc_ros.replay.rig import BagCamera
from pixloc_ros.rig_messages import CameraMessage


class BagPictures:
    """Images of one camera.

    Args:
        bag: The bag.
        camera: Which one.
        base_from_cam: Where it sits, batch shape ().
        config: How the node decodes them.
    """

    def __init__(
        self, bag: BagReader, camera: BagCamera, base_from_cam: Pose, config: NodeConfig
    ) -> None:
        self._bag, self._camera = bag, camera
        self._decoder = ImageDecoder(config)
        self.base_from_cam = base_from_cam

    def at(self, stamps_ns: Collection[int]) -> Iterator[tuple[int, DecodedImage]]:
        """Stamp and RGB pixels of the images with these stamps, as far as they can be used."""
        wanted, info = set(stamps_ns), self._first_info()
        if not wanted:
            return
        for raw in self._bag.raw([self._camera.image, self._camera.camera_info]):
            if raw.kind == CAMERA_INFO:
                info = deserialize_message(raw.cdr, MESSAGE_TYPES[raw.kind])
            elif raw.header_ns in wanted:
                image = deserialize_message(raw.cdr, MESSAGE_TYPES[raw.kind])
                try:
                    found = self._decoder.decode(CameraMessage(self._camera.name, image, info))
                except FormatError:
                    # The replay has told why, and there is nothing to show.
                    continue
                yield raw.header_ns, replace(found, pixels=as_rgb(found.pixels))

    def _first_info(self) -> Any:
        raw = next(self._bag.raw([self._camera.camera_info]))
        return deserialize_message(raw.cdr, MESSAGE_TYPES[raw.kind])

"""A retrieval node over DDS, and somebody who asks it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import robot_bench
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from toy_world import CAMERA, ToyWorld, noise_texture

from pixloc_core.features.extractor import ExtractorConfig, create_extractor
from pixloc_core.features.reference import build_feature_map
from pixloc_core.geometry import Pose
from pixloc_core.map.colmap_format import from_colmap
from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.retrieval.descriptor import DescriptorConfig
from pixloc_core.retrieval.index import RetrievalIndex
from pixloc_core.retrieval.index_file import index_path
from pixloc_core.retrieval.vlad import VladConfig
from pixloc_ros.image_conversions import array_to_image
from pixloc_ros.interfaces import RetrievePose
from pixloc_ros.retrieval_node import RetrievalNode


def wait(condition: Callable[[], object], what: str) -> None:
    robot_bench.wait(condition, what, seconds=60.0)


class Upstairs(ToyWorld):
    """Another room, 20 m away, whose images have the names of those of the toy room."""

    def __init__(self) -> None:
        super().__init__()
        offset = torch.tensor([20.0, 0.0, 0.0], dtype=torch.float64)
        self.planes = tuple(
            replace(plane, corner=plane.corner + offset.numpy(), texture=noise_texture(10 + seed))
            for seed, plane in enumerate(self.planes)
        )
        self.cam_from_map = self.cam_from_map @ Pose.from_aa(torch.zeros_like(offset), -offset)


@dataclass(frozen=True)
class Floor:
    """A room with its map.

    Attributes:
        world: The room.
        map_path: Its map; the index lies beside it.
        images: Its images.
    """

    world: ToyWorld
    map_path: Path
    images: Path

    @property
    def map_id(self) -> str:
        return FeatureMap.open(self.map_path).content_id

    def copy(self, folder: Path, name: str, *, index: bool = True) -> Path:
        """A copy of the map, with its index or without."""
        copied = Path(shutil.copy(self.map_path, folder / f"{name}.h5"))
        if index:
            shutil.copy(index_path(self.map_path), index_path(copied))
        return copied


def make_floor(world: ToyWorld, folder: Path, map_path: Path | None = None) -> Floor:
    """Map a room, unless there is a map with the images beside it, and make its index."""
    copied = folder / "map.h5"
    if map_path is None:
        sfm, images = world.write(folder)
        extractor = create_extractor(ExtractorConfig(kind="gradients"))
        build_feature_map(from_colmap(sfm), images, extractor, copied)
    else:
        images = map_path.parent / "images"
        shutil.copy(map_path, copied)
    config = DescriptorConfig(vlad=VladConfig(features=("sift",)))
    RetrievalIndex.build(FeatureMap.open(copied), images, config).save()
    return Floor(world, copied, images)


class RetrievalBench:
    """The node, and somebody who asks it."""

    def __init__(self, ros, spin, *arguments: str) -> None:
        ros(*arguments)
        self.node = RetrievalNode()
        self.asker = Node("asker")
        self.client = self.asker.create_client(RetrievePose, "retrieve_pose")
        self.reports: list[DiagnosticStatus] = []
        self.asker.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, 10)
        spin(self.node)
        spin(self.asker)
        wait(self.client.service_is_ready, "service")

    def _on_report(self, message: DiagnosticArray) -> None:
        self.reports += message.status

    def ask(self, **request: Any) -> Any:
        future = self.client.call_async(RetrievePose.Request(**request))
        wait(future.done, "answer")
        return future.result()

    def wait_until_open(self) -> None:
        wait(lambda: not self.node._server.state.is_opening, "index")

    def report(self) -> DiagnosticStatus:
        self.reports.clear()
        wait(lambda: self.reports, "report")
        return self.reports[-1]


def view(world: ToyWorld, image: int) -> np.ndarray:
    """What is seen a little beside a map image."""
    shift = torch.tensor([0.04, -0.02, 0.02, 0.01, 0.0, -0.01], dtype=torch.float64)
    return world.render(world.cam_from_map[image].retract(shift))[0]


def message_of(pixels: np.ndarray) -> Image:
    return array_to_image(pixels, "rgb8", Header())


def calibration(width: int = 320) -> CameraInfo:
    fx, fy, cx, cy = CAMERA["params"]
    info = CameraInfo(width=width, height=240, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [fx, 0.0, cx - 0.5, 0.0, fy, cy - 0.5, 0.0, 0.0, 1.0]
    return info

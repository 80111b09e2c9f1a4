"""What ROS costs per image: everything between the bytes of an image and the messages sent of it.

    python -m benchmarks.ros_overhead [--frames 100] [--write]

The node itself works here, with a core that knows the answer at once, whose time is taken off.
Counted are: making a message of its bytes, the hand-over to the worker's thread, decoding,
calibration, transforms, the state machine, covariance, and `pose`, `odometry`, `status`. Somebody
listens to these three; rows that say so have listeners of more.

The limits hold for the median of the CPU time of all threads: time on the clock, which is shown,
too, is that of the other programs on a busy machine.
"""

import argparse
import math
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
import torch
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from benchmarks.results_file import write_section
from pixloc_core.errors import FormatError
from pixloc_core.geometry import Pose
from pixloc_core.localizer.localizer import LocalizerConfig
from pixloc_core.localizer.prior import Prior
from pixloc_core.localizer.result import Localization, LocalizationStatus, ViewResult
from pixloc_core.localizer.view import View
from pixloc_ros.conversions import ns_to_stamp, pose_to_transform
from pixloc_ros.image_conversions import array_to_image
from pixloc_ros.interfaces import LocalizationStatus as StatusMessage
from pixloc_ros.interfaces import TFMessage
from pixloc_ros.localizer_node import LocalizerNode
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.prior_poses import InitialPose
from pixloc_ros.rig_messages import CameraMessage

RESULTS = Path(__file__).parent / "results.md"
SAMPLE = Path(__file__).parents[1] / "sample" / "map" / "images" / "000.jpg"
SIZES = {(640, 480): 5.0, (1920, 1080): 15.0}
ENCODINGS = ("rgb8", "bgr8", "mono8", "bayer_rggb8", "jpeg")
_WARM_UP = 10
_SECOND = 1_000_000_000
_START_NS = 100 * _SECOND
_PERIOD_NS = _SECOND // 30


class KnownPose:
    """A core that answers with the prior; sums up its own time."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def localize_views(
        self, views: Sequence[View], prior: Prior, *, search: bool = True
    ) -> Localization:
        """The prior; a confidence of an eighth of the size, as features have it."""
        began = time.perf_counter()
        assert prior.cam_from_map is not None
        width, height = views[0].size
        confidence = torch.full((height // 8, width // 8), 0.5)
        answer = Localization(
            LocalizationStatus.LOCALIZED,
            "known",
            cam_from_map=prior.cam_from_map[0],
            covariance=torch.eye(6, dtype=torch.float64) * 1e-4,
            score=0.9,
            image_size=views[0].size,
            confidence=confidence,
            views=(ViewResult(views[0].size, confidence, None),),
        )
        self.seconds += time.perf_counter() - began
        return answer


class KnownMap:
    """A map of anywhere."""

    map_id = "known"

    def __init__(self) -> None:
        self.core = KnownPose()

    def localizer(self, config: LocalizerConfig) -> KnownPose:
        """See `OpenedMap`."""
        return self.core

    def refuse(self, map_from_base: Pose) -> str:
        """See `OpenedMap`."""
        return ""

    def points(self, point_idx: np.ndarray) -> np.ndarray:
        """See `OpenedMap`."""
        return np.zeros((len(point_idx), 3))


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        size: Width and height.
        encoding: Of the image, or `jpeg`.
        more: Topics with a listener besides the usual ones: path, confidence.
    """

    size: tuple[int, int]
    encoding: str
    more: tuple[str, ...] = ()

    @property
    def limit_ms(self) -> float:
        """Largest median of the CPU time; what is only for people to look at has none."""
        return math.inf if self.more else SIZES[self.size]


@dataclass(frozen=True)
class Cost:
    """Milliseconds per image, without the core."""

    case: Case
    wall_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """On the clock."""
        return statistics.median(self.wall_ms)

    @property
    def p95_ms(self) -> float:
        """On the clock; other programs on the machine count here."""
        return float(np.percentile(self.wall_ms, 95))

    @property
    def median_cpu_ms(self) -> float:
        """Of all threads of the process."""
        return statistics.median(self.cpu_ms)


def picture(size: tuple[int, int]) -> np.ndarray:
    """An image (h, w, 3) of the sample with the noise of a sensor, which JPEG has to keep."""
    pixels = cv2.imread(str(SAMPLE))
    if pixels is None:
        raise FormatError(f"{SAMPLE}: not a readable image")
    noise = np.random.default_rng(0).normal(0, 2, (size[1], size[0], 3))
    return np.asarray((cv2.resize(pixels, size) + noise).clip(0, 255), np.uint8)


def image_bytes(case: Case, count: int) -> list[bytes]:
    """Serialized messages as they come from the network, `count` of them."""
    pixels = picture(case.size)
    messages = []
    for index in range(count):
        # Cameras do not repeat themselves to the last bit.
        pixels[8:24, 8:24] = 37 * index % 251
        message = _message(case, pixels)
        message.header.frame_id = "camera"
        message.header.stamp = ns_to_stamp(_START_NS + index * _PERIOD_NS)
        messages.append(bytes(serialize_message(message)))
    return messages


def _message(case: Case, pixels: np.ndarray) -> Any:
    if case.encoding == "jpeg":
        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
        return CompressedImage(format="jpeg", data=data.tobytes())
    one_channel = case.encoding == "mono8" or case.encoding.startswith("bayer")
    return array_to_image(pixels[..., 0] if one_channel else pixels, case.encoding, Image().header)


class Rig:
    """A node that is tracking, and somebody who listens."""

    def __init__(self, case: Case) -> None:
        transport = "compressed" if case.encoding == "jpeg" else "raw"
        arguments = ["-p", "autostart:=false", "-p", f"image_transport:={transport}"]
        rclpy.init(args=["bench", "--ros-args", "--log-level", "error", *arguments])
        self.map = KnownMap()
        self.node = LocalizerNode(lambda config, path: self.map)
        self.kind = CompressedImage if transport == "compressed" else Image
        self.node.trigger_configure()
        self.node.trigger_activate()
        self.info = CameraInfo(width=case.size[0], height=case.size[1])
        self.info.distortion_model, self.info.d = "plumb_bob", [0.0] * 5
        f, (width, height) = 0.8 * case.size[0], case.size
        self.info.k = [f, 0.0, width / 2, 0.0, f, height / 2, 0.0, 0.0, 1.0]
        self.listener = Node("listener")
        self._listen(case)
        self.done = threading.Event()
        session = self.node._session
        assert session is not None
        self.session = session
        # The last thing that happens to an image.
        show = session.outputs.publish_pictures

        def publish_pictures(*args: Any) -> None:
            show(*args)
            self.done.set()

        session.outputs.publish_pictures = publish_pictures

    def _listen(self, case: Case) -> None:
        kinds: dict[str, Any] = {"path": PathMessage, "confidence": Image}
        topics = {"pose": PoseWithCovarianceStamped, "odometry": Odometry, "status": StatusMessage}
        topics |= {topic: kinds[topic] for topic in case.more}
        for topic, kind in topics.items():
            self.listener.create_subscription(kind, topic, lambda _: None, 1)
        deadline = time.monotonic() + 10
        while any(not self.node.count_subscribers(topic) for topic in topics):
            if time.monotonic() > deadline:
                raise RuntimeError("the listener is not heard of")
            time.sleep(0.01)

    def drive(self, count: int) -> None:
        """Transforms for all images, and where the robot starts."""
        frames = self.node._frames
        static = pose_to_transform(Pose.identity().double(), "base_link", "camera", 0)
        frames.add_message(TFMessage(transforms=[static]), static=True)
        for index in range(count):
            moved = Pose.from_aa(torch.zeros(3).double(), torch.tensor([0.01 * index, 0.0, 0.0]))
            stamp = _START_NS + index * _PERIOD_NS
            odometry = pose_to_transform(moved.double(), "odom", "base_link", stamp)
            frames.add_message(TFMessage(transforms=[odometry]), static=False)
        engine = self.node._engine
        assert engine is not None
        engine.pipeline.give(InitialPose(Pose.identity().double(), _START_NS))

    def work(self, data: bytes) -> tuple[float, float]:
        """Seconds on the clock and of the CPU for one image, without the core."""
        self.done.clear()
        core, cpu, began = self.map.core.seconds, time.process_time(), time.perf_counter()
        message = deserialize_message(data, self.kind)
        self.session.inputs._take(CameraMessage("", message, self.info))
        if not self.done.wait(10.0):
            raise RuntimeError("an image was not answered")
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        core = self.map.core.seconds - core
        return wall - core, cpu - core

    def close(self) -> None:
        """Take everything down."""
        self.node.close()
        self.listener.destroy_node()
        rclpy.try_shutdown()


def measure(case: Case, frames: int) -> Cost:
    """Cost of images of one kind.

    Args:
        case: What is measured.
        frames: How many images are counted; a path has as many poses at the end.
    """
    rig = Rig(case)
    try:
        count = frames + _WARM_UP
        rig.drive(count)
        seconds = [rig.work(data) for data in image_bytes(case, count)][_WARM_UP:]
        if rig.session.localized != count:
            raise RuntimeError(f"{rig.session.localized} of {count} images were localized")
    finally:
        rig.close()
    wall, cpu = zip(*seconds, strict=True)
    return Cost(case, tuple(1e3 * s for s in wall), tuple(1e3 * s for s in cpu))


def format_table(costs: Sequence[Cost]) -> str:
    """Markdown table."""
    rows = ["| image | encoding | listeners | p50 ms | p95 ms | p50 CPU ms | limit ms |"]
    rows.append("|---" * 7 + "|")
    for cost in costs:
        width, height = cost.case.size
        more = ", ".join(("usual", *cost.case.more))
        limit = "" if cost.case.more else f"{cost.case.limit_ms:g}"
        rows.append(
            f"| {width}x{height} | {cost.case.encoding} | {more} | {cost.median_ms:.2f} "
            f"| {cost.p95_ms:.2f} | {cost.median_cpu_ms:.2f} | {limit} |"
        )
    return "\n".join(rows)


def main() -> int:
    """Measure and print; 1 if a median of the CPU time is over its limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--write", action="store_true", help="write results.md")
    args = parser.parse_args()
    torch.set_num_threads(NodeConfig().num_threads)
    cv2.setNumThreads(1)
    cases = [Case(size, encoding) for size in SIZES for encoding in ENCODINGS]
    cases += [Case(size, "rgb8", (more,)) for size in SIZES for more in ("confidence", "path")]
    costs = [measure(case, args.frames) for case in cases]
    table = format_table(costs)
    print(table)
    if args.write:
        command = f"python -m benchmarks.ros_overhead --frames {args.frames} --write"
        text = f"## ROS around the core\n\n`{command}`\n\n{table}"
        write_section(RESULTS, "ros_overhead", text)
    return 1 if any(cost.median_cpu_ms > cost.case.limit_ms for cost in costs) else 0


if __name__ == "__main__":
    sys.exit(main())

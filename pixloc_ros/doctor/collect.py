"""Looks at a running system for some seconds."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pixloc_ros.doctor.check_map import look_at_map, out_of_sight
from pixloc_ros.doctor.ears import (
    GID_BYTES,
    ClockEar,
    FrameEar,
    NodeEar,
    StreamEar,
    calibration_seen,
    image_seen,
)
from pixloc_ros.doctor.graph import Graph, full_name
from pixloc_ros.doctor.inquiry import Inquiry
from pixloc_ros.doctor.settings import make_settings
from pixloc_ros.doctor.snapshot import (
    CAMERA_INFO,
    COMPRESSED,
    IMAGE,
    RUNNING,
    CameraSeen,
    ClockSeen,
    Endpoint,
    MapSeen,
    NodeSeen,
    RetrievalSeen,
    Settings,
    Snapshot,
    Stream,
)
from pixloc_ros.transport import use_image_profile

_TYPES: dict[str, type[Any]] = {
    IMAGE: Image,
    COMPRESSED: CompressedImage,
    CAMERA_INFO: CameraInfo,
}
_TF = "tf2_msgs/msg/TFMessage"
_RETRIEVE_POSE = "pixloc_ros/srv/RetrievePose"
_DISCOVERY_S = 8.0
_LOOK_S = 0.25
_QUIET_LOOKS = 4
# A search takes seconds on a busy machine: wait longer where a verdict must be on its way.
_VERDICT_S = 10.0
_SUFFIX = "/compressed"


@dataclass(frozen=True)
class Subject:
    """What to look at; what is not given is taken from the running node, or from its defaults.

    Attributes:
        node: Full name of the localizer.
        image_topic: Images.
        camera_info_topic: Calibration.
        map: Feature map.
        settings: From a parameter file.
        seconds: How long to listen.
    """

    node: str = "/localizer"
    image_topic: str = ""
    camera_info_topic: str = ""
    map: Path | None = None
    settings: Settings | None = None
    seconds: float = 5.0


def collect(subject: Subject) -> Snapshot:
    """Listen, and tell what was there.

    Raises:
        ConfigError: If the running node has a parameter that this version does not know.
    """
    use_image_profile()
    with _node() as (node, executor):
        return _Session(subject, node, executor).run()


@contextmanager
def _node() -> Iterator[tuple[Node, SingleThreadedExecutor]]:
    context = Context()
    rclpy.init(context=context)
    node = Node(
        f"pixloc_doctor_{os.getpid()}",
        context=context,
        enable_rosout=False,
        start_parameter_services=False,
    )
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        yield node, executor
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)


class _Session:
    def __init__(self, subject: Subject, node: Node, executor: SingleThreadedExecutor) -> None:
        self._subject, self._node, self._executor = subject, node, executor
        self._graph = Graph(node)
        self._inquiry = Inquiry(node, executor, subject.node)
        self._space, _, self._name = subject.node.rpartition("/")
        self._speech = NodeEar(node, subject.node, f"{self._space}/status")
        self._settings = subject.settings or Settings()
        self._was_seen, self._silent = False, False
        self._before: dict[str, tuple[Endpoint, ...]] = {}

    def run(self) -> Snapshot:
        self._discover()
        self._inquire()
        # Maps are large: look at them while listening.
        with ThreadPoolExecutor(1) as worker:
            basis = self._basis()
            seen = self._look(worker)
            if self._is_there():
                # Slow machines: it may be heard of, or answer, only now.
                self._inquire()
                if self._basis() != basis:
                    seen = self._look(worker)
            return seen

    def _discover(self) -> None:
        """Wait until nothing new is heard of for a while; on a busy machine that takes seconds.

        Before the localizer is heard of there is no telling slow discovery from its absence.
        """
        end = time.monotonic() + _DISCOVERY_S
        before, quiet = None, 0
        while quiet < _QUIET_LOOKS and time.monotonic() < end:
            self._spin(_LOOK_S)
            nodes, servers = self._graph.nodes(), self._graph.servers()
            now = (nodes, self._graph.names(), servers)
            # A node is heard of before what belongs to it is.
            wholly = self._subject.node in nodes and self._inquiry.first_service in servers
            quiet = quiet + 1 if now == before and wholly else 0
            before = now

    def _is_there(self) -> bool:
        """Whether the localizer runs: it may be heard before the graph knows it."""
        listed = self._subject.node in self._graph.nodes()
        self._was_seen |= listed
        return listed or (self._speech.is_heard and not self._was_seen)

    def _inquire(self) -> None:
        """Ask the running node for its parameters, unless it has given them."""
        if self._settings.origin == RUNNING or not self._is_there():
            return
        given = self._inquiry.parameters()
        self._silent = not given
        if given:
            self._settings = make_settings(given, RUNNING)

    def _basis(self) -> tuple[Any, ...]:
        """What a look rests on."""
        return self._settings, self._silent, self._camera_topics(), self._tf_topics()

    def _look(self, worker: ThreadPoolExecutor) -> Snapshot:
        kept = set(self._node.subscriptions)
        try:
            return self._hear(worker)
        finally:
            for one in set(self._node.subscriptions) - kept:
                self._node.destroy_subscription(one)

    def _hear(self, worker: ThreadPoolExecutor) -> Snapshot:
        lifecycle = self._inquiry.lifecycle() if self._is_there() and not self._silent else ""
        clock = ClockEar(self._node)
        cameras = self._camera_topics()
        ears = [
            tuple(self._listen(topic, kind, clock) for topic, kind in pair) for pair in cameras
        ]
        tf, tf_static = self._tf_topics()
        frames = FrameEar(self._node, tf, tf_static)
        senders = self._senders(tf, tf_static)
        expected = self._map_path()
        map_seen = worker.submit(self._map, *expected)
        self._spin(self._subject.seconds)
        if lifecycle == "active" and any(images and images.count for images, _ in ears):
            self._spin(_VERDICT_S, lambda: self._speech.status is not None)
        # Before the looks below, which take their time.
        now_ns = clock.now_ns()
        sent_clock = self._graph.publishers("/clock")
        return Snapshot(
            seconds=self._subject.seconds,
            domain=os.environ.get("ROS_DOMAIN_ID", "0"),
            middleware=get_rmw_implementation_identifier(),
            nodes=self._graph.nodes(),
            topics=self._graph.offered(self._name),
            settings=self._settings,
            node=self._node_seen(lifecycle),
            cameras=tuple(
                self._camera(pair, heard) for pair, heard in zip(cameras, ears, strict=True)
            ),
            edges=frames.edges(senders | self._senders(tf, tf_static)),
            clock=ClockSeen(tuple(one.node for one in sent_clock), clock.count, now_ns),
            map=self._map_seen(map_seen, expected),
        )

    def _node_seen(self, lifecycle: str) -> NodeSeen:
        node, speech = self._subject.node, self._speech
        found = [name for name in self._graph.nodes() if name.endswith(f"/{self._name}")]
        if self._is_there() and node not in found:
            found.append(node)
        default = f"{self._space}/retrieve_pose"
        service = self._graph.asked_for(node, _RETRIEVE_POSE) or default
        servers = self._graph.servers().get(service, ())
        return NodeSeen(
            node,
            tuple(found),
            lifecycle,
            speech.status,
            speech.diagnostics,
            speech.heard_s,
            RetrievalSeen(service, servers, speech.index(servers)),
            self._silent,
        )

    def _spin(self, seconds: float, is_over: Callable[[], bool] = lambda: False) -> None:
        end = time.monotonic() + seconds
        while not is_over() and (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def _tf_topics(self) -> tuple[str, str]:
        """Those of the localizer: they may be in its namespace."""
        heard = [topic for topic, _ in self._graph.subscribed(self._subject.node, [_TF])]
        moving = [topic for topic in heard if topic.endswith("/tf")]
        fixed = [topic for topic in heard if topic.endswith("/tf_static")]
        return (*moving, "/tf")[0], (*fixed, "/tf_static")[0]

    def _camera_topics(self) -> list[tuple[tuple[str, str], tuple[str, str]]]:
        """Topic and type of images and of calibration, for each camera."""
        images = self._graph.subscribed(self._subject.node, [IMAGE, COMPRESSED])
        infos = [t for t, _ in self._graph.subscribed(self._subject.node, [CAMERA_INFO])]
        if self._subject.image_topic or not (images or self._is_there()):
            images = self._default_images()
        if self._subject.camera_info_topic:
            infos = [self._resolve(self._subject.camera_info_topic)]
        pairs = []
        for topic, kind in images:
            beside = f"{topic.removesuffix(_SUFFIX).rpartition('/')[0]}/camera_info"
            nearest = max(infos or [beside], key=lambda info, topic=topic: _common(info, topic))
            pairs.append(((topic, kind), (nearest, CAMERA_INFO)))
        return pairs

    def _default_images(self) -> list[tuple[str, str]]:
        given, config = self._subject.image_topic, self._settings.node
        if given:
            compressed = given.endswith(_SUFFIX)
            return [(self._resolve(given), COMPRESSED if compressed else IMAGE)]
        compressed = config.image_transport == "compressed"
        kind, suffix = (COMPRESSED, _SUFFIX) if compressed else (IMAGE, "")
        names = [f"{camera}/image" for camera in config.cameras] or ["image"]
        return [(self._resolve(name + suffix), kind) for name in names]

    def _resolve(self, topic: str) -> str:
        return topic if topic.startswith("/") else f"{self._space}/{topic}"

    def _map_path(self) -> tuple[Path | None, bool]:
        """The map to look at, and whether the path is one of the node, not of this process.

        That of load_map, if the node says so, rather than that of its parameter.
        """
        if self._subject.map:
            return self._subject.map, False
        told, settings = self._speech.said("map"), self._settings
        named = told or settings.node.map
        return (Path(named) if named else None), bool(told) or settings.origin == RUNNING

    def _map(self, path: Path | None, is_of_node: bool) -> MapSeen | None:
        if path is None:
            return None
        unseen = out_of_sight(path) if is_of_node else ""
        if unseen:
            return MapSeen(str(path), unseen=unseen)
        return look_at_map(path, self._settings.node.weights)

    def _map_seen(
        self, begun: "Future[MapSeen | None]", expected: tuple[Path | None, bool]
    ) -> MapSeen | None:
        """What was seen of the map in use, which the node may have named only meanwhile."""
        now = self._map_path()
        return begun.result() if now == expected else self._map(*now)

    def _listen(self, topic: str, kind: str, clock: ClockEar) -> StreamEar | None:
        """Hear a topic; not one of another type, which would never match."""
        self._before[topic] = self._graph.publishers(topic)
        kinds = {one.kind for one in self._before[topic]}
        if kinds and kind not in kinds:
            return None
        return StreamEar(self._node, _TYPES[kind], topic, clock.now_ns)

    def _stream(self, topic: str, kind: str, ear: StreamEar | None) -> Stream:
        publishers = self._graph.publishers(topic)
        there = {one.node for one in publishers}
        return Stream(
            topic,
            kind,
            publishers,
            tuple(s for s in self._graph.subscriptions(topic) if s.node == self._subject.node),
            ear.count if ear else 0,
            ear.rate_hz if ear else 0.0,
            ear.lost if ear else 0,
            tuple(one for one in self._before[topic] if one.node not in there),
        )

    def _camera(
        self,
        topics: tuple[tuple[str, str], tuple[str, str]],
        ears: Sequence[StreamEar | None],
    ) -> CameraSeen:
        images, infos = ears
        rectified = self._settings.node.image_is_rectified
        return CameraSeen(
            self._stream(*topics[0], images),
            self._stream(*topics[1], infos),
            image_seen(images) if images else None,
            calibration_seen(infos, rectified=rectified) if infos else None,
        )

    def _senders(self, *topics: str) -> dict[bytes, str]:
        found = [one for topic in topics for one in self._node.get_publishers_info_by_topic(topic)]
        return {bytes(one.endpoint_gid)[:GID_BYTES]: full_name(one) for one in found}


def _common(one: str, other: str) -> int:
    """Length of the common beginning of two names."""
    return next(
        (k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )

"""Looks at a running system for some seconds."""

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pixloc_core.config import walk
from pixloc_ros.doctor.check_map import look_at_map
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
from pixloc_ros.doctor.settings import make_settings
from pixloc_ros.doctor.snapshot import (
    CAMERA_INFO,
    COMPRESSED,
    IMAGE,
    CameraSeen,
    ClockSeen,
    Endpoint,
    MapSeen,
    NodeSeen,
    Settings,
    Snapshot,
    Stream,
)
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.transport import use_image_profile

_TYPES: dict[str, type[Any]] = {
    IMAGE: Image,
    COMPRESSED: CompressedImage,
    CAMERA_INFO: CameraInfo,
}
_TF = "tf2_msgs/msg/TFMessage"
_DISCOVERY_S = 8.0
_LOOK_S = 0.25
_QUIET_LOOKS = 4
_SERVICE_S = 1.0
_ANSWER_S = 5.0
_TRIES = 2
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
        self._runs, self._silent = False, False
        self._before: dict[str, tuple[Endpoint, ...]] = {}
        self._space, _, self._name = subject.node.rpartition("/")
        self._list_service = f"{subject.node}/list_parameters"

    def run(self) -> Snapshot:
        self._discover()
        settings = self._settings()
        # Maps are large: look at it while listening.
        with ThreadPoolExecutor(1) as worker:
            return self._hear(settings, worker.submit(self._map, settings))

    def _hear(self, settings: Settings, map_seen: Future[MapSeen | None]) -> Snapshot:
        lifecycle = self._lifecycle()
        clock = ClockEar(self._node)
        cameras = self._camera_topics(settings)
        ears = [
            tuple(self._listen(topic, kind, clock) for topic, kind in pair) for pair in cameras
        ]
        tf, tf_static = self._tf_topics()
        frames = FrameEar(self._node, tf, tf_static)
        speech = NodeEar(self._node, self._subject.node, f"{self._space}/status")
        senders = self._senders(tf, tf_static)
        self._spin(self._subject.seconds)
        sent_clock = self._graph.publishers("/clock")
        return Snapshot(
            seconds=self._subject.seconds,
            domain=os.environ.get("ROS_DOMAIN_ID", "0"),
            middleware=get_rmw_implementation_identifier(),
            nodes=self._graph.nodes(),
            topics=self._graph.offered(self._name),
            settings=settings,
            node=NodeSeen(
                self._subject.node,
                tuple(name for name in self._graph.nodes() if name.endswith(f"/{self._name}")),
                lifecycle,
                speech.status,
                speech.diagnostics,
                self._graph.servers(),
                self._silent,
            ),
            cameras=tuple(
                self._camera(pair, heard, settings)
                for pair, heard in zip(cameras, ears, strict=True)
            ),
            edges=frames.edges(senders | self._senders(tf, tf_static)),
            clock=ClockSeen(tuple(one.node for one in sent_clock), clock.count, clock.now_ns()),
            map=map_seen.result(),
        )

    def _discover(self) -> None:
        """Wait until nothing new is heard of for a while; on a busy machine that takes seconds.

        Before the first node is heard of there is no telling slow discovery from an empty domain.
        """
        end = time.monotonic() + _DISCOVERY_S
        before, quiet = None, 0
        while quiet < _QUIET_LOOKS and time.monotonic() < end:
            self._spin(_LOOK_S)
            nodes, servers = self._graph.nodes(), self._graph.servers()
            now = (nodes, self._node.get_topic_names_and_types(), servers)
            # A node is heard of before what belongs to it is.
            partly = self._subject.node in nodes and self._list_service not in servers
            quiet = quiet + 1 if now == before and nodes and not partly else 0
            before = now
            self._runs = self._subject.node in nodes

    def _spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def _ask(self, kind: type[Any], service: str, **request: Any) -> Any | None:
        """The answer of a service, or None if it is not there or does not answer."""
        client = self._node.create_client(kind, service)
        try:
            if not client.wait_for_service(timeout_sec=_SERVICE_S):
                return None
            future = client.call_async(kind.Request(**request))
            self._executor.spin_until_future_complete(future, timeout_sec=_ANSWER_S)
            return future.result() if future.done() else None
        finally:
            self._node.destroy_client(client)

    def _settings(self) -> Settings:
        """Those of the running node, where it answers."""
        given = self._parameters() if self._runs else {}
        self._silent = self._runs and not given
        if not given:
            return self._subject.settings or Settings()
        return make_settings(given, "the running node")

    def _parameters(self) -> dict[str, Any]:
        """Parameters of the running node, nested; empty if it does not answer."""
        tries = (self._ask(ListParameters, self._list_service) for _ in range(_TRIES))
        listed = next((answer for answer in tries if answer), None)
        known = {*(name for name, _ in walk(NodeConfig)), "use_sim_time"}
        names = sorted(known & set(listed.result.names)) if listed else []
        if not names:
            return {}
        answer = self._ask(GetParameters, f"{self._subject.node}/get_parameters", names=names)
        given: dict[str, Any] = {}
        if not answer:
            return given
        for name, value in zip(names, answer.values, strict=True):
            plain = parameter_value_to_python(value)
            # An empty list comes back as nothing at all.
            if plain is not None:
                scalar = isinstance(plain, bool | int | float | str)
                _nest(given, name, plain if scalar else list(plain))
        return given

    def _lifecycle(self) -> str:
        if not self._runs or self._silent:
            return ""
        answer = self._ask(GetState, f"{self._subject.node}/get_state")
        return str(answer.current_state.label) if answer else ""

    def _subscriptions(self, kinds: Sequence[str]) -> list[tuple[str, str]]:
        """Topics and types that the localizer listens to, of these types."""
        if self._subject.node not in self._graph.nodes():
            return []
        found = self._node.get_subscriber_names_and_types_by_node(self._name, self._space or "/")
        return sorted((topic, kind) for topic, ks in found for kind in ks if kind in kinds)

    def _tf_topics(self) -> tuple[str, str]:
        """Those of the localizer: they may be in its namespace."""
        heard = [topic for topic, _ in self._subscriptions([_TF])]
        moving = [topic for topic in heard if topic.endswith("/tf")]
        fixed = [topic for topic in heard if topic.endswith("/tf_static")]
        return (*moving, "/tf")[0], (*fixed, "/tf_static")[0]

    def _camera_topics(self, settings: Settings) -> list[tuple[tuple[str, str], tuple[str, str]]]:
        """Topic and type of images and of calibration, for each camera."""
        images = self._subscriptions([IMAGE, COMPRESSED])
        infos = [topic for topic, _ in self._subscriptions([CAMERA_INFO])]
        unknown = self._silent and not self._subject.settings
        if self._subject.image_topic or not (images or unknown):
            images = self._default_images(settings)
        if self._subject.camera_info_topic:
            infos = [self._resolve(self._subject.camera_info_topic)]
        pairs = []
        for topic, kind in images:
            beside = f"{topic.removesuffix(_SUFFIX).rpartition('/')[0]}/camera_info"
            nearest = max(infos or [beside], key=lambda info, topic=topic: _common(info, topic))
            pairs.append(((topic, kind), (nearest, CAMERA_INFO)))
        return pairs

    def _default_images(self, settings: Settings) -> list[tuple[str, str]]:
        given = self._subject.image_topic
        if given:
            compressed = given.endswith(_SUFFIX)
            return [(self._resolve(given), COMPRESSED if compressed else IMAGE)]
        compressed = settings.node.image_transport == "compressed"
        kind, suffix = (COMPRESSED, _SUFFIX) if compressed else (IMAGE, "")
        names = [f"{camera}/image" for camera in settings.node.cameras] or ["image"]
        return [(self._resolve(name + suffix), kind) for name in names]

    def _resolve(self, topic: str) -> str:
        return topic if topic.startswith("/") else f"{self._space}/{topic}"

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
        settings: Settings,
    ) -> CameraSeen:
        images, infos = ears
        rectified = settings.node.image_is_rectified
        return CameraSeen(
            self._stream(*topics[0], images),
            self._stream(*topics[1], infos),
            image_seen(images) if images else None,
            calibration_seen(infos, rectified=rectified) if infos else None,
        )

    def _senders(self, *topics: str) -> dict[bytes, str]:
        found = [one for topic in topics for one in self._node.get_publishers_info_by_topic(topic)]
        return {bytes(one.endpoint_gid)[:GID_BYTES]: full_name(one) for one in found}

    def _map(self, settings: Settings) -> MapSeen | None:
        path = self._subject.map or (Path(settings.node.map) if settings.node.map else None)
        return look_at_map(path, settings.node.weights) if path else None


def _nest(values: dict[str, Any], name: str, value: Any) -> None:
    *groups, leaf = name.split(".")
    for group in groups:
        values = values.setdefault(group, {})
    values[leaf] = value


def _common(one: str, other: str) -> int:
    """Length of the common beginning of two names."""
    return next(
        (k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )

"""What was seen of a running system: plain values, so that the checks need no ROS."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pixloc_ros.node_config import NodeConfig
from pixloc_ros.transform_tree import RigidTransform

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
# Origin of settings that the node itself has told.
RUNNING = "the running node"


@dataclass(frozen=True)
class Endpoint:
    """One publisher or subscription of a topic.

    Attributes:
        node: Full name of its node.
        kind: Type of the messages, e.g. sensor_msgs/msg/Image.
        reliable: Reliable delivery; else best effort.
        latched: Transient local; else volatile.
    """

    node: str
    kind: str
    reliable: bool = True
    latched: bool = False


@dataclass(frozen=True)
class Stream:
    """One topic, as it was heard.

    Attributes:
        topic: Full name.
        kind: Type that the localizer expects.
        publishers: All of them.
        subscriptions: Those of the localizer.
        count: Messages heard.
        rate_hz: Messages per second, 0 for less than two of them.
        lost: Messages that were sent in this time, but did not arrive here.
        left: Publishers of the beginning whose nodes have none any more at the end.
    """

    topic: str
    kind: str
    publishers: Sequence[Endpoint] = ()
    subscriptions: Sequence[Endpoint] = ()
    count: int = 0
    rate_hz: float = 0.0
    lost: int = 0
    left: Sequence[Endpoint] = ()


@dataclass(frozen=True)
class ImageSeen:
    """The images of a camera.

    Attributes:
        encoding: Of the newest one; the format, if compressed.
        size: Width and height in pixels; None for a compressed one that cannot be decoded.
        num_bytes: Of the newest one.
        frame_id: Of the newest one.
        stamps_ns: Of all, in order of arrival.
        ages_s: Time of arrival minus stamp, of all.
    """

    encoding: str
    size: tuple[int, int] | None
    num_bytes: int
    frame_id: str
    stamps_ns: Sequence[int]
    ages_s: Sequence[float]


@dataclass(frozen=True)
class CalibrationSeen:
    """The newest CameraInfo.

    Attributes:
        problem: Why it cannot be used, in one line; empty if it can.
        size: Width and height in pixels of the images that it describes, if it can be used.
        model: Distortion model.
        frame_id: Of its header.
        stamps_ns: Of all of them.
    """

    problem: str
    size: tuple[int, int] | None
    model: str
    frame_id: str
    stamps_ns: Sequence[int]


@dataclass(frozen=True)
class CameraSeen:
    """One camera: its images and its calibration."""

    images: Stream
    infos: Stream
    image: ImageSeen | None = None
    calibration: CalibrationSeen | None = None


@dataclass(frozen=True)
class EdgeSeen:
    """One edge of the tree of frames.

    Attributes:
        parent: Frame as it was sent, slashes included.
        child: Likewise.
        static: From /tf_static.
        publishers: Full names of the nodes that sent it, where they can be told.
        newest_ns: Largest stamp.
        transform: The newest `parent_from_child`, or None if it is no proper one.
        problem: Why not.
    """

    parent: str
    child: str
    static: bool
    publishers: frozenset[str] = frozenset()
    newest_ns: int = 0
    transform: RigidTransform | None = None
    problem: str = ""


@dataclass(frozen=True)
class ClockSeen:
    """The time.

    Attributes:
        publishers: Nodes that publish /clock.
        count: Messages on /clock.
        now_ns: The time at the end: that of /clock if it was heard, else of this machine.
    """

    publishers: Sequence[str] = ()
    count: int = 0
    now_ns: int = 0


@dataclass(frozen=True)
class StatusSeen:
    """The newest message on `status`: names instead of numbers."""

    state: str
    state_reason: str
    status: str
    reason: str


@dataclass(frozen=True)
class DiagnosticSeen:
    """The newest diagnostic status of one name; the level as on /diagnostics (2: error)."""

    name: str
    level: int
    message: str
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RetrievalSeen:
    """The service that finds first poses.

    Attributes:
        service: Full name under which the localizer asks for it.
        nodes: Full names of the nodes that serve it.
        index: What such a node says on /diagnostics, if it does.
    """

    service: str = "/retrieve_pose"
    nodes: Sequence[str] = ()
    index: DiagnosticSeen | None = None


@dataclass(frozen=True)
class NodeSeen:
    """The localizer node.

    Attributes:
        name: Full name that it should have.
        found: Full names of all nodes called so, this one or in other namespaces.
        lifecycle: State of its life cycle; empty if it did not say.
        status: The newest one.
        diagnostics: Of it.
        heard_s: For how many seconds status and diagnostics were listened to.
        retrieval: The service for its first poses.
        silent: It is there, but does not answer its services.
    """

    name: str
    found: Sequence[str] = ()
    lifecycle: str = ""
    status: StatusSeen | None = None
    diagnostics: Sequence[DiagnosticSeen] = ()
    heard_s: float = 0.0
    retrieval: RetrievalSeen = field(default_factory=RetrievalSeen)
    silent: bool = False

    def said(self, key: str) -> str:
        """A value of its /diagnostics; empty if it was not heard."""
        return next((d.values[key] for d in self.diagnostics if key in d.values), "")


@dataclass(frozen=True)
class MapSeen:
    """The map file.

    Attributes:
        path: Where it is looked for.
        problem: Why it cannot be used, in one line; empty if it can.
        unseen: Why it could not be looked at from here, in one line; empty if it was.
        map_id: Hash of its content.
        summary: What is in it.
        extent_m: Diagonal of the box that holds nine tenths of its points.
        reprojection_px: Median over its observations.
        index: Its index for retrieval, where there is one.
        index_problem: Why that cannot be used.
    """

    path: str
    problem: str = ""
    unseen: str = ""
    map_id: str = ""
    summary: str = ""
    extent_m: float = 1.0
    reprojection_px: float = 0.0
    index: str = ""
    index_problem: str = ""


@dataclass(frozen=True)
class Settings:
    """How the localizer is set up.

    Attributes:
        node: Its parameters.
        use_sim_time: Whether it takes the time from /clock.
        origin: Where these were read: "the running node", a file, or "defaults".
    """

    node: NodeConfig = field(default_factory=NodeConfig)
    use_sim_time: bool = False
    origin: str = "defaults"


@dataclass(frozen=True)
class Snapshot:
    """All that was seen.

    Attributes:
        seconds: How long it was listened.
        domain: ROS_DOMAIN_ID.
        middleware: RMW implementation.
        nodes: Full names of all nodes but this one.
        topics: Types by full name, of those with a publisher other than the localizer.
        settings: How the localizer is set up.
        node: The localizer.
        cameras: Its cameras.
        edges: Of the tree of frames.
        clock: The time.
        map: The map file, where one is named.
    """

    seconds: float
    domain: str
    middleware: str
    nodes: Sequence[str]
    topics: Mapping[str, Sequence[str]]
    settings: Settings
    node: NodeSeen
    cameras: Sequence[CameraSeen]
    edges: Sequence[EdgeSeen]
    clock: ClockSeen
    map: MapSeen | None = None

    @property
    def is_blind(self) -> bool:
        """Whether the parameters are unknown: nobody gave them, and the node keeps silent."""
        return self.node.silent and self.settings.origin == Settings.origin

    @property
    def is_there(self) -> bool:
        """Whether the localizer runs."""
        return self.node.name in self.node.found

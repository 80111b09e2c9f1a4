"""One bag, one localizer node in a process of its own, and a record of what it says."""

import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from pixloc_core.bags.reader import BagReader, RawMessage
from pixloc_core.bags.topics import BagLayout
from pixloc_core.bags.trajectory import Trajectory
from pixloc_core.errors import PixlocError
from pixloc_core.evaluation.stream import StreamRun
from pixloc_core.geometry import Pose
from pixloc_ros.conversions import ns_to_stamp, pose_to_message
from pixloc_ros.diagnostics import STATUS_NAMES
from pixloc_ros.interfaces import LocalizationStatus
from pixloc_ros.node_process import RETRIEVAL, NodeProcess
from pixloc_ros.replay.player import ReplayConfig, Replayer
from pixloc_ros.replay.recorder import StreamRecorder, StreamTopics
from pixloc_ros.replay.rig import BagRig, find_rig
from pixloc_ros.replay.settings import node_config, node_values
from pixloc_ros.transport import use_image_profile

_INITIALPOSE = "initialpose"
_CONFIDENCE_PERIOD_NS = 3_000_000_000
_POLL_S = 0.02
# 101 is the last domain whose ports Linux does not hand out otherwise.
_NUM_DOMAINS = 101
_DOMAIN = "ROS_DOMAIN_ID"
_CLOCK = "/clock"
# Seconds in which nodes that run already make themselves known; 1.6 s were seen.
DISCOVERY_S = 4.0


class ReplayError(PixlocError):
    """A localizer node that does not come up, or dies."""


@dataclass(frozen=True)
class ReplayPlan:
    """What to replay, and against which map.

    Attributes:
        name: Name of the stream for tables.
        bag: Folder of the bag.
        map_path: Feature map file.
        log: File for what the node says.
        rate: Speed of the replay.
        parameters: Parameters of the node besides its map and topics.
        layout: Topics and frames of the bag.
        start_timeout_s: Longest time for the nodes to come up.
        retrieval: Parameters of a retrieval node besides its map; None: there is none.
        saved_pose: File in which the node keeps its pose; None: it starts and ends without. That
            of the parameters is the robot's, and is neither read nor written.
    """

    name: str
    bag: Path
    map_path: Path
    log: Path
    rate: float = 1.0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    layout: BagLayout = field(default_factory=BagLayout)
    start_timeout_s: float = 60.0
    retrieval: Mapping[str, Any] | None = None
    saved_pose: Path | None = None


@dataclass
class _IndexNews:
    """What the retrieval node says of its index.

    Attributes:
        is_open: It can be asked.
        has_failed: There is none, and none is being made.
        said: In words.
        newest_s: When these changed last, on the steady clock.
    """

    is_open: bool = False
    has_failed: bool = False
    said: str = ""
    newest_s: float = 0.0

    def hear(self, entry: DiagnosticStatus) -> None:
        """An entry of /diagnostics."""
        self.is_open = entry.level == DiagnosticStatus.OK
        self.has_failed = entry.level == DiagnosticStatus.ERROR
        if entry.message != self.said:
            self.said, self.newest_s = entry.message, time.monotonic()


class ReplaySession:
    """Starts everything in its `with` block, and ends it there.

    Making one raises PixlocError where the bag lacks images or calibration of a camera; entering
    it raises ReplayError where its domain has a localizer, a /clock or images already.
    """

    def __init__(self, plan: ReplayPlan) -> None:
        self._plan = plan
        self.bag = BagReader(plan.bag)
        self.rig = find_rig(self.bag, plan.layout, node_config(plan.parameters, plan.layout))
        self._exposures = {
            (arrival.last.topic, arrival.last.header_ns): [
                message.stamp_ns for message in arrival.exposure.cameras
            ]
            for arrival in self.rig.outlines(self.bag)
        }
        parameters = _parameters(plan, self.rig)
        remappings = {**self.rig.remappings, "prior_pose": plan.layout.prior_pose}
        self.localizer = NodeProcess(parameters, remappings, plan.log)
        self.retrieval: NodeProcess | None = None
        if plan.retrieval is not None:
            parameters = {"map": str(plan.map_path), "use_sim_time": True, **plan.retrieval}
            log = plan.log.with_name(f"retrieval_{plan.log.name}")
            self.retrieval = NodeProcess(parameters, {}, log, RETRIEVAL)

    def __enter__(self) -> "ReplaySession":
        # A domain chosen here is free.
        patience_s = DISCOVERY_S if _DOMAIN in os.environ else 0.0
        domain = use_own_domain()
        use_image_profile()
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = Node("replay", context=self._context)
        names = ["localizer"] if self.retrieval is None else ["localizer", "retrieval"]
        topics = [_CLOCK, *self.rig.image_topics]
        taken = find_occupant(self._node, names, topics, patience_s)
        if taken:
            self._node.destroy_node()
            rclpy.try_shutdown(context=self._context)
            raise ReplayError(f"{taken} runs in domain {domain} already: choose another {_DOMAIN}")
        exclude = (self._plan.layout.ground_truth,)
        config = ReplayConfig(rate=self._plan.rate, exclude=exclude)
        self.replayer = Replayer(self._node, self.bag, config)
        first = self.rig.cameras[0].name
        confidence = f"{first}/confidence" if first else "confidence"
        self.recorder = StreamRecorder(
            self._node,
            StreamTopics(confidence=confidence),
            confidence_period_ns=_CONFIDENCE_PERIOD_NS,
        )
        self._initialpose = self._node.create_publisher(PoseWithCovarianceStamped, _INITIALPOSE, 1)
        self._said = "nothing on /diagnostics"
        self._is_working = self._has_failed = False
        self._index = _IndexNews()
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._thread = threading.Thread(target=self._spin, name="recorder", daemon=True)
        self._thread.start()
        self.localizer.start()
        if self.retrieval is not None:
            self.retrieval.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.localizer.stop()
        if self.retrieval is not None:
            self.retrieval.stop()
        rclpy.try_shutdown(context=self._context)
        self._thread.join(timeout=5.0)

    def wait_until_ready(self) -> None:
        """Wait until the node has opened its map, and listens to images and to initial poses.

        Raises:
            ReplayError: If it dies or takes too long; with the end of its log.
        """
        layout, timeout = self._plan.layout, self._plan.start_timeout_s
        deadline = time.monotonic() + timeout
        topics = (*self.rig.topics, layout.tf, layout.tf_static, layout.prior_pose)
        # A node that cannot be configured does not subscribe, and says why.
        silent = self.replayer.wait_for_subscribers(topics, timeout, self._is_coming_up)
        while not silent and not self._initialpose.get_subscription_count():
            if time.monotonic() > deadline or not self._is_coming_up():
                silent = _INITIALPOSE
            time.sleep(_POLL_S)
        while not silent and not self._is_working:
            if time.monotonic() > deadline or not self._is_coming_up():
                self._fail(f"did not come up: {self._said}")
            time.sleep(_POLL_S)
        if silent:
            why = self._said if self._has_failed else f"it does not listen to {silent}"
            self._fail(f"did not come up: {why}")
        if self.retrieval is not None:
            self._wait_for_retrieval(self.retrieval)
        self.replayer.announce()

    def _is_coming_up(self) -> bool:
        """Whether the localizer may still come up.

        Raises:
            ReplayError: If the retrieval node cannot: there is no need to wait for the other.
        """
        if self.retrieval is not None:
            self._check_retrieval(self.retrieval)
        return self.localizer.alive and not self._has_failed

    def _check_retrieval(self, node: NodeProcess) -> None:
        if self._index.has_failed:
            raise ReplayError(f"the retrieval node did not come up: {self._index.said}")
        if not node.alive:
            raise ReplayError(f"the retrieval node did not come up:\n{node.last_words()}")

    def _wait_for_retrieval(self, node: NodeProcess) -> None:
        """Wait until the index is open; one that is being made may take long, if it goes on.

        Raises:
            ReplayError: If the node dies, says that there is none, or says nothing new for long.
        """
        began = time.monotonic()
        while not self._index.is_open:
            self._check_retrieval(node)
            newest = max(began, self._index.newest_s)
            if time.monotonic() > newest + self._plan.start_timeout_s:
                raise ReplayError(f"the retrieval node did not come up:\n{node.last_words()}")
            time.sleep(_POLL_S)

    def restart_localizer(self) -> None:
        """Kill the node, as a power cut would, and start it again; then wait until it is ready."""
        self.localizer.kill()
        self._is_working = self._has_failed = False
        self.localizer.start()
        self.wait_until_ready()

    def send_initial_pose(self, map_from_base: Pose, stamp_ns: int) -> None:
        """Publish where the robot is believed to be at a stamp."""
        message = PoseWithCovarianceStamped()
        message.header.frame_id = self._plan.layout.map_frame
        message.header.stamp = ns_to_stamp(stamp_ns)
        message.pose.pose = pose_to_message(map_from_base)
        message.pose.covariance = np.diag([0.1] * 3 + [0.05] * 3).reshape(-1).tolist()
        self._initialpose.publish(message)
        self.recorder.note_prior(stamp_ns)

    def play(self, stop: threading.Event | None = None) -> None:
        """Replay the bag; returns when the last image was answered, or soon after.

        Raises:
            ReplayError: If the node died on the way.
        """
        self.replayer.play(self._note, stop)
        self.recorder.wait_until_quiet(timeout_s=10.0)
        if not self.localizer.alive:
            self._fail("died")

    def result(self, truth: Trajectory | None = None) -> StreamRun:
        """What was recorded so far, beside the truth (that of the bag unless given)."""
        layout = self._plan.layout
        truth = truth or self.bag.trajectory(layout.ground_truth)
        stamps = np.array([stamps[0] for stamps in self._exposures.values()], dtype=np.int64)
        return self.recorder.result(self._plan.name, stamps, truth)

    def _fail(self, what: str) -> NoReturn:
        code = self.localizer.exit_code
        ended = "" if code is None else f" (exit code {code})"
        raise ReplayError(
            f"the localizer node {what}{ended}, end of {self._plan.log}:\n"
            + self.localizer.last_words()
        )

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for entry in message.status:
            if "retrieval" in entry.name:
                self._index.hear(entry)
            if entry.name.endswith("localization"):
                self._said = entry.message
                # An image that cannot be used says nothing about the map.
                is_wrong = entry.level == DiagnosticStatus.ERROR
                is_wrong &= not entry.message.startswith(
                    STATUS_NAMES[LocalizationStatus.BAD_INPUT]
                )
                self._is_working, self._has_failed = not is_wrong, is_wrong

    def _note(self, message: RawMessage) -> None:
        if message.topic in self.rig.image_topics:
            stamps = self._exposures.get((message.topic, message.header_ns))
            if stamps is not None:
                self.recorder.note_sent(stamps, message.stamp_ns)

    def _spin(self) -> None:
        executor = SingleThreadedExecutor(context=self._context)
        executor.add_node(self._node)
        try:
            executor.spin()
        except ExternalShutdownException:
            pass
        finally:
            executor.shutdown()
            self._node.destroy_node()


def use_own_domain() -> int:
    """The domain that the environment names, else one that nobody on this machine uses.

    A replay must neither hear the robots and replays of the neighbours nor disturb them: with two
    clocks in one domain, time goes back all the while.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    named = os.environ.get(_DOMAIN)
    if named is None:
        first = os.getpid()
        candidates = [1 + (first + step) % _NUM_DOMAINS for step in range(_NUM_DOMAINS)]
        free = next((domain for domain in candidates if is_free(domain)), candidates[0])
        os.environ[_DOMAIN] = named = str(free)
    return int(named)


def find_occupant(
    node: Node, names: Sequence[str], topics: Sequence[str], patience_s: float
) -> str:
    """What of a replay is in the domain of a node before it begins, such as those of a live robot.

    Args:
        node: Looks, before it publishes any of the topics itself.
        names: Nodes of the root namespace that a replay starts.
        topics: Topics that only the replay may publish.
        patience_s: How long to look.

    Returns:
        Words for the first one found, such as "a node /localizer"; nothing after a while without.
    """
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        seen = node.get_node_names_and_namespaces()
        found = [f"a node /{name}" for name in names if (name, "/") in seen]
        found += [f"a publisher of {topic}" for topic in topics if node.count_publishers(topic)]
        if found:
            return found[0]
        time.sleep(_POLL_S)
    return ""


def is_free(domain: int) -> bool:
    """Whether no participant of a domain listens on this machine, as far as its ports tell."""
    begin = 7400 + 250 * domain
    # Discovery by multicast, and the first participants, of which the very first may have left.
    for port in (begin, *range(begin + 10, begin + 30, 2)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", port))
            except OSError:
                return False
    return True


def _parameters(plan: ReplayPlan, rig: BagRig) -> dict[str, Any]:
    """What the bag and the replay decide wins over a parameter file for the robot."""
    return {
        **node_values(plan.parameters, plan.layout),
        "map": str(plan.map_path),
        "image_transport": rig.transport,
        "use_sim_time": True,
        "saved_pose_filepath": str(plan.saved_pose or ""),
    }

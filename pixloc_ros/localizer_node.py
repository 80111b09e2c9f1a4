"""The localizer as a ROS 2 lifecycle node: parameters to config, messages to the core and back.

The executor's thread takes messages in; one worker thread localizes the newest image. States,
topics, transforms, parameters, services and diagnostics: docs/node.md.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile

from pixloc_core.errors import FormatError, FrameError, PixlocError
from pixloc_ros.conversions import pose_from_rigid, rigid_from_initialpose, stamp_to_ns
from pixloc_ros.diagnostics import diagnostics
from pixloc_ros.frames import listen
from pixloc_ros.image_pipeline import ImagePipeline
from pixloc_ros.log_forwarding import Complaints, NodeLogHandler
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.node_main import run_node
from pixloc_ros.opening import OpenedMap, open_map
from pixloc_ros.parameters import Settings, unknown_overrides
from pixloc_ros.prior_poses import InitialPose, PoseBuffer
from pixloc_ros.reports import NodeReport, PipelineReport, SessionReport
from pixloc_ros.retrieval_client import RetrievalClient
from pixloc_ros.saved_pose import SavedPose, first_pose, save_pose
from pixloc_ros.services import Services
from pixloc_ros.session import Engine, Session

DIAGNOSTICS_PERIOD_S = 1.0
# A pose that claims to be of the future by more than this has a wrong clock.
_FUTURE_NS = 1_000_000_000

_USAGE = (
    "usage: localizer_node --ros-args [-p map:=map.h5] [-p NAME:=VALUE] [--params-file FILE] "
    "[-r image:=/camera/image] (docs/node.md; parameters: config/localizer.yaml)"
)

Opener = Callable[[NodeConfig, str], OpenedMap]
_DONE, _FAILED = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class LocalizerNode(LifecycleNode):
    """Localizes the images of one camera, or of one rig, in one map.

    Raises:
        ConfigError: If a parameter has the wrong type or is out of range.
    """

    def __init__(self, opener: Opener = open_map) -> None:
        """Start it, unconfigured; `opener` opens a map."""
        super().__init__("localizer")
        self._settings = Settings.declare(self)
        self._opener = opener
        self._log_handler = NodeLogHandler(self.get_logger())
        self._complaints = Complaints(self.get_logger())
        config = self._settings.node
        self._prior_poses = PoseBuffer(config.tf_history)
        self._frames = listen(self, config.tf_history, self._on_refused, self._on_time_set_back)
        self._retrieval = RetrievalClient(self, self._retrieval_settings, self._map_in_use)
        self._engine: Engine | None = None
        self._session: Session | None = None
        self._map_path = config.map
        self._problem = ""
        self._initial: InitialPose | None = None
        self._is_paused = False
        self._label = "unconfigured"
        self._refused = ""
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_subscription(
            PoseWithCovarianceStamped, "initialpose", self._on_initialpose, QoSProfile(depth=1)
        )
        self._commands = Services(self, self)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._report, clock=steady)
        self.create_timer(1 / config.save_pose_rate, self._save_pose, clock=steady)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._take_parameters)
        for name in unknown_overrides(self):
            self.get_logger().warning(f"parameter {name} is not known and has no effect")
        self._autostart = None
        if config.autostart:
            # Not here: whoever makes the node has not got it yet.
            self._autostart = self.create_timer(1e-3, self._start, clock=steady)

    # Lifecycle

    def _start(self) -> None:
        assert self._autostart is not None
        self.destroy_timer(self._autostart)
        if self.trigger_configure() is _DONE:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the map and warm up; fails where the map cannot be used, and says why."""
        started = time.monotonic()
        try:
            opened = self._opener(self._settings.node, self._map_path)
            self._engine = self._make_engine(opened)
        except Exception as error:  # noqa: BLE001 - rclpy would swallow it without a word
            return self._fail(error)
        self._problem, self._label = "", "inactive"
        seconds = time.monotonic() - started
        self.get_logger().info(f"map {self._map_path} opened in {seconds:.2f} s")
        if self._initial is None:
            self._initial = first_pose(self._settings.node, self._map_id(), self.get_logger())
        return _DONE

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen, work, publish."""
        assert self._engine is not None
        try:
            self._session = Session(self, self._use_engine, self._prior_poses, self._complaints)
        except Exception as error:  # noqa: BLE001 - rclpy would swallow it without a word
            return self._fail(error)
        if self._initial is not None:
            self._engine.pipeline.give(self._initial)
            self._initial = None
        self._session.pause(self._is_paused)
        self._problem, self._label = "", "active"
        self.get_logger().info(f"the transform {self._edge} is published by {self._tf_owner}")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop; the map stays open, and what is known of the pose stays known."""
        self._end_session()
        self._label = "inactive"
        self.get_logger().info("inactive: images are not looked at, nothing is published")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let the map go."""
        self._engine = None
        self._retrieval.cancel()
        self._label = "unconfigured"
        return _DONE

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop for good."""
        self._end_session()
        self._engine = None
        self._label = "finalized"
        return _DONE

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin anew after a transition that raised."""
        self._end_session()
        self._engine = None
        self._label = "unconfigured"
        return _DONE

    def _fail(self, error: Exception) -> TransitionCallbackReturn:
        """Say why a transition fails; the node stays as it was."""
        expected = isinstance(error, PixlocError)
        self._problem = str(error) if expected else f"{type(error).__name__}: {error}"
        self.get_logger().error(self._problem)
        return _FAILED

    def _end_session(self) -> None:
        if self._session is not None:
            self._save_pose()
            self._session.close()
            self._session = None

    def _make_engine(self, opened: OpenedMap) -> Engine:
        """Raises ConfigError if a setting does not fit the map, or a mask cannot be read."""
        settings = self._settings
        pipeline = ImagePipeline(
            opened.localizer(settings.core),
            self._frames,
            settings.node,
            self._retrieval,
            self._prior_poses,
            lambda: int(self.get_clock().now().nanoseconds),
        )
        return Engine(opened, pipeline, settings)

    def _use_engine(self) -> Engine:
        assert self._engine is not None
        return self._engine

    # Poses and commands from outside

    def _on_initialpose(self, message: PoseWithCovarianceStamped) -> None:
        try:
            self.get_logger().info(f"initialpose: {self.take_initial_pose(message)}")
        except FrameError as error:
            self._complaints.say("initialpose", f"{error}; ignored")

    def take_initial_pose(self, message: PoseWithCovarianceStamped) -> str:
        """See `services.Controlled`."""
        rigid = rigid_from_initialpose(message, self._settings.node.global_frame_id)
        pose, stamp_ns = pose_from_rigid(rigid), stamp_to_ns(message.header.stamp)
        ahead_ns = stamp_ns - self.get_clock().now().nanoseconds
        if ahead_ns > _FUTURE_NS:
            raise FrameError(f"initialpose lies {ahead_ns / 1e9:.1f} s in the future")
        if self._engine is not None:
            refusal = self._engine.opened.refuse(pose)
            if refusal:
                raise FrameError(f"initialpose {refusal}")
        initial = InitialPose(pose, stamp_ns)
        if self._session is None or self._engine is None:
            self._initial = initial
            return "kept until the node is active"
        self._engine.pipeline.give(initial)
        return "taken: the next image starts there"

    def relocalize(self) -> None:
        """See `services.Controlled`."""
        reason = "asked to look for the robot in the whole map"
        if not self._retrieval.is_available:
            reason = "asked to forget the pose: nobody serves retrieve_pose to look for another"
        self.get_logger().warning(reason)
        if self._engine is not None:
            self._engine.pipeline.relocalize(reason)

    def look_once(self) -> None:
        """See `services.Controlled`."""
        if self._session is not None:
            self._session.want_next()

    def pause(self, paused: bool) -> str:
        """See `services.Controlled`."""
        self._is_paused = paused
        if self._session is not None:
            self._session.pause(paused)
        said = "paused" if paused else "images are localized"
        self.get_logger().info(f"trigger: {said}")
        return said

    def open_map(self, path: str) -> OpenedMap:
        """See `services.Controlled`."""
        return self._opener(self._settings.node, path)

    def use_map(self, opened: OpenedMap, path: str) -> None:
        """See `services.Controlled`."""
        # Whoever gave it meant the old map.
        self._initial = None
        if self._engine is None:
            self._map_path = path
            self._retrieval.follow(path)
            self.get_logger().info(f"map {path} will be used when the node is configured")
            return
        engine = self._make_engine(opened)
        # The image in work must not say anything about the new map.
        self._engine.pipeline.retire("another map is in use now")
        with self._session.publishing if self._session is not None else nullcontext():
            self._engine = engine
            if self._session is not None:
                self._session.outputs.start_again()
        self._map_path, self._problem = path, ""
        self._retrieval.follow(path)
        self._prior_poses.clear()
        self.get_logger().info(f"map {path} is in use now: waiting for a first pose in it")

    def _on_refused(self, reason: str) -> None:
        self._refused = reason
        self._complaints.say("transform", reason)

    def _on_time_set_back(self) -> None:
        if self._session is not None:
            # First, or an image of before would use up the pose of the new beginning.
            self._session.clear()
        if self._engine is not None:
            self._engine.pipeline.start_again("time was set back: waiting for a first pose")
        self._prior_poses.clear()

    # Parameters

    def _check_parameters(self, parameters: list[Parameter[Any]]) -> SetParametersResult:
        try:
            settings = self._settings.changed(parameters)
            if self._engine is not None:
                # What the map's features do not allow must be refused here, too.
                self._engine.opened.localizer(settings.core)
        except PixlocError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _take_parameters(self, parameters: list[Parameter[Any]]) -> None:
        self._settings = self._settings.changed(parameters)
        for parameter in parameters:
            if parameter.name in self._settings.values:
                self.get_logger().info(f"parameter {parameter.name} is {parameter.value!r} now")
        engine = self._engine
        if engine is not None:
            localizer = engine.opened.localizer(self._settings.core)
            engine.pipeline.use(localizer, self._settings.node)
            self._engine = replace(engine, settings=self._settings)

    def _retrieval_settings(self) -> tuple[float, int]:
        config = self._settings.node
        return config.retrieval_timeout, config.retrieval_results

    # Reports

    def _map_in_use(self) -> tuple[str, str]:
        return self._map_id(), self._map_path

    def _map_id(self) -> str:
        return "" if self._engine is None else self._engine.opened.map_id

    @property
    def _full_name(self) -> str:
        """With the namespace: several robots share /diagnostics."""
        return str(self.get_fully_qualified_name()).lstrip("/")

    @property
    def _edge(self) -> str:
        config = self._settings.node
        return f"{config.global_frame_id} -> {config.odom_frame_id}"

    @property
    def _tf_owner(self) -> str:
        is_ours = self._settings.node.tf_broadcast
        return "this node" if is_ours else "somebody else (tf_broadcast is off)"

    def _save_pose(self) -> None:
        path = self._settings.node.saved_pose_filepath
        fix = None if self._engine is None else self._engine.pipeline.fix
        if not path or fix is None:
            return
        try:
            save_pose(Path(path), SavedPose.of(fix, self._map_id(), self._settings.node))
        except FormatError as error:
            self._complaints.say("saved_pose_filepath", str(error))

    def _report(self) -> None:
        session, engine = self._session, self._engine
        report = NodeReport(
            lifecycle=self._label,
            map_path=self._map_path and str(Path(self._map_path).absolute()),
            map_id=self._map_id(),
            problem=self._problem,
            pipeline=PipelineReport() if engine is None else engine.pipeline.report(),
            session=SessionReport() if session is None else session.report(),
            refused_transform=self._refused,
            retrieval=(self._retrieval.is_available, self._retrieval.problem),
            tf_owner=self._tf_owner,
        )
        self._refused = ""
        message = DiagnosticArray(status=diagnostics(self._full_name, report))
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def close(self) -> bool:
        """Finish the image in work and stop; whether nothing of it is left in other threads."""
        self._end_session()
        self._engine = None
        is_over = self._commands.close()
        self._retrieval.close()
        self._log_handler.detach()
        self.destroy_node()
        return is_over


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; 2 if the command line or a parameter is wrong."""
    return run_node(LocalizerNode, "localizer", _USAGE, args)


if __name__ == "__main__":
    raise SystemExit(main())

"""One activation of the node: subscriptions, the worker, publishers."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from pixloc_core.errors import PixlocError
from pixloc_core.localizer.supervisor import State
from pixloc_ros.diagnostics import STATUS_NAMES, status_message
from pixloc_ros.image_pipeline import ImagePipeline
from pixloc_ros.inputs import Inputs
from pixloc_ros.latest_worker import LatestWorker, WorkerCounts
from pixloc_ros.log_forwarding import Complaints
from pixloc_ros.opening import OpenedMap
from pixloc_ros.outcome import Outcome
from pixloc_ros.outputs import Outputs
from pixloc_ros.parameters import Settings
from pixloc_ros.prior_poses import PoseBuffer
from pixloc_ros.reports import SessionReport
from pixloc_ros.rig_messages import RigMessage, is_too_soon

# An image may take so long.
_SLOWEST_S = 2.0
# Rates are taken over at least so many exposures, or so much time.
_FEWEST, _LONGEST_S = 10, 5.0


@dataclass(frozen=True)
class Engine:
    """What a session works with; replaced as a whole.

    Attributes:
        opened: The map.
        pipeline: What happens to an exposure.
        settings: Parameters.
    """

    opened: OpenedMap
    pipeline: ImagePipeline
    settings: Settings


class Session:
    """Hears, works and publishes from its making until `close`."""

    def __init__(
        self,
        node: Node,
        engine: Callable[[], Engine],
        prior_poses: PoseBuffer,
        complaints: Complaints,
    ) -> None:
        """Begin.

        Args:
            node: Has the publishers and subscriptions.
            engine: Gives the one in use.
            prior_poses: Takes in the topic prior_pose.
            complaints: Hears what went wrong.
        """
        self._node, self._engine, self._complaints = node, engine, complaints
        config = engine().settings.node
        self.outputs = Outputs(node, config)
        self._worker: LatestWorker[RigMessage] = LatestWorker(self._work, self._on_error)
        self.outcome: Outcome | None = None
        self.latency_ms = 0.0
        self.localized = 0
        self._reported_s = time.monotonic()
        self._window, self._shares = (self._reported_s, WorkerCounts()), (0.0, 0.0)
        self._told = State.UNINITIALIZED
        self._is_paused = False
        self._is_wanted = False
        # Held while a pose is published, and while another map comes into use.
        self.publishing = threading.Lock()
        self._taken_ns = self._judged_ns = 0
        self._timer = None
        try:
            self.inputs = Inputs(node, config, prior_poses, self._on_exposure, complaints.say)
        except Exception:
            self.outputs.close()
            raise
        self._worker.start()
        if config.tf_broadcast:
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._timer = node.create_timer(1 / config.tf_rate, self._broadcast, clock=steady)

    @property
    def counts(self) -> WorkerCounts:
        """Exposures received, taken, dropped."""
        return self._worker.counts

    def report(self) -> SessionReport:
        """What became of the exposures, since the last report, too."""
        now, counts = time.monotonic(), self.counts
        period_s, self._reported_s = now - self._reported_s, now
        began_s, then = self._window
        exposures, window_s = counts.received - then.received, now - began_s
        # A share of one or two exposures would be all or nothing.
        if exposures >= _FEWEST or window_s > _LONGEST_S:
            self._window = (now, counts)
            self._shares = (
                exposures / max(window_s, 1e-3),
                (counts.dropped - then.dropped) / max(exposures, 1),
            )
        return SessionReport(
            is_paused=self._is_paused,
            outcome=self.outcome,
            latency_ms=self.latency_ms,
            counts=counts,
            localized=self.localized,
            exposure_rate_hz=self._shares[0],
            dropped_share=self._shares[1],
            period_s=period_s,
            heard=self.inputs.report(),
        )

    def close(self) -> None:
        """Finish the image in work; take everything down."""
        self.inputs.close()
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        self._worker.stop()
        self.outputs.close()

    def pause(self, paused: bool) -> None:
        """Look at no more images, or at images again."""
        self._is_paused = paused

    def want_next(self) -> None:
        """Look at the next image, whatever `max_rate` says, also while paused."""
        self._is_wanted = True

    def clear(self) -> None:
        """Forget what waits, and the path."""
        self.inputs.clear()
        self._worker.clear()
        self.outputs.clear()
        self._taken_ns = self._judged_ns = 0

    def _on_exposure(self, exposure: RigMessage) -> None:
        if self._is_due(exposure.stamp_ns):
            self._taken_ns = exposure.stamp_ns
            self._is_wanted = False
            self._worker.put(exposure)

    def _is_due(self, stamp_ns: int) -> bool:
        if self._is_wanted:
            return True
        rate = self._engine().settings.node.max_rate
        return not (self._is_paused or is_too_soon(stamp_ns, self._taken_ns, rate))

    def _work(self, item: RigMessage) -> None:
        engine = self._engine()
        outcome = engine.pipeline.run(item)
        if not self._node.context.ok():
            return
        with self.publishing:
            if outcome.published and engine.pipeline is not self._engine().pipeline:
                # Found just before another map came into use.
                return
            if outcome.published:
                self.outputs.publish_pose(outcome, item.stamp_ns)
            else:
                self.outputs.interrupt()
        self.localized += outcome.published
        if outcome.reason:
            name = STATUS_NAMES[outcome.status]
            self._complaints.say(name, f"{name}: {outcome.reason}")
        self.outcome = outcome
        if item.stamp_ns <= self.inputs.newest_ns:
            self._judged_ns = item.stamp_ns
        self.latency_ms = (time.monotonic() - item.arrived_s) * 1e3
        message = status_message(
            outcome,
            self._worker.counts,
            received=self.inputs.received,
            localized=self.localized,
            failures=engine.pipeline.report().failures,
            latency_ms=self.latency_ms,
        )
        message.map_id = engine.opened.map_id
        self.outputs.publish_status(message)
        self._tell(outcome)
        # Last, for these are for people only and may be large.
        self.outputs.publish_pictures(outcome, item, engine.opened.points)

    def _tell(self, outcome: Outcome) -> None:
        """Say each change of the state once."""
        state, reason = outcome.decision.state, outcome.decision.reason
        if state is self._told:
            return
        self._told = state
        if state is State.TRACKING:
            self._node.get_logger().info(f"{state.name}: {reason}")
        else:
            self._node.get_logger().warning(f"{state.name}: {reason}")

    def _on_error(self, error: Exception) -> None:
        if not self._node.context.ok():
            return
        expected = isinstance(error, PixlocError)
        # An error nobody foresaw is ours: its name is part of the report.
        text = str(error) if expected else f"internal error: {type(error).__name__}: {error}"
        self._complaints.say(type(error).__name__, text)

    def _broadcast(self) -> None:
        engine, newest_ns = self._engine(), self.inputs.newest_ns
        map_from_odom = engine.pipeline.map_from_odom
        # Before this activation has judged an image, the pose is of a time nobody has watched.
        if map_from_odom is None or not (newest_ns and self._judged_ns):
            return
        config = engine.settings.node
        unseen_s = (newest_ns - self._judged_ns) / 1e9
        if unseen_s > config.state.lost_after + _SLOWEST_S and not self._is_paused:
            # Images arrive and none is judged: what is sent would look fresh, and is not.
            return
        self.outputs.broadcast(map_from_odom, newest_ns, config.transform_tolerance)

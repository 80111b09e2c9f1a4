"""One exposure through the localizer: decode, frames and prior, localize, judge."""

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Protocol

from pixloc_core.errors import FormatError, PixlocError
from pixloc_core.geometry import Pose
from pixloc_core.localizer.covariance import base_covariance
from pixloc_core.localizer.evidence_grade import grade
from pixloc_core.localizer.fix import Fix
from pixloc_core.localizer.prior import Prior
from pixloc_core.localizer.result import Localization
from pixloc_core.localizer.supervisor import Decision, FrameReport, State, Supervisor
from pixloc_core.localizer.view import View
from pixloc_ros.exposure import ExposureReader
from pixloc_ros.frames import FrameSource
from pixloc_ros.interfaces import LocalizationStatus as StatusMessage
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.outcome import Outcome
from pixloc_ros.prior_choice import PriorChoice, Start
from pixloc_ros.prior_poses import InitialPose, PoseBuffer, configured_pose
from pixloc_ros.reports import PipelineReport
from pixloc_ros.retrieval_source import RetrievalSource
from pixloc_ros.rig_messages import RigMessage
from pixloc_ros.saved_odometry import SavedOdometry, resume

logger = logging.getLogger(__name__)

# Stamps that go back further than this mean that time was set back.
_BACKWARD_NS = 1_000_000_000
# Clocks of computers on one robot differ by less.
AHEAD_NS = 1_000_000_000
# A saved pose waits so long for the odometry that tells where the robot went since: the camera may
# be heard before /tf.
_ODOMETRY_LATE_NS = 2_000_000_000


class Localizes(Protocol):
    """What the pipeline needs of `pixloc_core.localizer.Localizer`."""

    def localize_views(
        self, views: Sequence[View], prior: Prior, *, search: bool = True
    ) -> Localization:
        """Localize the images of one exposure."""
        ...


class ImagePipeline:
    """What happens to an exposure, in the worker's thread.

    The other methods may be called from any thread, at any time; what they change holds for the
    image in work, too.
    """

    def __init__(
        self,
        localizer: Localizes,
        frames: FrameSource,
        config: NodeConfig,
        retrieval: RetrievalSource | None = None,
        prior_poses: PoseBuffer | None = None,
        now_ns: Callable[[], int] | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            localizer: The core.
            frames: Transforms.
            config: Settings.
            retrieval: Where to ask when nothing is known.
            prior_poses: Poses of a filter.
            now_ns: Time of the node's clock; images of the future are refused. None: there is
                no clock.

        Raises:
            ConfigError: If a mask cannot be read.
        """
        self._localizer = localizer
        self._now_ns = now_ns
        self._config = config
        self._reader = ExposureReader(config, frames)
        self._supervisor = Supervisor(config.state)
        self._choice = PriorChoice(config, frames, self._supervisor, retrieval, prior_poses)
        self._is_rectified = config.image_is_rectified
        self._lock = threading.RLock()
        self._generation = 0
        self._is_retired = False
        self._initial: InitialPose | None = None
        self._waiting_since_ns = 0
        self._map_from_odom: Pose | None = None
        self._last_ns = 0
        self._camera_problem = ""
        self._stage_ms: dict[str, float] = {}
        self._told_faults: set[tuple[str, str, int | None]] = set()

    def give(self, initial: InitialPose) -> None:
        """Leave an initial pose for the next image; it replaces all that is known."""
        with self._lock:
            self._generation += 1
            self._initial, self._waiting_since_ns = initial, 0

    def reset(self, reason: str) -> None:
        """Forget everything about poses; an initial pose that waits for an image stays."""
        with self._lock:
            self._generation += 1
            self._supervisor.reset(reason)
            self._choice.clear()
            self._reader.clear()
            self._map_from_odom, self._last_ns = None, 0

    def retire(self, reason: str) -> None:
        """Another pipeline takes over: nothing is said of images any more, nor of one in work."""
        with self._lock:
            self.reset(reason)
            self._initial, self._is_retired = None, True

    def start_again(self, reason: str) -> None:
        """Time was set back: forget everything; a bag that starts again starts where it did."""
        with self._lock:
            self.reset(reason)
            self._initial = configured_pose(self._config)

    def relocalize(self, reason: str) -> None:
        """Give the pose up; look for the robot in the whole map."""
        with self._lock:
            self._generation += 1
            self._supervisor.lose(reason)
            self._choice.seek()
            self._initial, self._map_from_odom = None, None

    def use(self, localizer: Localizes, config: NodeConfig) -> None:
        """Go on with other settings; what is known of the pose stays."""
        with self._lock:
            self._localizer, self._config = localizer, config
            self._supervisor.config = config.state
            self._choice.config = config
            if config.image_is_rectified != self._is_rectified:
                self._is_rectified = config.image_is_rectified
                self._reader.use(config)

    @property
    def state(self) -> tuple[State, str]:
        """State and its reason."""
        return self._supervisor.state, self._supervisor.reason

    def report(self) -> PipelineReport:
        """What is known of the pose."""
        return PipelineReport(
            *self.state,
            self._supervisor.failures,
            self._camera_problem,
            self._choice.odometry_problem,
        )

    @property
    def fix(self) -> Fix | None:
        """The pose believed in."""
        return self._supervisor.published_fix

    @property
    def map_from_odom(self) -> Pose | None:
        """The transform to broadcast; None while nothing is believed."""
        # Without the lock: the worker may hold it while it waits for transforms, which this
        # very thread brings.
        return self._map_from_odom

    def run(self, item: RigMessage) -> Outcome:
        """Localize one exposure; whatever goes wrong is an outcome: the next may be better."""
        self._stage_ms = {}
        try:
            outcome = self._run(item)
        except PixlocError as error:
            outcome = self._unusable(item, StatusMessage.BAD_INPUT, str(error))
        except Exception as error:  # noqa: BLE001 - the next image may be better
            self._tell_fault(error)
            reason = f"{type(error).__name__}: {error}"
            outcome = self._unusable(item, StatusMessage.INTERNAL_ERROR, reason)
        return replace(outcome, stage_ms=self._stage_ms)

    def _tell_fault(self, error: Exception) -> None:
        """The traceback of an error of our own, once for each place that it comes from."""
        frames = traceback.extract_tb(error.__traceback__)
        place = (type(error).__name__, frames[-1].filename, frames[-1].lineno)
        if place not in self._told_faults:
            self._told_faults.add(place)
            logger.error("internal error", exc_info=error)

    def _unusable(self, item: RigMessage, status: int, reason: str) -> Outcome:
        """An exposure that says nothing about the pose; but time goes by without one."""
        with self._lock:
            decision = self._judge(FrameReport(item.stamp_ns, failure=reason))
        return Outcome(item.cameras[0].image.header, status, decision, reason)

    def _run(self, item: RigMessage) -> Outcome:
        stamp_ns = item.stamp_ns
        self._check_stamp(stamp_ns)
        with self._lock:
            # Whatever is reset from now on, this image must not use.
            generation, localizer = self._generation, self._localizer
        with self._stage("decode"):
            decoded = self._reader.decode(item)
        with self._stage("frames"):
            odometry = self._choice.odometry(stamp_ns)
            exposure = self._reader.place(item, decoded, odometry)
            initial = self._timed_initial(stamp_ns)
            heard = self._choice.hear(stamp_ns, odometry)
        self._camera_problem = exposure.problem
        with self._lock:
            if self._is_outdated(generation):
                return self._outdated(item)
            if initial is not None:
                self._begin_at(*initial)
            start = self._choice.start(exposure, stamp_ns, odometry, heard)
        outcome = Outcome(
            exposure.messages[0].image.header,
            StatusMessage.LOCALIZED,
            Decision(*self.state),
            prior_source=start.source,
            cameras=tuple(message.name for message in exposure.messages),
            headers=tuple(message.image.header for message in exposure.messages),
            base_from_cam=exposure.base_from_cam[0],
            odom_from_base=odometry,
        )
        if start.map_from_base is None:
            with self._lock:
                decision = self._judge(FrameReport(stamp_ns, failure=start.problem))
            return replace(
                outcome, status=StatusMessage.NO_PRIOR, reason=start.problem, decision=decision
            )
        cam_from_map = (start.map_from_base @ exposure.base_from_cam[0]).inv()
        prior = Prior.from_pose(cam_from_map)
        found = localizer.localize_views(exposure.views(), prior, search=start.search)
        self._add_stages(found)
        with self._lock:
            if self._is_outdated(generation):
                return self._outdated(item)
            return self._finish(replace(outcome, localization=found), start, stamp_ns)

    def _is_outdated(self, generation: int) -> bool:
        return self._is_retired or generation != self._generation

    def _outdated(self, item: RigMessage) -> Outcome:
        reason = "the pose was reset while this image was in work"
        header = item.cameras[0].image.header
        return Outcome(header, StatusMessage.NO_PRIOR, Decision(*self.state), reason)

    def _timed_initial(self, stamp_ns: int) -> tuple[InitialPose, Fix] | None:
        """The initial pose given since the last image, with the odometry at its stamp.

        Without the lock: this may wait for transforms, which the executor's thread brings.
        """
        initial = self._initial
        if initial is None:
            return None
        if initial.odometry is not None:
            return self._resumed(initial, initial.odometry, stamp_ns)
        given_ns = initial.stamp_ns or stamp_ns
        odometry = self._choice.odometry_near(given_ns)
        return initial, Fix(given_ns, initial.map_from_base, odometry, initial.source)

    def _resumed(
        self, initial: InitialPose, saved: SavedOdometry, stamp_ns: int
    ) -> tuple[InitialPose, Fix] | None:
        """The pose of the last run, moved to now; None while odometry is waited for."""
        # At this very stamp: with older odometry the pose would be where the robot was then.
        odometry = self._choice.odometry(stamp_ns)
        self._waiting_since_ns = self._waiting_since_ns or stamp_ns
        if odometry is None and stamp_ns - self._waiting_since_ns < _ODOMETRY_LATE_NS:
            return None
        config = self._config
        frames = (config.odom_frame_id, config.base_frame_id)
        pose = initial.map_from_base
        return initial, resume(pose, saved, stamp_ns, odometry, frames, config.state)

    def _begin_at(self, initial: InitialPose, fix: Fix) -> None:
        """Begin anew, unless another pose was given meanwhile, or found before a saved one."""
        if self._initial is not initial:
            return
        self._initial = None
        if initial.source == "saved" and self._supervisor.state is not State.UNINITIALIZED:
            return
        self._choice.clear()
        self._supervisor.start(fix, given=initial.source == "initialpose")
        self._map_from_odom = None

    def _finish(self, outcome: Outcome, start: Start, stamp_ns: int) -> Outcome:
        """What the answer of the core means."""
        found = outcome.localization
        assert found is not None
        assert outcome.base_from_cam is not None
        if found.cam_from_map is None or found.covariance is None:
            decision = self._judge(FrameReport(stamp_ns, failure=found.reason))
            return replace(
                outcome,
                status=StatusMessage.NOT_LOCALIZED,
                reason=found.reason,
                decision=decision,
            )
        cam_from_base = outcome.base_from_cam.inv()
        map_from_base = (found.cam_from_map.inv() @ cam_from_base).normalized()
        fix = Fix(stamp_ns, map_from_base, outcome.odom_from_base, start.source)
        evidence = grade(found, self._config.state)
        decision = self._judge(FrameReport(stamp_ns, fix, evidence, expected=start.expected))
        covariance = base_covariance(found.covariance, found.cam_from_map, cam_from_base)
        return replace(
            outcome,
            status=StatusMessage.LOCALIZED if decision.publish else StatusMessage.NOT_LOCALIZED,
            reason=decision.refusal,
            decision=decision,
            map_from_base=map_from_base,
            covariance=covariance * decision.covariance_factor,
        )

    def _judge(self, report: FrameReport) -> Decision:
        decision = self._supervisor.judge(report)
        fix = self._supervisor.published_fix
        if fix is None:
            self._map_from_odom = None
        elif fix.map_from_odom is not None:
            # An image without odometry says nothing new about the frame of the odometry.
            self._map_from_odom = fix.map_from_odom
        return decision

    def _check_stamp(self, stamp_ns: int) -> None:
        """Refuse images without time, of the future, or of the past.

        Raises:
            FormatError: In one line.
        """
        if stamp_ns == 0:
            raise FormatError("image has stamp 0, expected its time of exposure")
        ahead_ns = 0 if self._now_ns is None else stamp_ns - self._now_ns()
        if ahead_ns > AHEAD_NS:
            raise FormatError(
                f"image lies {ahead_ns / 1e9:.1f} s in the future of the clock of this node, "
                "expected the time of its exposure (is use_sim_time set without /clock?)"
            )
        back_ns = self._last_ns - stamp_ns
        if back_ns > _BACKWARD_NS:
            self.start_again("the stamps of the images were set back: waiting for a first pose")
        elif self._last_ns and back_ns >= 0:
            raise FormatError(
                f"image is {back_ns / 1e9:.3f} s older than the one before, expected a later stamp"
            )
        self._last_ns = stamp_ns

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._stage_ms[name] = (time.perf_counter() - started) * 1e3

    def _add_stages(self, found: Localization) -> None:
        for stage in fields(found.timings):
            name = stage.name.removesuffix("_ms")
            self._stage_ms[name] = float(getattr(found.timings, stage.name))

"""Where to look for the robot in the next exposure: all that is known, in one order."""

from dataclasses import dataclass

import torch

from pixloc_core.errors import FrameError
from pixloc_core.geometry import Pose
from pixloc_core.localizer.fix import Fix
from pixloc_core.localizer.supervisor import State, Supervisor
from pixloc_ros.exposure import Exposure
from pixloc_ros.frames import FrameSource
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.prior_poses import PoseBuffer
from pixloc_ros.retrieval_source import RetrievalAnswer, RetrievalQuery, RetrievalSource

# Sources of a first pose that a filter does not overrule.
GIVEN_BY_HAND = ("initialpose", "saved")


@dataclass(frozen=True)
class Start:
    """Where the localizer begins.

    Attributes:
        map_from_base: Poses (k); None if nothing is known.
        source: As `prior_source` in LocalizationStatus.msg.
        search: Whether to look around them.
        expected: Pose of a filter, which the answer is held against.
        problem: Why nothing is known.
    """

    map_from_base: Pose | None
    source: str = ""
    search: bool = True
    expected: Pose | None = None
    problem: str = ""


@dataclass(frozen=True)
class Heard:
    """What a filter says of the pose at a stamp.

    Attributes:
        map_from_base: Pose, or None.
        source: "topic" or "tf".
        problem: Why there is no pose.
    """

    map_from_base: Pose | None = None
    source: str = ""
    problem: str = ""


class PriorChoice:
    """Chooses; state is the supervisor's, besides an answer of the retrieval that is in use.

    Attributes:
        config: Settings, which may change.
        odometry_problem: Why the last image had no odometry, although there is some, or
            `tf_broadcast` needs it; else empty.
    """

    def __init__(
        self,
        config: NodeConfig,
        frames: FrameSource,
        supervisor: Supervisor,
        retrieval: RetrievalSource | None,
        prior_poses: PoseBuffer | None,
    ) -> None:
        self.config = config
        self._frames, self._supervisor = frames, supervisor
        self._retrieval, self._prior_poses = retrieval, prior_poses
        self.odometry_problem = ""
        self._answer: RetrievalAnswer | None = None
        self._tries = 0
        self._turn = 0
        self._is_sought = False

    def clear(self) -> None:
        """Forget what the retrieval said."""
        self._answer, self._tries = None, 0
        if self._retrieval is not None:
            self._retrieval.cancel()

    def odometry(self, stamp_ns: int | None) -> Pose | None:
        """`odom_from_base` at a stamp (None: the newest), or None where there is none."""
        odom, base = self.config.odom_frame_id, self.config.base_frame_id
        self.odometry_problem = ""
        # Nobody publishes odometry: waiting for it would cost every image the whole timeout.
        if not self._frames.knows(odom):
            if self.config.tf_broadcast:
                edge = f"{self.config.global_frame_id} -> {odom}"
                problem = f"nothing on /tf names frame {odom!r}: {edge} cannot be published"
                self.odometry_problem = problem
            return None
        try:
            return self._frames.lookup(odom, base, stamp_ns, self.config.transform_timeout)
        except FrameError as error:
            self.odometry_problem = f"no odometry at the stamp of the image: {error}"
            return None

    def odometry_near(self, stamp_ns: int) -> Pose | None:
        """Odometry at a stamp; the newest where that is not known."""
        found = self.odometry(stamp_ns)
        return self.odometry(None) if found is None else found

    def hear(self, stamp_ns: int, odometry: Pose | None) -> Heard:
        """What others say of the pose at a stamp, as far as it matters; may wait for /tf."""
        source, supervisor = self.config.prior_source, self._supervisor
        if source == "topic":
            return self._hear_topic(stamp_ns, odometry)
        if source == "retrieval" or supervisor.predict(stamp_ns, odometry) is not None:
            return Heard()
        if self._is_sought and self._is_helped:
            # Asked to look for the robot in the whole map: who was wrong is not asked again.
            return Heard()
        heard = self._hear_topic(stamp_ns, odometry) if source == "auto" else Heard()
        return self._hear_tf(stamp_ns) if heard.map_from_base is None else heard

    def seek(self) -> None:
        """Look for the robot in the whole map, and not first where a filter has it."""
        self.clear()
        self._is_sought = True

    def start(
        self, exposure: Exposure, stamp_ns: int, odometry: Pose | None, heard: Heard
    ) -> Start:
        """Where to begin; asks the retrieval where that may help.

        Args:
            exposure: The images.
            stamp_ns: Their stamp.
            odometry: `odom_from_base` at its stamp, or None.
            heard: Of `hear`, for this exposure.
        """
        source, supervisor = self.config.prior_source, self._supervisor
        self._is_sought &= supervisor.published_fix is None
        if heard.map_from_base is not None and supervisor.predict(stamp_ns, odometry) is None:
            fix = Fix(stamp_ns, heard.map_from_base, odometry, heard.source)
            # Whom prior_source names may know. Whoever happens to be there may be a filter that
            # has heard nothing of the map yet, and says its origin; and after a loss none is wiser
            # than we are: they live on our poses.
            supervisor.start(fix, given=source != "auto" and not supervisor.was_tracking)
        if source == "topic" and not self._is_given_by_hand:
            return self._follow(heard)
        retrieved = None
        if source in ("auto", "retrieval") and self._retrieval is not None:
            retrieved = self._ask(exposure, odometry)
        prediction = supervisor.predict(stamp_ns, odometry)
        if retrieved is not None:
            return self._join(retrieved, prediction.map_from_base if prediction else None)
        if prediction is None:
            return Start(None, problem=self._problem())
        # Where the retrieval will tell, a search around a pose that failed is a waste of time.
        search = not prediction.is_near and not self._is_helped
        return Start(prediction.map_from_base, prediction.source, search or supervisor.is_fresh)

    @property
    def _is_given_by_hand(self) -> bool:
        return self._supervisor.is_fresh and self._supervisor.fresh_source in GIVEN_BY_HAND

    @property
    def _is_helped(self) -> bool:
        """Whether the retrieval will tell where to look."""
        retrieval = self._retrieval
        helps = self.config.prior_source in ("auto", "retrieval")
        return helps and retrieval is not None and retrieval.is_available and not retrieval.problem

    def _follow(self, heard: Heard) -> Start:
        """Prior source `topic`: every image starts where the filter says."""
        if heard.map_from_base is None:
            return Start(None, problem=heard.problem)
        poses = Pose(heard.map_from_base.data[None])
        return Start(poses, heard.source, search=True, expected=heard.map_from_base)

    def _hear_topic(self, stamp_ns: int, odometry: Pose | None) -> Heard:
        """Pose of the topic at the stamp, moved by odometry where it is older."""
        if self._prior_poses is None:
            return Heard(problem="no topic prior_pose")
        try:
            pose, then_ns = self._prior_poses.at(stamp_ns, self.config.prior_max_age)
        except FrameError as error:
            return Heard(problem=str(error))
        then = None if then_ns == stamp_ns else self.odometry(then_ns)
        return Heard(Fix(then_ns, pose, then).moved(odometry), "topic")

    def _hear_tf(self, stamp_ns: int) -> Heard:
        """Pose of somebody else on /tf."""
        config = self.config
        # With tf_broadcast the transform on /tf is our own, of a past that is not believed.
        if config.tf_broadcast or not self._frames.knows(config.global_frame_id):
            return Heard()
        frames = (config.global_frame_id, config.base_frame_id)
        try:
            found = self._frames.lookup(*frames, stamp_ns, config.transform_timeout)
        except FrameError as error:
            return Heard(problem=str(error))
        return Heard(found, "tf")

    def _ask(self, exposure: Exposure, odometry: Pose | None) -> Pose | None:
        """Poses (k) of the retrieval for this exposure; asks it where it has not said any."""
        assert self._retrieval is not None
        if not self._supervisor.needs_help:
            self._answer, self._tries = None, 0
            return None
        answer = self._retrieval.take()
        if answer is not None:
            self._answer, self._tries = answer, 0
        if self._answer is None or self._tries > 1:
            self._answer = None
            # The cameras of a rig take turns: one of them may see nothing that is in the map.
            index = self._turn % len(exposure.messages)
            self._turn += 1
            message, base_from_cam = exposure.messages[index], exposure.base_from_cam[index]
            self._retrieval.request(RetrievalQuery(message, base_from_cam, odometry))
            return None
        self._tries += 1
        return self._answer.map_from_base(odometry)

    def _join(self, retrieved: Pose, own: Pose | None) -> Start:
        """All hypotheses at once, our own first; around them only at the second attempt."""
        poses = retrieved.data if own is None else torch.cat([own.data, retrieved.data])
        return Start(Pose(poses), "retrieval", search=self._tries > 1)

    def _problem(self) -> str:
        text = "no pose yet" if self._supervisor.state is State.UNINITIALIZED else "lost"
        if self.config.prior_source not in ("auto", "retrieval") or self._retrieval is None:
            return f"{text}: waiting for initialpose"
        problem = self._retrieval.problem
        why = f" ({problem})" if problem else ""
        return f"{text}: waiting for initialpose, or for retrieval{why}"

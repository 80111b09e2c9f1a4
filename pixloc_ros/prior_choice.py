"""Where to look for the robot in the next exposure: all that is known, in one order."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pixloc_core.errors import FrameError
from pixloc_core.geometry import Pose
from pixloc_core.localizer.fix import Fix
from pixloc_core.localizer.supervisor import State, Supervisor
from pixloc_ros.frames import FrameSource
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.prior_poses import PoseBuffer
from pixloc_ros.retrieval_source import RetrievalAnswer, RetrievalQuery, RetrievalSource
from pixloc_ros.rig_messages import RigMessage


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


class PriorChoice:
    """Chooses; state is the supervisor's, besides an answer of the retrieval that is in use.

    Attributes:
        config: Settings, which may change.
        odometry_problem: Why the last image had no odometry, although there is some; else empty.
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

    def start(
        self, item: RigMessage, base_from_cam: Sequence[Pose], odometry: Pose | None
    ) -> Start:
        """Where to begin; asks the retrieval where that may help."""
        source = self.config.prior_source
        if source == "topic":
            return self._follow(item.stamp_ns, odometry)
        supervisor, stamp_ns = self._supervisor, item.stamp_ns
        if supervisor.predict(stamp_ns, odometry) is None and source in ("auto", "tf"):
            self._start_elsewhere(stamp_ns, odometry)
        retrieved = None
        if source in ("auto", "retrieval") and self._retrieval is not None:
            retrieved = self._ask(item, base_from_cam, odometry)
        prediction = supervisor.predict(stamp_ns, odometry)
        if retrieved is not None:
            return self._join(retrieved, prediction.map_from_base if prediction else None)
        if prediction is None:
            return Start(None, problem=self._problem())
        # Where the retrieval will tell, a search around a pose that failed is a waste of time.
        search = not prediction.is_near and not self._is_helped
        return Start(prediction.map_from_base, prediction.source, search or self._is_fresh)

    @property
    def _is_fresh(self) -> bool:
        """A pose was given from outside, and no image has been held against it yet."""
        return self._supervisor.state is State.INITIALIZING and not self._supervisor.failures

    @property
    def _is_helped(self) -> bool:
        retrieval = self._retrieval
        helps = self.config.prior_source in ("auto", "retrieval")
        return helps and retrieval is not None and retrieval.is_available

    def _follow(self, stamp_ns: int, odometry: Pose | None) -> Start:
        """Prior source `topic`: every image starts where the filter says."""
        try:
            expected = self._filtered(stamp_ns, odometry)
        except FrameError as error:
            return Start(None, problem=str(error))
        supervisor = self._supervisor
        if supervisor.state in (State.UNINITIALIZED, State.LOST):
            supervisor.start(Fix(stamp_ns, expected, odometry, "topic"), given=True)
        return Start(Pose(expected.data[None]), "topic", search=True, expected=expected)

    def _filtered(self, stamp_ns: int, odometry: Pose | None) -> Pose:
        """Pose of the topic at the stamp, moved by odometry where it is older.

        Raises:
            FrameError: If there is none.
        """
        if self._prior_poses is None:
            raise FrameError("no topic prior_pose")
        pose, then_ns = self._prior_poses.at(stamp_ns, self.config.prior_max_age)
        then = None if then_ns == stamp_ns else self.odometry(then_ns)
        return Fix(then_ns, pose, then).moved(odometry)

    def _start_elsewhere(self, stamp_ns: int, odometry: Pose | None) -> None:
        """Begin at the pose of a filter, on its topic or on /tf, if there is one."""
        config, found, source = self.config, None, ""
        if config.prior_source == "auto" and self._prior_poses is not None:
            try:
                found, source = self._filtered(stamp_ns, odometry), "topic"
            except FrameError:
                found = None
        # With tf_broadcast the transform on /tf is our own, of a past that is not believed.
        if (
            found is None
            and not config.tf_broadcast
            and self._frames.knows(config.global_frame_id)
        ):
            try:
                frames = (config.global_frame_id, config.base_frame_id)
                found = self._frames.lookup(*frames, stamp_ns, config.transform_timeout)
                source = "tf"
            except FrameError:
                found = None
        if found is not None:
            self._supervisor.start(Fix(stamp_ns, found, odometry, source), given=True)

    def _ask(
        self, item: RigMessage, base_from_cam: Sequence[Pose], odometry: Pose | None
    ) -> Pose | None:
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
            index = self._turn % len(item.cameras)
            self._turn += 1
            if item.cameras[index].info is not None:
                query = RetrievalQuery(item.cameras[index], base_from_cam[index], odometry)
                self._retrieval.request(query)
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

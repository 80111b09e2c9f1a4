"""Replay a bag through the node's own pipeline in this process, the same way every time.

What happens in the node at the same time happens here in a fixed order: transforms are heard as
far as the node would wait for them, and where an image is said to take time, it takes exactly
that, with newer images replacing the one that waits. No clock of this machine decides anything.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from pixloc_core.bags.trajectory import NANOSECONDS, Trajectory
from pixloc_core.errors import ConfigError
from pixloc_core.evaluation.pose_error import FloatArray
from pixloc_core.evaluation.stream import FrameOutcome, StreamRun
from pixloc_core.geometry import Pose
from pixloc_ros.diagnostics import STATUS_NAMES
from pixloc_ros.image_pipeline import ImagePipeline
from pixloc_ros.opening import open_map
from pixloc_ros.outcome import Outcome
from pixloc_ros.parameters import Settings
from pixloc_ros.prior_poses import InitialPose, configured_pose
from pixloc_ros.replay.bag_sources import BagFrames, BagPriors
from pixloc_ros.replay.job import Replayed, ReplayJob, say
from pixloc_ros.replay.rig import Arrival
from pixloc_ros.replay.settings import OF_ROS, node_values
from pixloc_ros.retrieval_client import LocalRetrieval
from pixloc_ros.retrieval_config import RetrievalNodeConfig
from pixloc_ros.retrieval_server import RetrievalServer
from pixloc_ros.rig_messages import is_too_soon

_CONFIDENCE_PERIOD_NS = 3 * NANOSECONDS


@dataclass(frozen=True)
class ProcessPace:
    """Which images are worked on.

    Attributes:
        every: Only each so many-th image arrives.
        budget_ms: Time that an image is said to take; 0: none, so that every image is worked on.
    """

    every: int = 1
    budget_ms: float = 0.0

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"--every is {self.every}, expected 1 or more")
        if not 0 <= self.budget_ms < 1e6:
            raise ConfigError(f"--budget-ms is {self.budget_ms}, expected 0 or more")

    @property
    def chosen(self) -> str:
        """Which images arrive, in words: "every image", "every 3rd image"."""
        if self.every == 1:
            return "every image"
        is_teen = self.every % 100 in (11, 12, 13)
        ending = "th" if is_teen else {1: "st", 2: "nd", 3: "rd"}.get(self.every % 10, "th")
        return f"every {self.every}{ending} image"


@dataclass
class _Record:
    """What was said so far."""

    first_camera: str
    outcomes: list[FrameOutcome] = field(default_factory=list)
    poses: dict[int, Pose] = field(default_factory=dict)
    covariances: dict[int, FloatArray] = field(default_factory=dict)
    confidence: dict[int, np.ndarray[Any, Any]] = field(default_factory=dict)
    answered_ns: int = 0

    def add(self, arrival: Arrival, outcome: Outcome, answered_ns: int, latency_ms: float) -> None:
        stamp = arrival.exposure.stamp_ns
        self.answered_ns = max(self.answered_ns, answered_ns)
        found = outcome.localization
        self.outcomes.append(
            FrameOutcome(
                stamp_ns=stamp,
                status=STATUS_NAMES[outcome.status],
                reason=outcome.reason,
                score=0.0 if found is None else found.score,
                latency_ms=latency_ms,
                answered_ns=answered_ns,
                stages=outcome.stage_ms,
                state=outcome.decision.state.name,
                prior_source=outcome.prior_source,
            )
        )
        if outcome.published and outcome.map_from_base is not None:
            self.poses[stamp] = outcome.map_from_base
            if outcome.covariance is not None:
                self.covariances[stamp] = outcome.covariance.double().numpy()
        newest = max(self.confidence, default=stamp - _CONFIDENCE_PERIOD_NS)
        # Pictures are of the first camera, if its image was used.
        is_first = outcome.cameras[:1] == (self.first_camera,)
        if found is not None and is_first and stamp - newest >= _CONFIDENCE_PERIOD_NS:
            self.confidence[stamp] = found.confidence_image()


def replay_in_process(job: ReplayJob, pace: ProcessPace) -> Replayed:
    """Work through the bag, each image as soon as the one before is done.

    Raises:
        PixlocError: If the map or a setting cannot be used.
    """
    settings = Settings.of(_parameters(job))
    with _exact_opencv():
        worker = _make_worker(job, settings, pace.budget_ms)
        arrivals = itertools.islice(job.rig.arrivals(job.bag), None, None, pace.every)
        total = len(job.stamps[:: pace.every])
        with tqdm(arrivals, total=total, unit="image", disable=None) as progress:
            for arrival in _due(progress, settings.node.max_rate):
                worker.take(arrival)
            worker.finish()
    return _replayed(job, pace, worker.record)


def _make_worker(job: ReplayJob, settings: Settings, budget_ms: float) -> "_Worker":
    """The node's pipeline, which hears the bag and knows the first pose.

    Raises:
        PixlocError: If the map or a setting cannot be used.
    """
    layout = job.settings.layout
    server = _retrieval_server(job)
    opened = open_map(settings.node, str(job.map_path))
    retrieval = None
    if server is not None:
        retrieval = LocalRetrieval(server.answer, settings.node.retrieval_results, opened.map_id)
    frames = BagFrames(
        job.bag, layout, settings.node.tf_history, lambda reason: say(f"transform: {reason}")
    )
    priors = BagPriors(job.bag, layout, settings.node, say)
    # What the node would wait for has been heard before an image is looked at.
    config = dataclasses.replace(settings.node, transform_timeout=0.0)
    localizer = opened.localizer(settings.core)
    pipeline = ImagePipeline(localizer, frames.frames, config, retrieval, priors.poses)
    initial = configured_pose(config)
    if job.initial is not None:
        initial = InitialPose(job.initial, job.first_ns)
    if initial is not None:
        pipeline.give(initial)
    patience_ns = round(settings.node.transform_timeout * NANOSECONDS)

    def hear(time_ns: int) -> None:
        """The node waits for transforms, and for nothing else."""
        frames.hear_until(time_ns + patience_ns)
        priors.hear_until(time_ns)

    return _Worker(pipeline, hear, _Record(job.rig.cameras[0].name), budget_ms)


def _retrieval_server(job: ReplayJob) -> RetrievalServer | None:
    """The server of the retrieval node, in this process; torch's threads stay as they are.

    Raises:
        MapError: If there is no index that can be used.
    """
    if job.retrieval is None:
        return None
    config = RetrievalNodeConfig(map=str(job.map_path), **job.retrieval)
    server, threads = RetrievalServer(config), torch.get_num_threads()
    server.open()
    # Its own number is for a process of its own. Here that of the localizer holds, set when the
    # map is opened, or, with num_threads=0, left as it was.
    torch.set_num_threads(threads)
    return server


@contextmanager
def _exact_opencv() -> Iterator[None]:
    """Without IPP, whose filters round by where in memory an image happens to lie."""
    used = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    try:
        yield
    finally:
        cv2.ipp.setUseIPP(used)


def _due(arrivals: Iterable[Arrival], max_rate: float) -> Iterator[Arrival]:
    """Without the exposures that come faster than the node looks at them."""
    taken_ns = 0
    for arrival in arrivals:
        stamp_ns = arrival.exposure.stamp_ns
        if not is_too_soon(stamp_ns, taken_ns, max_rate):
            taken_ns = stamp_ns
            yield arrival


class _Worker:
    """One image at a time, the newest of those that wait next; time is that of the bag."""

    def __init__(
        self,
        pipeline: ImagePipeline,
        hear: Callable[[int], None],
        record: _Record,
        budget_ms: float,
    ) -> None:
        self._pipeline, self._hear, self.record = pipeline, hear, record
        self._budget_ns = round(budget_ms * 1e6)
        self._free_ns = 0
        self._waiting: Arrival | None = None

    def take(self, arrival: Arrival) -> None:
        """An image arrives."""
        if self._waiting is not None and self._free_ns <= arrival.arrived_ns:
            self._work(self._waiting, self._free_ns)
            self._waiting = None
        if self._free_ns <= arrival.arrived_ns:
            self._work(arrival, arrival.arrived_ns)
        else:
            self._waiting = arrival

    def finish(self) -> None:
        """No image arrives any more."""
        if self._waiting is not None:
            self._work(self._waiting, self._free_ns)

    def _work(self, arrival: Arrival, start_ns: int) -> None:
        self._hear(start_ns)
        began = time.perf_counter()
        outcome = self._pipeline.run(arrival.exposure)
        took_ms = 1e3 * (time.perf_counter() - began)
        self._free_ns = start_ns + self._budget_ns
        latency_ms = (self._free_ns - arrival.arrived_ns) / 1e6 if self._budget_ns else took_ms
        self.record.add(arrival, outcome, self._free_ns, latency_ms)


def _parameters(job: ReplayJob) -> dict[str, Any]:
    """Parameters as the node of a replay over DDS would have them."""
    values = node_values(job.settings.parameters, job.settings.layout)
    values = {name: v for name, v in values.items() if not name.startswith(OF_ROS)}
    return {**values, "map": str(job.map_path), "saved_pose_filepath": ""}


def _replayed(job: ReplayJob, pace: ProcessPace, record: _Record) -> Replayed:
    order = sorted(record.covariances)
    whole = set(record.covariances) == set(record.poses)
    covariances = np.stack([record.covariances[s] for s in order]) if order and whole else None
    run = StreamRun(
        name=job.name,
        image_stamps_ns=job.stamps[:: pace.every],
        outcomes=tuple(sorted(record.outcomes, key=lambda outcome: outcome.stamp_ns)),
        estimate=Trajectory.from_samples(record.poses),
        truth=job.truth,
        seconds=max(record.answered_ns - job.bag.start_ns, 0) / NANOSECONDS,
        covariances=covariances,
        first_prior_ns=None if job.initial is None else job.first_ns,
        budget_ms=pace.budget_ms,
    )
    notes = [("replayed in process", pace.chosen)]
    if pace.budget_ms:
        notes.append(("time said to be taken by an image", f"{pace.budget_ms:g} ms"))
    return Replayed(run, record.confidence, notes)

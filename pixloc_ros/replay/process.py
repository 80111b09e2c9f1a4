"""Replay a bag through the node's own pipeline in this process, the same way every time.

What happens in the node at the same time happens here in a fixed order: transforms are heard as
far as the node would wait for them, and where an image is said to take time, it takes exactly
that, with newer images replacing the one that waits. No clock of this machine decides anything.
"""

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from rclpy.serialization import deserialize_message
from tqdm import tqdm

from pixloc_core.bags.messages import CAMERA_INFO
from pixloc_core.bags.reader import BagReader, RawMessage
from pixloc_core.bags.topics import BagLayout
from pixloc_core.bags.trajectory import NANOSECONDS, Trajectory
from pixloc_core.errors import ConfigError
from pixloc_core.evaluation.pose_error import FloatArray
from pixloc_core.evaluation.stream import FrameOutcome, StreamRun
from pixloc_core.geometry import Pose
from pixloc_ros.diagnostics import STATUS_NAMES
from pixloc_ros.frames import TreeFrames
from pixloc_ros.image_pipeline import ImagePipeline
from pixloc_ros.opening import open_map
from pixloc_ros.outcome import Outcome
from pixloc_ros.parameters import Settings
from pixloc_ros.prior_poses import InitialPose
from pixloc_ros.replay.job import Replayed, ReplayJob, say
from pixloc_ros.replay.player import MESSAGE_TYPES
from pixloc_ros.retrieval_client import LocalRetrieval
from pixloc_ros.retrieval_config import RetrievalNodeConfig
from pixloc_ros.retrieval_server import RetrievalServer
from pixloc_ros.rig_messages import CameraMessage, RigMessage

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


@dataclass(frozen=True)
class Arrival:
    """An image on its way to the pipeline.

    Attributes:
        message: The image.
        arrived_ns: When it came, on the clock of the bag.
    """

    message: RigMessage
    arrived_ns: int


@dataclass
class _Record:
    """What was said so far."""

    outcomes: list[FrameOutcome] = field(default_factory=list)
    poses: dict[int, Pose] = field(default_factory=dict)
    covariances: dict[int, FloatArray] = field(default_factory=dict)
    confidence: dict[int, np.ndarray[Any, Any]] = field(default_factory=dict)
    answered_ns: int = 0

    def add(self, arrival: Arrival, outcome: Outcome, answered_ns: int, latency_ms: float) -> None:
        stamp = arrival.message.stamp_ns
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
        if found is not None and stamp - newest >= _CONFIDENCE_PERIOD_NS:
            self.confidence[stamp] = found.confidence_image()


class BagFrames:
    """Transforms of a bag, heard up to a time.

    Args:
        bag: The bag.
        layout: Its topics.
        history_s: How long transforms are remembered.
    """

    def __init__(self, bag: BagReader, layout: BagLayout, history_s: float) -> None:
        self.frames = TreeFrames(history_s, lambda reason: say(f"transform: {reason}"))
        self._static = layout.tf_static
        topics = [topic for topic in (layout.tf, layout.tf_static) if topic in bag.topics]
        if self._static in topics:
            for raw in bag.raw([self._static]):
                self._add(raw)
        self._coming = bag.raw(topics)
        self._next = next(self._coming, None)

    def hear_until(self, time_ns: int) -> None:
        """Take in all transforms recorded up to a time."""
        while self._next is not None and self._next.stamp_ns <= time_ns:
            if self._next.topic != self._static:
                self._add(self._next)
            self._next = next(self._coming, None)

    def _add(self, raw: RawMessage) -> None:
        message = deserialize_message(raw.cdr, MESSAGE_TYPES[raw.kind])
        self.frames.add_message(message, static=raw.topic == self._static)


def arrivals(bag: BagReader, layout: BagLayout, every: int) -> Iterator[Arrival]:
    """Images of a bag in the order of their arrival, each with the newest calibration."""
    info, count = None, 0
    for raw in bag.raw([layout.camera_info, layout.image]):
        if raw.kind == CAMERA_INFO:
            info = deserialize_message(raw.cdr, MESSAGE_TYPES[raw.kind])
            continue
        count += 1
        if (count - 1) % every == 0:
            image = deserialize_message(raw.cdr, MESSAGE_TYPES[raw.kind])
            camera = CameraMessage("", image, info)
            yield Arrival(RigMessage((camera,), time.monotonic()), raw.stamp_ns)


def replay_in_process(job: ReplayJob, pace: ProcessPace) -> Replayed:
    """Work through the bag, each image as soon as the one before is done.

    Raises:
        PixlocError: If the map or a setting cannot be used.
    """
    layout = job.settings.layout
    settings = Settings.of(_parameters(job))
    opened = open_map(settings.node, str(job.map_path))
    sources = BagFrames(job.bag, layout, settings.node.tf_history)
    # What the node would wait for has been heard before an image is looked at.
    config = dataclasses.replace(settings.node, transform_timeout=0.0)
    retrieval = _retrieval(job, settings, opened.map_id)
    localizer = opened.localizer(settings.core)
    pipeline = ImagePipeline(localizer, sources.frames, config, retrieval)
    if job.initial is not None:
        pipeline.give(InitialPose(job.initial, job.first_ns))
    worker = _Worker(pipeline, sources, settings.node.transform_timeout, pace.budget_ms)
    total = -(-job.bag.counts[layout.image] // pace.every)
    with _exact_opencv(), tqdm(total=total, unit="image", disable=None) as progress:
        for arrival in arrivals(job.bag, layout, pace.every):
            worker.take(arrival)
            progress.update()
        worker.finish()
    return _replayed(job, pace, worker.record)


def _retrieval(job: ReplayJob, settings: Settings, map_id: str) -> LocalRetrieval | None:
    """The server of the retrieval node, in this process.

    Raises:
        MapError: If there is no index that can be used.
    """
    if job.retrieval is None:
        return None
    config = RetrievalNodeConfig(map=str(job.map_path), **job.retrieval)
    server = RetrievalServer(config)
    server.open()
    return LocalRetrieval(server.answer, settings.node.retrieval_results, map_id)


@contextmanager
def _exact_opencv() -> Iterator[None]:
    """Without IPP, whose filters round by where in memory an image happens to lie."""
    used = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    try:
        yield
    finally:
        cv2.ipp.setUseIPP(used)


class _Worker:
    """One image at a time, the newest of those that wait next; time is that of the bag."""

    def __init__(
        self, pipeline: ImagePipeline, sources: BagFrames, patience_s: float, budget_ms: float
    ) -> None:
        self._pipeline, self._sources = pipeline, sources
        self._patience_ns = round(patience_s * NANOSECONDS)
        self._budget_ns = round(budget_ms * 1e6)
        self._free_ns = 0
        self._waiting: Arrival | None = None
        self.record = _Record()

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
        self._sources.hear_until(start_ns + self._patience_ns)
        began = time.perf_counter()
        outcome = self._pipeline.run(arrival.message)
        took_ms = 1e3 * (time.perf_counter() - began)
        self._free_ns = start_ns + self._budget_ns
        latency_ms = (self._free_ns - arrival.arrived_ns) / 1e6 if self._budget_ns else took_ms
        self.record.add(arrival, outcome, self._free_ns, latency_ms)


def _parameters(job: ReplayJob) -> dict[str, Any]:
    """Parameters as the node of a replay over DDS would have them."""
    layout = job.settings.layout
    own = {
        "map": str(job.map_path),
        "global_frame_id": layout.map_frame,
        "odom_frame_id": layout.odom_frame,
        "base_frame_id": layout.base_frame,
    }
    given = {name: v for name, v in job.settings.parameters.items() if name != "use_sim_time"}
    return {**own, **given}


def _replayed(job: ReplayJob, pace: ProcessPace, record: _Record) -> Replayed:
    layout = job.settings.layout
    stamps = job.bag.image_stamps(layout.image)[:: pace.every]
    order = sorted(record.covariances)
    whole = set(record.covariances) == set(record.poses)
    covariances = np.stack([record.covariances[s] for s in order]) if order and whole else None
    run = StreamRun(
        name=job.name,
        image_stamps_ns=stamps,
        outcomes=tuple(sorted(record.outcomes, key=lambda outcome: outcome.stamp_ns)),
        estimate=Trajectory.from_samples(record.poses),
        truth=job.truth,
        seconds=max(record.answered_ns - job.bag.start_ns, 0) / NANOSECONDS,
        covariances=covariances,
        first_prior_ns=None if job.initial is None else job.first_ns,
        budget_ms=pace.budget_ms,
    )
    notes = [("replayed in process, every n-th image", str(pace.every))]
    if pace.budget_ms:
        notes.append(("time said to be taken by an image", f"{pace.budget_ms:g} ms"))
    return Replayed(run, record.confidence, notes)

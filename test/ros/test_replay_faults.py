"""The node in a process of its own while a bag is played: late images, an end in the middle."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from robot_bench import wait
from same_poses import assert_same_poses
from toy_drive import ToyDrive, make_drive

from pixloc_core.bags.edit_plan import BagEdit
from pixloc_core.bags.editing import edit_bag
from pixloc_core.bags.reader import BagReader
from pixloc_core.evaluation.stream import StreamRun
from pixloc_core.localizer.fix import difference
from pixloc_core.map.feature_map import FeatureMap
from pixloc_ros.replay.session import ReplayPlan, ReplaySession
from pixloc_ros.saved_pose import restore_pose

pytestmark = pytest.mark.slow
SECOND = 1_000_000_000
# A busy machine must not drop images: what is compared is what both replays have answered.
RATE = 0.3


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> ToyDrive:
    return make_drive(tmp_path_factory.mktemp("drive"), seconds=4.0)


@contextmanager
def playing(
    drive: ToyDrive, bag: Path, folder: Path, **options: Any
) -> Iterator[tuple[ReplaySession, threading.Thread]]:
    """A node that was told where the robot is, and a thread that plays the bag to it."""
    log = folder / "node.log"
    plan = ReplayPlan(bag.name, bag, drive.map_path, log, rate=RATE, **options)
    stop, truth = threading.Event(), drive.map_from_base
    with ReplaySession(plan) as session:
        session.wait_until_ready()
        session.send_initial_pose(truth.poses[0], int(truth.stamps_ns[0]))

        def play() -> None:
            session.replayer.play(session._note, stop)

        player = threading.Thread(target=play)
        player.start()
        try:
            yield session, player
        finally:
            stop.set()
            player.join(20.0)


def replay(drive: ToyDrive, bag: Path, folder: Path) -> StreamRun:
    folder.mkdir()
    with playing(drive, bag, folder) as (session, player):
        player.join(120.0)
        session.recorder.wait_until_quiet(20.0)
        assert session.localizer.alive, session.localizer.last_words()
        return session.result()


def test_images_half_a_second_late_give_the_same_trajectory(drive, tmp_path):
    late_bag = tmp_path / "late"
    edit_bag(BagReader(drive.bag), late_bag, BagEdit(image_latency_s=0.5))
    runs = {
        "prompt": replay(drive, drive.bag, tmp_path / "a"),
        "late": replay(drive, late_bag, tmp_path / "b"),
    }
    # Late on the clock of the bag, and not by their stamps.
    recorded = {
        name: next(raw for raw in BagReader(bag).raw(["/camera/image/compressed"]))
        for name, bag in (("prompt", drive.bag), ("late", late_bag))
    }
    assert recorded["late"].header_ns == recorded["prompt"].header_ns
    assert recorded["late"].stamp_ns - recorded["prompt"].stamp_ns == SECOND // 2
    assert_same_poses(runs["late"].estimate, runs["prompt"].estimate, at_least=10)
    for run in runs.values():
        truth, _ = run.truth.at(run.estimate.stamps_ns)
        errors = [
            difference(found, true)[0]
            for found, true in zip(run.estimate.poses, truth, strict=True)
        ]
        assert max(errors) < 0.02
        assert (np.diff(run.estimate.stamps_ns) > 0).all()
        variances = np.diagonal(run.covariances, axis1=1, axis2=2)
        assert variances.min() >= 1e-9
        assert np.linalg.eigvalsh(run.covariances).min() > 0


def test_the_node_ends_in_order_in_the_middle_of_a_bag(drive, tmp_path):
    saved = tmp_path / "pose.json"
    options = {"saved_pose": saved, "parameters": {"save_pose_rate": 0.01}}
    with playing(drive, drive.bag, tmp_path, **options) as (session, _):
        wait(lambda: session.recorder.newest_pose_ns, "pose", 60.0)
        newest = session.recorder.newest_sent_ns
        wait(lambda: session.recorder.newest_sent_ns > newest, "image in work")
        began = time.monotonic()
        os.kill(session.localizer._process.pid, signal.SIGINT)
        wait(lambda: not session.localizer.alive, "end", 30.0)
        seconds = time.monotonic() - began
        words = session.localizer.last_words(100)
    assert session.localizer.exit_code == 0, words
    assert "Traceback" not in words
    assert "rror" not in words, words
    # The image in work is finished first; a busy machine takes its time for it.
    assert seconds < 10.0
    # The last pose was written on the way out: the timer would have come after 100 s.
    assert restore_pose(saved, FeatureMap.open(drive.map_path).content_id) is not None

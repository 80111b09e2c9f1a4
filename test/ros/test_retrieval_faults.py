"""A retrieval service that is absent, slow, or lies: what others see of it."""

import re
import threading
import time
from typing import Any

import pytest
import torch
from fake_localizer import BASE_FROM_CAM, FakeMap, camera_info, pose
from knowing_localizer import KnowingLocalizer
from rclpy.callback_groups import ReentrantCallbackGroup
from robot_bench import Bench, wait
from std_msgs.msg import Header
from toy_world import ToyWorld

from pixloc_core.geometry import Pose
from pixloc_core.localizer.localizer import Localizer
from pixloc_core.localizer.supervisor import State
from pixloc_ros.conversions import ns_to_stamp, pose_to_message, pose_to_transform
from pixloc_ros.frames import TreeFrames
from pixloc_ros.image_conversions import array_to_image
from pixloc_ros.image_pipeline import ImagePipeline
from pixloc_ros.interfaces import LocalizationStatus, RetrievePose, TFMessage
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.outcome import Outcome
from pixloc_ros.retrieval_source import RetrievalAnswer, RetrievalQuery
from pixloc_ros.rig_messages import CameraMessage, RigMessage

NO_PRIOR, UNINITIALIZED = LocalizationStatus.NO_PRIOR, LocalizationStatus.UNINITIALIZED


class Librarian:
    """Serves retrieve_pose with answers made up beforehand.

    Attributes:
        places: Where the camera might be, best first: x of the base.
        gate: Cleared, answers wait until it is set.
        requests: What was asked.
    """

    def __init__(self, bench: Bench, *places: float, map_id: str = "feed") -> None:
        self.places, self.map_id = places, map_id
        self.requests: list[Any] = []
        self.gate = threading.Event()
        self.gate.set()
        group = ReentrantCallbackGroup()
        bench.robot.node.create_service(
            RetrievePose, "retrieve_pose", self._answer, callback_group=group
        )
        wait(lambda: bench.node._retrieval.is_available, "service")

    async def _answer(self, request, response):
        self.requests.append(request)
        while not self.gate.is_set():
            await Pause()
        response.success, response.map_id = True, self.map_id
        response.images = [f"{index}.jpg" for index in range(len(self.places))]
        response.scores = [0.9 - 0.1 * index for index in range(len(self.places))]
        response.poses = [pose_to_message(pose(x) @ BASE_FROM_CAM) for x in self.places]
        return response


class Pause:
    """Lets the executor work on something else."""

    def __await__(self):
        yield


@pytest.fixture
def bench(make_bench) -> Bench:
    """A robot at x = 10 that nobody has told the node of."""
    localizer = KnowingLocalizer(pose(10.0))
    bench = make_bench(
        *("-p", "retrieval_timeout:=0.3"), opener=lambda config, path: FakeMap(localizer)
    )
    bench.localizer = localizer
    return bench


def ask_until(bench: Bench, condition, what: str, seconds: float = 20.0) -> list[Any]:
    """Send images, 50 ms of stamps apart, until a condition holds; what was said of them."""
    first, deadline = len(bench.robot.statuses), time.monotonic() + seconds
    now = getattr(bench, "now", 3.0)
    while not condition():
        assert time.monotonic() < deadline, f"no {what}: {bench.robot.statuses[-1].reason}"
        bench.ask(now)
        now += 0.02
        bench.now = now
        time.sleep(0.02)
    return bench.robot.statuses[first:]


def test_without_a_service_images_cost_nothing_and_the_reason_is_told(bench):
    client = bench.node._retrieval
    statuses = ask_until(bench, lambda: client.failures >= 2, "second failure")
    assert {status.status for status in statuses} == {NO_PRIOR}
    assert statuses[-1].reason == (
        "no pose yet: waiting for initialpose, or for retrieval (nobody serves retrieve_pose)"
    )
    assert client.requests == 0
    entry = bench.diagnosis("localization")
    values = {pair.key: pair.value for pair in entry.values}
    assert values["retrieval"] == "not available"
    assert values["retrieval_problem"] == "nobody serves retrieve_pose"
    # With a back-off, or there would be a failure for each image.
    assert client.failures < len(statuses)


def test_a_service_that_comes_later_is_used(bench):
    ask_until(bench, lambda: bench.node._retrieval.failures, "failure")
    Librarian(bench, 10.3)
    statuses = ask_until(bench, lambda: bench.robot.poses, "pose")
    assert "retrieval" in {status.prior_source for status in statuses}
    assert bench.robot.poses[0].pose.pose.position.x == pytest.approx(10.0)


def test_a_slow_service_blocks_nothing_and_is_given_up(bench):
    librarian = Librarian(bench, 10.3)
    librarian.gate.clear()
    client = bench.node._retrieval
    statuses = ask_until(bench, lambda: client.failures >= 1, "timeout")
    assert all(status.status == NO_PRIOR for status in statuses)
    assert client.problem == "retrieve_pose has not answered for 0.3 s"
    # No image has waited for the service.
    assert min(status.latency_ms for status in statuses) < 300
    assert len(statuses) > 3
    # A late answer is not listened to; a new request is answered in time.
    librarian.gate.set()
    ask_until(bench, lambda: bench.robot.poses, "pose")
    assert client.requests >= 2


def test_an_initial_pose_is_taken_while_the_service_is_slow(bench):
    librarian = Librarian(bench, 50.0)
    librarian.gate.clear()
    ask_until(bench, lambda: librarian.requests, "request")
    bench.give_initialpose(pose(10.3))
    status = bench.ask(9.0)
    librarian.gate.set()
    assert (status.published, status.prior_source) == (True, "initialpose")


def test_an_answer_about_another_map_is_refused(bench):
    Librarian(bench, 10.3, map_id="beef")
    statuses = ask_until(bench, lambda: bench.node._retrieval.failures, "refusal")
    statuses += ask_until(bench, lambda: "beef" in bench.robot.statuses[-1].reason, "reason")
    assert not any(status.published for status in statuses)
    assert "retrieve_pose serves map beef, this node uses feed" in statuses[-1].reason


def test_a_wrong_place_first_and_the_right_one_second_ends_at_the_right_place(bench):
    Librarian(bench, 50.0, 10.3)
    statuses = ask_until(bench, lambda: bench.robot.poses, "pose")
    xs = {round(message.pose.pose.position.x, 6) for message in bench.robot.poses}
    assert xs == {10.0}
    published = [status for status in statuses if status.published]
    confirmed = re.fullmatch(r"confirmed by (\d+) images", published[0].state_reason)
    assert int(confirmed[1]) >= 3


def test_wrong_places_alone_never_put_anything_on_pose(bench):
    librarian = Librarian(bench, 50.0, 70.0, -30.0)
    statuses = ask_until(bench, lambda: len(librarian.requests) >= 4, "requests")
    assert not any(status.published for status in statuses)
    assert {status.state for status in statuses} == {UNINITIALIZED}
    assert not bench.robot.poses
    assert not bench.robot.map_to_odom


def test_an_answer_that_makes_no_sense_is_refused(bench):
    librarian = Librarian(bench, float("nan"))
    statuses = ask_until(bench, lambda: bench.node._retrieval.failures, "refusal")
    assert not any(status.published for status in statuses)
    librarian.places = ()
    before = bench.node._retrieval.failures
    ask_until(bench, lambda: bench.node._retrieval.failures > before, "refusal")
    assert "answered 0 images, 0 poses" in bench.node._retrieval.problem


def test_only_the_source_retrieval_asks_it_where_another_is_demanded(make_bench):
    bench = make_bench("-p", "prior_source:=tf")
    librarian = Librarian(bench, 10.3)
    for index in range(4):
        status = bench.ask(3.0 + index / 10)
        assert status.reason == "no pose yet: waiting for initialpose"
    assert not librarian.requests


# With the real core, in the toy room


class Liar:
    """Answers every request at once, with map images by their index."""

    def __init__(self, world: ToyWorld, places: list[Pose]) -> None:
        self.places = places
        self.problem, self.is_available = "", True
        self._answer: RetrievalAnswer | None = None

    def request(self, query: RetrievalQuery) -> None:
        poses = Pose(torch.stack([place.data for place in self.places]))
        names = tuple(str(index) for index in range(len(self.places)))
        self._answer = RetrievalAnswer(query, poses, names, (0.9,) * len(names))

    def take(self) -> RetrievalAnswer | None:
        answer, self._answer = self._answer, None
        return answer

    def cancel(self) -> None:
        self._answer = None


class RoomDrive:
    """A robot that drives through the toy room with good odometry, told nothing."""

    def __init__(self, world: ToyWorld, map_path, retrieval: Liar) -> None:
        self.world = world
        self.frames = TreeFrames(10.0, print)
        self._add("base_link", "camera", 0, BASE_FROM_CAM, static=True)
        self.pipeline = ImagePipeline(
            Localizer.open(map_path), self.frames, NodeConfig(), retrieval
        )
        first, last = world.cam_from_map[2], world.cam_from_map[3]
        steps = torch.linspace(0, 1, 12, dtype=torch.float64)[:, None]
        self.cam_from_map = Pose.exp(steps * (last @ first.inv()).log()) @ first
        self.map_from_base = self.cam_from_map.inv() @ BASE_FROM_CAM.inv()
        fx, fy, cx, cy = world.colmap_camera["params"]
        k = [fx, 0.0, cx - 0.5, 0.0, fy, cy - 0.5, 0.0, 0.0, 1.0]
        self.info = camera_info(width=320, height=240, k=k)

    def _add(self, parent, child, stamp, value, *, static=False) -> None:
        message = TFMessage(transforms=[pose_to_transform(value, parent, child, stamp)])
        self.frames.add_message(message, static=static)

    def see(self, index: int) -> tuple[Outcome, float]:
        """The outcome of an image, and how far its pose is off (metres; inf without one)."""
        stamp = (10 + index) * 200_000_000
        odometry = self.map_from_base[0].inv() @ self.map_from_base[index]
        self._add("odom", "base_link", stamp, odometry)
        pixels = self.world.render(self.cam_from_map[index])[0]
        header = Header(frame_id="camera", stamp=ns_to_stamp(stamp))
        image = CameraMessage("", array_to_image(pixels, "rgb8", header), self.info)
        outcome = self.pipeline.run(RigMessage((image,), time.monotonic()))
        if outcome.map_from_base is None:
            return outcome, float("inf")
        return outcome, float((outcome.map_from_base.t - self.map_from_base[index].t).norm())


def elsewhere(world: ToyWorld) -> Pose:
    """A camera in the room that looks at another part of the wall, `map_from_cam`."""
    turned = Pose.from_aa(torch.tensor([0.0, 0.9, 0.2]).double(), torch.tensor([2.5, 0.4, -1.0]))
    return (turned @ world.cam_from_map[0]).inv()


def test_the_real_core_finds_the_right_place_behind_a_wrong_one(world, map_path):
    liar = Liar(world, [elsewhere(world), world.cam_from_map[3].inv()])
    drive = RoomDrive(world, map_path, liar)
    seen = [drive.see(index) for index in range(7)]
    published = [(outcome, error) for outcome, error in seen if outcome.published]
    assert published, [outcome.reason for outcome, _ in seen]
    assert max(error for _, error in published) < 0.02
    assert drive.pipeline.state[0] is State.TRACKING


def test_the_real_core_publishes_nothing_from_wrong_places(world, map_path):
    away = elsewhere(world)
    shifted = Pose(away.data + torch.tensor([0.0] * 9 + [1.5, 0.0, 0.5]).double())
    drive = RoomDrive(world, map_path, Liar(world, [away, shifted]))
    outcomes = [drive.see(index)[0] for index in range(9)]
    tried = [outcome for outcome in outcomes if outcome.localization is not None]
    assert len(tried) >= 4
    assert {outcome.prior_source for outcome in tried} == {"retrieval"}
    assert not any(outcome.published for outcome in outcomes)
    assert drive.pipeline.map_from_odom is None

"""load_map of the localizer takes the retrieval along: the real nodes, over DDS."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from fake_localizer import BASE_FROM_CAM, SECOND, FakeMap, pose
from knowing_localizer import KnowingLocalizer
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from retrieval_bench import Floor, calibration, view, wait
from robot_bench import Bench
from robot_calls import Operator
from std_msgs.msg import Header

from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.retrieval.descriptor import DescriptorConfig
from pixloc_core.retrieval.index import RetrievalIndex
from pixloc_core.retrieval.vlad import VladConfig
from pixloc_ros.conversions import ns_to_stamp, pose_from_message, pose_to_message
from pixloc_ros.image_conversions import array_to_image
from pixloc_ros.interfaces import LoadMap, LocalizationStatus, RetrievePose
from pixloc_ros.localizer_node import LocalizerNode
from pixloc_ros.map_follower import MapFollower, _Stage
from pixloc_ros.opening import open_map
from pixloc_ros.retrieval_node import RetrievalNode

pytest.importorskip("faiss", reason="needs faiss-cpu (the extra `retrieval`)")

CODES = LoadMap.Response


class Building:
    """A robot in a house of two maps: localizer and retrieval node with the first one.

    Attributes:
        first: Map of downstairs.
        second: Map of upstairs.
    """

    def __init__(self, bench: Bench, first: Path, second: Path) -> None:
        self.bench, self.first, self.second = bench, first, second
        self.operator = Operator(bench.robot.node)
        self.retrieval: RetrievalNode | None = None
        self._stamp_ns = 2 * SECOND

    def start_retrieval(self, spin) -> None:
        self.retrieval = RetrievalNode()
        spin(self.retrieval)
        wait(lambda: not self.retrieval._server.state.is_opening, "index")
        wait(lambda: self.bench.node._retrieval.is_available, "service")

    def see(self, floor: Floor, image: int = 2) -> LocalizationStatus:
        """What is said of what the camera sees in a room."""
        self._stamp_ns += SECOND // 5
        robot = self.bench.robot
        robot.info.publish(calibration())
        header = Header(frame_id="camera", stamp=ns_to_stamp(self._stamp_ns))
        before = len(robot.statuses)
        robot.image.publish(array_to_image(view(floor.world, image), "rgb8", header))
        wait(lambda: len(robot.statuses) > before, "status")
        return robot.statuses[-1]

    def see_until(self, floor: Floor, condition, what: str) -> LocalizationStatus:
        """Look at a room until the status has something."""
        for _ in range(34):
            status = self.see(floor)
            if condition(status):
                return status
            wait_a_moment(self.bench)
        raise AssertionError(f"no {what}: {status.reason}")

    def retrieval_problem(self) -> str:
        """On /diagnostics of the localizer."""
        return entry(self.bench, "localizer: localization")["retrieval_problem"]


def wait_a_moment(bench: Bench) -> None:
    """Let a report of /diagnostics pass: a second, on any machine."""
    entry(bench, "localizer: localization")


def entry(bench: Bench, name: str) -> dict[str, str]:
    """Keys and values of the next entry of that name on /diagnostics."""

    def found() -> list[DiagnosticStatus]:
        reports = list(bench.robot.diagnostics)
        return [status for report in reports for status in report.status if status.name == name]

    bench.robot.diagnostics.clear()
    wait(found, f"diagnostics {name}")
    return {pair.key: pair.value for pair in found()[-1].values}


@pytest.fixture
def building(make_bench, spin, downstairs: Floor, upstairs: Floor, tmp_path: Path):
    first = downstairs.copy(tmp_path, "first")
    second = upstairs.copy(tmp_path, "second")
    parameters = ("-p", f"map:={first}", "-p", "search.min_motion:=0.0")
    house = Building(make_bench(*parameters, opener=open_map), first, second)
    yield house
    spin.stop()
    if house.retrieval is not None:
        house.retrieval.close()


def test_the_first_pose_in_the_new_map_comes_by_retrieval(building, spin, downstairs, upstairs):
    building.start_retrieval(spin)
    status = building.see_until(downstairs, lambda status: status.published, "pose")
    assert (status.map_id, status.state) == (downstairs.map_id, LocalizationStatus.TRACKING)
    answer = building.operator.load_map(building.second)
    assert (answer.result, answer.message) == (CODES.RESULT_SUCCESS, "")
    building.bench.robot.poses.clear()
    sources = []

    def is_published(status: LocalizationStatus) -> bool:
        sources.append(status.prior_source)
        return status.published

    status = building.see_until(upstairs, is_published, "pose in the new map")
    assert status.map_id == upstairs.map_id
    assert "retrieval" in sources
    wait(lambda: building.bench.robot.poses, "pose")
    found = pose_from_message(building.bench.robot.poses[-1].pose.pose)
    shift = torch.tensor([0.04, -0.02, 0.02, 0.01, 0.0, -0.01], dtype=torch.float64)
    cam_from_map = upstairs.world.cam_from_map[2].retract(shift)
    expected = cam_from_map.inv() @ BASE_FROM_CAM.inv()
    assert float((found.t - expected.t).norm()) < 0.05
    assert entry(building.bench, "retrieval: index")["map"] == str(building.second)
    assert building.retrieval_problem() == ""


def test_retrieval_follows_a_localizer_that_was_started_again_with_its_first_map(
    building, spin, downstairs
):
    building.start_retrieval(spin)
    request = LoadMap.Request(map_url=str(building.second))
    answer = building.operator.call(LoadMap, "retrieval/load_map", request)
    assert answer.result == CODES.RESULT_SUCCESS
    status = building.see_until(downstairs, lambda status: status.published, "pose")
    assert status.map_id == downstairs.map_id
    assert entry(building.bench, "retrieval: index")["map"] == str(building.first)


def test_a_retrieval_that_comes_later_with_the_old_map_follows(
    building, spin, downstairs, upstairs
):
    assert building.operator.load_map(building.second).result == CODES.RESULT_SUCCESS
    assert building.retrieval_problem() == ""
    building.start_retrieval(spin)
    wait(
        lambda: entry(building.bench, "retrieval: index")["map"] == str(building.second),
        "other map",
    )
    status = building.see_until(upstairs, lambda status: status.published, "pose")
    assert status.map_id == upstairs.map_id


def test_a_retrieval_that_cannot_follow_is_named_and_follows_when_it_can(
    building, spin, downstairs, upstairs, tmp_path
):
    building.start_retrieval(spin)
    third = upstairs.copy(tmp_path, "third", index=False)
    # The localizer goes on in the map all the same.
    assert building.operator.load_map(third).result == CODES.RESULT_SUCCESS
    wait(building.retrieval_problem, "problem")
    problem = building.retrieval_problem()
    assert problem.startswith(
        "retrieval does not follow to the map of this node: /retrieval/load_"
    )
    assert "third.retrieval.h5: no such retrieval index; make it with" in problem
    status = building.see_until(upstairs, lambda status: "serves map" in status.reason, "reason")
    assert f"serves map {downstairs.map_id}, this node uses {upstairs.map_id}" in status.reason
    assert "no such retrieval index" in status.reason
    config = DescriptorConfig(vlad=VladConfig(features=("sift",)))
    RetrievalIndex.build(FeatureMap.open(third), upstairs.images, config).save()
    status = building.see_until(upstairs, lambda status: status.published, "pose")
    assert status.map_id == upstairs.map_id
    assert building.retrieval_problem() == ""


# Retrieval of somebody else


class Stranger:
    """Serves retrieve_pose for a map, whatever is loaded.

    Attributes:
        map_id: Of that map.
    """

    def __init__(self, bench: Bench) -> None:
        self.map_id = "first"
        bench.robot.node.create_service(RetrievePose, "retrieve_pose", self._answer)
        wait(lambda: bench.node._retrieval.is_available, "service")

    def _answer(self, request: Any, response: Any) -> Any:
        response.success, response.map_id = True, self.map_id
        response.images, response.scores = ["0.jpg"], [0.9]
        response.poses = [pose_to_message(pose(10.0) @ BASE_FROM_CAM)]
        return response


@pytest.fixture
def strange(make_bench, tmp_path: Path) -> Bench:
    """A localizer in the map `first`, and a retrieval that knows no load_map."""

    def opener(config, path: str) -> FakeMap:
        return FakeMap(KnowingLocalizer(pose(10.0)), map_id=Path(path).stem)

    for name in ("first", "second"):
        (tmp_path / f"{name}.h5").touch()
    bench = make_bench("-p", f"map:={tmp_path}/first.h5", opener=opener)
    bench.stranger = Stranger(bench)
    return bench


def look_until(bench: Bench, words: str) -> None:
    """Send images until the reason of the newest status has these words."""
    for index in range(40):
        if words in bench.ask(3.0 + index / 10).reason:
            return
        wait_a_moment(bench)
    raise AssertionError(f"never said {words!r}: {bench.robot.statuses[-1].reason}")


def test_a_retrieval_of_somebody_else_stays_and_is_named_with_what_to_do(strange, tmp_path):
    answer = Operator(strange.robot.node).load_map(tmp_path / "second.h5")
    assert (answer.result, answer.message) == (CODES.RESULT_SUCCESS, "")
    look_until(
        strange,
        "retrieve_pose serves map first, this node uses second: retrieval does not follow to the "
        f"map of this node: /robot/load_map is not served; start that node anew with {tmp_path}/"
        "second.h5",
    )


@pytest.mark.parametrize("map_id", ["second", ""])
def test_a_problem_is_over_when_somebody_has_mended_it(strange, tmp_path, map_id):
    assert Operator(strange.robot.node).load_map(tmp_path / "second.h5").result == 0
    look_until(strange, "is not served; start that node anew with")
    # Whoever serves it did as told; servers that do not say which map it is are believed.
    strange.stranger.map_id = map_id
    for index in range(40):
        if strange.ask(30.0 + index / 10).prior_source == "retrieval":
            break
        wait_a_moment(strange)
    assert strange.robot.statuses[-1].prior_source == "retrieval"
    assert strange.node._retrieval.problem == ""
    assert entry(strange, "localizer: localization")["retrieval_problem"] == ""


def test_a_retrieval_of_another_map_from_the_beginning_is_named_with_what_to_do(strange, tmp_path):
    strange.stranger.map_id = "second"
    look_until(
        strange,
        "retrieve_pose serves map second, this node uses first: retrieval does not follow to the "
        f"map of this node: /robot/load_map is not served; start that node anew with {tmp_path}/"
        "first.h5",
    )


# A retrieval node that does not answer


class Silent:
    """A node that serves retrieve_pose and load_map, and does not answer before it is told to."""

    def __init__(self, spin) -> None:
        self.node = Node("finder")
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.node.create_service(RetrievePose, "retrieve_pose", lambda _, response: response)
        group = ReentrantCallbackGroup()
        self.node.create_service(LoadMap, "~/load_map", self._load_map, callback_group=group)
        spin(self.node)

    async def _load_map(self, request: Any, response: Any) -> Any:
        self.asked.append(request.map_url)
        while not self.gate.is_set():
            await Pause()
        return response


class Pause:
    """Lets the executor work on something else."""

    def __await__(self):
        yield


class Asker:
    """A follower, and its clock."""

    def __init__(self, spin) -> None:
        self.node, self.now_s, self.followed = Node("localizer"), 0.0, threading.Event()
        self.follower = MapFollower(
            self.node, "/retrieve_pose", self.followed.set, lambda: self.now_s
        )
        spin(self.node)


@pytest.fixture
def asker(ros, spin):
    ros()
    asker = Asker(spin)
    yield asker
    spin.stop()
    asker.follower.close()
    asker.node.destroy_node()


def test_a_node_that_ends_before_it_answers_is_asked_again_when_it_is_back(asker, spin):
    first = Silent(spin)
    asker.follower.follow("/maps/second.h5")
    wait(lambda: first.asked, "request")
    assert asker.follower.remedy == "it is asked to go on in /maps/second.h5"
    # As a task: nobody else may use the executor while one of its nodes goes.
    done = first.node.executor.create_task(first.node.destroy_node)
    wait(done.done, "end")
    wait(lambda: asker.follower._future is None, "notice")
    back = Silent(spin)
    back.gate.set()
    wait(asker.followed.is_set, "answer")
    assert (back.asked, asker.follower.problem) == (["/maps/second.h5"], "")


def test_a_node_that_serves_another_map_half_a_minute_later_is_asked_again(asker, spin):
    silent = Silent(spin)
    asker.follower.follow("/maps/second.h5")
    wait(lambda: silent.asked, "request")
    asker.now_s += 20.0
    asker.follower.again("/maps/second.h5")
    assert asker.follower._future is not None
    asker.now_s += 20.0
    asker.follower.again("/maps/second.h5")
    wait(lambda: len(silent.asked) == 2, "second request")
    silent.gate.set()
    wait(asker.followed.is_set, "answer")
    assert asker.follower.problem == ""


@pytest.mark.parametrize("is_certain", [True, False])
def test_poses_of_the_map_in_use_end_the_asking_if_they_say_so(asker, spin, is_certain):
    silent = Silent(spin)
    asker.follower.follow("/maps/second.h5")
    wait(lambda: silent.asked, "request")
    asker.follower.served(is_certain=is_certain)
    assert (asker.follower._future is None) == is_certain
    assert asker.follower._timer.is_canceled() == is_certain


def test_nothing_is_looked_for_while_there_is_nothing_to_follow(asker, spin):
    assert asker.follower._timer.is_canceled()
    asker.follower.follow("/maps/second.h5")
    assert not asker.follower._timer.is_canceled()
    silent = Silent(spin)
    silent.gate.set()
    wait(asker.followed.is_set, "answer")
    assert asker.follower._timer.is_canceled()


def test_a_node_that_ends_looks_for_nobody_any_more(ros):
    ros()
    node = LocalizerNode(lambda config, path: FakeMap())
    follower = node._retrieval._follower
    node._retrieval.follow("/maps/second.h5")
    assert follower._stage is _Stage.SEARCHING
    assert node.close()
    assert follower._stage is _Stage.IDLE

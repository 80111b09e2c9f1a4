"""The doctor on a slow machine, over DDS: what comes late is not taken for missing."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from doctor_robot import PERIOD_S, Robot, look, running
from lifecycle_msgs.srv import GetState
from rclpy.node import Node
from sensor_msgs.msg import Image

from pixloc_core.map.feature_map import FeatureMap
from pixloc_ros.doctor.collect import Subject, collect
from pixloc_ros.doctor.findings import Level
from pixloc_ros.doctor.graph import Graph
from pixloc_ros.doctor.judge import judge
from pixloc_ros.doctor.snapshot import RUNNING
from pixloc_ros.interfaces import RetrievePose
from pixloc_ros.transport import find_config


@pytest.fixture
def robot(ros: Callable[..., None], spin, monkeypatch) -> Iterator[Robot]:
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", str(find_config("shm.xml")))
    ros()
    with running(spin) as robot:
        yield robot


def hide_localizer(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The doctor's graph does not know it for so long, counted from the first look."""
    nodes, until = Graph.nodes, [0.0]

    def known(graph: Graph) -> tuple[str, ...]:
        until[0] = until[0] or time.monotonic() + seconds
        found = nodes(graph)
        if time.monotonic() < until[0]:
            found = tuple(name for name in found if name != "/localizer")
        return found

    monkeypatch.setattr(Graph, "nodes", known)


@pytest.mark.parametrize(
    ("hidden_s", "discovery_s"),
    [(3.0, 8.0), (2.0, 0.0), (1e6, 1.0)],
    ids=["while it looks around", "while it listens", "never, but it is heard"],
)
def test_a_node_that_is_heard_of_late_is_judged_by_its_own_settings(
    robot, hidden_s: float, discovery_s: float, monkeypatch
):
    hide_localizer(monkeypatch, hidden_s)
    monkeypatch.setattr("pixloc_ros.doctor.collect._DISCOVERY_S", discovery_s)
    robot.localizer.declare_parameter("map", "/robot/map.h5")
    robot.localizer.create_publisher(Image, "overlay", 1)
    seen = collect(Subject(seconds=3.0))
    assert seen.settings.origin == RUNNING
    assert seen.node.found == ("/localizer",)
    assert set(seen.topics.items()) >= {("/image", ("sensor_msgs/msg/Image",))}
    assert "/overlay" not in seen.topics
    # Nothing but the map, which is on no machine at all.
    (found,) = [f.what for f in judge(seen) if f.level is not Level.OK]
    assert found.startswith("map /robot/map.h5 could not be checked from here")


def test_a_node_that_answers_late_is_asked_again(robot, monkeypatch):
    asked = []
    parameters = "pixloc_ros.doctor.inquiry.Inquiry.parameters"
    late = {"map": "/robot/map.h5", "use_sim_time": False}
    monkeypatch.setattr(parameters, lambda _: late if asked else asked.append(1) or {})
    seen = collect(Subject(seconds=1.0))
    assert seen.settings.origin == RUNNING
    assert seen.settings.node.map == "/robot/map.h5"
    assert not seen.node.silent


def test_the_map_in_use_is_looked_at_not_that_of_the_parameter(robot, map_path: Path):
    robot.localizer.declare_parameter("map", "first.h5")
    in_use = {"map": str(map_path), "map_id": FeatureMap.open(map_path).content_id}
    robot.said["localizer: localization"] = in_use
    seen = collect(Subject(seconds=2.0))
    assert seen.map.path == str(map_path)
    assert [f for f in judge(seen) if f.level is not Level.OK] == []


def test_a_relative_path_of_the_node_is_not_looked_up_here(robot, map_path: Path, monkeypatch):
    monkeypatch.chdir(map_path.parent)
    robot.localizer.declare_parameter("map", map_path.name)
    (found,) = look()
    assert found.level is Level.WARN
    assert "could not be checked from here: the path is relative" in found.what


def test_retrieval_that_serves_another_map_is_named(robot, map_path: Path, spin):
    our_id = FeatureMap.open(map_path).content_id
    robot.said["localizer: localization"] = {"map": str(map_path), "map_id": our_id}
    robot.said["retrieval: index"] = {"map": "/maps/old.h5", "map_id": "b2"}
    robot.said["front/retrieval: index"] = {"map": str(map_path), "map_id": our_id}
    robot.localizer.executor.create_task(
        robot.localizer.create_client, RetrievePose, "retrieve_pose"
    )
    retrieval = Node("retrieval")
    retrieval.create_service(RetrievePose, "retrieve_pose", lambda _, response: response)
    spin(retrieval)
    (found,) = look()
    assert found.level is Level.ERROR
    assert (
        f"/retrieve_pose serves map b2 (/maps/old.h5), the localizer uses {our_id}" in found.what
    )
    assert f"call /retrieval/load_map with map_url {map_path}" in found.advice


def test_a_verdict_that_takes_its_time_is_waited_for(robot):
    def state(_: object, response: GetState.Response) -> GetState.Response:
        response.current_state.label = "active"
        return response

    def answer_late() -> None:
        # The localizer listens already; the second one is the doctor.
        end = time.monotonic() + 60.0
        while robot.images.get_subscription_count() < 2 and time.monotonic() < end:
            time.sleep(PERIOD_S)
        time.sleep(3.0)
        robot.is_silent = False

    robot.is_silent = True
    # In the thread that spins: services must not appear under its hands.
    robot.localizer.executor.create_task(
        robot.localizer.create_service, GetState, "localizer/get_state", state
    )
    thread = threading.Thread(target=answer_late, daemon=True)
    thread.start()
    seen = collect(Subject(seconds=1.0))
    thread.join(60.0)
    assert seen.node.lifecycle == "active"
    assert seen.node.status is not None
    assert seen.node.heard_s > 3.0

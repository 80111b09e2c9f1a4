"""The launch files, where launch and launch_ros exist; under pip they do not."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LAUNCH = REPOSITORY / "launch"
CAMERA = {"image_topic": "/cam/front", "map": "a.h5"}


def has_launch() -> bool:
    # Without a full ROS 2, `launch` is this repository's folder of that name.
    return importlib.util.find_spec("launch_ros") is not None


pytestmark = pytest.mark.skipif(
    not has_launch(), reason="needs launch and launch_ros of a full ROS 2"
)


@pytest.fixture
def load(monkeypatch):
    """The description of a launch file."""
    from ament_index_python import packages

    monkeypatch.setattr(packages, "get_package_share_directory", lambda name: str(REPOSITORY))

    def load_file(name: str):
        spec = importlib.util.spec_from_file_location(name, LAUNCH / f"{name}.launch.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.generate_launch_description()

    return load_file


@pytest.fixture
def start(load):
    """What a launch file starts with these arguments, by executable."""
    from launch import LaunchContext
    from launch.actions import ExecuteProcess, OpaqueFunction

    def start_file(name: str, **arguments: str) -> dict[str, Any]:
        context = LaunchContext()
        context.launch_configurations.update(arguments)
        started: dict[str, Any] = {}
        for entity in load(name).entities:
            found = entity.visit(context) or []
            if not isinstance(entity, OpaqueFunction):
                continue
            for action in found:
                assert isinstance(action, ExecuteProcess)
                started[getattr(action, "node_executable", "process")] = action
        start_file.environment = context.environment
        start_file.context = context
        return started

    return start_file


def words(action: Any, context: Any) -> list[str]:
    """Arguments on the command line of a process; those of ROS come when it is run."""
    own = [
        word for word in action.cmd[1:] if not any(hasattr(part, "variable_name") for part in word)
    ]
    return ["".join(part.perform(context) for part in word) for word in own]


def remappings(node: Any, context: Any) -> dict[str, str]:
    node._perform_substitutions(context)
    return dict(node.expanded_remapping_rules)


def parameters(node: Any, context: Any) -> dict[str, Any]:
    """Parameters that were given one by one."""
    from launch_ros.utilities import evaluate_parameters

    given = evaluate_parameters(context, node._Node__parameters)
    return {k: v for part in given if isinstance(part, dict) for k, v in part.items()}


def test_localize_declares_its_arguments(load):
    arguments = {argument.name for argument in load("localize").get_launch_arguments()}
    assert arguments == {
        *("params_file", "namespace", "namespaced_tf", "image_topic", "camera_info_topic"),
        *("map", "image_transport", "prior_source", "tf_broadcast", "autostart", "use_sim_time"),
        *("initial_pose", "use_respawn", "log_level", "rviz", "foxglove"),
        *("retrieval", "images", "retrieval_params_file"),
    }


def test_every_argument_is_documented(load):
    text = (REPOSITORY / "docs" / "launch.md").read_text()
    for name in ("localize", "replay"):
        for argument in load(name).get_launch_arguments():
            assert f"`{argument.name}`" in text or f"{argument.name}:=" in text


def test_the_node_alone_is_started_unless_more_is_asked_for(start):
    assert set(start("localize", **CAMERA)) == {"localizer_node"}
    assert "FASTDDS_DEFAULT_PROFILES_FILE" in start.environment
    more = start("localize", **CAMERA, retrieval="true", rviz="true", foxglove="true")
    assert set(more) == {"localizer_node", "retrieval_node", "rviz2", "foxglove_bridge"}


def test_retrieval_is_started_where_there_is_something_to_search(start, tmp_path):
    map_file = tmp_path / "hall.h5"
    assert "retrieval_node" not in start("localize", map=str(map_file))
    assert "retrieval_node" in start("localize", map=str(map_file), images="photos")
    map_file.with_suffix(".retrieval.h5").touch()
    assert "retrieval_node" in start("localize", map=str(map_file))
    assert "retrieval_node" not in start("localize", map=str(map_file), retrieval="false")


def test_topics_are_remapped_and_the_calibration_is_beside_the_images(start):
    node = start("localize", **CAMERA, namespace="robot")["localizer_node"]
    assert remappings(node, start.context) == {
        "image": "/cam/front",
        "image/compressed": "/cam/front/compressed",
        "camera_info": "/cam/camera_info",
    }
    assert node.expanded_node_namespace == "/robot"
    plain = start("localize")["localizer_node"]
    assert remappings(plain, start.context)["camera_info"] == "camera_info"
    own = start("localize", **CAMERA, camera_info_topic="/info", namespaced_tf="true")
    found = remappings(own["localizer_node"], start.context)
    assert found["camera_info"] == "/info"
    assert (found["/tf"], found["/tf_static"]) == ("tf", "tf_static")


def test_parameters_are_those_that_were_given(start):
    node = start("localize", map="a.h5", tf_broadcast="false")["localizer_node"]
    assert parameters(node, start.context) == {"map": "a.h5", "tf_broadcast": False}
    posed = start("localize", map="a.h5", initial_pose="1,2,0,0,0,1.5")["localizer_node"]
    given = parameters(posed, start.context)
    assert given["set_initial_pose"] is True
    assert (given["initial_pose.x"], given["initial_pose.yaw"]) == (1.0, 1.5)


def test_a_wrong_initial_pose_is_refused_with_what_is_expected(start):
    with pytest.raises(RuntimeError, match=r"'1,2', expected x,y,z,roll,pitch,yaw"):
        start("localize", map="a.h5", initial_pose="1,2")


@pytest.mark.parametrize("player", ["pixloc", "rosbag2"])
def test_replay_plays_the_bag(start, player):
    started = start("replay", bag="b", map="a.h5", player=player, rate="0.5")
    (action,) = started.values()
    wanted = {"b", "--rate", "0.5"} | ({"--clock"} if player == "rosbag2" else set())
    assert wanted <= set(words(action, start.context))

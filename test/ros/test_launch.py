"""The launch file, where launch exists; under pip it does not."""

import importlib.util
from pathlib import Path

import pytest

LAUNCH_FILE = Path(__file__).resolve().parents[2] / "launch" / "localize.launch.py"


@pytest.fixture
def description(monkeypatch):
    # Without a full ROS 2, `launch` is this repository's folder of that name.
    if importlib.util.find_spec("launch_ros") is None:
        pytest.skip("needs launch and launch_ros of a full ROS 2")
    from ament_index_python import packages

    share = str(LAUNCH_FILE.parents[1])
    monkeypatch.setattr(packages, "get_package_share_directory", lambda name: share)
    spec = importlib.util.spec_from_file_location("localize_launch", LAUNCH_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def test_launch_file_declares_its_arguments(description):
    arguments = {argument.name for argument in description.get_launch_arguments()}
    assert arguments == {
        *("params_file", "namespace", "image_topic", "camera_info_topic", "log_level"),
        *("map", "image_transport", "tf_broadcast", "use_sim_time"),
    }


def test_launch_file_starts_the_node_with_the_parameters_given(description):
    from launch import LaunchContext
    from launch_ros.actions import Node

    context = LaunchContext()
    context.launch_configurations.update({"map": "a.h5", "image_topic": "/cam"})
    nodes: list[Node] = []
    for entity in description.entities:
        nodes += [item for item in entity.visit(context) or [] if isinstance(item, Node)]
    assert len(nodes) == 1
    assert nodes[0].node_package == "pixloc_ros"
    assert nodes[0].node_executable == "localizer_node"
    assert "FASTDDS_DEFAULT_PROFILES_FILE" in context.environment

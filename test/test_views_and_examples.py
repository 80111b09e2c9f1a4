"""RViz, Foxglove and the example configurations: they parse, and name our topics and frames."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pixloc_ros.node_config import NodeConfig

CONFIG = Path(__file__).resolve().parents[1] / "config"
# Each with the display of its type.
TOPICS = {
    "pose": "PoseWithCovariance",
    "odometry": "Odometry",
    "path": "Path",
    "confidence": "Image",
    "overlay": "Image",
    "map_points": "PointCloud2",
    "hypotheses": "PoseArray",
    "image": "Image",
}
NODE = NodeConfig()
LOCALIZER = "/**/localizer"


def load_yaml(name: str) -> Any:
    return yaml.safe_load((CONFIG / name).read_text())


def documented_topics() -> dict[str, str]:
    """Topics that go out, and the quality of service offered, as docs/node.md has them."""
    text = (CONFIG.parent / "docs" / "node.md").read_text()
    rows = re.findall(r"^\| out \| `(\S+)` \| [^|]+ \| ([^|]+) \|", text, re.MULTILINE)
    return dict(rows)


@pytest.fixture(scope="module")
def displays() -> dict[str, dict[str, Any]]:
    """Displays of RViz that have a topic, by it."""
    found = load_yaml("pixloc.rviz")["Visualization Manager"]["Displays"]
    return {display["Topic"]["Value"]: display for display in found if "Topic" in display}


def test_rviz_shows_every_topic_by_the_display_of_its_type(displays):
    shown = {topic: display["Class"] for topic, display in displays.items()}
    assert shown == {topic: f"rviz_default_plugins/{kind}" for topic, kind in TOPICS.items()}


def test_rviz_listens_with_the_quality_of_service_that_the_node_offers(displays):
    for topic in ("image", "overlay", "confidence"):
        assert displays[topic]["Topic"]["Reliability Policy"] == "Best Effort"
    offered = documented_topics()
    for topic, display in displays.items():
        # Latched: the last word of a robot that stands still reaches an RViz started later.
        latched = topic in offered and "transient local" in offered[topic]
        expected = "Transient Local" if latched else "Volatile"
        assert display["Topic"]["Durability Policy"] == expected, topic


def test_every_topic_that_is_shown_is_documented():
    assert set(TOPICS) - {"image"} <= documented_topics().keys()


def test_rviz_stands_in_the_map_and_gives_the_first_pose():
    manager = load_yaml("pixloc.rviz")["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == NODE.global_frame_id
    tools = {tool["Class"]: tool for tool in manager["Tools"]}
    # Relative: RViz runs in the namespace of the node.
    assert tools["rviz_default_plugins/SetInitialPose"]["Topic"]["Value"] == "initialpose"
    cloud = next(d for d in manager["Displays"] if d["Name"] == "Map points")
    assert cloud["Channel Name"] == "residual"


def status_fields() -> set[str]:
    text = (CONFIG.parent / "msg" / "LocalizationStatus.msg").read_text()
    return set(re.findall(r"^(?!#)\S+ (\w+)(?:$|\s+#|\s*$)", text, re.MULTILINE))


def foxglove_topics(layout: dict[str, Any]) -> Iterator[str]:
    for panel in layout["configById"].values():
        yield from panel.get("topics", {})
        yield from filter(None, [panel.get("imageMode", {}).get("imageTopic")])
        yield from (path["value"] for path in panel.get("paths", ()))


def panels(place: Any) -> Iterator[str]:
    if isinstance(place, str):
        yield place
    else:
        yield from panels(place["first"])
        yield from panels(place["second"])


def test_foxglove_lays_out_every_panel_that_it_configures():
    layout = json.loads((CONFIG / "foxglove.json").read_text())
    assert sorted(panels(layout["layout"])) == sorted(layout["configById"])
    kinds = {name.partition("!")[0] for name in layout["configById"]}
    assert kinds == {
        *("3D", "Image", "Plot", "StateTransitions", "DiagnosticSummary", "RosOut"),
    }


def test_foxglove_names_our_topics_and_fields_of_the_status():
    layout = json.loads((CONFIG / "foxglove.json").read_text())
    for path in foxglove_topics(layout):
        topic, _, field = path.removeprefix("/").partition(".")
        assert topic in {*TOPICS, "status"}
        assert not field or field in status_fields()
    publish = layout["configById"]["3D!pixloc"]["publish"]
    assert publish["poseEstimateTopic"] == "/initialpose"


def parameters(name: str, node: str) -> dict[str, Any]:
    return load_yaml(name)[node]["ros__parameters"]


@pytest.mark.parametrize("name", ["robot_localization.yaml", "nav2.yaml"])
def test_examples_give_the_localizer_frames_that_it_has(name):
    ours = parameters(name, LOCALIZER)
    for frame in ("global_frame_id", "odom_frame_id", "base_frame_id"):
        assert ours[frame] == getattr(NODE, frame)


def test_one_publisher_has_the_edge_from_map_to_odom():
    assert parameters("robot_localization.yaml", LOCALIZER)["tf_broadcast"] is False
    ekf = parameters("robot_localization.yaml", "ekf_map")
    assert ekf["publish_tf"]
    assert ekf["world_frame"] == ekf["map_frame"] == NODE.global_frame_id
    assert parameters("nav2.yaml", LOCALIZER)["tf_broadcast"] is True


def test_the_filter_takes_our_pose_with_its_delay():
    ekf = parameters("robot_localization.yaml", "ekf_map")
    assert ekf["pose0"] == "pose"
    assert ekf["pose0_config"] == [True] * 6 + [False] * 9
    assert ekf["smooth_lagged_data"]
    assert ekf["history_length"] >= 1.0
    assert parameters("robot_localization.yaml", "ekf_odom").get("pose0") is None
    for node in ("ekf_odom", "ekf_map"):
        for key, value in parameters("robot_localization.yaml", node).items():
            assert not key.endswith("_config") or len(value) == 15


def test_the_filter_believes_a_first_pose_wherever_it_is():
    ekf = parameters("robot_localization.yaml", "ekf_map")
    variances = ekf["initial_estimate_covariance"]
    assert len(variances) == 15
    assert min(variances[:3]) >= 1e6
    assert "pose0_rejection_threshold" not in ekf
    # Until then its map -> base_link is the origin: not a first pose.
    assert parameters("robot_localization.yaml", LOCALIZER)["prior_source"] == "retrieval"


def test_roll_and_pitch_in_the_map_have_one_source():
    ekf = parameters("robot_localization.yaml", "ekf_map")
    for axis in (3, 4):
        assert [ekf[f"{name}_config"][axis] for name in ("odom0", "imu0", "pose0")] == [
            False,
            False,
            True,
        ]


def test_nav2_manages_the_localizer_without_bond():
    manager = parameters("nav2.yaml", "lifecycle_manager_localization")
    assert "localizer" in manager["node_names"]
    assert "amcl" not in manager["node_names"]
    assert manager["bond_timeout"] == 0.0
    assert parameters("nav2.yaml", LOCALIZER)["autostart"] is False
    costmap = load_yaml("nav2.yaml")["global_costmap"]["global_costmap"]["ros__parameters"]
    assert costmap["global_frame"] == NODE.global_frame_id
    assert costmap["robot_base_frame"] == NODE.base_frame_id

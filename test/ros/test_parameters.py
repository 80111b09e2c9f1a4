from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rclpy.node import Node
from rclpy.parameter import Parameter

from pixloc_core.errors import ConfigError
from pixloc_core.localizer.localizer import LocalizerConfig
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.parameters import (
    Settings,
    default_of,
    default_parameters,
    is_dynamic,
    settings,
    to_yaml,
    unknown_overrides,
)

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "localizer.yaml"


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def declared(name: str = "localizer") -> tuple[Node, NodeConfig, LocalizerConfig]:
    node = Node(name)
    found = Settings.declare(node)
    return node, found.node, found.core


def test_shipped_file_holds_every_parameter_at_its_default():
    shipped = yaml.safe_load(SHIPPED.read_text())["/**"]["ros__parameters"]
    assert shipped == default_parameters()
    assert SHIPPED.read_text() == to_yaml(), "run: python -m pixloc_ros.parameters > " + str(
        SHIPPED.relative_to(SHIPPED.parents[1])
    )


def test_shipped_file_gives_the_default_configs(ros):
    ros("--params-file", str(SHIPPED))
    node, config, core = declared()
    assert config == NodeConfig()
    assert core == LocalizerConfig()
    assert unknown_overrides(node) == []


@pytest.mark.parametrize("namespace", ["/", "/robot", "/fleet/robot"])
@pytest.mark.parametrize(
    ("name", "value"), [("nav2.yaml", True), ("robot_localization.yaml", False)]
)
def test_an_example_configuration_holds_in_any_namespace(ros, namespace, name, value):
    ros("--params-file", str(SHIPPED.with_name(name)), "-r", f"__ns:={namespace}")
    node = Node("localizer", automatically_declare_parameters_from_overrides=True)
    assert node.get_parameter("tf_broadcast").value is value


def test_every_parameter_has_a_description_and_only_dynamic_ones_may_change(ros):
    ros()
    node, _, _ = declared()
    names = [name for name, _ in settings()]
    assert len(names) == len(set(names)) > 20
    for found in node.describe_parameters(names):
        assert found.description
        assert found.read_only is not is_dynamic(found.name)
    assert is_dynamic("localizer.verification.min_points")
    assert not is_dynamic("map")


def test_ranges_of_the_dataclass_are_those_of_the_parameter(ros):
    ros()
    node, _, _ = declared()
    rate = node.describe_parameter("tf_rate").floating_point_range[0]
    assert (rate.from_value, rate.to_value) == (0.1, 1000.0)
    frames = node.describe_parameter("state.confirm_frames").integer_range[0]
    assert frames.from_value == 1


def test_parameter_file_sets_values_of_node_and_core(ros, tmp_path):
    file = tmp_path / "params.yaml"
    values = {
        "map": "a.h5",
        "tf_broadcast": False,
        "localizer": {"aligner": {"levels": [1, 2], "optimizer": {"min_points": 17}}},
    }
    file.write_text(yaml.safe_dump({"localizer": {"ros__parameters": values}}))
    ros("--params-file", str(file))
    _, config, core = declared()
    assert (config.map, config.tf_broadcast) == ("a.h5", False)
    assert core.aligner.levels == (1, 2)
    assert core.aligner.optimizer.min_points == 17


def test_misspelt_parameter_is_found(ros):
    ros("-p", "tf_braodcast:=false", "-p", "qos_overrides./image.subscription.depth:=3")
    node, _, _ = declared()
    assert unknown_overrides(node) == ["tf_braodcast"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("tf_rate:=-1.0", "tf_rate.*-1.0"),
        ("tf_rate:=fast", "parameter tf_rate.*expecting type 'DOUBLE'"),
        (
            "image_transport:=theora",
            "image_transport is .theora., expected one of raw",
        ),
        ("localizer.aligner.optimizer.min_points:=0", "optimizer.min_points.*out of range"),
        ("localizer.aligner.pad:=[-1.0]", "pad is -1.0, expected at least 0"),
        ("odom_frame_id:=map", "odom_frame_id is 'map', expected another frame"),
        ("base_frame_id:=/base", "base_frame_id is '/base', expected a frame name without slash"),
    ],
)
def test_wrong_value_is_one_line_that_names_the_parameter(ros, given, words):
    ros("-p", given)
    with pytest.raises(ConfigError, match=words) as caught:
        declared()
    assert "\n" not in str(caught.value)


def test_defaults_are_values_that_ros_can_hold():
    for name, field in settings():
        value = default_of(field)
        items = value if isinstance(value, list) else [value]
        assert all(isinstance(item, bool | int | float | str) for item in items), name


def test_changes_are_taken_together_or_not_at_all(ros):
    ros()
    before = Settings.declare(Node("localizer"))
    wider = Parameter("state.gate_position", value=0.5)
    after = before.changed([wider, Parameter("localizer.aligner.levels", value=[1, 2])])
    assert (after.node.state.gate_position, after.core.aligner.levels) == (0.5, (1, 2))
    assert before.node.state.gate_position == 0.3
    with pytest.raises(ConfigError, match="prior_source is 'stars'"):
        before.changed([wider, Parameter("prior_source", value="stars")])
    assert before.changed([Parameter("use_sim_time", value=True)]) is before

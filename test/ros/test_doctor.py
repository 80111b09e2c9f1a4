"""The doctor over DDS: a robot that is well, and the same robot with one fault after the other."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from doctor_robot import PERIOD_S, Robot, look, running
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from pixloc_core.cli import main
from pixloc_ros.doctor.check_images import check_images
from pixloc_ros.doctor.collect import Subject, collect
from pixloc_ros.doctor.findings import Finding, Level
from pixloc_ros.doctor.judge import judge
from pixloc_ros.doctor.snapshot import Snapshot
from pixloc_ros.transport import find_config


@pytest.fixture
def robot(ros: Callable[..., None], spin, monkeypatch) -> Iterator[Robot]:
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", str(find_config("shm.xml")))
    ros()
    with running(spin) as robot:
        yield robot


def test_a_healthy_robot_has_no_findings(robot):
    assert look() == []


@pytest.mark.parametrize("size", [(64, 48), (640, 480)])
def test_images_are_measured(robot, size):
    robot.pixels = np.zeros((size[1], size[0], 3), np.uint8)
    robot.calibrated = size
    seen = collect(Subject(seconds=1.5))
    (camera,) = seen.cameras
    assert camera.image.size == size
    assert camera.image.encoding == "rgb8"
    assert 0.3 / PERIOD_S < camera.images.rate_hz < 1.5 / PERIOD_S
    assert camera.images.lost == 0
    assert max(camera.image.ages_s) < 5.0
    assert {one.node for one in camera.images.publishers} == {"/camera"}
    assert seen.clock.now_ns == pytest.approx(time.time_ns(), abs=60e9)


def test_faults_of_image_and_calibration_are_named(robot):
    robot.encoding, robot.pixels = "32FC1", np.zeros((48, 64), np.float32)
    robot.calibrated, robot.late_ns = (128, 96), -2_000_000_000
    found = "\n".join(finding.line() for finding in look())
    assert "ERROR /image: encoding '32FC1'" in found
    assert "ERROR /image: stamps are 2.0 s in the future" in found
    assert "ERROR /camera_info describes images of 128x96, but they are 64x48" in found


def test_faults_of_frames_are_named_with_the_nodes_that_make_them(robot):
    robot.base_from_camera = None
    robot.add_odometry()
    found = "\n".join(finding.line() for finding in look())
    assert "ERROR odom -> base_link has 2 publishers: /localizer, /wheels" in found
    assert "camera_optical is not known at all" in found


# rclpy's own report of the mismatch uses a name that rclpy has deprecated.
@pytest.mark.filterwarnings("ignore:Deprecated in favor of:DeprecationWarning")
def test_reliable_listener_of_a_best_effort_camera_is_named(robot):
    # In the thread that spins: subscriptions must not appear under its hands.
    robot.localizer.executor.create_task(robot.listen, QoSProfile(depth=1))
    (finding,) = look()
    assert finding.level is Level.ERROR
    assert "/camera offers best effort, /localizer wants reliable" in finding.what


def test_compressed_images_under_the_name_of_raw_ones_are_named(robot):
    robot.images = None
    robot.driver.create_publisher(CompressedImage, "front/image/compressed", 1)
    found = {finding.what: finding.advice for finding in look(image_topic="front/image")}
    what = "nobody publishes /front/image, but there is /front/image/compressed"
    assert "image_topic:=/front/image image_transport:=compressed (launch)" in found[what]


def test_only_what_others_publish_is_offered(robot):
    robot.localizer.create_publisher(Image, "overlay", 1)
    robot.wheels.create_subscription(Image, "wished", lambda _: None, 1)
    (finding,) = [f for f in look(image_topic="wrong") if "/wrong" in f.what]
    assert finding.what == "nobody publishes /wrong"
    assert finding.advice.startswith("image_topic:=/image image_transport:=raw (launch)")


def test_a_camera_that_leaves_meanwhile_is_named_as_such(robot):
    def leave() -> None:
        # The localizer listens already; the second one is the doctor.
        end = time.monotonic() + 30.0
        while robot.images.get_subscription_count() < 2 and time.monotonic() < end:
            time.sleep(PERIOD_S)
        time.sleep(1.0)
        images, robot.images = robot.images, None
        robot.driver.destroy_publisher(images)

    thread = threading.Thread(target=leave, daemon=True)
    thread.start()
    (finding,) = judged_images(collect(Subject(seconds=4.0)))
    thread.join(5.0)
    assert "the publisher of /image (/camera) has left, after " in finding.what


def judged_images(seen: Snapshot) -> list[Finding]:
    """What is not well with the images."""
    return [f for f in check_images(seen) if f.level is not Level.OK]


def test_a_node_that_does_not_answer_yet_is_named_as_such(ros, monkeypatch):
    monkeypatch.setattr("pixloc_ros.doctor.inquiry._ANSWER_S", 0.5)
    ros()
    busy = Node("localizer")  # nobody spins it
    findings = judge(collect(Subject(seconds=0.5)))
    busy.destroy_node()
    (finding,) = [f for f in findings if f.level is not Level.OK]
    assert finding.level is Level.WARN
    assert "/localizer does not answer yet" in finding.what


def test_a_clock_that_the_node_does_not_follow_is_named(robot):
    robot.clock = robot.wheels.create_publisher(Clock, "/clock", 1)
    (finding,) = look()
    assert finding.what == "/clock is published by /wheels, but the node has not use_sim_time"


def test_a_node_in_a_namespace_is_looked_for_there(robot):
    (finding,) = [f for f in look(node="/front/localizer") if "does not run" in f.what]
    assert "--namespace of /localizer" in finding.advice


def test_the_command_prints_lines_or_json_and_exits_with_the_verdict(
    robot, map_path: Path, capsys: pytest.CaptureFixture[str]
):
    command = ["doctor", "--map", str(map_path), "--seconds", "1"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "nothing wrong was found"
    assert all(line.startswith("OK    ") for line in lines[:-1])
    robot.calibrated = (0, 0)
    assert main([*command, "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    (problem,) = [row["what"] for row in rows if row["level"] == "ERROR"]
    assert problem.startswith("/camera_info: CameraInfo: the image is 0x0")


def test_nobody_is_named_as_such(ros_domain, capsys):
    assert main(["doctor", "--seconds", "0.1"]) == 1
    printed = capsys.readouterr()
    assert f"no node is seen at all in domain {ros_domain}" in printed.out
    assert printed.err.startswith("listening for 0.1 s ...\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/**: {ros__parameters: {tf_rat: 3.0}}", "tf_rat"),
        ("/**: {ros__parameters: {localizer: {nonsense: 1}}}", "nonsense"),
        ("localizer: 3", "no parameter file of ROS"),
        ("a: [", "no YAML"),
    ],
)
def test_a_wrong_parameter_file_is_refused_in_one_line(text, said, tmp_path, capsys):
    file = tmp_path / "p.yaml"
    file.write_text(text)
    assert main(["doctor", "--params-file", str(file)]) == 2
    err = capsys.readouterr().err
    assert str(file) in err
    assert said in err
    assert err.count("\n") == 1


def test_wrong_usage_is_one_line_and_code_2(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--seconds", "-1"])
    assert caught.value.code == 2
    assert "expected seconds" in capsys.readouterr().err

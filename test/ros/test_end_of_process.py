"""Ctrl-C while a map is opened: both nodes, as processes, end in order."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rclpy.node import Node
from retrieval_bench import Floor
from robot_calls import Operator

from pixloc_ros.interfaces import LoadMap

BUSY_LOCALIZER = str(Path(__file__).resolve().parents[1] / "busy_localizer.py")

Process = subprocess.Popen[str]


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Starts a process of these words and ROS arguments."""
    started: list[Process] = []

    def run(*words: str) -> Process:
        process = subprocess.Popen(
            [sys.executable, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def operator(ros, spin) -> Iterator[Operator]:
    ros()
    node = Node("operator")
    spin(node)
    yield Operator(node)
    spin.stop()
    node.destroy_node()


def load(operator: Operator, service: str, path: Path) -> None:
    """Ask for a map, and wait for nothing."""
    operator.start(LoadMap, service, LoadMap.Request(map_url=str(path)))


def read_until(process: Process, words: str) -> str:
    """What a process says, up to a line with these words."""
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(f"never said {words!r}: {said}")


def interrupt(process: Process) -> str:
    """What a process says that ends by Ctrl-C, in order."""
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    return said


LEFT = "load_map: a map is still being opened after 8 s; it is given up"


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "is_left"), [(2, False), (1, False), (300, True)])
def test_localizer_ends_in_order_while_a_map_is_opened(
    start, operator, tmp_path, seconds, is_left
):
    path = tmp_path / "slow.h5"
    path.touch()
    process = start(BUSY_LOCALIZER, "--ros-args", "-p", f"weights:='{seconds}'")
    load(operator, "load_map", path)
    read_until(process, "opening")
    assert (LEFT in interrupt(process)) == is_left


@pytest.mark.slow
def test_retrieval_node_ends_in_order_while_an_index_is_made(
    start, operator, downstairs: Floor, upstairs: Floor, tmp_path
):
    second = upstairs.copy(tmp_path, "second", index=False)
    shutil.copytree(upstairs.images, tmp_path / "second.images")
    command = ("-m", "pixloc_ros.retrieval_node", "--ros-args")
    process = start(*command, "-p", f"map:={downstairs.map_path}")
    read_until(process, "is ready")
    load(operator, "retrieval/load_map", second)
    read_until(process, "it is made of the images in")
    said = interrupt(process)
    assert "still being" not in said
    left = sorted(file.name for file in tmp_path.glob("*second*"))
    assert left == ["second.h5", "second.images"]

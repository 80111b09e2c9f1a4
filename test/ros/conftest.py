"""ROS for the tests: a domain of their own, nodes that are taken down again."""

import os
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("tf2_msgs.msg", reason="messages are not built (make venv, or colcon build)")

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

# How long an example takes says more about the machine's load than about the code.
settings.register_profile("any_load", deadline=None)
settings.load_profile("any_load")


@pytest.fixture(scope="session")
def ros_domain() -> int:
    """Domain that this process has to itself: two test runs do not hear each other."""
    domain = 1 + os.getpid() % 100
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    return domain


@pytest.fixture
def ros(ros_domain: int) -> Iterator[Callable[..., None]]:
    """Starts rclpy with the given ROS arguments; ended with the test."""

    def start(*args: str) -> None:
        rclpy.init(args=["test", "--ros-args", *args] if args else None, domain_id=ros_domain)

    yield start
    rclpy.try_shutdown()


@pytest.fixture
def spin(ros: Callable[..., None]) -> Iterator[Callable[[Node], None]]:
    """Lets a node work in a thread of its own until the end of the test."""
    executor: list[SingleThreadedExecutor] = []
    threads: list[threading.Thread] = []

    def start(node: Node) -> None:
        if not executor:
            executor.append(SingleThreadedExecutor())
            threads.append(threading.Thread(target=executor[0].spin, daemon=True))
        executor[0].add_node(node)
        if not threads[0].is_alive():
            threads[0].start()

    yield start
    for one in executor:
        one.shutdown()
    for thread in threads:
        thread.join(10.0)

"""ROS for the tests: a domain of their own, nodes that are taken down again."""

import itertools
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from toy_world import ToyWorld

from pixloc_core.features.extractor import ExtractorConfig, create_extractor
from pixloc_core.features.reference import build_feature_map
from pixloc_core.map.colmap_format import from_colmap

try:
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node

    import pixloc_ros.interfaces  # noqa: F401 (the messages may not be built)
except ImportError as error:
    MISSING = str(error)
else:
    MISSING = ""

# How long an example takes says more about the machine's load than about the code.
settings.register_profile("any_load", deadline=None)
settings.load_profile("any_load")


class SkippedModule(pytest.Module):
    """A test module that cannot be imported without ROS."""

    def collect(self) -> list[pytest.Item]:
        pytest.skip(f"needs ROS 2: {MISSING}", allow_module_level=True)


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> SkippedModule | None:
    """Skip every module of this folder, with the reason, where there is no ROS."""
    return SkippedModule.from_parent(parent, path=module_path) if MISSING else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what stands in this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("ros")


# Participants of a test that is over may be heard of for a while: every test has its own domain.
DOMAINS = itertools.cycle(random.sample(range(1, 101), 100))


def claim_domain() -> tuple[int, socket.socket]:
    """A domain in which nobody is, and nobody was for the last tests.

    Test runs beside this one may want it, too, before the first participant of ours is there: a
    port that only the very last participant of a domain would use says whose it is until closed.
    """
    from pixloc_ros.replay.session import is_free

    for domain in itertools.islice(DOMAINS, 100):
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with suppress(OSError):
            claim.bind(("127.0.0.1", 7400 + 250 * domain + 249))
            if is_free(domain):
                return domain, claim
        claim.close()
    raise AssertionError("somebody is in every domain")


@pytest.fixture(autouse=True)
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Domain of this test, on this machine alone; processes that it starts take it over."""
    from pixloc_ros.replay import session

    domain, claim = claim_domain()
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    # Nobody else can be in it: replays need not look first.
    monkeypatch.setattr(session, "DISCOVERY_S", 0.0)
    yield domain
    claim.close()


@pytest.fixture
def ros() -> Iterator[Callable[..., None]]:
    """Starts rclpy with the given ROS arguments; ended with the test."""

    def start(*args: str) -> None:
        rclpy.init(args=["test", "--ros-args", *args] if args else None)

    yield start
    rclpy.try_shutdown()


class Spinner:
    """Lets nodes work in a thread of their own, until `stop`."""

    def __init__(self) -> None:
        self._executor: SingleThreadedExecutor | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def __call__(self, node: "Node") -> None:
        if self._executor is None:
            self._executor = SingleThreadedExecutor()
            self._stopping = threading.Event()
            self._thread = threading.Thread(target=self._spin, args=(self._executor,), daemon=True)
        self._executor.add_node(node)
        if self._thread is not None and self._thread.ident is None:
            self._thread.start()

    def _spin(self, executor: "SingleThreadedExecutor") -> None:
        while not self._stopping.is_set():
            executor.spin_once(timeout_sec=0.1)

    def stop(self) -> None:
        """Wait for the callback in work; nodes may be destroyed afterwards."""
        if self._executor is not None and self._thread is not None:
            # First the thread: `shutdown` destroys what a thread that spins waits for.
            self._stopping.set()
            self._thread.join(10.0)
            assert not self._thread.is_alive()
            self._executor.shutdown()
        self._executor = None


@pytest.fixture
def spin(ros: Callable[..., None]) -> Iterator[Spinner]:
    """Starts nodes in a thread of their own, ended with the test."""
    spinner = Spinner()
    yield spinner
    spinner.stop()


@pytest.fixture(scope="session")
def world() -> ToyWorld:
    """The toy room."""
    return ToyWorld()


@pytest.fixture(scope="session")
def map_path(world: ToyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its feature map, with the training-free features."""
    folder = tmp_path_factory.mktemp("room")
    sfm, images = world.write(folder)
    extractor = create_extractor(ExtractorConfig(kind="gradients"))
    build_feature_map(from_colmap(sfm), images, extractor, folder / "map.h5")
    return folder / "map.h5"


@pytest.fixture(scope="session")
def downstairs(world: ToyWorld, map_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The toy room with a map and its index (`retrieval_bench.Floor`)."""
    from retrieval_bench import make_floor

    return make_floor(world, tmp_path_factory.mktemp("downstairs"), map_path)


@pytest.fixture(scope="session")
def upstairs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Another room with a map and its index (`retrieval_bench.Floor`)."""
    from retrieval_bench import Upstairs, make_floor

    return make_floor(Upstairs(), tmp_path_factory.mktemp("upstairs"))


@pytest.fixture
def make_bench(ros: Callable[..., None], spin: Spinner) -> Iterator[Callable[..., Any]]:
    """Makes a localizer node with a fake core, and a robot around it."""
    from robot_bench import Bench

    benches: list[Bench] = []

    def make(*arguments: str, **options: Any) -> Bench:
        benches.append(Bench(ros, spin, *arguments, **options))
        return benches[-1]

    yield make
    spin.stop()
    for bench in benches:
        bench.node.close()


@pytest.fixture
def make_retrieval_bench(ros: Callable[..., None], spin: Spinner) -> Iterator[Callable[..., Any]]:
    """Makes a retrieval node, and somebody who asks it."""
    from retrieval_bench import RetrievalBench

    benches: list[RetrievalBench] = []

    def make(*arguments: str) -> RetrievalBench:
        benches.append(RetrievalBench(ros, spin, *arguments))
        return benches[-1]

    yield make
    spin.stop()
    for bench in benches:
        bench.node.close()
        bench.asker.destroy_node()

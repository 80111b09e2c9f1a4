import math
import sys
import threading
import time
from types import ModuleType

import pytest
import torch
from builtin_interfaces.msg import Time
from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from pixloc_core.errors import FrameError
from pixloc_core.geometry import Pose
from pixloc_ros.conversions import pose_to_transform
from pixloc_ros.frames import TF_QOS, TF_STATIC_QOS, Tf2Frames, TreeFrames, listen
from pixloc_ros.interfaces import TFMessage

SECOND = 1_000_000_000


def at(x: float) -> Pose:
    return Pose.from_Rt(torch.eye(3).double(), torch.tensor([x, 0.0, 0.0]).double())


def message(parent: str, child: str, stamp_ns: int, x: float) -> TFMessage:
    return TFMessage(transforms=[pose_to_transform(at(x), parent, child, stamp_ns)])


@pytest.fixture
def refused() -> list[str]:
    return []


@pytest.fixture
def frames(refused):
    return TreeFrames(10.0, refused.append)


def test_lookup_waits_for_a_transform_that_is_on_its_way(frames):
    frames.add_message(message("odom", "base", 0, 0.0), static=False)
    late = message("odom", "base", SECOND, 2.0)
    timer = threading.Timer(0.1, frames.add_message, (late,), {"static": False})
    timer.start()
    found = frames.lookup("odom", "base", SECOND // 2, timeout_s=10.0)
    assert found.t.tolist() == [1.0, 0.0, 0.0]


def test_wait_for_a_transform_is_bounded(frames):
    begin = time.perf_counter()
    with pytest.raises(FrameError, match="frame 'odom' is unknown"):
        frames.lookup("odom", "base", SECOND, timeout_s=0.1)
    assert 0.1 <= time.perf_counter() - begin < 2.0


def test_nobody_waits_for_the_past(frames):
    frames.add_message(message("odom", "base", 5 * SECOND, 0.0), static=False)
    begin = time.perf_counter()
    with pytest.raises(FrameError, match="lies in the past"):
        frames.lookup("odom", "base", SECOND, timeout_s=10.0)
    assert time.perf_counter() - begin < 5.0


def test_nan_in_tf_is_refused_reported_and_mended_by_the_next_message(frames, refused):
    bad = message("odom", "base", 0, math.nan)
    frames.add_message(bad, static=False)
    assert refused == [
        "refused odom <- base: translation (nan, 0, 0), quaternion (0, 0, 0, 1): not finite"
    ]
    with pytest.raises(FrameError, match=r"unknown.*; refused odom <- base.*not finite"):
        frames.lookup("odom", "base", 0, timeout_s=0.0)
    frames.add_message(message("odom", "base", 0, 3.0), static=False)
    assert frames.lookup("odom", "base", 0, timeout_s=0.0).t.tolist() == [3.0, 0.0, 0.0]


def test_quaternion_of_wrong_length_is_refused(frames, refused):
    bad = message("odom", "base", 0, 1.0)
    bad.transforms[0].transform.rotation.w = 0.5
    frames.add_message(bad, static=False)
    assert "length 0.5, expected 1" in refused[0]
    assert not frames.knows("odom")


def test_one_bad_transform_of_a_message_spares_the_others(frames):
    both = message("odom", "base", 0, math.nan)
    both.transforms.append(message("base", "camera", 0, 1.0).transforms[0])
    frames.add_message(both, static=False)
    assert frames.lookup("base", "camera", 0, timeout_s=0.0).t.tolist() == [1.0, 0.0, 0.0]


def test_node_hears_tf_and_latched_static_transforms(ros, spin):
    ros()
    sender, receiver = Node("sender"), Node("receiver")
    static = sender.create_publisher(TFMessage, "/tf_static", TF_STATIC_QOS)
    dynamic = sender.create_publisher(TFMessage, "/tf", TF_QOS)
    static.publish(message("base", "camera", 0, 1.0))
    frames = listen(receiver, 10.0, print)
    spin(sender)
    spin(receiver)
    deadline = time.monotonic() + 10.0
    while not (frames.knows("camera") and frames.knows("odom")):
        assert time.monotonic() < deadline
        dynamic.publish(message("odom", "base", SECOND, 5.0))
        time.sleep(0.05)
    assert frames.lookup("odom", "camera", SECOND, 5.0).t.tolist() == [6.0, 0.0, 0.0]


class FakeTf2Buffer:
    """The part of tf2_ros.Buffer that is used; knows odom <- base at one second."""

    def __init__(self, cache_time: object = None) -> None:
        self.cache_time = cache_time
        self.cleared = False
        self.failures = 2
        self.frames = "odom: \n  parent: 'map'\n"
        self.lists = 0

    def lookup_transform(self, target: str, source: str, stamp: object) -> object:
        self.failures -= 1
        if self.failures >= 0 or target != "odom" or source != "base":
            raise LookupError("two\nlines")
        return pose_to_transform(at(stamp.nanoseconds / SECOND), target, source, 0)

    def all_frames_as_yaml(self) -> str:
        self.lists += 1
        return self.frames

    def clear(self) -> None:
        self.cleared = True


def test_tf2_is_asked_again_until_it_knows():
    frames = Tf2Frames(FakeTf2Buffer(), None, LookupError)
    assert frames.lookup("odom", "base", 3 * SECOND, 5.0).t.tolist() == [3.0, 0.0, 0.0]
    assert frames.knows("odom")
    assert frames.knows("map")
    assert not frames.knows("od")
    assert not frames.knows("om")


def test_the_frames_of_tf2_are_not_listed_for_every_image():
    buffer = FakeTf2Buffer()
    frames = Tf2Frames(buffer, None, LookupError)
    assert all(frames.knows("odom") for _ in range(100))
    assert not any(frames.knows("wheel") for _ in range(100))
    assert buffer.lists == 1
    frames.clear()
    buffer.frames = "[]"
    assert not frames.knows("odom")


def wait_until_known(frames: Tf2Frames, frame: str) -> None:
    deadline = time.monotonic() + 10.0
    while not frames.knows(frame):
        assert time.monotonic() < deadline, f"{frame} is not known"
        time.sleep(0.02)


def test_a_frame_that_comes_later_is_found():
    buffer = FakeTf2Buffer()
    frames = Tf2Frames(buffer, None, LookupError)
    assert not frames.knows("base")
    buffer.frames += "base: \n  parent: 'odom'\n"
    wait_until_known(frames, "base")
    assert frames.knows("odom")


def test_the_real_tf2_knows_the_frames_that_it_has_heard_of():
    tf2_ros = pytest.importorskip("tf2_ros", reason="needs tf2_ros of a full ROS 2")
    buffer = tf2_ros.Buffer()
    frames = Tf2Frames(buffer, None, tf2_ros.TransformException)
    assert not frames.knows("odom")
    for second in (1, 2):
        transform = pose_to_transform(at(float(second)), "odom", "base", second * SECOND)
        buffer.set_transform(transform, "test")
    wait_until_known(frames, "odom")
    assert frames.knows("base")
    assert not frames.knows("bas")
    assert frames.lookup("odom", "base", 3 * SECOND // 2, 1.0).t.tolist() == [1.5, 0.0, 0.0]
    with pytest.raises(FrameError, match="extrapolation"):
        frames.lookup("odom", "base", 5 * SECOND, 0.05)


def test_what_tf2_does_not_know_in_time_is_one_line():
    frames = Tf2Frames(FakeTf2Buffer(), None, LookupError)
    with pytest.raises(FrameError, match=r"^two lines$"):
        frames.lookup("odom", "nothing", SECOND, 0.05)


def test_tf2_of_a_full_ros_is_preferred(ros, monkeypatch):
    ros()
    listeners: list[tuple[object, ...]] = []
    module = ModuleType("tf2_ros")
    module.Buffer = FakeTf2Buffer
    module.TransformException = LookupError
    module.TransformListener = lambda *args, **options: listeners.append((*args, options))
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    node = Node("listener")
    frames = listen(node, 7.0, print)
    assert isinstance(frames, Tf2Frames)
    buffer, owner, options = listeners[0]
    assert owner is node
    assert options == {"spin_thread": False}
    assert buffer.cache_time.nanoseconds == 7 * SECOND
    frames.clear()
    assert buffer.cleared


def test_transforms_are_forgotten_when_the_clock_goes_back(ros, spin, monkeypatch):
    # tf2 forgets on its own accord; this is about our tree.
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    ros("-p", "use_sim_time:=true")
    node = Node("listener")
    frames = listen(node, 10.0, print)
    clock = node.create_publisher(Clock, "/clock", 10)
    spin(node)

    def set_clock(seconds: int) -> None:
        deadline = time.monotonic() + 10.0
        while node.get_clock().now().nanoseconds != seconds * SECOND:
            assert time.monotonic() < deadline
            clock.publish(Clock(clock=Time(sec=seconds)))
            time.sleep(0.02)

    set_clock(100)
    frames.add_message(message("odom", "base", 100 * SECOND, 1.0), static=False)
    frames.add_message(message("base", "camera", 0, 1.0), static=True)
    set_clock(50)
    deadline = time.monotonic() + 10.0
    while frames.knows("odom"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert frames.knows("camera")

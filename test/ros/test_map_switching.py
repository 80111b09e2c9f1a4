"""Maps that are replaced and switched while the node runs, over DDS."""

import shutil
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from fake_localizer import SECOND, FakeMap, image_message, pose
from knowing_localizer import KnowingLocalizer
from robot_bench import Bench, wait
from robot_calls import ACTIVATE, CONFIGURE, Operator

from pixloc_core.errors import ConfigError, MapError
from pixloc_ros.interfaces import LoadMap, LocalizationStatus
from pixloc_ros.opening import open_map
from pixloc_ros.saved_pose import SavedPose, save_pose

CODES = LoadMap.Response
UNINITIALIZED, TRACKING = LocalizationStatus.UNINITIALIZED, LocalizationStatus.TRACKING


class Unfit(FakeMap):
    """A map whose features do not allow what the settings demand."""

    def localizer(self, config):
        raise ConfigError("localizer.levels is 4, expected 3 at most")


def fake_opener(config, path: str) -> FakeMap:
    """Opens by the name of the file."""
    name = Path(path).stem
    if name == "broken":
        raise MapError(f"{path}: not a feature map")
    kind = Unfit if name == "unfit" else FakeMap
    opened = kind(KnowingLocalizer(pose(10.0), reach=100.0), map_id=name)
    opened.fake.step = 0.0
    return opened


@pytest.fixture
def bench(make_bench, tmp_path: Path) -> Bench:
    """A robot tracked in the map `first`; beside it `second`, `broken` and `unfit`."""
    for name in ("first", "second", "broken", "unfit"):
        (tmp_path / f"{name}.h5").touch()
    bench = make_bench("-p", f"map:={tmp_path}/first.h5", opener=fake_opener)
    bench.operator, bench.folder = Operator(bench.robot.node), tmp_path
    bench.give_initialpose(pose(10.0))
    status = bench.ask(3.0)
    assert (status.published, status.map_id) == (True, "first")
    return bench


REFUSED = {
    "missing": (
        "nowhere.h5",
        CODES.RESULT_MAP_DOES_NOT_EXIST,
        "nowhere.h5': no such file, expected a feature map",
    ),
    "broken": ("broken.h5", CODES.RESULT_INVALID_MAP_DATA, "broken.h5: not a feature map"),
    "unfit": ("unfit.h5", CODES.RESULT_INVALID_MAP_METADATA, "expected 3 at most"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_map_that_cannot_be_loaded_leaves_the_old_one_in_use(bench, case):
    name, code, words = REFUSED[case]
    answer = bench.operator.load_map(bench.folder / name)
    assert answer.result == code
    assert words in answer.message
    status = bench.ask(4.0)
    assert (status.published, status.state, status.map_id) == (True, TRACKING, "first")
    values = {pair.key: pair.value for pair in bench.diagnosis("localization").values}
    assert values["map"] == f"{bench.folder}/first.h5"
    assert status.prior_source == "odometry"


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_another_map_begins_without_a_pose(bench, scheme):
    wait(lambda: bench.robot.map_to_odom, "map -> odom")
    answer = bench.operator.load_map(f"{scheme}{bench.folder}/second.h5")
    assert (answer.result, answer.message) == (CODES.RESULT_SUCCESS, "")
    bench.robot.map_to_odom.clear()
    status = bench.ask(4.0)
    assert (status.published, status.state, status.map_id) == (False, UNINITIALIZED, "second")
    entry = bench.diagnosis("localization")
    values = {pair.key: pair.value for pair in entry.values}
    assert values["map"] == f"{bench.folder}/second.h5"
    assert values["map_id"] == "second"
    assert not bench.robot.map_to_odom
    bench.give_initialpose(pose(10.0))
    status = bench.ask(5.0)
    assert (status.published, status.map_id) == (True, "second")


def test_an_image_in_work_says_nothing_about_the_new_map(bench):
    localizer = bench.node._engine.opened.fake
    localizer.gate.clear()
    localizer.entered.clear()
    bench.robot.image.publish(image_message(4 * SECOND))
    assert localizer.entered.wait(15.0)
    assert bench.operator.load_map(bench.folder / "second.h5").result == CODES.RESULT_SUCCESS
    localizer.gate.set()
    wait(lambda: len(bench.robot.statuses) == 2, "status")
    assert not bench.robot.statuses[-1].published
    status = bench.ask(5.0)
    assert (status.state, status.map_id) == (UNINITIALIZED, "second")
    assert len(bench.robot.poses) == 1


def test_images_are_localized_while_a_map_is_opened(make_bench, tmp_path):
    slow = KnowingLocalizer(pose(10.0))
    slow.gate.clear()

    def opener(config, path):
        if path:
            slow.entered.set()
            assert slow.gate.wait(30.0)
        return FakeMap()

    bench = make_bench(opener=opener)
    (tmp_path / "map.h5").touch()
    operator = Operator(bench.robot.node)
    request = LoadMap.Request(map_url=str(tmp_path / "map.h5"))
    future = operator.start(LoadMap, "load_map", request)
    assert slow.entered.wait(15.0)
    try:
        bench.give_initialpose(pose(10.0))
        assert bench.ask(3.0).published
        again = operator.load_map(tmp_path / "map.h5")
        assert again.result == CODES.RESULT_UNDEFINED_FAILURE
        assert again.message == "another map is being opened"
        assert not future.done()
    finally:
        slow.gate.set()
    wait(future.done, "answer")
    assert future.result().result == CODES.RESULT_SUCCESS
    assert bench.ask(4.0).state == UNINITIALIZED


def test_a_map_loaded_before_the_node_is_configured_is_the_one_it_opens(make_bench, tmp_path):
    for name in ("first", "second"):
        (tmp_path / f"{name}.h5").touch()
    parameters = ("-p", "autostart:=false", "-p", f"map:={tmp_path}/first.h5")
    bench = make_bench(*parameters, opener=fake_opener, active=False)
    operator = Operator(bench.robot.node)
    assert operator.load_map(tmp_path / "second.h5").result == CODES.RESULT_SUCCESS
    assert operator.state() == "unconfigured"
    assert operator.change_state(CONFIGURE)
    assert bench.node._map_id() == "second"


def test_a_pose_kept_for_one_map_is_not_used_in_another(make_bench, tmp_path):
    for name in ("first", "second"):
        (tmp_path / f"{name}.h5").touch()
    saved = tmp_path / "pose.json"
    save_pose(saved, SavedPose(pose(10.0), "first", SECOND))
    parameters = ("-p", "autostart:=false", "-p", f"map:={tmp_path}/first.h5")
    parameters += ("-p", f"saved_pose_filepath:={saved}")
    bench = make_bench(*parameters, opener=fake_opener, active=False)
    operator = Operator(bench.robot.node)
    assert operator.change_state(CONFIGURE)
    assert operator.load_map(tmp_path / "second.h5").result == CODES.RESULT_SUCCESS
    assert operator.change_state(ACTIVATE)
    bench.connect()
    status = bench.ask(3.0)
    assert (status.status, status.map_id) == (LocalizationStatus.NO_PRIOR, "second")
    assert "waiting for initialpose" in status.reason


class RealBench:
    """The real opener, with a copy of the map of the toy room."""

    def __init__(self, make_bench, map_path: Path, folder: Path) -> None:
        self.path = folder / "map.h5"
        shutil.copy(map_path, self.path)
        self.bench = make_bench("-p", f"map:={self.path}", opener=open_map)
        self.operator = Operator(self.bench.robot.node)
        wait(lambda: self.bench.node._session is not None, "activation", 60.0)


@pytest.fixture
def real(make_bench, map_path: Path, tmp_path: Path) -> RealBench:
    return RealBench(make_bench, map_path, tmp_path)


def replace_file(path: Path, content: bytes) -> None:
    """As `pixloc map build` does: the file appears as a whole."""
    partial = path.with_suffix(".part")
    partial.write_bytes(content)
    partial.replace(path)


def test_a_map_file_that_is_replaced_stays_in_use_until_it_is_loaded_again(real):
    map_id = real.bench.node._map_id()
    replace_file(real.path, b"no map at all")
    opened = real.bench.node._engine.opened
    # What is read lazily must still come from the old file.
    assert opened._map.content_id == map_id
    index = opened._map.sparse.points_map.shape[0] - 1
    real.bench.give_initialpose(pose(0.1))
    status = real.bench.ask(3.0)
    assert (status.map_id, index > 0) == (map_id, True)
    # A picture of one grey is no picture of this room, but the map answers.
    assert status.status != LocalizationStatus.INTERNAL_ERROR
    answer = real.operator.load_map(real.path)
    assert answer.result == CODES.RESULT_INVALID_MAP_DATA
    assert str(real.path) in answer.message
    assert real.bench.ask(4.0).map_id == map_id


def test_a_map_of_half_a_file_is_refused(real, map_path):
    whole = map_path.read_bytes()
    half = real.path.with_name("half.h5")
    half.write_bytes(whole[: len(whole) // 2])
    answer = real.operator.load_map(half)
    assert answer.result == CODES.RESULT_INVALID_MAP_DATA
    assert "half.h5" in answer.message
    assert "\n" not in answer.message


def test_a_broken_map_at_the_start_is_told_and_a_good_one_heals_it(make_bench, map_path, tmp_path):
    path = tmp_path / "map.h5"
    path.write_bytes(b"no map at all")
    bench = make_bench("-p", f"map:={path}", opener=open_map, active=False)
    entry = bench.diagnosis("localization")
    assert (entry.level, "map.h5" in entry.message) == (DiagnosticStatus.ERROR, True)
    assert {pair.key: pair.value for pair in entry.values}["lifecycle"] == "unconfigured"
    shutil.copy(map_path, path)
    # As the service does it, in the executor's thread.
    done = bench.node.executor.create_task(bench.node.trigger_configure)
    wait(done.done, "transition", 60.0)
    entry = bench.diagnosis("localization")
    assert (entry.level, entry.message) == (
        DiagnosticStatus.WARN,
        "the node is inactive, expected active",
    )

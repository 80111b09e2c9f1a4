"""Services and parameters of the node as people use them, over DDS."""

import time

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from fake_localizer import SECOND, FakeMap, image_message, pose
from knowing_localizer import KnowingLocalizer
from robot_bench import Bench, wait
from robot_calls import Operator, report

from pixloc_ros.interfaces import LocalizationStatus

NO_PRIOR = LocalizationStatus.NO_PRIOR
UNINITIALIZED, LOST = LocalizationStatus.UNINITIALIZED, LocalizationStatus.LOST


@pytest.fixture
def bench(make_bench) -> Bench:
    bench = make_bench()
    bench.operator = Operator(bench.robot.node)
    return bench


@pytest.fixture
def knowing(make_bench) -> Bench:
    """A robot at x = 10 whose images can be held in work; tracked since second 3."""
    localizer = KnowingLocalizer(pose(10.0), reach=100.0)
    bench = make_bench(opener=lambda config, path: FakeMap(localizer))
    bench.localizer, bench.operator = localizer, Operator(bench.robot.node)
    bench.give_initialpose(pose(10.0))
    assert bench.ask(3.0).published
    return bench


def start_work(bench: Bench, seconds: float) -> None:
    """Send an image that stays in work until the gate is opened."""
    bench.localizer.gate.clear()
    bench.localizer.entered.clear()
    bench.robot.image.publish(image_message(round(seconds * SECOND)))
    assert bench.localizer.entered.wait(15.0)


REFUSED = {
    "wrong frame": ({"value": pose(1.0), "frame": "odom"}, "is in frame 'odom', expected 'map'"),
    "not a number": ({"value": pose(float("nan"))}, "not finite"),
    "outside the map": ({"value": pose(5000.0)}, "initialpose lies outside"),
    "future": ({"value": pose(1.0), "stamp_ns": (2**31 - 1) * SECOND}, "s in the future"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_pose_that_cannot_be_is_refused_with_the_reason(bench, case):
    arguments, words = REFUSED[case]
    answer = bench.operator.set_initial_pose(**arguments)
    assert not answer.success
    assert words in answer.message
    assert "\n" not in answer.message
    assert bench.ask(3.0).status == NO_PRIOR


def test_a_pose_that_can_be_is_taken(bench):
    answer = bench.operator.set_initial_pose(pose(10.0), 2 * SECOND)
    assert (answer.success, answer.message) == (True, "taken: the next image starts there")
    assert bench.ask(3.0).prior_source == "initialpose"
    wait(lambda: bench.robot.poses, "pose")
    assert bench.robot.poses[-1].pose.pose.position.x == pytest.approx(10.25)


def test_giving_the_pose_up_silences_at_once(bench):
    bench.give_initialpose(pose(10.0))
    assert bench.ask(3.0).published
    wait(lambda: bench.robot.map_to_odom, "map -> odom")
    bench.operator.reinitialize()
    bench.robot.map_to_odom.clear()
    status = bench.ask(4.0)
    assert (status.state, status.status) == (LOST, NO_PRIOR)
    assert "nobody serves retrieve_pose to look for another" in status.state_reason
    entry = report(bench, "localization", lambda: bench.ask(4.2))
    assert entry.level == DiagnosticStatus.ERROR
    assert not bench.robot.map_to_odom
    assert len(bench.robot.poses) == 1


def test_giving_the_pose_up_holds_for_the_image_in_work(knowing):
    start_work(knowing, 4.0)
    knowing.operator.reinitialize()
    knowing.localizer.gate.set()
    wait(lambda: len(knowing.robot.statuses) == 2, "status")
    status = knowing.robot.statuses[-1]
    assert (status.published, status.status, status.state) == (False, NO_PRIOR, LOST)
    assert status.reason == "the pose was reset while this image was in work"
    assert not knowing.ask(5.0).published
    assert len(knowing.robot.poses) == 1


def test_giving_the_pose_up_withdraws_an_initial_pose_that_no_image_has_used(bench):
    bench.give_initialpose(pose(10.0))
    bench.operator.reinitialize()
    assert bench.ask(3.0).status == NO_PRIOR


def test_a_new_initial_pose_replaces_a_pose_that_is_tracked(bench):
    bench.give_initialpose(pose(10.0))
    assert bench.ask(3.0).published
    assert bench.operator.set_initial_pose(pose(50.0), 3 * SECOND).success
    status = bench.ask(4.0)
    assert (status.published, status.prior_source) == (True, "initialpose")
    wait(lambda: len(bench.robot.poses) == 2, "pose")
    assert bench.robot.poses[-1].pose.pose.position.x == pytest.approx(50.25)


def received(bench: Bench) -> int:
    return bench.node._session.counts.received


def test_pause_looks_at_no_image_and_says_so_and_resume_goes_on(bench):
    bench.give_initialpose(pose(10.0))
    assert bench.ask(3.0).published
    answer = bench.operator.trigger(on=False)
    assert (answer.success, answer.message) == (True, "paused")
    bench.robot.image.publish(image_message(4 * SECOND))
    inputs = bench.node._session.inputs
    wait(lambda: inputs.newest_ns == 4 * SECOND, "image")
    assert received(bench) == 1
    entries = bench.diagnoses()
    assert "paused" in entries["localization"].message
    assert entries["localization"].level == DiagnosticStatus.WARN
    assert len(bench.robot.statuses) == 1
    assert bench.operator.trigger(on=True).message == "images are localized"
    assert bench.ask(5.0).published


def test_a_single_image_can_be_asked_for_while_paused(bench):
    bench.give_initialpose(pose(10.0))
    bench.operator.trigger(on=False)
    bench.operator.request_update()
    assert bench.ask(3.0).published
    bench.robot.image.publish(image_message(4 * SECOND))
    wait(lambda: bench.node._session.inputs.newest_ns == 4 * SECOND, "image")
    assert received(bench) == 1


def test_rate_is_bounded_by_stamps_and_a_single_image_can_be_asked_for(make_bench):
    bench = make_bench("-p", "max_rate:=1.0")
    operator = Operator(bench.robot.node)
    bench.give_initialpose(pose(10.0))
    bench.ask(3.0)
    inputs = bench.node._session.inputs
    for tenth in range(31, 40):
        bench.robot.image.publish(image_message(tenth * SECOND // 10))
        wait(lambda stamp=tenth * SECOND // 10: inputs.newest_ns == stamp, "image")
    assert received(bench) == 1
    assert bench.ask(4.0).published
    operator.request_update()
    status = bench.ask(4.1)
    assert status.published
    # What arrives is counted whether it is looked at or not.
    assert (status.images_received, status.images_taken) == (12, 3)
    bench.robot.image.publish(image_message(round(4.2 * SECOND)))
    wait(lambda: inputs.newest_ns == round(4.2 * SECOND), "image")
    assert received(bench) == 3


def test_images_that_the_rate_leaves_out_have_arrived_all_the_same(make_bench):
    bench = make_bench("-p", "max_rate:=0.5")
    bench.give_initialpose(pose(10.0))
    bench.ask(3.0)
    inputs, reports = bench.node._session.inputs, bench.robot.diagnostics
    bench.diagnoses()
    reports.clear()
    for hundredth in range(301, 309):
        bench.robot.image.publish(image_message(hundredth * SECOND // 100))
        wait(lambda stamp=hundredth * SECOND // 100: inputs.newest_ns == stamp, "image")
    wait(lambda: len(reports) > 1, "diagnostics")
    entries = [entry for report in reports for entry in report.status]
    rates = [
        float(pair.value)
        for entry in entries
        for pair in entry.values
        if pair.key == "image_rate_hz"
    ]
    assert sum(rates) == pytest.approx(8.0, rel=0.3)
    levels = {entry.level for entry in entries if entry.name == "localizer: localization"}
    assert DiagnosticStatus.OK in levels
    values = {pair.key: pair.value for pair in bench.diagnosis("input").values}
    assert (values["images_received"], values["images_taken"]) == ("9", "1")


def test_parameters_are_taken_together_or_not_at_all(bench):
    operator = bench.operator
    answer = operator.set_parameters(max_rate=5.0, prior_source="guess")
    assert not answer.successful
    assert "prior_source" in answer.reason
    assert bench.node.get_parameter("max_rate").value == 0.0
    assert bench.node._settings.node.max_rate == 0.0
    answer = operator.set_parameters(max_rate=5.0, prior_source="tf")
    assert answer.successful
    assert bench.node._settings.node.max_rate == 5.0
    assert bench.node._settings.node.prior_source == "tf"


def test_what_cannot_change_while_the_node_runs_is_refused(bench):
    answer = bench.operator.set_parameters(base_frame_id="torso")
    assert not answer.successful
    assert "read-only" in answer.reason
    assert bench.node._settings.node.base_frame_id == "base_link"


@pytest.mark.parametrize("value", [-1, 2.5, "two"])
def test_a_value_out_of_range_or_of_another_type_is_refused(bench, value):
    assert not bench.operator.set_parameters(state__confirm_given=value).successful
    assert bench.node._settings.node.state.confirm_given == 1


def test_a_parameter_of_the_state_machine_holds_from_the_next_image_on(bench):
    assert bench.operator.set_parameters(state__confirm_given=2).successful
    bench.give_initialpose(pose(10.0))
    status = bench.ask(3.0)
    assert (status.published, status.state) == (False, LocalizationStatus.INITIALIZING)
    assert bench.ask(4.0).published
    # One that was found keeps its place.
    assert bench.operator.set_parameters(state__gate_position=0.5).successful
    assert bench.ask(5.0).prior_source == "odometry"


def test_a_parameter_of_the_core_reaches_the_core(bench):
    assert bench.operator.set_parameters(localizer__max_priors=3).successful
    assert bench.map.configs[-1].max_priors == 3
    bench.give_initialpose(pose(10.0))
    assert bench.ask(3.0).published


def test_tolerance_of_the_transform_changes_while_it_is_sent(bench):
    bench.give_initialpose(pose(10.0))
    bench.ask(3.0)
    assert bench.operator.set_parameters(transform_tolerance=2.0).successful

    def is_dated() -> bool:
        stamps = [m.transforms[0].header.stamp for m in bench.robot.map_to_odom]
        return any((stamp.sec, stamp.nanosec) == (5, 0) for stamp in stamps)

    wait(is_dated, "transform of second 5")


def test_services_answer_while_an_image_is_in_work(knowing):
    start_work(knowing, 4.0)
    try:
        began = time.monotonic()
        assert knowing.operator.set_initial_pose(pose(12.0), 4 * SECOND).success
        assert knowing.operator.set_parameters(max_rate=9.0).successful
        assert knowing.operator.trigger(on=True).success
        assert time.monotonic() - began < 20.0
        assert len(knowing.robot.statuses) == 1
    finally:
        knowing.localizer.gate.set()
    wait(lambda: len(knowing.robot.statuses) == 2, "status")


def test_an_initial_pose_replaces_what_an_image_in_work_will_find(knowing):
    start_work(knowing, 4.0)
    assert knowing.operator.set_initial_pose(pose(12.0), 4 * SECOND).success
    knowing.localizer.gate.set()
    wait(lambda: len(knowing.robot.statuses) == 2, "status")
    assert not knowing.robot.statuses[-1].published
    assert knowing.ask(5.0).prior_source == "initialpose"

import logging

import pytest

from pixloc_ros.log_forwarding import Complaints, NodeLogHandler


class Said:
    """A logger of a node that writes down what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __getattr__(self, severity: str):
        return lambda text: self.lines.append((severity, text))


@pytest.fixture
def said():
    said = Said()
    handler = NodeLogHandler(said, ["pixloc_core"])
    yield said
    handler.detach()


@pytest.mark.parametrize("severity", ["info", "warning", "error"])
def test_record_is_said_at_its_severity_with_its_arguments(said, severity):
    getattr(logging.getLogger("pixloc_core.map"), severity)("opened %s", "a.h5")
    assert said.lines == [(severity, "pixloc_core.map: opened a.h5")]


def test_critical_is_fatal_and_debug_is_left_out(said):
    logging.getLogger("pixloc_core").critical("end")
    logging.getLogger("pixloc_core").debug("detail")
    assert said.lines == [("fatal", "pixloc_core: end")]


def test_exception_comes_with_its_traceback(said):
    try:
        raise ValueError("bad luck")
    except ValueError:
        logging.getLogger("pixloc_core").exception("oh")
    severity, text = said.lines[0]
    assert severity == "error"
    assert "oh\nTraceback" in text
    assert "ValueError: bad luck" in text


def test_loggers_are_left_as_they_were():
    logger = logging.getLogger("pixloc_core")
    before = (logger.level, list(logger.handlers))
    NodeLogHandler(Said(), ["pixloc_core"]).detach()
    assert (logger.level, logger.handlers) == before


def test_real_node_says_every_severity_without_complaint(ros, capfd):
    ros()
    import rclpy

    handler = NodeLogHandler(rclpy.create_node("speaker").get_logger(), ["pixloc_core"])
    logger = logging.getLogger("pixloc_core")
    for level in (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logger.log(level, "level %d", level)
    handler.detach()
    text = capfd.readouterr().err
    assert [f"level {level}" in text for level in (20, 30, 40, 50)] == [True] * 4


def test_complaint_of_one_kind_is_said_once_in_a_while(said):
    complaints = Complaints(said, period_s=60.0)
    for number in range(3):
        complaints.say("map", f"map {number}")
        complaints.say("image", f"image {number}")
    assert said.lines == [("warning", "map 0"), ("warning", "image 0")]


def test_complaint_is_repeated_after_its_period(said):
    complaints = Complaints(said, period_s=0.0)
    complaints.say("map", "first")
    complaints.say("map", "second")
    assert [text for _, text in said.lines] == ["first", "second"]

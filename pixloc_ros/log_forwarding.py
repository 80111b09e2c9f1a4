"""What the node says: log records of Python's logging, and complaints that come often."""

import logging
import time
from collections.abc import Sequence
from typing import Any


class NodeLogHandler(logging.Handler):
    """Passes records on to the logger of a node, from level INFO on, until `detach`.

    Args:
        ros_logger: Of the node (`node.get_logger()`).
        names: Loggers of Python to listen to.
    """

    def __init__(
        self, ros_logger: Any, names: Sequence[str] = ("pixloc_core", "pixloc_ros")
    ) -> None:
        super().__init__()
        self._ros = ros_logger
        self._sources = [(name, logging.getLogger(name).level) for name in names]
        for name, level in self._sources:
            logging.getLogger(name).addHandler(self)
            if level == logging.NOTSET or level > logging.INFO:
                logging.getLogger(name).setLevel(logging.INFO)

    def detach(self) -> None:
        """Leave the loggers as they were."""
        for name, level in self._sources:
            logging.getLogger(name).removeHandler(self)
            logging.getLogger(name).setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Say one record, at the severity it has, with the traceback if it carries one."""
        text = f"{record.name}: {record.getMessage()}"
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        # Each severity on a line of its own: rclpy ties the severity to the line of the call.
        if record.levelno >= logging.CRITICAL:
            self._ros.fatal(text)
        elif record.levelno >= logging.ERROR:
            self._ros.error(text)
        elif record.levelno >= logging.WARNING:
            self._ros.warning(text)
        elif record.levelno >= logging.INFO:
            self._ros.info(text)
        else:
            self._ros.debug(text)


class Complaints:
    """Warnings of which each kind is said once in a while only, however often it comes."""

    def __init__(self, ros_logger: Any, period_s: float = 5.0) -> None:
        """Wrap the logger of a node; `period_s` is the time between two of the same kind."""
        self._ros = ros_logger
        self._period_s = period_s
        self._said: dict[str, float] = {}

    def say(self, kind: str, text: str) -> None:
        """Warn, unless something of this kind was said a moment ago."""
        now = time.monotonic()
        if now - self._said.get(kind, float("-inf")) >= self._period_s:
            self._said[kind] = now
            self._ros.warning(text)

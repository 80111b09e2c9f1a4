"""Log records of the core, said by the node."""

import logging
from typing import Any


class NodeLogHandler(logging.Handler):
    """Passes records of Python's logging on to the logger of a node."""

    def __init__(self, ros_logger: Any, source: logging.Logger) -> None:
        """Attach to a logger of Python; `ros_logger` is that of a node."""
        super().__init__()
        self._ros = ros_logger
        self._source = source
        self._level_before = source.level
        source.addHandler(self)
        if source.level == logging.NOTSET:
            source.setLevel(logging.INFO)

    def detach(self) -> None:
        """Leave the logger as it was."""
        self._source.removeHandler(self)
        self._source.setLevel(self._level_before)

    def emit(self, record: logging.LogRecord) -> None:
        """Say one record, at the severity it has."""
        text = f"{record.name}: {record.getMessage()}"
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


def forward_logging(ros_logger: Any, name: str = "pixloc_core") -> NodeLogHandler:
    """Let a node say what the core logs, from level INFO on, until `detach`."""
    return NodeLogHandler(ros_logger, logging.getLogger(name))

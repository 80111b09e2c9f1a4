"""Log records of the core, said by the node."""

import logging
from typing import Any


class NodeLogHandler(logging.Handler):
    """Passes records of Python's logging on to the logger of a node."""

    def __init__(self, ros_logger: Any) -> None:
        """Wrap the logger of a node (`node.get_logger()`)."""
        super().__init__()
        self._ros = ros_logger

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
    """Let a node say what the core logs, from level INFO on; returns the handler, to remove it."""
    handler = NodeLogHandler(ros_logger)
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    return handler

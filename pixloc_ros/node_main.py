"""What every node of this package does around its work: command line, spinning, an orderly end."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.logging import get_logger
from rclpy.utilities import remove_ros_args

from pixloc_core.errors import ConfigError
from pixloc_ros.transport import use_image_profile


def run_node(make: Callable[[], Any], name: str, usage: str, args: list[str] | None) -> int:
    """Run a node until it is told to stop.

    Args:
        make: Makes the node, which has `close`, true if no thread of it goes on; may raise
            ConfigError.
        name: Of the node, for its log.
        usage: Said for `--help`, and for words that are no ROS arguments.
        args: Command line; that of the process if not given.

    Returns:
        Exit code: 0, or 2 if the command line or a parameter is wrong.
    """
    use_image_profile()
    try:
        words = remove_ros_args(sys.argv if args is None else args)[1:]
        if words:
            sys.stderr.write(f"{usage}\n")
            return 0 if set(words) <= {"-h", "--help"} else 2
        rclpy.init(args=args)
        node = make()
    except (ConfigError, RuntimeError) as error:
        # rclpy has no public name for what it raises of a file that it cannot read.
        get_logger(name).fatal(" ".join(str(error).split()))
        rclpy.try_shutdown()
        return 2
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)
    # Ctrl-C reaches a launched node twice: from the terminal and from ros2 launch.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    is_over = node.close()
    rclpy.try_shutdown()
    if not is_over:
        # A thread that is in the middle of PyTorch when the interpreter ends aborts the process.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0

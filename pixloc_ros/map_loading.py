"""The service `load_map`: what is the same in every node that has one."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.task import Future

from pixloc_core.errors import MapError, PixlocError
from pixloc_ros.interfaces import LoadMap

T = TypeVar("T")


class NotNowError(PixlocError):
    """A map is not loaded at this moment, though nothing is said against it."""


async def answer_load_map(
    node: Node,
    request: Any,
    response: Any,
    open_map: Callable[[str], T],
    use: Callable[[T, str], None] | None = None,
) -> Any:
    """Answer a LoadMap request when the map is in use, or known not to be usable.

    Its callback group must be reentrant; the executor goes on meanwhile.

    Args:
        node: Its executor answers.
        request: The request.
        response: Filled; what is wrong is said in it, and in the log, never raised.
        open_map: Opens the map of this path; slow, called in a thread of its own.
        use: Goes on with what was opened, and its path; called in the executor's thread, where
            parameters change.
    """
    try:
        path = _map_file(request.map_url)
        opened = await _in_thread(node, lambda: open_map(path))
        if use is not None:
            use(opened, path)
    except Exception as error:  # noqa: BLE001 - the node lives on, and the caller must hear of it
        response.result, response.message = _refusal(error)
        node.get_logger().warning(f"load_map: {response.message}")
    return response


def _map_file(map_url: str) -> str:
    path = map_url.removeprefix("file://")
    if not Path(path).is_file():
        kind = "a folder" if path and Path(path).is_dir() else "no such file"
        raise FileNotFoundError(f"map_url {path!r}: {kind}, expected a feature map")
    return path


async def _in_thread(node: Node, work: Callable[[], T]) -> T:
    executor = node.executor
    assert executor is not None
    done: Future[Any] = Future(executor=executor)

    def run() -> None:
        try:
            done.set_result(work())
        except Exception as error:  # noqa: BLE001 - raised again where it is awaited
            done.set_exception(error)
        # Who awaits the future is looked at when the executor does something: not before the next
        # message or timer otherwise. At the end of the node there is nobody left to wake.
        with suppress(InvalidHandle, RuntimeError):
            executor.wake()

    threading.Thread(target=run, name="load_map", daemon=True).start()
    result: T = await done
    return result


def _refusal(error: Exception) -> tuple[int, str]:
    """Result code and message of a map that is not loaded."""
    codes = LoadMap.Response
    if isinstance(error, FileNotFoundError):
        return codes.RESULT_MAP_DOES_NOT_EXIST, str(error)
    if isinstance(error, NotNowError):
        return codes.RESULT_UNDEFINED_FAILURE, str(error)
    if isinstance(error, MapError):
        return codes.RESULT_INVALID_MAP_DATA, str(error)
    if isinstance(error, PixlocError):
        return codes.RESULT_INVALID_MAP_METADATA, str(error)
    return codes.RESULT_UNDEFINED_FAILURE, f"{type(error).__name__}: {error}"

"""The service `load_map`: what is the same in every node that has one."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.task import Future

from pixloc_core.errors import MapError, PixlocError
from pixloc_ros.interfaces import LoadMap

T = TypeVar("T")

# A node that ends waits so long for what cannot be interrupted. `ros2 launch` kills 10 s after the
# Ctrl-C.
PATIENCE_S = 8.0


class NotNowError(PixlocError):
    """A map is not loaded at this moment, though nothing is said against it."""


class MapLoader(Generic[T]):
    """Answers LoadMap requests when the map is in use, or known not to be usable.

    The callback group of the service must be reentrant; the executor goes on meanwhile.
    """

    def __init__(
        self,
        node: Node,
        open_map: Callable[[str], T],
        use: Callable[[T, str], None] | None = None,
    ) -> None:
        """Begin with nothing to load.

        Args:
            node: Its executor answers.
            open_map: Opens the map of this path; slow, called in a thread of its own.
            use: Goes on with what was opened, and its path; called in the executor's thread, where
                parameters change.
        """
        self._node, self._open_map, self._use = node, open_map, use
        self._threads: list[threading.Thread] = []

    async def answer(self, request: Any, response: Any) -> Any:
        """Fill the response; what is wrong is said in it, and in the log, never raised."""
        try:
            path = _map_file(request.map_url)
            opened = await self._in_thread(lambda: self._open_map(path))
            if self._use is not None:
                self._use(opened, path)
        except Exception as error:  # noqa: BLE001 - the node lives on, the caller must hear of it
            response.result, response.message = _refusal(error)
            self._node.get_logger().warning(f"load_map: {response.message}")
        return response

    def close(self, patience_s: float = PATIENCE_S) -> bool:
        """Wait for maps that are being opened; whether none is any more.

        Args:
            patience_s: For so long at most.
        """
        deadline = time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        is_over = not any(thread.is_alive() for thread in self._threads)
        if not is_over:
            self._node.get_logger().warning(
                f"load_map: a map is still being opened after {patience_s:g} s; it is given up"
            )
        return is_over

    async def _in_thread(self, work: Callable[[], T]) -> T:
        executor = self._node.executor
        assert executor is not None
        done: Future[Any] = Future(executor=executor)

        def run() -> None:
            try:
                done.set_result(work())
            except Exception as error:  # noqa: BLE001 - raised again where it is awaited
                done.set_exception(error)
            # Who awaits the future is looked at when the executor does something: not before the
            # next message or timer otherwise. At the end of the node there is nobody left to wake.
            with suppress(InvalidHandle, RuntimeError):
                executor.wake()

        thread = threading.Thread(target=run, name="load_map", daemon=True)
        self._threads = [*(old for old in self._threads if old.is_alive()), thread]
        thread.start()
        result: T = await done
        return result


def _map_file(map_url: str) -> str:
    path = map_url.removeprefix("file://")
    if not Path(path).is_file():
        kind = "a folder" if path and Path(path).is_dir() else "no such file"
        raise FileNotFoundError(f"map_url {path!r}: {kind}, expected a feature map")
    return path


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

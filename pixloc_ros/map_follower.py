"""One step for the user: retrieval serves the map that the localizer has loaded."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node, NodeNameNonExistentError

from pixloc_ros.interfaces import LoadMap

_PERIOD_S = 0.2
# A service that is there is found within this time; and now and then the middleware does not match
# the two ends of one: a new client does.
_PATIENCE_S = 5.0
# Making an index takes minutes; but a node that was killed never answers, and one that was started
# in its place is not told from it. Asking twice does no harm.
_ASK_AGAIN_S = 30.0
_KIND = "pixloc_ros/srv/LoadMap"


class _Stage(Enum):
    """Nothing to do; looking for the service; waiting for its answer."""

    IDLE = 0
    SEARCHING = 1
    ASKED = 2


class MapFollower:
    """Asks the node that serves `retrieve_pose` to load the map that the localizer has loaded.

    It is found in the ROS graph, whatever its name: `load_map` is beside `retrieve_pose`, a
    service of the same node. Nothing here blocks: a timer looks, asks, and waits for the answer.
    """

    def __init__(
        self,
        node: Node,
        retrieve_pose: str,
        on_followed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing to do.

        Args:
            node: Its node.
            retrieve_pose: Full name of the service in use.
            on_followed: Called in the executor's thread when the map is served.
            clock: Seconds that rise.
        """
        self._node, self._service, self._on_followed = node, retrieve_pose, on_followed
        self._clock = clock
        self._lock = threading.RLock()
        self._path = ""
        self._stage, self._since_s = _Stage.IDLE, 0.0
        self._problem = self._told = ""
        self._is_believed = False
        self._client: Any = None
        self._future: Any = None
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(_PERIOD_S, self._work, clock=steady)
        self._timer.cancel()

    def follow(self, path: str) -> None:
        """Have this map served, from now on; a node that comes later is asked, too."""
        with self._lock:
            self._path = str(Path(path).absolute())
            self._problem = self._told = ""
            self._is_believed = False
            self._forget_answer()
            self._move(_Stage.SEARCHING)

    def again(self, path: str) -> None:
        """Another map is served than this one: ask for it, unless that is under way."""
        with self._lock:
            if self._path != str(Path(path).absolute()):
                self.follow(path)
            elif self._stage is _Stage.IDLE or self._clock() - self._since_s > _ASK_AGAIN_S:
                self._forget_answer()
                self._move(_Stage.SEARCHING)

    def served(self, *, is_certain: bool) -> None:
        """An answer was taken: nothing is wrong any more, whoever has mended it.

        Args:
            is_certain: Whether the answer names the map in use; if it names none, it is asked to
                follow all the same, but need not be able to.
        """
        with self._lock:
            self._problem = self._told = ""
            self._is_believed = True
            if is_certain:
                self._forget_answer()
                self._move(_Stage.IDLE)

    @property
    def problem(self) -> str:
        """Why it did not follow, and what to do, in one line; empty if it did, or still may."""
        with self._lock:
            return self._problem

    @property
    def remedy(self) -> str:
        """What is being done, or can be, where another map is served."""
        with self._lock:
            return self._problem or f"it is asked to go on in {self._path}"

    def close(self) -> None:
        """Stop, for good."""
        with self._lock:
            self._forget_answer()
            self._move(_Stage.IDLE)
            self._node.destroy_timer(self._timer)
            self._drop_client()

    def _work(self) -> None:
        with self._lock:
            if self._stage is _Stage.SEARCHING:
                self._search()
            elif self._stage is _Stage.ASKED:
                self._watch()

    def _search(self) -> None:
        waited_s = self._clock() - self._since_s
        servers = self._servers()
        if not servers:
            # Nobody to ask: retrieval is not in use, or comes later.
            self._move(_Stage.SEARCHING)
            return
        load_map = next((name for kinds, name in servers if kinds == [_KIND]), "")
        if not load_map:
            if waited_s > _PATIENCE_S and self._is_believed:
                self._move(_Stage.IDLE)
            elif waited_s > _PATIENCE_S:
                self._fail(
                    f"{servers[0][1]} is not served; start that node anew with {self._path}"
                )
            return
        if self._client is None or self._client.service_name != load_map:
            self._drop_client()
            self._client = self._node.create_client(LoadMap, load_map)
        if self._client.service_is_ready():
            self._move(_Stage.ASKED)
            self._future = self._client.call_async(LoadMap.Request(map_url=self._path))
            self._future.add_done_callback(self._on_answer)
        elif waited_s > _PATIENCE_S:
            self._drop_client()
            self._move(_Stage.SEARCHING)

    def _servers(self) -> list[tuple[list[str], str]]:
        """Of each node that serves `retrieve_pose`: types and full name of its load_map."""
        found: list[tuple[list[str], str]] = []
        if not self._node.count_services(self._service):
            return found
        for name, space in self._node.get_node_names_and_namespaces():
            with suppress(NodeNameNonExistentError):  # it may end meanwhile
                services = dict(self._node.get_service_names_and_types_by_node(name, space))
                if self._service in services:
                    load_map = f"{space.rstrip('/')}/{name}/load_map"
                    found.append((services.get(load_map, []), load_map))
        return sorted(found)

    def _watch(self) -> None:
        """The node that was asked may have ended."""
        if not self._client.service_is_ready():
            self._forget_answer()
            self._move(_Stage.SEARCHING)

    def _on_answer(self, future: Any) -> None:
        with self._lock:
            if future is not self._future:
                return
            self._future = None
            name, error = self._client.service_name, future.exception()
            if error is None and future.result().result == LoadMap.Response.RESULT_SUCCESS:
                self._move(_Stage.IDLE)
                self._problem = self._told = ""
                self._node.get_logger().info(f"retrieval serves {self._path} now, too")
            else:
                why = str(error) if error is not None else future.result().message
                self._fail(f"{name}: {why}; mend that, or call it with the map's path over there")
                return
        self._on_followed()

    def _fail(self, problem: str) -> None:
        self._move(_Stage.IDLE)
        self._problem = f"retrieval does not follow to the map of this node: {problem}"
        if self._problem != self._told:
            self._told = self._problem
            self._node.get_logger().warning(self._problem)

    def _move(self, stage: _Stage) -> None:
        self._stage, self._since_s = stage, self._clock()
        # The timer runs only while there is something to do.
        if stage is _Stage.IDLE:
            self._timer.cancel()
        elif self._timer.is_canceled():
            self._timer.reset()

    def _forget_answer(self) -> None:
        if self._future is not None:
            self._client.remove_pending_request(self._future)
        self._future = None

    def _drop_client(self) -> None:
        if self._client is not None:
            self._node.destroy_client(self._client)
        self._client = None

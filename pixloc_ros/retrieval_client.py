"""Client of the service `retrieve_pose`: one request at a time, with timeout and back-off."""

import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from rclpy.node import Node
from sensor_msgs.msg import Image

from pixloc_core.errors import FrameError
from pixloc_core.geometry import Pose
from pixloc_ros.conversions import pose_from_message
from pixloc_ros.interfaces import RetrievePose
from pixloc_ros.map_follower import MapFollower
from pixloc_ros.retrieval_source import RetrievalAnswer, RetrievalQuery

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0


class OtherMapError(FrameError):
    """An answer is of another map than the one in use."""


class RetrievalClient:
    """See `RetrievalSource`. Asked from the worker's thread, answered in the executor's.

    After a failure (no service, timeout, refusal, another map) it is left in peace for half a
    second, after the next one for twice as long, up to ten seconds.
    """

    def __init__(
        self,
        node: Node,
        settings: Callable[[], tuple[float, int]],
        map_in_use: Callable[[], tuple[str, str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create the client.

        Args:
            node: Its node.
            settings: Gives the timeout in seconds and the number of images to ask for.
            map_in_use: Gives its content hash and its file.
            clock: Seconds that rise.
        """
        self._node, self._settings, self._clock = node, settings, clock
        self._map_in_use = map_in_use
        self._client = node.create_client(RetrievePose, "retrieve_pose")
        served = node.resolve_service_name("retrieve_pose")
        self._follower = MapFollower(node, served, self._begin_anew, clock)
        # An answer that is there already is heard in the very thread that asks for it.
        self._lock = threading.RLock()
        self._query: RetrievalQuery | None = None
        self._future: Any = None
        self._sent_s = 0.0
        self._answer: RetrievalAnswer | None = None
        self._problem = ""
        self._pause_s, self._rest_until_s = _FIRST_PAUSE_S, 0.0
        self.requests = self.failures = 0

    @property
    def is_available(self) -> bool:
        """See `RetrievalSource`."""
        return bool(self._client.service_is_ready())

    @property
    def problem(self) -> str:
        """See `RetrievalSource`."""
        with self._lock:
            return self._problem or self._follower.problem

    def follow(self, map_path: str) -> None:
        """Have the map that is in use from now on served; see `MapFollower`."""
        self.cancel()
        self._follower.follow(map_path)

    def request(self, query: RetrievalQuery) -> None:
        """See `RetrievalSource`."""
        timeout_s, count = self._settings()
        with self._lock:
            now = self._clock()
            if self._query is not None:
                if now - self._sent_s <= timeout_s:
                    return
                self._drop()
                self._fail(f"retrieve_pose has not answered for {timeout_s:g} s")
            if now < self._rest_until_s or self._answer is not None:
                return
            if not self._client.service_is_ready():
                self._fail("nobody serves retrieve_pose")
                return
            self._query, self._sent_s = query, now
            self.requests += 1
            self._future = self._client.call_async(request_of(query, count))
            self._future.add_done_callback(self._on_answer)

    def take(self) -> RetrievalAnswer | None:
        """See `RetrievalSource`."""
        with self._lock:
            answer, self._answer = self._answer, None
            return answer

    def cancel(self) -> None:
        """See `RetrievalSource`."""
        with self._lock:
            self._drop()
            self._answer = None
            self._begin_anew()

    def close(self) -> None:
        """Take the client down."""
        self.cancel()
        self._follower.close()
        self._node.destroy_client(self._client)

    def _begin_anew(self) -> None:
        """What failed so far says nothing about the next request."""
        with self._lock:
            self._problem = ""
            self._pause_s, self._rest_until_s = _FIRST_PAUSE_S, 0.0

    def _drop(self) -> None:
        """Stop waiting; a late answer is not listened to."""
        if self._future is not None:
            self._client.remove_pending_request(self._future)
        self._query = self._future = None

    def _on_answer(self, future: Any) -> None:
        with self._lock:
            if future is not self._future or self._query is None:
                return
            query, self._query, self._future = self._query, None, None
            error = future.exception()
            if error is not None:
                self._fail(f"retrieve_pose failed: {error}")
                return
            response = future.result()
            map_id, map_path = self._map_in_use()
            try:
                self._answer = read_answer(query, response, map_id)
            except OtherMapError as problem:
                self._follower.again(map_path)
                self._fail(f"{problem}: {self._follower.remedy}")
                return
            except FrameError as problem:
                self._fail(str(problem))
                return
            self._problem, self._pause_s = "", _FIRST_PAUSE_S
            self._follower.served(is_certain=bool(response.map_id))

    def _fail(self, problem: str) -> None:
        self._problem = problem
        self.failures += 1
        self._rest_until_s = self._clock() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)


class LocalRetrieval:
    """See `RetrievalSource`: asks a server in this very process, and waits for it.

    Every time the same: for replays without DDS.
    """

    def __init__(self, serve: Callable[[Any, Any], Any], count: int, map_id: str) -> None:
        """Bind a server.

        Args:
            serve: Fills a response to a request, as `RetrievalServer.answer`.
            count: Number of images to ask for.
            map_id: Content hash of the map in use.
        """
        self._serve, self._count, self._map_id = serve, count, map_id
        self._answer: RetrievalAnswer | None = None
        self.is_available, self.problem = True, ""

    def request(self, query: RetrievalQuery) -> None:
        """See `RetrievalSource`."""
        response = self._serve(request_of(query, self._count), RetrievePose.Response())
        try:
            self._answer, self.problem = read_answer(query, response, self._map_id), ""
        except FrameError as problem:
            self.problem = str(problem)

    def take(self) -> RetrievalAnswer | None:
        """See `RetrievalSource`."""
        answer, self._answer = self._answer, None
        return answer

    def cancel(self) -> None:
        """See `RetrievalSource`."""
        self._answer = None


def read_answer(query: RetrievalQuery, response: Any, map_id: str) -> RetrievalAnswer:
    """The poses of a RetrievePose response.

    Raises:
        FrameError: If it has none, or makes no sense.
        OtherMapError: If it is of another map.
    """
    if not response.success:
        raise FrameError(f"retrieve_pose: {response.message}")
    if response.map_id and response.map_id != map_id:
        raise OtherMapError(f"retrieve_pose serves map {response.map_id}, this node uses {map_id}")
    count = len(response.poses)
    if not count or {len(response.images), len(response.scores)} != {count}:
        raise FrameError(
            f"retrieve_pose answered {len(response.images)} images, {count} poses and "
            f"{len(response.scores)} scores, expected as many of each, and one at least"
        )
    poses = torch.stack([pose_from_message(pose).data for pose in response.poses])
    scores = tuple(float(score) for score in response.scores)
    return RetrievalAnswer(query, Pose(poses), tuple(response.images), scores)


def request_of(query: RetrievalQuery, count: int) -> Any:
    """RetrievePose request of a query for so many images."""
    request = RetrievePose.Request(max_results=count)
    request.camera_info = query.camera.info
    if isinstance(query.camera.image, Image):
        request.image = query.camera.image
    else:
        request.compressed = query.camera.image
    return request

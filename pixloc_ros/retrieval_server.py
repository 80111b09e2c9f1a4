"""The server behind `retrieve_pose`: one map at a time, and the next one on its way."""

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sensor_msgs.msg import CameraInfo

from pixloc_core.errors import FormatError, MapError, PixlocError
from pixloc_core.geometry import Camera
from pixloc_core.retrieval.index import RetrievalIndex
from pixloc_ros.conversions import CameraReader, pose_to_message
from pixloc_ros.image_conversions import compressed_to_array, image_to_array
from pixloc_ros.map_loading import PATIENCE_S, NotNowError
from pixloc_ros.retrieval_config import RetrievalNodeConfig
from pixloc_ros.retrieval_opening import open_index

logger = logging.getLogger(__name__)

_OPENING = "the index is being opened"


@dataclass(frozen=True)
class ServerState:
    """What /diagnostics says of the server.

    Attributes:
        index: The index in use, or None.
        map_path: Its map; without an index, the one last asked for.
        opening: How far the newest map is that is being opened; empty if none is.
        opening_map: Which one that is.
        problem: Why the map last asked for is not served, in one line; empty if it is, or is still
            to come.
        requests: Requests so far.
        refused: Those answered without candidates.
        last_refusal: Why the newest of these was, in one line.
        latency_ms: Time of the newest answer with candidates.
    """

    index: RetrievalIndex | None = None
    map_path: str = ""
    opening: str = ""
    opening_map: str = ""
    problem: str = ""
    requests: int = 0
    refused: int = 0
    last_refusal: str = ""
    latency_ms: float = 0.0

    @property
    def is_opening(self) -> bool:
        """Whether a map is on its way to be served."""
        return bool(self.opening)


class _Opening:
    """A map on its way to be served.

    Attributes:
        path: Its file, as it was asked for.
        file: The same, by the one name that it has however it is asked for.
        progress: How far it is, in one line.
        given_up: Why it shall not be served any more; empty: it shall.
        error: Why it is not served, once it is over; None: it is.
    """

    def __init__(self, path: str) -> None:
        self.path, self.file = path, Path(path).resolve()
        self.progress, self.given_up = _OPENING, ""
        self.error: Exception | None = None

    def on_progress(self, done: int, total: int) -> None:
        """So many images are looked at.

        Raises:
            NotNowError: If it is given up.
        """
        self.check()
        self.progress = f"the index is being made: {done} of {total} images"

    def check(self) -> None:
        """Raises NotNowError if it is given up."""
        if self.given_up:
            raise NotNowError(f"{self.path}: given up: {self.given_up}")


class RetrievalServer:
    """Opens maps in threads of their own; answers requests in that of the caller."""

    def __init__(self, config: RetrievalNodeConfig) -> None:
        self._config = config
        self._index: RetrievalIndex | None = None
        self._map_path, self._problem = config.map, ""
        # Those on their way, in the order in which they were asked for.
        self._openings: list[_Opening] = []
        # The one asked for last, and the one whose index is being made.
        self._wanted: _Opening | None = None
        self._making: _Opening | None = None
        self._changed = threading.Condition()
        self._requests = self._refused = 0
        self._last_refusal, self._latency_ms = "", 0.0
        self._reader = CameraReader(rectified=False)

    def start(self) -> None:
        """Begin to open the map of the parameters."""
        opening, _ = self._begin(self._config.map)
        threading.Thread(
            target=self._open_first, args=(opening,), name="open index", daemon=True
        ).start()

    def open(self) -> None:
        """Open the map of the parameters; returns when it is served, raises as `load`."""
        self.load(self._config.map)

    def load(self, map_path: str) -> None:
        """Go on in another map: open its index, or make it; returns when it is served.

        The one in use answers until then, and stays if this fails. Other maps that were asked for
        before are given up when this one is served, not earlier: it may fail. One index is made at
        a time. If this map is being opened already, that is waited for. May be called in any
        thread.

        Raises:
            NotNowError: If it was given up for a later one.
            PixlocError: If there is no index that can be used (see `open_index`).
        """
        opening, is_new = self._begin(map_path)
        if is_new:
            self._open(opening)
            return
        with self._changed:
            self._changed.wait_for(lambda: opening not in self._openings)
        if opening.error is not None:
            raise opening.error

    def stop(self, patience_s: float = PATIENCE_S) -> bool:
        """Give up what is being opened; whether nothing of it is left behind.

        Args:
            patience_s: How long a stage that cannot be interrupted is waited for.
        """
        with self._changed:
            self._give_up(self._openings, "the node ends")
            is_over = self._changed.wait_for(lambda: not self._openings, patience_s)
            left = ", ".join(opening.path for opening in self._openings)
        if not is_over:
            logger.warning("still being opened after %g s, and left at that: %s", patience_s, left)
        return is_over

    @property
    def state(self) -> ServerState:
        """How things stand."""
        with self._changed:
            newest = self._openings[-1] if self._openings else None
            return ServerState(
                self._index,
                self._map_path,
                newest.progress if newest else "",
                newest.path if newest else "",
                self._problem,
                self._requests,
                self._refused,
                self._last_refusal,
                self._latency_ms,
            )

    def answer(self, request: Any, response: Any) -> Any:
        """Fill the answer to a RetrievePose request; what is wrong is said in it, never raised."""
        self._requests += 1
        began = time.monotonic()
        try:
            self._fill(request, response)
        except PixlocError as error:
            response.message = str(error)
        except Exception as error:
            # An error nobody foresaw is ours; the node goes on with the next request.
            logger.exception("internal error")
            response.message = _describe(error)
        if response.success:
            self._latency_ms = (time.monotonic() - began) * 1e3
        else:
            self._refused += 1
            self._last_refusal = response.message
        return response

    def _fill(self, request: Any, response: Any) -> None:
        index = self._index
        if index is None:
            state = self.state
            raise MapError(state.opening or state.problem)
        pixels = _pixels(request)
        camera = self._camera(request.camera_info, (pixels.shape[1], pixels.shape[0]))
        found = index.query(pixels, camera, int(request.max_results) or None)
        response.map_id = index.feature_map.content_id
        response.images = [candidate.name for candidate in found]
        response.poses = [pose_to_message(candidate.cam_from_map.inv()) for candidate in found]
        response.scores = [candidate.score for candidate in found]
        response.success = True

    def _camera(self, info: CameraInfo, size: tuple[int, int]) -> Camera | None:
        """The camera of the request; an uncalibrated one is none, and does no harm."""
        return self._reader.read(info, size) if any(info.k) else None

    def _begin(self, map_path: str) -> tuple[_Opening, bool]:
        """The opening of a map, and whether it is a new one."""
        opening = _Opening(map_path)
        with self._changed:
            for other in self._openings:
                if other.file == opening.file and not other.given_up:
                    # It is the newest wish now.
                    self._openings.remove(other)
                    self._openings.append(other)
                    self._wanted = other
                    return other, False
            self._openings.append(opening)
            self._wanted = opening
            self._problem = ""
            if self._index is None:
                self._map_path = map_path
        return opening, True

    def _open_first(self, opening: _Opening) -> None:
        try:
            self._open(opening)
        except NotNowError as error:
            logger.info("%s", error)
        except PixlocError as error:
            logger.error("%s", error)
        except Exception:
            # Nobody waits for this thread: what nobody foresaw is told here.
            logger.exception("internal error")

    def _open(self, opening: _Opening) -> None:
        try:
            index = open_index(
                self._config,
                opening.path,
                opening.check,
                lambda: self._take_turn(opening),
                opening.on_progress,
            )
            self._serve(opening, index)
        except Exception as error:
            opening.error = error
            raise
        finally:
            with self._changed:
                # Others say nothing about the map that was asked for last.
                if opening is self._wanted:
                    self._problem = _describe(opening.error)
                self._openings.remove(opening)
                if self._making is opening:
                    self._making = None
                self._changed.notify_all()

    def _take_turn(self, opening: _Opening) -> None:
        """Wait until no other index is being made."""
        with self._changed:
            if self._making is not None:
                opening.progress = f"the index is made after that of {self._making.path}"
            self._changed.wait_for(lambda: self._making in (None, opening) or opening.given_up)
            opening.check()
            self._making = opening

    def _serve(self, opening: _Opening, index: RetrievalIndex) -> None:
        with self._changed:
            opening.check()
            self._index, self._map_path = index, opening.path
            before = self._openings[: self._openings.index(opening)]
            self._give_up(before, f"{opening.path} is served")
        logger.info("index of %d images is ready: %s", len(index), opening.path)

    def _give_up(self, openings: list[_Opening], why: str) -> None:
        """With the lock."""
        for opening in openings:
            opening.given_up = opening.given_up or why
        self._changed.notify_all()


def _describe(error: Exception | None) -> str:
    """An error in one line; empty if there is none."""
    if error is None or isinstance(error, PixlocError):
        return str(error or "")
    return f"internal error: {type(error).__name__}: {error}"


def _pixels(request: Any) -> Any:
    """The image of a request, RGB or grey.

    Raises:
        FormatError: If there is none, there are two, or it cannot be decoded.
    """
    raw, compressed = len(request.image.data) > 0, len(request.compressed.data) > 0
    if raw == compressed:
        what = "both image and compressed" if raw else "no image"
        raise FormatError(f"the request has {what}, expected one of the two")
    if raw:
        return image_to_array(request.image)
    return compressed_to_array(request.compressed)

"""From the parameters of the retrieval node to an index that answers requests."""

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sensor_msgs.msg import CameraInfo

from pixloc_core.errors import ConfigError, FormatError, MapError, PixlocError
from pixloc_core.geometry import Camera
from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.retrieval.faiss_library import require_faiss
from pixloc_core.retrieval.index import RetrievalIndex
from pixloc_core.retrieval.index_file import index_path
from pixloc_ros.conversions import CameraReader, pose_to_message
from pixloc_ros.image_conversions import compressed_to_array, image_to_array
from pixloc_ros.retrieval_config import RetrievalNodeConfig

logger = logging.getLogger(__name__)

_OPENING = "the index is being opened"


@dataclass(frozen=True)
class ServerState:
    """What /diagnostics says of the server.

    Attributes:
        index: The index, or None.
        problem: Why there is none, in one line; empty where there is one.
        is_opening: Whether one is still to come.
        requests: Requests so far.
        refused: Those answered without candidates.
        last_refusal: Why the newest of these was, in one line.
        latency_ms: Time of the newest answer with candidates.
    """

    index: RetrievalIndex | None = None
    problem: str = _OPENING
    is_opening: bool = True
    requests: int = 0
    refused: int = 0
    last_refusal: str = ""
    latency_ms: float = 0.0


class RetrievalServer:
    """Opens the index in a thread of its own; answers requests in that of the caller."""

    def __init__(self, config: RetrievalNodeConfig) -> None:
        self._config = config
        self._index: RetrievalIndex | None = None
        self._problem, self._is_opening = _OPENING, True
        self._stopping = False
        self._requests = self._refused = 0
        self._last_refusal, self._latency_ms = "", 0.0
        self._reader = CameraReader(rectified=False)
        self._thread = threading.Thread(target=self._run, name="open index", daemon=True)

    def start(self) -> None:
        """Begin to open the index."""
        self._thread.start()

    def open(self) -> None:
        """Open the index now; returns when it is ready.

        Raises:
            MapError: If there is none that can be used.
        """
        self._run()
        if self._index is None:
            raise MapError(self._problem)

    def stop(self) -> None:
        """Give up the making of an index; nothing of it is left behind."""
        self._stopping = True
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def state(self) -> ServerState:
        """How things stand."""
        return ServerState(
            self._index,
            self._problem,
            self._is_opening,
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
            response.message = f"internal error: {type(error).__name__}: {error}"
        if response.success:
            self._latency_ms = (time.monotonic() - began) * 1e3
        else:
            self._refused += 1
            self._last_refusal = response.message
        return response

    def _fill(self, request: Any, response: Any) -> None:
        index = self._index
        if index is None:
            raise MapError(self._problem)
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

    def _run(self) -> None:
        try:
            index = self._open()
            index.descriptor.load()
        except _StoppedError:
            self._problem = "stopped"
        except PixlocError as error:
            self._problem = str(error)
            logger.error("%s", error)
        except Exception as error:
            self._problem = f"internal error: {type(error).__name__}: {error}"
            logger.exception("internal error")
        else:
            self._problem, self._index = "", index
            logger.info("index of %d images is ready", len(index))
        finally:
            self._is_opening = False

    def _open(self) -> RetrievalIndex:
        """The index file, or a new one where there is none that fits and the images are known."""
        config = self._config
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
            require_faiss().omp_set_num_threads(config.num_threads)
        if not config.map:
            raise ConfigError("parameter map is empty, expected a file made by `pixloc map build`")
        feature_map = FeatureMap.open(config.map)
        path = Path(config.index) if config.index else index_path(config.map)
        device = config.descriptor.device
        try:
            return RetrievalIndex.open(feature_map, path, config.search, device=device)
        except MapError as error:
            if not config.images:
                raise MapError(f"{error}, or give the folder of the images (images)") from error
            logger.info("%s; it is made of the images in %s", error, config.images)
        index = RetrievalIndex.build(
            feature_map, config.images, config.descriptor, config.search, self._on_progress
        )
        try:
            index.save(path)
        except MapError as error:
            logger.warning("the index is not kept: %s", error)
        return index

    def _on_progress(self, done: int, total: int) -> None:
        if self._stopping:
            raise _StoppedError
        self._problem = f"the index is being made: {done} of {total} images"


class _StoppedError(Exception):
    """The node ends."""


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

"""The services of the localizer node: they check, and hand on."""

import threading
from typing import Any, Protocol

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from std_srvs.srv import Empty, SetBool

from pixloc_core.errors import FrameError
from pixloc_ros.interfaces import LoadMap, SetInitialPose
from pixloc_ros.map_loading import MapLoader, NotNowError


class Controlled(Protocol):
    """What the services can do to the node."""

    def take_initial_pose(self, message: Any) -> str:
        """Start at a pose (PoseWithCovarianceStamped); what will happen, in one line.

        Raises:
            FrameError: If the pose is refused, with the reason.
        """
        ...

    def relocalize(self) -> None:
        """Give up the pose, look for the robot in the whole map."""
        ...

    def look_once(self) -> None:
        """Look at the next image, whatever rate or pause say."""
        ...

    def pause(self, paused: bool) -> str:
        """Look at no more images, or at images again; what is the case now, in one line."""
        ...

    def open_map(self, path: str) -> Any:
        """Open a map; slow, called in a thread of its own.

        Raises:
            PixlocError: If the map cannot be used.
        """
        ...

    def use_map(self, opened: Any, path: str) -> None:
        """Go on in a map that was opened.

        Raises:
            PixlocError: If a setting does not fit it; the old one stays.
        """
        ...


class Services:
    """Serves from its making on, in every state of the lifecycle."""

    def __init__(self, node: Node, controlled: Controlled) -> None:
        self._node, self._controlled = node, controlled
        self._is_loading = threading.Lock()
        create = node.create_service
        create(SetInitialPose, "set_initial_pose", self._set_initial_pose)
        create(Empty, "reinitialize_global_localization", self._reinitialize)
        create(Empty, "request_nomotion_update", self._look_once)
        create(SetBool, "trigger", self._trigger)
        # A group of its own: while a map is opened, nothing else of its group is called.
        group = ReentrantCallbackGroup()
        self._loader = MapLoader(node, self._open_map, controlled.use_map)
        create(LoadMap, "load_map", self._loader.answer, callback_group=group)

    def close(self) -> bool:
        """Wait for a map that is being opened, some seconds; whether none is any more."""
        return self._loader.close()

    def _set_initial_pose(self, request: Any, response: Any) -> Any:
        try:
            response.message = self._controlled.take_initial_pose(request.pose)
            response.success = True
        except FrameError as error:
            response.message = str(error)
            self._node.get_logger().warning(f"set_initial_pose: refused: {error}")
        return response

    def _reinitialize(self, _: Any, response: Any) -> Any:
        self._controlled.relocalize()
        return response

    def _look_once(self, _: Any, response: Any) -> Any:
        self._controlled.look_once()
        return response

    def _trigger(self, request: Any, response: Any) -> Any:
        response.message = self._controlled.pause(not request.data)
        response.success = True
        return response

    def _open_map(self, path: str) -> Any:
        """In a thread: images are localized in the old map meanwhile."""
        if not self._is_loading.acquire(blocking=False):
            raise NotNowError("another map is being opened")
        try:
            return self._controlled.open_map(path)
        finally:
            self._is_loading.release()

"""Retrieval as a ROS 2 node: which map images show what a camera sees (service `retrieve_pose`).

It is a process of its own, so that the localizer never waits for it: docs/retrieval.md.
"""

from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from pixloc_ros.interfaces import LoadMap, RetrievePose
from pixloc_ros.log_forwarding import Complaints, NodeLogHandler
from pixloc_ros.map_loading import MapLoader
from pixloc_ros.node_main import run_node
from pixloc_ros.parameters import declare, unknown_overrides
from pixloc_ros.retrieval_config import RetrievalNodeConfig
from pixloc_ros.retrieval_server import RetrievalServer, ServerState

DIAGNOSTICS_PERIOD_S = 1.0


_USAGE = (
    "usage: retrieval_node --ros-args [-p map:=map.h5] [-p NAME:=VALUE] [--params-file FILE] "
    "(docs/retrieval.md; parameters: config/retrieval.yaml)"
)


class RetrievalNode(Node):
    """Serves `retrieve_pose` for one map; opens, or makes, its index in the background.

    `~/load_map` goes on in another map, while the one in use still answers.

    Raises:
        ConfigError: If a parameter has the wrong type or is out of range.
    """

    def __init__(self) -> None:
        super().__init__("retrieval")
        self.config = declare(self, RetrievalNodeConfig)
        self._log_handler = NodeLogHandler(self.get_logger())
        self._complaints = Complaints(self.get_logger())
        self._server = RetrievalServer(self.config)
        self.create_service(RetrievePose, "retrieve_pose", self._on_request)
        # A group of its own: while a map is opened, the others are called.
        group = ReentrantCallbackGroup()
        self._loader = MapLoader(self, self._server.load)
        self.create_service(LoadMap, "~/load_map", self._loader.answer, callback_group=group)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._report, clock=steady)
        for name in unknown_overrides(self):
            self.get_logger().warning(f"parameter {name} is not known and has no effect")
        self._server.start()

    def _on_request(self, request: Any, response: Any) -> Any:
        self._server.answer(request, response)
        if not response.success:
            self._complaints.say("request", f"request refused: {response.message}")
        return response

    def _report(self) -> None:
        name = str(self.get_fully_qualified_name()).lstrip("/")
        status = diagnose(name, self._server.state)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def close(self) -> bool:
        """Give up what is being made, and stop; whether nothing of it is left in other threads."""
        # Who waits for a map goes on when the server has stopped: that takes no time.
        is_over = self._server.stop() and self._loader.close()
        self._log_handler.detach()
        self.destroy_node()
        return is_over


def diagnose(node_name: str, state: ServerState) -> DiagnosticStatus:
    """The entry of /diagnostics; keys and levels are listed in docs/retrieval.md."""
    values: dict[str, object] = {
        "map": state.map_path,
        "opening_map": state.opening_map,
        "opening": state.opening,
        "load_problem": state.problem,
        "requests": state.requests,
        "refused": state.refused,
        "last_refusal": state.last_refusal,
        "latency_ms": f"{state.latency_ms:.1f}",
    }
    level, text = DiagnosticStatus.ERROR, state.opening or state.problem
    if state.index is not None:
        level, text = DiagnosticStatus.OK, f"{len(state.index)} images"
        values |= {
            "map_id": state.index.feature_map.content_id,
            "images": len(state.index),
            "descriptor": state.index.descriptor.kind,
            "length": state.index.descriptor.dim,
        }
        if state.opening:
            text += f"; {state.opening_map}: {state.opening}"
    if state.opening:
        level = DiagnosticStatus.WARN
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    name = f"{node_name}: index"
    return DiagnosticStatus(level=level, name=name, message=text, hardware_id="map", values=pairs)


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; 2 if the command line or a parameter is wrong."""
    return run_node(RetrievalNode, "retrieval", _USAGE, args)


if __name__ == "__main__":
    raise SystemExit(main())

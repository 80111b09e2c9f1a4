"""What people and other nodes ask of a localizer node: services, parameters, its lifecycle."""

from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.node import Node
from rclpy.parameter import Parameter
from robot_bench import Bench, wait
from std_srvs.srv import Empty, SetBool

from pixloc_core.geometry import Pose
from pixloc_ros.conversions import ns_to_stamp, pose_to_message
from pixloc_ros.interfaces import LoadMap, SetInitialPose

CONFIGURE, CLEANUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP
ACTIVATE, DEACTIVATE = Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE


def report(bench: Bench, name: str, send: Callable[[], object]) -> DiagnosticStatus:
    """The next entry on /diagnostics about a second in which an image arrived.

    Args:
        bench: The node and its robot.
        name: Of the entry.
        send: Sends one more image, where the last one fell into the second before.
    """
    for _ in range(10):
        entry = bench.diagnosis(name)
        if entry.level != DiagnosticStatus.STALE:
            return entry
        send()
    raise AssertionError("the node hears no images")


class Operator:
    """Somebody with a terminal; `node` must spin in another thread."""

    def __init__(self, node: Node, localizer: str = "localizer") -> None:
        self._node, self._name = node, localizer
        self._clients: dict[str, Any] = {}

    def call(self, kind: type[Any], service: str, request: Any, seconds: float = 30.0) -> Any:
        """The answer of a service."""
        future = self.start(kind, service, request)
        wait(future.done, f"answer of {service}", seconds)
        return future.result()

    def start(self, kind: type[Any], service: str, request: Any) -> Any:
        """Future of the answer of a service."""
        if service not in self._clients:
            self._clients[service] = self._connect(kind, service)
        return self._clients[service].call_async(request)

    def _connect(self, kind: type[Any], service: str) -> Any:
        """A client that has found its server.

        Now and then the middleware does not match the two ends of a service: a new client does.
        """
        for _ in range(4):
            client = self._node.create_client(kind, service)
            if client.wait_for_service(15.0):
                return client
            self._node.destroy_client(client)
        raise AssertionError(f"no service {service} within 60 s")

    def set_initial_pose(self, value: Pose, stamp_ns: int = 0, frame: str = "map") -> Any:
        message = PoseWithCovarianceStamped()
        message.header.frame_id, message.header.stamp = frame, ns_to_stamp(stamp_ns)
        message.pose.pose = pose_to_message(value)
        request = SetInitialPose.Request(pose=message)
        return self.call(SetInitialPose, "set_initial_pose", request)

    def load_map(self, path: object) -> Any:
        return self.call(LoadMap, "load_map", LoadMap.Request(map_url=str(path)))

    def reinitialize(self) -> None:
        self.call(Empty, "reinitialize_global_localization", Empty.Request())

    def request_update(self) -> None:
        self.call(Empty, "request_nomotion_update", Empty.Request())

    def trigger(self, *, on: bool) -> Any:
        return self.call(SetBool, "trigger", SetBool.Request(data=on))

    def set_parameters(self, **values: object) -> SetParametersResult:
        """Set parameters at once; `__` in a name stands for a dot."""
        parameters = [
            Parameter(name.replace("__", "."), value=value).to_parameter_msg()
            for name, value in values.items()
        ]
        request = SetParametersAtomically.Request(parameters=parameters)
        service = f"{self._name}/set_parameters_atomically"
        return self.call(SetParametersAtomically, service, request).result

    def state(self) -> str:
        """Label of the lifecycle state."""
        answer = self.call(GetState, f"{self._name}/get_state", GetState.Request())
        return answer.current_state.label

    def change_state(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.call(ChangeState, f"{self._name}/change_state", request).success

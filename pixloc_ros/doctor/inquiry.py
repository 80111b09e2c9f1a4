"""Asks the localizer for its parameters and its state."""

from typing import Any

from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python

from pixloc_core.config import walk
from pixloc_ros.node_config import NodeConfig

_SERVICE_S = 1.0
_ANSWER_S = 5.0
_TRIES = 2


class Inquiry:
    """Calls services of one node, and waits for the answers, some seconds each."""

    def __init__(self, node: Node, executor: SingleThreadedExecutor, subject: str) -> None:
        """Ask for nothing yet.

        Args:
            node: Who asks.
            executor: Its executor, which nobody else spins meanwhile.
            subject: Full name of the node that is asked.
        """
        self._node, self._executor, self._subject = node, executor, subject
        self.first_service = f"{subject}/list_parameters"

    def parameters(self) -> dict[str, Any]:
        """Its parameters, nested; empty if it does not answer."""
        tries = (self._ask(ListParameters, self.first_service) for _ in range(_TRIES))
        listed = next((answer for answer in tries if answer), None)
        known = {*(name for name, _ in walk(NodeConfig)), "use_sim_time"}
        names = sorted(known & set(listed.result.names)) if listed else []
        if not names:
            return {}
        answer = self._ask(GetParameters, f"{self._subject}/get_parameters", names=names)
        given: dict[str, Any] = {}
        if not answer:
            return given
        for name, value in zip(names, answer.values, strict=True):
            plain = parameter_value_to_python(value)
            # An empty list comes back as nothing at all.
            if plain is not None:
                scalar = isinstance(plain, bool | int | float | str)
                _nest(given, name, plain if scalar else list(plain))
        return given

    def lifecycle(self) -> str:
        """State of its life cycle; empty if it does not say."""
        answer = self._ask(GetState, f"{self._subject}/get_state")
        return str(answer.current_state.label) if answer else ""

    def _ask(self, kind: type[Any], service: str, **request: Any) -> Any | None:
        """The answer of a service, or None if it is not there or does not answer."""
        client = self._node.create_client(kind, service)
        try:
            if not client.wait_for_service(timeout_sec=_SERVICE_S):
                return None
            future = client.call_async(kind.Request(**request))
            self._executor.spin_until_future_complete(future, timeout_sec=_ANSWER_S)
            return future.result() if future.done() else None
        finally:
            self._node.destroy_client(client)


def _nest(values: dict[str, Any], name: str, value: Any) -> None:
    *groups, leaf = name.split(".")
    for group in groups:
        values = values.setdefault(group, {})
    values[leaf] = value

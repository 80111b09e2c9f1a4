"""Who is in the ROS graph: nodes, their services, publishers and subscriptions of topics."""

from contextlib import suppress

from rclpy.node import Node, NodeNameNonExistentError
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from pixloc_ros.doctor.snapshot import Endpoint


class Graph:
    """The graph as a node sees it now."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def nodes(self) -> tuple[str, ...]:
        """Full names; without this node, and those that ROS hides (the daemon of ros2)."""
        found = self._node.get_node_names_and_namespaces()
        return tuple(
            f"{space.rstrip('/')}/{name}"
            for name, space in found
            if not name.startswith("_") and name != self._node.get_name()
        )

    def servers(self) -> frozenset[str]:
        """Services that are served; those that are only asked for have a name in ROS, too."""
        found: set[str] = set()
        for name, space in self._node.get_node_names_and_namespaces():
            with suppress(NodeNameNonExistentError):  # it may end meanwhile
                served = self._node.get_service_names_and_types_by_node(name, space)
                found |= {service for service, _ in served}
        return frozenset(found)

    def publishers(self, topic: str) -> tuple[Endpoint, ...]:
        """All publishers of a topic."""
        return tuple(map(_endpoint, self._node.get_publishers_info_by_topic(topic)))

    def subscriptions(self, topic: str) -> tuple[Endpoint, ...]:
        """All subscriptions of a topic."""
        return tuple(map(_endpoint, self._node.get_subscriptions_info_by_topic(topic)))

    def offered(self, name: str) -> dict[str, tuple[str, ...]]:
        """Topics with a publisher, and the types of their messages.

        A topic has a name as soon as somebody subscribes to it: that makes it no offer.

        Args:
            name: Name without namespace of the nodes whose topics do not count.
        """
        found = {}
        for topic, _ in self._node.get_topic_names_and_types():
            others = [p for p in self.publishers(topic) if not p.node.endswith(f"/{name}")]
            if others:
                found[topic] = tuple(sorted({one.kind for one in others}))
        return found


def full_name(one: TopicEndpointInfo) -> str:
    """Namespace and name of the node that a publisher or subscription belongs to."""
    return f"{one.node_namespace.rstrip('/')}/{one.node_name}"


def _endpoint(one: TopicEndpointInfo) -> Endpoint:
    profile = one.qos_profile
    return Endpoint(
        full_name(one),
        one.topic_type,
        profile.reliability == ReliabilityPolicy.RELIABLE,
        profile.durability == DurabilityPolicy.TRANSIENT_LOCAL,
    )

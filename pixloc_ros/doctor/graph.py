"""Who is in the ROS graph: nodes, their services, publishers and subscriptions of topics."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

from rclpy.node import Node, NodeNameNonExistentError
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from pixloc_ros.doctor.snapshot import Endpoint

# Images that the localizer publishes.
_OUTPUTS = ("confidence", "overlay")
# The middleware hears of a publisher before it hears of its node.
_UNKNOWN_NODE = "/_NODE_NAME_UNKNOWN_"


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

    def servers(self) -> dict[str, tuple[str, ...]]:
        """Full names of the nodes that serve a service, by its name.

        Services that are only asked for have a name in ROS, too, but are not among these.
        """
        found: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
        for name, space in self._node.get_node_names_and_namespaces():
            with suppress(NodeNameNonExistentError):  # it may end meanwhile
                for service, _ in self._node.get_service_names_and_types_by_node(name, space):
                    found[service] += (f"{space.rstrip('/')}/{name}",)
        return dict(found)

    def asked_for(self, node: str, kind: str) -> str:
        """Full name of the service of this type that a node asks for; empty if not known."""
        space, _, name = node.rpartition("/")
        with suppress(NodeNameNonExistentError):
            clients = self._node.get_client_names_and_types_by_node(name, space or "/")
            return next((service for service, kinds in clients if kind in kinds), "")
        return ""

    def subscribed(self, node: str, kinds: Sequence[str]) -> list[tuple[str, str]]:
        """Topics and types that a node listens to, of these types."""
        space, _, name = node.rpartition("/")
        with suppress(NodeNameNonExistentError):
            found = self._node.get_subscriber_names_and_types_by_node(name, space or "/")
            return sorted((topic, kind) for topic, ks in found for kind in ks if kind in kinds)
        return []

    def names(self) -> list[str]:
        """Names of all topics."""
        return sorted(name for name, _ in self._node.get_topic_names_and_types())

    def publishers(self, topic: str) -> tuple[Endpoint, ...]:
        """All publishers of a topic."""
        return tuple(map(_endpoint, self._node.get_publishers_info_by_topic(topic)))

    def subscriptions(self, topic: str) -> tuple[Endpoint, ...]:
        """All subscriptions of a topic."""
        return tuple(map(_endpoint, self._node.get_subscriptions_info_by_topic(topic)))

    def offered(self, name: str) -> dict[str, tuple[str, ...]]:
        """Topics with a publisher, and the types of their messages.

        A topic has a name as soon as somebody subscribes to it: that makes it no offer. Nor do
        outputs of a node whose name is not heard of yet, which may well be that node.

        Args:
            name: Name without namespace of the nodes whose topics do not count.
        """
        found = {}
        for topic, _ in self._node.get_topic_names_and_types():
            doubtful = topic.rpartition("/")[2] in _OUTPUTS
            others = [
                one
                for one in self.publishers(topic)
                if not one.node.endswith(f"/{name}")
                and not (doubtful and one.node.endswith(_UNKNOWN_NODE))
            ]
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

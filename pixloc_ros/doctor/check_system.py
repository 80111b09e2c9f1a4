"""Is there a system at all, does the node run, what does it say, which time holds."""

from collections.abc import Iterator

from pixloc_ros.doctor.findings import Finding, error, ok, warn
from pixloc_ros.doctor.snapshot import NodeSeen, Snapshot

_STALE = 3
_NO_POSE = ("LOST", "UNINITIALIZED")


def check_network(seen: Snapshot) -> Iterator[Finding]:
    """Whether anybody is there."""
    if seen.nodes:
        yield ok(f"{len(seen.nodes)} nodes in domain {seen.domain} ({seen.middleware})")
        return
    yield error(
        f"no node is seen at all in domain {seen.domain} with {seen.middleware}",
        "start the robot; or give ROS_DOMAIN_ID and RMW_IMPLEMENTATION the values of the robot; "
        "on another machine look at ROS_AUTOMATIC_DISCOVERY_RANGE and the firewall (multicast)",
    )


def check_clock(seen: Snapshot) -> Iterator[Finding]:
    """Whether the node takes the time from where it is."""
    clock, by_clock = seen.clock, seen.settings.use_sim_time
    if by_clock and not clock.publishers and clock.count:
        yield error("the publisher of /clock has left", "did the bag or the simulation end?")
    elif by_clock and not clock.publishers:
        yield error(
            "use_sim_time is set, but nobody publishes /clock",
            "play the bag with --clock, start the simulator, or set use_sim_time:=false",
        )
    elif by_clock and not clock.count:
        yield warn(
            f"/clock of {_names(clock.publishers)} is silent", "is the bag or simulation paused?"
        )
    elif clock.count and not by_clock and seen.is_there:
        yield error(
            f"/clock is published by {_names(clock.publishers)}, but the node has not "
            "use_sim_time",
            "start it with use_sim_time:=true",
        )
    elif by_clock:
        yield ok("time from /clock")
    if len(clock.publishers) > 1:
        yield warn(
            f"/clock has {len(clock.publishers)} publishers: {_names(clock.publishers)}",
            "stop all but one: the time jumps between them",
        )


def check_node(seen: Snapshot) -> Iterator[Finding]:
    """Whether the localizer runs and is active."""
    node = seen.node
    count = list(node.found).count(node.name)
    if not count:
        elsewhere = [name for name in node.found if name != node.name]
        hint = f"; or --namespace of {_names(elsewhere)}" if elsewhere else ""
        yield error(
            f"node {node.name} does not run",
            f"ros2 launch pixloc_ros localize.launch.py map:=MAP image_topic:=TOPIC{hint}",
        )
        return
    if count > 1:
        yield error(f"{count} nodes are called {node.name}", "stop all but one")
    if node.silent:
        yield warn(
            f"node {node.name} does not answer yet (is it opening its map?)",
            "what depends on its parameters was not checked: ask again, or give --params-file"
            if seen.is_blind
            else "its state is not known: ask again",
        )
    elif node.lifecycle and node.lifecycle != "active":
        yield error(
            f"node {node.name} is {node.lifecycle}, not active",
            f"ros2 lifecycle set {node.name} "
            f"{'configure, then activate' if node.lifecycle == 'unconfigured' else 'activate'}; "
            "its log says why it stopped there",
        )
    else:
        yield ok(f"node {node.name} runs; its parameters are those of {seen.settings.origin}")


def check_status(seen: Snapshot) -> Iterator[Finding]:
    """What the localizer says about itself."""
    node = seen.node
    if not seen.is_there:
        return
    if node.status is not None:
        yield from _check_state(node)
    elif not node.silent:
        yield _no_status(node)
    for entry in node.diagnostics:
        if entry.level == _STALE or not entry.level:
            continue
        make = error if entry.level > 1 else warn
        yield make(f"/diagnostics: {entry.name}: {entry.message}", "docs/node.md explains it")


def _no_status(node: NodeSeen) -> Finding:
    """What is known where no verdict came: does it work on an image, or has it none?"""
    what, taken = f"no message on status for {node.heard_s:.0f} s", node.said("images_taken")
    if taken == "0":
        return warn(
            f"{what}, and the node has taken up no image",
            "look at the findings about images and time",
        )
    if not taken:
        return warn(
            f"{what}, nor on /diagnostics that images are taken up",
            "ask again; look at the findings about images and time",
        )
    latency_s = float(node.said("latency_ms") or 0.0) / 1e3
    return warn(
        f"{what}; the node has taken up {taken} images so far, the last answer took "
        f"{latency_s:.1f} s",
        "it works on an image for long (a search on a busy machine), or images come no more: ask "
        "again with more --seconds",
    )


def _check_state(node: NodeSeen) -> Iterator[Finding]:
    status = node.status
    assert status is not None
    why = status.state_reason or status.reason or "no reason given"
    if status.state in _NO_POSE:
        yield warn(
            f"the localizer is {status.state}: {why}",
            f"give it a pose on initialpose (RViz: 2D Pose Estimate){_by_retrieval(node)}",
        )
    elif status.state == "DEGRADED":
        yield warn(f"the localizer is DEGRADED: {why}", "see status and docs/node.md")
    else:
        yield ok(f"the localizer is {status.state}")
    if status.status in ("BAD_INPUT", "INTERNAL_ERROR"):
        yield error(f"the newest image was {status.status}: {status.reason}", "see docs/node.md")


def _by_retrieval(node: NodeSeen) -> str:
    """How retrieval can help a node that has no pose."""
    if not node.retrieval.nodes:
        return ", or start the retrieval node"
    problem = node.said("retrieval_problem")
    return f"; retrieval, when it was last asked: {problem}" if problem else ""


def check_retrieval(seen: Snapshot) -> Iterator[Finding]:
    """Whether the service that first poses shall come from is there."""
    retrieval = seen.node.retrieval
    if retrieval.nodes:
        yield ok(f"service {retrieval.service} is there ({_names(retrieval.nodes)})")
    elif seen.settings.node.prior_source == "retrieval":
        yield error(
            f"prior_source is retrieval, but there is no service {retrieval.service}",
            "start retrieval_node in the same namespace (localize.launch.py retrieval:=true)",
        )


def check_index(seen: Snapshot) -> Iterator[Finding]:
    """Whether the retrieval node is ready, and serves the map that the localizer uses."""
    node, index = seen.node, seen.node.retrieval.index
    if index is None:
        yield from _unheard_index(node)
        return
    ours, theirs = node.said("map_id"), index.values.get("map_id", "")
    if index.level:
        make = warn if index.values.get("opening") else error
        yield make(f"/diagnostics: {index.name}: {index.message}", "docs/retrieval.md explains it")
    if not (ours and theirs) or ours == theirs:
        return
    opening = index.values.get("opening_map")
    problem = index.values.get("load_problem") or node.said("retrieval_problem")
    what = (
        f"{node.retrieval.service} serves map {theirs} ({index.values.get('map')}), the localizer "
        f"uses {ours} ({node.said('map')})"
    )
    if opening:
        yield warn(f"{what}; {opening} is being opened", "wait until it is served")
        return
    yield error(
        f"{what}; {problem}" if problem else what,
        f"call {node.retrieval.nodes[0]}/load_map with map_url {node.said('map')}, or load_map of "
        "the localizer with the other map",
    )


def _unheard_index(node: NodeSeen) -> Iterator[Finding]:
    """A server that is not one of ours, or has not been heard: what does the localizer say?"""
    problem, state = node.said("retrieval_problem"), node.status.state if node.status else ""
    # Those without a pose have it in the advice.
    if node.retrieval.nodes and problem and state not in _NO_POSE:
        yield warn(
            f"retrieval, when it was last asked: {problem}", "docs/retrieval.md explains it"
        )


def _names(names: object) -> str:
    assert not isinstance(names, str)
    return ", ".join(sorted(set(names))) or "nobody known"  # type: ignore[call-overload]

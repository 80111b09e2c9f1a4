"""The tree of frames: base -> camera, odom -> base, and who publishes what."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from pixloc_ros.doctor.findings import Finding, error, ok, warn
from pixloc_ros.doctor.snapshot import EdgeSeen, Snapshot
from pixloc_ros.transform_tree import IDENTITY, RigidTransform, rotate

# Cosine of the angle to "up" within which a camera's axis is taken for the z axis of a body.
_UPWARDS = 0.9
_STALE_S = 1.0
_Z = np.array([0.0, 0.0, 1.0])


def check_tree(seen: Snapshot) -> Iterator[Finding]:
    """Faults of the tree itself, wherever they are."""
    for edge in seen.edges:
        yield from _check_edge(edge)
    yield from _check_parents(seen.edges)
    loop = _find_loop(seen.edges)
    if loop:
        yield error(
            f"frames form a loop: {' -> '.join(loop)}",
            "each frame has one parent: stop one of them",
        )


def _check_edge(edge: EdgeSeen) -> Iterator[Finding]:
    name = f"{edge.parent} -> {edge.child}"
    if edge.problem:
        yield error(f"{name}: {edge.problem}", f"mend {_by(edge)}: it is refused")
    if edge.parent.startswith("/") or edge.child.startswith("/"):
        yield error(f"{name}: frame names begin with a slash", "names without slash (as in tf2)")
    if len(edge.publishers) > 1:
        yield error(
            f"{name} has {len(edge.publishers)} publishers: {_by(edge)}",
            "one edge has one publisher; for map -> odom: tf_broadcast:=false, or stop the other",
        )


def _by(edge: EdgeSeen) -> str:
    return ", ".join(sorted(edge.publishers)) or "its publisher"


def _check_parents(edges: Sequence[EdgeSeen]) -> Iterator[Finding]:
    parents: dict[str, set[str]] = defaultdict(set)
    for edge in edges:
        parents[edge.child].add(edge.parent)
    for child, found in parents.items():
        if len(found) > 1:
            yield error(
                f"frame {child} has two parents: {', '.join(sorted(found))}",
                "one of the publishers is too many, or uses a wrong name",
            )


def _find_loop(edges: Sequence[EdgeSeen]) -> list[str]:
    """Frames of a loop, the first one repeated at the end; empty if there is none."""
    parent = {edge.child: edge.parent for edge in edges}
    for start in parent:
        way = [start]
        while (above := parent.get(way[-1])) is not None and above not in way:
            way.append(above)
        if above is not None:
            return [*way[way.index(above) :], above][::-1]
    return []


def check_camera_frames(seen: Snapshot) -> Iterator[Finding]:
    """Whether the cameras are on the robot, and look where a camera looks."""
    config, base = seen.settings.node, seen.settings.node.base_frame_id
    named = {camera.image.frame_id for camera in seen.cameras if camera.image}
    frames = {config.camera_frame_id} if config.camera_frame_id else named
    for frame in sorted(frames - {""}):
        base_from_camera = find_transform(seen.edges, base, frame)
        if base_from_camera is None:
            yield _not_connected(seen.edges, base, frame)
        elif rotate(base_from_camera.quat_xyzw, _Z)[2] > _UPWARDS:
            yield warn(
                f"the view of the camera (z axis of {frame}) points up in {base}",
                "is it the body frame of the camera? Images need the optical one: x right, "
                f"y down, z forward{_optical(seen.edges, frame)}",
            )
        else:
            yield ok(f"{base} -> {frame} is known")


def _optical(edges: Sequence[EdgeSeen], frame: str) -> str:
    others = sorted({e.child for e in edges if "optical" in e.child and e.child != frame})
    return f"; there is {', '.join(others)}" if others else ""


def _not_connected(edges: Sequence[EdgeSeen], base: str, frame: str) -> Finding:
    known = {edge.child for edge in edges} | {edge.parent for edge in edges}
    if base not in known:
        return error(
            f"nobody publishes a transform of {base}, the frame of the robot",
            "start robot_state_publisher or the odometry, or set base_frame_id"
            + (f" to one of {', '.join(sorted(known))}" if known else ""),
        )
    hint = "is known, but not tied to it" if frame in known else "is not known at all"
    return error(
        f"no transform from {base} to the camera: {frame} {hint}",
        "start robot_state_publisher, or: ros2 run tf2_ros static_transform_publisher "
        f"--frame-id {base} --child-frame-id {frame} --x .. --y .. --z .. --roll .. --pitch .. "
        "--yaw ..",
    )


def check_odometry(seen: Snapshot) -> Iterator[Finding]:
    """Whether odometry is there, and keeps up with the images."""
    config = seen.settings.node
    odom, base = config.odom_frame_id, config.base_frame_id
    way = find_way(seen.edges, odom, base)
    if way is None:
        yield warn(
            f"no odometry: no transform {odom} -> {base}",
            "without it every image starts at the last pose, and fast motion is lost; start the "
            "odometry, or set odom_frame_id and base_frame_id",
        )
        return
    moving = [edge for edge in way if not edge.static]
    if not moving:
        yield ok(f"{odom} -> {base} is fixed: no odometry")
        return
    slowest = min(moving, key=lambda edge: edge.newest_ns)
    behind = (seen.clock.now_ns - slowest.newest_ns) / 1e9
    if behind > _STALE_S:
        yield error(
            f"odometry {slowest.parent} -> {slowest.child} is {behind:.1f} s old",
            f"is {_by(slowest)} alive, and on the same clock?",
        )
    else:
        yield ok(f"{odom} -> {base} is known")


def check_map_frame(seen: Snapshot) -> Iterator[Finding]:
    """Whether somebody gives map -> odom that should, and nobody that should not."""
    config, node = seen.settings.node, seen.node
    name = f"{config.global_frame_id} -> {config.odom_frame_id}"
    ends = (config.global_frame_id, config.odom_frame_id)
    edge = next((edge for edge in seen.edges if (edge.parent, edge.child) == ends), None)
    others = edge.publishers - {node.name} if edge else frozenset()
    if edge and others and config.tf_broadcast and len(edge.publishers) == 1:
        yield error(
            f"{name} comes from {', '.join(sorted(others))}, and tf_broadcast is on",
            "two publishers fight as soon as the node has a pose: set tf_broadcast:=false, or "
            "stop the other (AMCL, SLAM, a bag with its own map -> odom)",
        )
    if edge is None and not config.tf_broadcast and node.name in node.found:
        yield warn(
            f"tf_broadcast is off, and nobody else publishes {name}",
            "start the filter that fuses `pose`, or set tf_broadcast:=true",
        )


def find_way(edges: Sequence[EdgeSeen], top: str, bottom: str) -> list[EdgeSeen] | None:
    """Edges that tie two frames together, or None if nothing does."""
    ways: dict[str, list[EdgeSeen]] = {top: []}
    waiting = [top]
    while waiting:
        frame = waiting.pop()
        for edge in edges:
            for here, there in ((edge.parent, edge.child), (edge.child, edge.parent)):
                if here == frame and there not in ways:
                    ways[there] = [*ways[frame], edge]
                    waiting.append(there)
    return ways.get(bottom)


def find_transform(edges: Sequence[EdgeSeen], top: str, bottom: str) -> RigidTransform | None:
    """`top_from_bottom` by the newest transforms, or None if it cannot be had."""
    way = find_way(edges, top, bottom)
    if way is None:
        return None
    result, frame = IDENTITY, top
    for edge in way:
        if edge.transform is None:
            return None
        down = edge.parent == frame
        result = result @ (edge.transform if down else edge.transform.inverse())
        frame = edge.child if down else edge.parent
    return result

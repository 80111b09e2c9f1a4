"""What the doctor makes of frames, time, node and map: each fault alone, in a healthy system."""

from dataclasses import replace

import numpy as np
import pytest
from healthy_system import (
    BASE_CAMERA,
    FORWARD,
    HEALTHY,
    LOCALIZER,
    MAP_ODOM,
    NOW,
    ODOM_BASE,
    SECOND,
    Fault,
    camera,
    clock,
    edge,
    frames,
    names_alone,
    node,
    settings,
    wrong,
)

from pixloc_ros.doctor.findings import Level
from pixloc_ros.doctor.judge import judge, summary
from pixloc_ros.doctor.snapshot import DiagnosticSeen, MapSeen, Settings, StatusSeen
from pixloc_ros.transform_tree import IDENTITY, RigidTransform


def test_a_healthy_system_has_no_findings():
    findings = judge(HEALTHY)
    assert all(finding.level is Level.OK for finding in findings)
    assert summary(findings) == "nothing wrong was found"
    lines = [finding.line() for finding in findings]
    assert "OK    /camera/image: 10.0 images/s, 640x480, rgb8" in lines
    assert "OK    map /maps/map.h5: 56 images, 12000 points" in lines


FAULTS: dict[str, Fault] = {
    "camera not on the robot": (
        frames(MAP_ODOM, ODOM_BASE),
        Level.ERROR,
        "no transform from base_link to the camera: optical is not known at all",
        "--frame-id base_link --child-frame-id optical",
    ),
    "camera on something else": (
        frames(MAP_ODOM, ODOM_BASE, edge("head", "optical", "/robot", static=True)),
        Level.ERROR,
        "optical is known, but not tied to it",
        "static_transform_publisher",
    ),
    "body frame of the camera": (
        frames(
            *(MAP_ODOM, ODOM_BASE, replace(BASE_CAMERA, transform=IDENTITY)),
            edge("base_link", "real_optical", "/robot", static=True, transform=FORWARD),
        ),
        Level.WARN,
        "(z axis of optical) points up in base_link",
        "there is real_optical",
    ),
    "stale odometry": (
        frames(MAP_ODOM, replace(ODOM_BASE, newest_ns=NOW - 3 * SECOND), BASE_CAMERA),
        Level.ERROR,
        "odometry odom -> base_link is 3.0 s old",
        "/wheels",
    ),
    "two parents": (
        frames(MAP_ODOM, ODOM_BASE, BASE_CAMERA, edge("map", "base_link", "/slam")),
        Level.ERROR,
        "frame base_link has two parents: map, odom",
        "too many",
    ),
    "loop": (
        frames(MAP_ODOM, ODOM_BASE, BASE_CAMERA, edge("base_link", "map", "/x")),
        Level.ERROR,
        "frames form a loop",
        "one parent",
    ),
    "two publishers": (
        frames(
            replace(MAP_ODOM, publishers=frozenset({"/amcl", LOCALIZER})), ODOM_BASE, BASE_CAMERA
        ),
        Level.ERROR,
        "map -> odom has 2 publishers: /amcl, /localizer",
        "tf_broadcast:=false",
    ),
    "map -> odom of another": (
        frames(edge("map", "odom", "/amcl"), ODOM_BASE, BASE_CAMERA),
        Level.ERROR,
        "map -> odom comes from /amcl, and tf_broadcast is on",
        "tf_broadcast:=false",
    ),
    "map -> odom of nobody": (
        replace(frames(ODOM_BASE, BASE_CAMERA), settings=settings(tf_broadcast=False)),
        Level.WARN,
        "tf_broadcast is off, and nobody else publishes map -> odom",
        "filter",
    ),
    "slash": (
        frames(MAP_ODOM, ODOM_BASE, BASE_CAMERA, edge("/map", "/door", "/x")),
        Level.ERROR,
        "/map -> /door: frame names begin with a slash",
        "without slash",
    ),
    "no rotation": (
        frames(
            *(MAP_ODOM, ODOM_BASE, BASE_CAMERA),
            edge("base_link", "arm", "/arm", problem="quaternion has length 0", transform=None),
        ),
        Level.ERROR,
        "base_link -> arm: quaternion has length 0",
        "mend /arm",
    ),
    "no node": (node(found=()), Level.ERROR, "node /localizer does not run", "ros2 launch"),
    "node that opens its map": (
        replace(node(silent=True, status=None, lifecycle=""), settings=Settings(), map=None),
        Level.WARN,
        "node /localizer does not answer yet (is it opening its map?)",
        "ask again",
    ),
    "silent node, known parameters, no map": (
        replace(
            node(silent=True, status=None, lifecycle=""),
            settings=replace(settings(), origin="p.yaml"),
            map=None,
        ),
        Level.WARN,
        "no map is named",
        "--map",
    ),
    "node elsewhere": (
        node(found=("/robot1/localizer",)),
        Level.ERROR,
        "node /localizer does not run",
        "--namespace of /robot1/localizer",
    ),
    "node twice": (
        node(found=(LOCALIZER, LOCALIZER)),
        Level.ERROR,
        "2 nodes are called /localizer",
        "stop all but one",
    ),
    "node not configured": (
        node(lifecycle="unconfigured"),
        Level.ERROR,
        "is unconfigured, not active",
        "configure, then activate",
    ),
    "node inactive": (
        node(lifecycle="inactive"),
        Level.ERROR,
        "is inactive",
        "set /localizer act",
    ),
    "silent node": (
        node(status=None),
        Level.WARN,
        "no message on status for 7 s, nor on /diagnostics",
        "ask again",
    ),
    "lost": (
        node(status=StatusSeen("LOST", "moved by hand", "NOT_LOCALIZED", "low score")),
        Level.WARN,
        "the localizer is LOST: moved by hand",
        "initialpose",
    ),
    "degraded": (
        node(status=StatusSeen("DEGRADED", "dark", "LOCALIZED", "")),
        Level.WARN,
        "the localizer is DEGRADED: dark",
        "docs/node.md",
    ),
    "bad input": (
        node(status=StatusSeen("TRACKING", "", "BAD_INPUT", "image is empty")),
        Level.ERROR,
        "the newest image was BAD_INPUT: image is empty",
        "docs/node.md",
    ),
    "diagnostics": (
        node(diagnostics=(DiagnosticSeen("localizer: input", 2, "no camera_info"),)),
        Level.ERROR,
        "/diagnostics: localizer: input: no camera_info",
        "docs/node.md",
    ),
    "sim time without clock": (
        clock(sim=True),
        Level.ERROR,
        "use_sim_time is set, but nobody publishes /clock",
        "--clock",
    ),
    "clock that left": (
        clock(sim=True, count=100),
        Level.ERROR,
        "the publisher of /clock has left",
        "did the bag",
    ),
    "paused clock": (
        clock(sim=True, publishers=("/player",)),
        Level.WARN,
        "/clock of /player is silent",
        "paused",
    ),
    "clock without sim time": (
        clock(publishers=("/player",), count=100),
        Level.ERROR,
        "the node has not use_sim_time",
        "use_sim_time:=true",
    ),
    "two clocks": (
        clock(sim=True, publishers=("/player", "/gazebo"), count=100),
        Level.WARN,
        "/clock has 2 publishers: /gazebo, /player",
        "all but one",
    ),
    "no retrieval": (
        replace(
            HEALTHY,
            settings=settings(prior_source="retrieval"),
            map=replace(HEALTHY.map, index="map.retrieval.h5"),
        ),
        Level.ERROR,
        "there is no service /retrieve_pose",
        "retrieval_node",
    ),
    "no map": (replace(HEALTHY, map=None), Level.WARN, "no map is named", "--map"),
    "map missing": (
        replace(HEALTHY, map=MapSeen("map.h5", "map.h5: no such feature map")),
        Level.ERROR,
        "map: map.h5: no such feature map",
        "pixloc map info",
    ),
    "map not in metres": (
        replace(HEALTHY, map=replace(HEALTHY.map, extent_m=0.02)),
        Level.WARN,
        "spans 0.02 units",
        "metres",
    ),
    "map of other images": (
        replace(HEALTHY, map=replace(HEALTHY.map, reprojection_px=9.5)),
        Level.WARN,
        "median reprojection error 9.5 px",
        "bundle adjustment",
    ),
    "index of another map": (
        replace(HEALTHY, map=replace(HEALTHY.map, index="i.h5", index_problem="of another map")),
        Level.ERROR,
        "index: of another map",
        "again",
    ),
}
# A frame with two parents, a node that does not answer as well.
TWOFOLD = ("loop", "silent node, known parameters, no map")


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_alone_with_what_to_do(fault: str):
    names_alone(FAULTS[fault], alone=fault not in TWOFOLD)


def test_findings_are_single_lines():
    for seen, *_ in FAULTS.values():
        for finding in judge(seen):
            assert "\n" not in finding.line()
            assert finding.line().startswith(("OK    ", "WARN  ", "ERROR "))
            assert (finding.level is Level.OK) == (not finding.advice)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "nothing wrong was found"),
        (1, "0 errors, 1 warning"),
        (2, "1 error, 1 warning"),
        (4, "2 errors, 2 warnings"),
    ],
)
def test_the_summary_counts(count: int, text: str):
    findings = judge(HEALTHY)
    extra = [f for f in judge(replace(camera(calibration=None), map=None)) if f.level]
    extra = 2 * sorted(extra, key=lambda f: f.level)
    assert summary([*findings, *extra[:count]]) == text


def test_a_camera_that_looks_down_is_no_body_frame():
    down = RigidTransform.checked([0, 0, 1], [1.0, 0.0, 0.0, 0.0])
    assert np.allclose(down.inverse().quat_xyzw, [-1, 0, 0, 0])
    assert not wrong(frames(MAP_ODOM, ODOM_BASE, replace(BASE_CAMERA, transform=down)))


def test_without_odometry_the_node_works_but_the_doctor_warns():
    found = wrong(frames(edge("map", "base_link", "/ekf"), BASE_CAMERA))
    assert [(level, what) for level, what, _ in found] == [
        (Level.WARN, "no odometry: no transform odom -> base_link")
    ]


def test_nothing_else_is_judged_where_nothing_is_seen():
    assert len(wrong(replace(HEALTHY, nodes=(), cameras=(), edges=()))) == 1
